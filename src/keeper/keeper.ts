/** The keeper of a service: the parent of its workers, which holds their listeners. */
import { randomBytes } from 'node:crypto'
import { type LinkRecord, type ProgramRecord, readProgram, writeProgram } from '../contract/environment.ts'
import type { KeeperMessage } from '../contract/keeper-messages.ts'
import type { News, WarningRecord } from '../contract/messages.ts'
import type { Exit } from '../contract/old-side.ts'
import { protocolVersion } from '../contract/protocol.ts'
import type { LastExit, Restarts } from '../control/status.ts'
import { CookError, messageOf } from '../errors.ts'
import { makePair } from '../node/pair.ts'
import { placeOfPids } from '../node/processes.ts'
import { endSession, killSession } from '../node/sessions.ts'
import { identify, system } from '../node/system.ts'
import { defaults, withoutUndefined } from '../options.ts'
import { typedOf } from '../process/command.ts'
import type { RawHandle } from '../upgrade/station.ts'
import { deferred } from '../waiting.ts'
import { type EndBy, endWorker, timeToEnd } from './ending.ts'
import { notSpawned, untilServes } from './first-start.ts'
import { Health } from './health.ts'
import { HeldHandles } from './held.ts'
import { backText, crashText, say } from './log-lines.ts'
import { PidClaim } from './pid-claim.ts'
import type { KeeperPlan, KeepOptions, Release, ServiceRecord } from './plan.ts'
import { Recorder } from './records.ts'
import { commandOf, isSameRelease, releaseOf } from './release.ts'
import { newSlot, type Slot, type SlotEffect, type SlotEvent, stepSlot } from './slot.ts'
import { type Changes, isTrusted, Spawns } from './spawns.ts'
import { type Birth, exitCodeOf, giveBirth, type Worker, type WorkerEvents } from './worker.ts'

/** How the keeper ends: with this code, and at a first start that failed with why. */
export type End = { readonly code: number; readonly error?: Error }

export class Keeper {
  /** As the last upgrade has changed it. */
  plan: KeeperPlan
  readonly startedAt = Date.now()
  /** Resolves when the first worker serves; rejects if it does not come up. */
  readonly started = deferred<void>()
  /** Resolves when no worker is left, and none is to come. */
  readonly ended = deferred<End>()
  readonly workers = new Map<number, Worker>()
  readonly health: Health
  restarts: Restarts = { crash: 0, hang: 0, memory: 0 }
  lastExit: LastExit | undefined
  /** That it did, and why; undefined: it runs what was started last. */
  wentBack: WarningRecord | undefined
  /** For whoever has files of a worker. */
  onGone: (worker: Worker) => void = () => {}
  /** What the upgrade that was asked for last is to change. */
  asked: Changes | undefined
  drainTimeout: number
  #slot: Slot<Release>
  readonly #held = new HeldHandles()
  /** Of the worker that was started last. */
  generation: number
  #timer: NodeJS.Timeout | undefined
  readonly pidFile = new PidClaim(() => [...this.workers.values()].map(({ identity }) => identity))
  #firstFault: { readonly error: Error; readonly code: number } | undefined
  /** Waits for the end of a restart. */
  #restarted: ReturnType<typeof deferred<Error | undefined>> | undefined
  /** What the worker gets to end at a restart, in milliseconds. */
  #killAfter: number | undefined
  /** Why the next exit is no crash of the program's own. */
  #reason: keyof Restarts = 'crash'
  /** How often one was started here. */
  #starts = 0
  readonly #spawns = new Spawns(this)
  /** That came while nobody served. */
  readonly #signals = new Set<NodeJS.Signals>()
  readonly #stopping = new AbortController()
  /** What the service has behind it, for a worker that is started anew. */
  news: News = { generations: [], upgrades: { succeeded: 0, failed: 0 } }
  /** A start that failed leaves what was known before. */
  readonly recorder = new Recorder(() => {
    const { isFirst, at } = this.#slot
    return isFirst && at !== 'serving' ? undefined : this.record
  })

