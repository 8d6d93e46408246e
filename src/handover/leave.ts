/** How a process ends its service: it drains, and leaves when its successor has answered. */
import type { Server, Socket } from 'node:net'
import { takeoverName } from '../contract/messages.ts'
import { CookError } from '../errors.ts'
import { serverOf, startReading, stopReading } from '../node/connections.ts'
import type { DaemonUpgradeOptions, DrainReport, MoveRule, UpgradeResult } from '../options.ts'
import { writeToLog } from '../process/log.ts'
import { releasePidFile } from '../process/pid-file.ts'
import { upgradeText, withText } from '../report.ts'
import type { Listener, Service } from '../service.ts'
import type { Arrival, Counting, Departure } from '../service-parts.ts'
import { sendValue, toText } from '../upgrade/cloned-values.ts'
import type { LinkEvent } from '../upgrade/link.ts'
import type { Committed } from '../upgrade/predecessor.ts'
import { type HowAsked, replace } from '../upgrade/replace.ts'
import { deferred, Latch } from '../waiting.ts'
import { warningOfError } from '../warnings.ts'
import { comeBack } from './come-back.ts'
import { countMove, noCounts, toReport } from './counts.ts'
import { drain } from './drain.ts'
import { Farewell } from './farewell.ts'
import { moveRule } from './move-rule.ts'
import { Mover } from './mover.ts'
import { Clock } from './plan.ts'
import { Spares } from './spares.ts'

/** What an upgrade that succeeded was like, and what follows it. */
export type DaemonReport = UpgradeResult & {
  /**
   * Resolves when this process has drained, or has the service again because the successor was lost
   * (event `successor-lost`).
   */
  readonly drained: Promise<DrainReport>
}

/**
 * Replaces a daemon by its new version, and leaves. Resolves at the commit; rejects if the upgrade
 * failed: the daemon keeps serving then.
 */
export async function replaceAndLeave(
  service: Service,
  options: DaemonUpgradeOptions,
  { program = {}, ...asked }: HowAsked = {},
): Promise<DaemonReport> {
  return replace(service, options, { program, ...asked }, (committed) => {
    const { identity, generation, phases } = committed
    const result = { pid: identity[0], generation, phases }
    service.emit(withText({ type: 'upgraded', ...result } as const, upgradeText))
    // Its constructor begins it.
    const time = options.drainTimeout ?? program.drainTimeout ?? service.drainTimeout
    const { ended } = new Leaving(service, time, committed, program.moveConnections)
    return withText({ ...result, drained: ended }, upgradeText)
  })
}

/** Of one that a signal began, where nobody else hears of it: who sent it finds it in the log. */
export function tellFailedUpgrade({ warnings, options }: Service, error: Error): void {
  warnings.add(warningOfError('upgrade', error))
  if (options.onEvent === undefined) writeToLog(error.message)
}

/**
 * Ends the service. Asked for again, and not just in another way, it cuts the rest; so it does in a
 * process that drains after an upgrade.
 */
export async function stopService(service: Service): Promise<DrainReport> {
  const isCut = service.stops.hear() === 'again' && service.endLameDuck === undefined
  service.endLameDuck?.()
  await giveUpUpgrade(service)
  if (service.phase === 'starting') await service.predecessor?.notify(false, 'it was stopped')
  return stopNow(service, service.drainTimeout, isCut)
}

export async function giveUpUpgrade(service: Service): Promise<void> {
  while (service.upgrading !== undefined) {
    service.stopUpgrade('stopping')
    await service.upgrading.ended
  }
}

function stopNow(service: Service, time: number, isCut: boolean): Promise<DrainReport> {
  if (service.departure === undefined) {
    service.takeStep('stop')
    service.receiving?.tellStop()
  }
  return (service.departure ?? new Leaving(service, time)).stop(isCut)
}