  constructor(plan: KeeperPlan) {
    this.plan = plan
    this.drainTimeout = plan.program.drainTimeout ?? defaults.drainTimeout
    this.generation = (plan.generation ?? 1) - 1
    const release = releaseOf(plan.command, typedOf(plan.command), plan.environment)
    this.#slot = newSlot(release)[0]
    this.health = new Health(plan.options, this)
  }

  get state(): ServiceRecord['state'] {
    const { at, hasFailed, isStopping } = this.#slot
    if (at === 'down') return isStopping ? 'stopped' : 'crashed'
    if (at === 'waiting' && hasFailed) return 'failed'
    return at
  }

  get release(): Release {
    return this.#slot.release
  }

  /** The worker that owns the service now. */
  get serving(): Worker | undefined {
    const { serving } = this.#slot
    return serving === undefined ? undefined : this.workers.get(serving.generation)
  }

  /** Starts the first worker. */
  begin(): void {
    this.#carryOut([{ do: 'start', release: this.#slot.release }])
  }

  /** Takes up a worker whose keeper is gone, and starts its successor as a child of ours. */
  attach(worker: Worker, { before, isProven = false, restarts, lastExit }: ServiceRecord): void {
    Object.assign(this, { restarts, lastExit })
    // Of what it knew nothing is typed or followed anew.
    this.#slot = { ...this.#slot, release: worker.release, before, isProven }
    this.take(worker)
    this.#serves(worker)
    worker.station.send({ type: 'upgrade' })
  }

  /** Ends the service: once more, and what is still answered is cut. */
  stop(by: EndBy): void {
    // One that is still starting gets the signal too, and the time that it takes to end by it.
    if (this.#slot.isStopping) this.#stopping.abort()
    else setTimeout(() => this.#stopping.abort(), this.drainTimeout).unref()
    this.#step({ type: 'stop' })
    const { serving } = this
    const ms = timeToEnd(this.drainTimeout)
    // Those before it hear of it from the one that serves.
    if (serving !== undefined) endWorker(serving, by, ms)
    else for (const worker of this.workers.values()) endWorker(worker, by === 'request' ? 'SIGTERM' : by, ms)
  }

  /** For the worker that serves, as if it had the pid of the keeper, or for the next that does. */
  signal(signal: NodeJS.Signals): void {
    // A worker that has given up root is upgraded to what was typed by this too.
    if (signal === 'SIGUSR2') this.asked = { retyped: {}, program: {} }
    if (this.serving === undefined) this.#signals.add(signal)
    else system.kill(this.serving.identity, signal)
  }

  /** Ends what runs, and starts this in its place. Resolves to why it was not done. */
  async restart(release: Release, killAfter?: number): Promise<Error | undefined> {
    const { at, isStopping } = this.#slot
    if (isStopping || at === 'down') return new CookError('ERR_COOK_STOPPING', { pid: process.pid })
    this.#restarted ??= deferred<Error | undefined>()
    this.#killAfter = killAfter
    this.wentBack = undefined
    const { promise } = this.#restarted
    this.#step({ type: 'restart', release, now: performance.now() })
    return promise
  }

  /** What a start gets: the environment of the last one unless there is another, and its words. */
  environmentFor(env: Release['environment'] | undefined, program: ProgramRecord): Release['environment'] {
    const { release, plan } = this
    return withoutUndefined(writeProgram(env ?? release.environment, { ...plan.program, ...program }))
  }

  /** By these options from now on, and after the keeper's own death. */
  keepBy(changed: KeepOptions): void {
    const options = { ...this.plan.options, ...changed }
    this.plan = { ...this.plan, options }
    this.health.watch(options)
  }

  /** SIGKILL: its event loop does not turn. */
  killHanging(worker: Worker): void {
    this.#reason = 'hang'
    killSession(worker.identity)
  }

  countMemory(): void {
    this.restarts = { ...this.restarts, memory: this.restarts.memory + 1 }
    this.recorder.changed()
  }

  #step(event: SlotEvent<Release>): void {
    const { isRun = false, keep = false } = this.plan.options
    const rules = { givesUp: isRun, chance: Math.random }
    const [slot, effects] = stepSlot(this.#slot, event, rules, isSameRelease)
    this.#slot = slot
    // In the foreground without a word to keep it is the worker that decides when it ends.
    const isOver = isRun && !keep && effects.some((one) => one.do === 'crashed')
    if (isOver) {
      this.#slot = { ...slot, at: 'down' }
      this.#leave('crashes')
    } else {
      this.#carryOut(effects)
    }
    this.recorder.changed()
  }

  #carryOut(effects: readonly SlotEffect<Release>[]): void {
    for (const effect of effects) {
      switch (effect.do) {
        case 'start':
          void this.#start(effect.release)
          break
        case 'wait':
          clearTimeout(this.#timer)
          this.#timer = setTimeout(() => this.#step({ type: 'timer' }), effect.ms)
          break
        case 'replace':
          if (this.serving === undefined) break
          endWorker(this.serving, 'request', timeToEnd(this.drainTimeout, this.#killAfter))
          break
        case 'watch':
          clearTimeout(this.#timer)
          this.#timer = setTimeout(() => this.#step({ type: 'overdue' }), this.#readyTimeout).unref()
          break
        case 'kill':
          say('nobody has taken over from the worker that has ended: what else runs of the service is killed')
          for (const { identity } of this.workers.values()) killSession(identity)
          break
        case 'crashed':
          this.#sayCrash(effect)
          break
        case 'back':
          this.wentBack = { at: Date.now(), about: 'release', text: backText(this.release) }
          say(this.wentBack.text)
          break
        case 'end':
          this.#leave(effect.why)
          break
      }
    }
  }

  #leave(why: 'stopped' | 'first' | 'crashes'): void {
    clearTimeout(this.#timer)
    this.pidFile.release()
    const code = exitCodeOf(this.lastExit)
    if (why === 'first') {
      const { error = new Error('it did not come up'), code: failed = 1 } = this.#firstFault ?? {}
      this.ended.resolve({ code: failed || 1, error })
      return
    }
    this.#restarted?.resolve(new Error('the service was stopped'))
    const { isRun = false, keep = false } = this.plan.options
    this.ended.resolve({ code: why === 'crashes' && keep ? code || 1 : isRun ? code : 0 })
  }

  /** Plays the predecessor for a process that starts with what we hold, and with no state. */
  async #start(release: Release): Promise<void> {
    const generation = ++this.generation
    const nonce = randomBytes(16).toString('hex')
    const { program, folder, options } = this.plan
    const readyTimeout = this.#readyTimeout
    const start = ++this.#starts
    let worker: Worker | undefined
    try {
      const [own, other] = await makePair(folder)
      const handles = this.#held.records
      const common = { protocol: protocolVersion, nonce, generation, handles, typed: release.typed }
      const link: LinkRecord = { ...common, predecessor: identify() }
      const birth = { slot: 0, link, command: commandOf(release), release, environment: release.environment }
      try {
        worker = await this.birth({ ...birth, linkFd: other.fd, log: program.logFile })
      } finally {
        other.close()
        if (worker === undefined) own.close()
      }
      const { news } = this
      // What goes to the terminal of `run` has been read there.
      const isShown = options.isRun === true && program.logFile === undefined
      await untilServes(worker, { link, own, readyTimeout, signal: this.#stopping.signal, news, isShown })
      this.#serves(worker)
    } catch (error) {
      const fault = worker === undefined ? notSpawned(release.command, error) : (error as Error)
      this.#firstFault = { error: fault, code: exitCodeOf(worker?.exited) }
      // It had come up, and another one is started by now.
      if (start !== this.#starts) return
      if (!this.#slot.isFirst) say(`generation ${generation} did not come up: ${messageOf(fault)}`)
      this.#tellRestarted(fault)
      this.#step({ type: 'failed', now: performance.now() })
    }
  }

  get #readyTimeout(): number {
    return this.plan.program.readyTimeout ?? defaults.readyTimeout
  }

  #serves(worker: Worker): void {
    const { generation, release } = worker
    this.#reason = 'crash'
    this.#step({ type: 'serves', generation, release, now: performance.now() })
    this.#spawns.count(worker, 'succeeded')
    this.started.resolve()
    this.#tellRestarted(undefined)
    const signals = [...this.#signals]
    this.#signals.clear()
    for (const signal of signals) this.signal(signal)
  }

  /** It serves, or the keeper has started it to serve. */
  #isOwner({ generation }: Worker): boolean {
    const { at, serving } = this.#slot
    return at === 'starting' || serving?.generation === generation
  }

  /** Starts it with what we hold. */
  async birth(birth: Omit<Birth, 'fds'>): Promise<Worker> {
    const fds = this.#held.descriptorsOf(birth.link.handles)
    const worker = await giveBirth({ ...birth, fds }, this.events)
    this.take(worker)
    return worker
  }

  take(worker: Worker): void {
    this.generation = Math.max(this.generation, worker.generation)
    this.workers.set(worker.generation, worker)
    this.#step({ type: 'started', generation: worker.generation })
    worker.tellHow(this.plan)
  }

  readonly events: WorkerEvents = {
    message: (worker, message, handle) => this.#hear(worker, message, handle),
    exit: (worker, exit) => this.#onExit(worker, exit),
  }

  #hear(worker: Worker, message: KeeperMessage, handle: RawHandle | undefined): void {
    switch (message.type) {
      case 'handle':
        this.#held.hear(message.record, handle, isTrusted(worker))
        return
      case 'handles':
        this.#held.keepOnly(message.inodes)
        return
      case 'spawn':
      case 'pair':
      case 'born':
      case 'kill':
        this.#spawns.hear(worker, message)
        return
      case 'serves':
        // Its last word is read when it is gone.
        if (worker.exited !== undefined) return
        this.drainTimeout = message.drainTimeout
        this.#takeProgram(worker)
        if (isTrusted(worker) || message.pidFile === this.plan.program.pidFile) this.pidFile.keep(message.pidFile)
        this.#serves(worker)
        return
      case 'stopping':
        // A new version that was not accepted ends alone, and so does an old one that drains.
        if (this.#isOwner(worker) && this.#slot.next === undefined) this.#step({ type: 'stop' })
        return
      case 'pong':
        this.health.heard(worker)
        return
      case 'failed':
        say(`the worker could not be replaced by itself: ${message.why}`)
        return
    }
  }

  #onExit(worker: Worker, { code, signal }: Exit): void {
    const { generation, identity, words } = worker
    if (this.workers.get(generation) === worker) this.workers.delete(generation)
    this.onGone(worker)
    this.#spawns.count(worker, 'failed')
    const wasServing = this.#slot.serving?.generation === generation
    if (wasServing || this.workers.size === 0) {
      this.lastExit = { generation, pid: identity[0], code, signal, at: Date.now(), words: words.replace(/^\. /, '') }
    }
    // What it has started would run twice.
    if (wasServing && !this.#slot.isStopping) void endSession(identity)
    this.#step({ type: 'exit', generation, now: performance.now() })
  }

  #sayCrash({ inRow, hasFailed }: Extract<SlotEffect<Release>, { do: 'crashed' }>): void {
    const reason = this.#reason
    this.#reason = 'crash'
    this.restarts = { ...this.restarts, [reason]: this.restarts[reason] + 1 }
    const text = crashText(this.lastExit, { reason, inRow, hasFailed })
    if (text !== undefined) say(text)
  }

  /** Whoever waits for a restart hears how it went, unless there is another one to come. */
  #tellRestarted(fault: Error | undefined): void {
    if (this.#slot.next !== undefined) return
    this.#restarted?.resolve(fault)
    this.#restarted = undefined
  }

  /** What the command line says of the program from now on. */
  #takeProgram({ release: { environment } }: Worker): void {
    const { release: _, ...program } = readProgram(environment) ?? this.plan.program
    this.plan = { ...this.plan, program }
  }

  get record(): ServiceRecord {
    const [pid, startTime] = identify()
    const { plan, state, generation, restarts, lastExit } = this
    const { release, before, isProven } = this.#slot
    const now = { format: 1, at: Date.now(), keeper: { pid, startTime }, place: placeOfPids() } as const
    const known = { plan, state, generation, restarts, release, isProven }
    return { ...now, ...known, ...(before && { before }), ...(lastExit && { lastExit }) }
  }
}