/** One departure: made at a commit or at a stop, and dropped if the service comes back. */
export class Leaving implements Departure {
  readonly #service: Service
  readonly #committed: Committed | undefined
  readonly #rule: MoveRule
  readonly clock: Clock
  readonly hurry = new Latch()
  readonly mover: Mover | undefined
  readonly #farewell: Farewell | undefined
  readonly #spares: Spares | undefined
  /** Those that listened when it began. */
  #listening: readonly Listener[] = []
  /** What becomes of the connections, by the server that accepted them. */
  readonly #counts: ReadonlyMap<Server, { readonly name: string; readonly counts: Counting }>
  readonly #otherCounts = noCounts()
  /** Set when the successor is lost; never at a stop. */
  readonly #lost: Latch
  /** Connections of our predecessor on their way through us. */
  readonly #passing = new Set<Promise<unknown>>()
  #continuedAt = Number.NEGATIVE_INFINITY
  /** Our predecessor knows that the service ends. */
  #hasPassedStop = false
  readonly ended: Promise<DrainReport>
  readonly #returned = deferred<CookError>()

  constructor(service: Service, time: number, committed?: Committed, mayMove?: boolean) {
    this.#service = service
    this.#rule = mayMove ?? moveRule(service)
    this.#committed = committed
    this.clock = new Clock(time)
    this.#counts = new Map(service.listeners.map(({ name, server }) => [server, { name, counts: noCounts() }]))
    service.tls?.count()
    if (committed === undefined) this.hurry.set()
    else {
      this.mover = new Mover(committed.link, this.clock.endsAt, service.tls, committed.tlsKey)
      this.#farewell = new Farewell(committed, (isDead) => this.mover?.end(isDead))
      this.#spares = new Spares(this.clock.patienceForSpares)
      this.#hearSuccessor(committed)
    }
    this.#lost = this.#farewell?.lost ?? new Latch()
    const { promise, resolve } = deferred<DrainReport>()
    this.ended = promise
    service.departure = this
    resolve(this.#leave())
  }

  get hasOthers(): boolean {
    return this.#service.stops.wasAnnounced
  }

  get handedOver(): number {
    return this.#report().handedOver
  }

  /** From now on what the successor sends is about connections, second handles, and the end. */
  #hearSuccessor({ hear }: Committed): void {
    hear((event) => {
      this.#hearWarning(event)
      this.#farewell?.onLink(event)
      this.#spares?.onLink(event)
      this.mover?.onLink(event)
      if (this.#farewell?.wasStopped !== true) return
      if (!this.#hasPassedStop) this.#service.stops.begin()
      // The service ends: what is idle goes now, and the rest with the link.
      if (event.type === 'closed') this.clock.deadline.set()
      this.hurry.set()
      if (!this.#hasPassedStop) this.#service.receiving?.tellStop()
      this.#hasPassedStop = true
    })
  }

  /** For whoever waits for the end of the upgrade. */
  #hearWarning(event: LinkEvent): void {
    if (event.type !== 'message' || typeof event.message !== 'object' || event.message.type !== 'warning') return
    const { type: _, ...record } = event.message
    this.#service.warnings.pass(record)
  }

  async #leave(): Promise<DrainReport> {
    if (this.#committed !== undefined) process.on('SIGCONT', this.#onContinue)
    const released = this.#release()
    const news = setInterval(() => this.tellNews(), newsInterval).unref()
    this.tellNews()
    const hasDrained = await this.#drain()
    const report = this.#report()
    await this.#unlessOver(released)
    if (hasDrained) await this.#untilPredecessorLeft()
    // After act three this is the answer that it had.
    const isLeft = hasDrained && (await this.#sayBye())
    this.clock.stop()
    clearInterval(news)
    process.removeListener('SIGCONT', this.#onContinue)
    return isLeft || !this.#canReturn() ? this.#end(report) : this.#return(report)
  }

  #report(): DrainReport {
    const { tls } = this.#service
    return toReport([...this.#counts.values()], this.#otherCounts, this.clock.times, tls?.counts)
  }

  /** Runs onRelease, and sends what it returns. */
  async #release(): Promise<void> {
    if (this.#committed === undefined) return
    const { link } = this.#committed
    const service = this.#service
    const value = await service.runHook('onRelease', () => service.context(() => service.options.onRelease?.()))
    try {
      await sendValue(link, takeoverName, { value, version: 0 })
    } catch (error) {
      service.hookFailed('onRelease', error)
      await sendValue(link, takeoverName, { value: undefined, version: 0 })
    }
  }

  /** False if the successor was lost. */
  async #drain(): Promise<boolean> {
    const service = this.#service
    const rule = this.#rule
    const handed = this.#committed?.handed
    const listeners = service.listeners.filter((one) => handed === undefined || !this.keeps(one))
    this.#listening = listeners.filter(({ server }) => server.listening)
    const servers = listeners.map(({ name, server }) => {
      // One that was closed, or opened since, has no counterpart in the successor.
      const mover = server.listening && handed?.has(name) ? this.mover : undefined
      return {
        name,
        server,
        mover,
        rule,
        counts: this.#countsAt(server),
        clock: this.clock,
      }
    })
    const told = Promise.all(service.onDrain.map((listener) => service.runHook('onDrain', listener)))
    const hasDrained = await drain({
      servers,
      others: service.ownDrains.map((begin) => begin(this)),
      clock: this.clock,
      hurry: this.hurry,
      lost: this.#lost,
      isLost: async () => (await this.#farewell?.isLost()) ?? false,
      canReturn: () => this.#canReturn(),
      spares: this.#spares?.complete,
      untilHeard: () => this.#farewell?.untilHeard() ?? Promise.resolve(),
      sayBye: () => this.#sayBye(),
    })
    if (hasDrained) await this.#unlessOver(told)
    return hasDrained
  }

  async #unlessOver(work: Promise<unknown>): Promise<void> {
    await Promise.race([work, this.clock.deadline.wait(), this.#lost.wait()])
  }

  /** Connections of our own predecessor go through us: it leaves first. */
  async #untilPredecessorLeft(): Promise<void> {
    const { receiving } = this.#service
    const { deadline } = this.clock
    await Promise.race([receiving?.bye, deadline.wait()])
    // One that does not respond would stay for ever with nobody to see it.
    if (!this.hurry.isSet) await Promise.race([receiving?.left, this.#lost.wait(), this.hurry.wait()])
    await Promise.race([Promise.all(this.#passing), deadline.wait()])
  }

  async #sayBye(): Promise<boolean> {
    const { history, record } = this.#service
    if (this.#farewell === undefined) return true
    return this.#farewell.sayBye(this.clock.deadline, this.hurry, () => {
      // From now on the successor may write on what has moved, and die before we would hear of it.
      this.mover?.end(false)
      // Of those that are left at the deadline it is known before they are cut.
      const { cut, ...others } = this.#report()
      history.drained({ ...others, cut: cut + record.connections })
      this.tellNews()
    })
  }

  /** Each listener is open, or can be opened again. */
  #canReturn(): boolean {
    if (this.#committed === undefined) return false
    return this.#listening.every(({ name, server }) => server.listening || this.#spares?.has(name))
  }

  async #end(report: DrainReport): Promise<DrainReport> {
    const service = this.#service
    this.#spares?.close()
    // Who waits for this on the control socket is answered before that closes.
    service.drained.resolve(report)
    await service.control?.idle
    if (this.#committed === undefined && service.pidFile !== undefined) releasePidFile(service.pidFile)
    service.control?.release()
    service.takeStep('end')
    service.emit({ type: 'drained', report })
    service.gone.resolve(report)
    return report
  }

  /** The successor is lost: the service is ours again. */
  async #return(report: DrainReport): Promise<DrainReport> {
    const service = this.#service
    const isStopping = this.hurry.isSet
    service.emit({ type: 'drained', report })
    const listening = isStopping ? [] : this.#listening
    this.#returned.resolve(await comeBack(service, listening, this.#spares, this.#committed?.generation ?? 0))
    return isStopping ? stopNow(service, this.clock.time, false) : report
  }

  keeps({ name, stays }: Listener): boolean {
    return stays === true || this.#committed?.left.has(name) === true
  }

  get returned(): Promise<CookError> {
    return this.#returned.promise
  }

  get mayBeLost(): boolean {
    return this.#farewell?.mayBeLost === true
  }

  isComingBack(): boolean {
    return this.mayBeLost && this.#canReturn()
  }

  countsOf(socket: Socket): Counting {
    return this.#countsAt(serverOf(socket))
  }

  #countsAt(server: Server | undefined): Counting {
    return (server && this.#counts.get(server)?.counts) ?? this.#otherCounts
  }

  passOn(arrival: Arrival, socket: Socket, keep: () => boolean): boolean {
    if (this.mover?.isOpen !== true) return false
    stopReading(socket)
    const { state, ...destination } = arrival
    const passing = this.mover
      .move(socket, destination, { isFree: () => true, state, isUrgent: true })
      .then((moved) => {
        if (moved === 'busy' && !socket.destroyed && !keep()) socket.destroy()
        this.#passing.delete(passing)
      })
    this.#passing.add(passing)
    return true
  }

  async handOver(name: string, socket: Socket, state: unknown): Promise<boolean> {
    const refuse = (why: string) => new CookError('ERR_COOK_HAND_OVER', { why })
    if (this.mover?.isOpen !== true) throw refuse('there is no successor')
    if (socket.destroyed) throw refuse('it is already closed')
    if (!this.mover.carries(socket)) throw refuse('it is a TLS connection, whose keys cannot move')
    const text = toText(name, state)
    const counts = this.countsOf(socket)
    const destination = { to: `own:${name}`, listener: this.#service.listenerOf(socket)?.name }
    stopReading(socket)
    // What the program has written goes out first.
    if (socket.writableLength > 0) await new Promise<void>((written) => socket.write('', () => written()))
    const proof = deferred<boolean>()
    const onProof = (isHere: boolean) => proof.resolve(isHere)
    const options = { isFree: () => true, state: text, isUrgent: true, onProof }
    const moved = await this.mover.move(socket, destination, options)
    // Of TLS it may be here again in a moment; later than that nobody reads it here any more.
    if (moved === 'moved' && 'encrypted' in socket && (await proof.promise)) return false
    countMove(counts, moved)
    if (moved === 'busy' && !socket.destroyed) startReading(socket)
    return moved === 'moved'
  }

  tellNews(): void {
    const { history, record, warnings } = this.#service
    this.#committed?.link.send({ type: 'news', ...history.news(record), warnings: warnings.forSuccessor })
  }

  stop(isCut: boolean): Promise<DrainReport> {
    if (isCut) this.clock.deadline.set()
    this.hurry.set()
    this.#passOnIfSupervised()
    return this.ended
  }

  tellStop(): boolean {
    if (this.#committed?.link.isOpen !== true) return false
    this.#committed.link.send({ type: 'stopToo' })
    return true
  }

  readonly #onContinue = () => {
    this.#continuedAt = performance.now()
    this.#passOnIfSupervised()
  }

  /**
   * Supervisors (systemd, runit, daemontools, s6) send SIGCONT right behind the signal that stops a
   * service, and a process that drains may be all that they signal (KillMode=mixed, before the
   * new main process is known). A signal of somebody who wants this process gone comes alone.
   */
  #passOnIfSupervised(): void {
    const { stops } = this.#service
    if (stops.isRepeated && performance.now() - this.#continuedAt < togetherWithin) this.tellStop()
  }
}

/** How far a signal and the SIGCONT behind it may be apart, in milliseconds. */
const togetherWithin = 1_000

/** How often a process that drains sends its successor how far it is, in milliseconds. */
const newsInterval = 1_000
