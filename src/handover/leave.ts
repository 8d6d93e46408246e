/** How a process ends its service, after an upgrade or at a stop: it drains, leaves when its successor has answered, and takes the service back if that is dead. */
import type { Server, Socket } from 'node:net'
import { type GenerationRecord, protocolOfSpares, takeoverName } from '../contract/messages.ts'
import { deadline } from '../deadline.ts'
import { CookError } from '../errors.ts'
import type { History } from '../history.ts'
import { Latch } from '../latch.ts'
import { ownUnixPath } from '../listen/unix-path.ts'
import { now } from '../node/clock.ts'
import { livesOn } from '../node/processes.ts'
import { serverOf, startReading, stopReading } from '../node/sockets.ts'
import { isAlive, system } from '../node/system.ts'
import type { DrainReport, HandOverRule } from '../options.ts'
import { reclaimPidFile, releasePidFile } from '../process/pid-file.ts'
import { type EnteredState, takeStep } from '../process/state.ts'
import type { Teller } from '../service.ts'
import { toPieces, toText } from '../upgrade/cloned-values.ts'
import type { Link } from '../upgrade/link.ts'
import type { Committed } from '../upgrade/replace.ts'
import type { Arrival, Destination } from '../upgrade/successor.ts'
import { Spares } from './come-back.ts'
import { type Counting, countMove, noCounts, toReport } from './counts.ts'
import { drain, type OwnDrain } from './drain.ts'
import { Mover } from './mover.ts'

/** How often a process that drains tells its successor how far it is, in milliseconds. */
const newsInterval = 1_000

/** How long beyond the end of the drain a successor may take to answer the last word, in milliseconds; then it is killed. */
const answerTime = 5_000

export type Listener = {
  readonly name: string
  /** The predecessor's name of it, if it had it. */
  readonly oldName?: string
  readonly server: Server
}

/** A drain as a protocol with a module of its own (src/ws.ts) sees it. */
export type DrainView = {
  /** Undefined at a stop. */
  readonly mover: Mover | undefined
  /** Set when what is idle is to be closed; at a stop it is from the start. */
  readonly hurry: Latch
  readonly deadline: Latch
  /** From its begin to the deadline, in milliseconds. */
  readonly time: number
  /** The successor was lost and we take the service back: nothing is to be closed. */
  isComingBack(): boolean
  /** Where what becomes of a connection is counted. */
  countsOf(socket: Socket): Counting
}

/** What is called when a drain begins: the program's own listeners, and the drains of protocols with a module of their own. */
export type DrainHooks = {
  readonly listeners: (() => unknown)[]
  readonly own: ((view: DrainView) => OwnDrain)[]
}

/** What belongs to the daemon and ends, or comes back, with its service. */
export type Home = {
  readonly state: EnteredState
  readonly teller: Teller
  readonly listeners: readonly Listener[]
  readonly history: History
  readonly hooks: DrainHooks
  readonly rule: () => HandOverRule
  onRelease(): unknown
  /** The control socket: nobody is accepted there any more; who was gets an answer; and it is opened anew. */
  control(): { release(): void; readonly idle: Promise<void>; reopen(): Promise<void> } | undefined
  /** What this process is now. */
  record(): GenerationRecord
  /** The successor is dead, and the service is ours again. */
  onReturn(error: CookError): void
}

export class Leaving {
  readonly #home: Home
  /** Connections of our predecessor on their way through us. */
  readonly #passing = new Set<Promise<unknown>>()
  #left: Promise<DrainReport> | undefined
  #time = 0
  #endsAt = 0
  #mover: Mover | undefined
  #spares: Spares | undefined
  /** Of the drain that runs, by listener. */
  #counts = new Map<string, Counting>()
  #otherCounts = noCounts()
  /** Set at a stop, also one of a process that drains after an upgrade: idle connections are closed. */
  #hurry = new Latch()
  /** Set by the second stop, and at the deadline. */
  #end = new Latch()
  /** Set when the successor is dead, and the service is ours again. */
  #lost = new Latch()
  #isLost = Promise.resolve(false)
  #farewell: Promise<boolean> | undefined
  #linkEnded = Promise.resolve()
  #hasLinkEnded = true
  /** Those that listened when the drain began. */
  #listening: readonly Listener[] = []
  /** Whoever waits for the end of the drain. */
  #waiting: ((end: DrainReport | CookError) => void)[] = []
  #tellNews: (() => void) | undefined

  constructor(home: Home) {
    this.#home = home
  }

  /** When the time of the drain that runs, or has ended, is over, by now(). */
  get endsAt(): number {
    return this.#endsAt
  }

  get handedOver(): number {
    return [...this.#counts.values(), this.#otherCounts].reduce((sum, counts) => sum + counts.handedOver, 0)
  }

  /** The drain that runs, or the next one; rejects with `ERR_COOK_SUCCESSOR_LOST` if the service comes back instead. */
  async untilDrained(): Promise<DrainReport> {
    const end = await new Promise<DrainReport | CookError>((settle) => this.#waiting.push(settle))
    if (end instanceof CookError) throw end
    return end
  }

  /** The successor has taken over; resolves when this process has finished what it had, or has the service again. */
  begin(upgraded: Committed, time: number): Promise<DrainReport> {
    this.#left = this.#leave(upgraded, time)
    return this.#left
  }

  /** Ends the service; once more, and in a process that drains after an upgrade for the second time, it cuts the rest. */
  stop(time: number): Promise<DrainReport> {
    if (this.#left !== undefined) {
      if (this.#hurry.isSet) this.#end.set()
      this.#hurry.set()
      return this.#left
    }
    const { state } = this.#home
    this.#hurry.set()
    takeStep(state, 'stop')
    state.entered.succession?.stop()
    this.#left = this.#leave(undefined, time)
    return this.#left
  }

  /** A connection of the predecessor on its way through us to our own successor; false if there is none. `keep` is for one that cannot go on. */
  passOn(arrival: Arrival, socket: Socket, keep: () => boolean): boolean {
    if (this.#mover?.isOpen !== true) return false
    stopReading(socket)
    const { state, ...destination } = arrival
    const passing = this.#mover
      .move(socket, destination, { isFree: () => true, state, isUrgent: true })
      .then((moved) => {
        if (moved === 'busy' && !socket.destroyed && !keep()) socket.destroy()
        this.#passing.delete(passing)
      })
    this.#passing.add(passing)
    return true
  }

  /** A connection of the program's own protocol, on the program's word. */
  async handOver(name: string, destination: Destination, socket: Socket, state: unknown): Promise<boolean> {
    const mover = this.#mover
    const refuse = (why: string) => new CookError('ERR_COOK_HAND_OVER', { why })
    if (mover?.isOpen !== true) throw refuse('there is no successor')
    if (socket.destroyed) throw refuse('it is closed')
    if ('encrypted' in socket) throw refuse('it is a TLS connection, whose keys cannot move')
    const text = toText(name, state)
    const counts = this.countsOf(socket)
    stopReading(socket)
    // What the program has written goes out first.
    if (socket.writableLength > 0) await new Promise<void>((written) => socket.write('', () => written()))
    const moved = await mover.move(socket, destination, { isFree: () => true, state: text, isUrgent: true })
    countMove(counts, moved)
    if (moved === 'busy' && !socket.destroyed) startReading(socket)
    return moved === 'moved'
  }

  listenerOf(socket: Socket): Listener | undefined {
    return this.#home.listeners.find(({ server }) => server === serverOf(socket))
  }

  countsOf(socket: Socket): Counting {
    return this.#counts.get(this.listenerOf(socket)?.name ?? '') ?? this.#otherCounts
  }

  /** Those before us are shown by those after us. */
  tellNews(): void {
    this.#tellNews?.()
  }

  async #leave(upgraded: Committed | undefined, time: number): Promise<DrainReport> {
    const { state, teller, control } = this.#home
    this.#time = time
    this.#endsAt = now() + time
    const timer = setTimeout(() => this.#end.set(), time)
    const end = this.#end.wait()
    const released = upgraded && this.#open(upgraded)
    const news = upgraded && this.#beginNews(upgraded.link)
    const hasDrained = await this.#drain(upgraded, end)
    const report = toReport(this.#counts, this.#otherCounts)
    await Promise.race([released, end, this.#lost.wait()])
    if (hasDrained) await this.#untilPredecessorLeft(end)
    const isLeft = hasDrained && (upgraded === undefined || (await this.#sayFarewell(upgraded)))
    clearTimeout(timer)
    clearInterval(news)
    if (upgraded !== undefined && !isLeft && this.#canReturn()) {
      teller.emit({ type: 'drained', report })
      const isStopping = this.#hurry.isSet
      await this.#comeBack(upgraded.generation, isStopping)
      return isStopping ? this.stop(time) : report
    }
    this.#spares?.close()
    for (const tell of this.#waiting.splice(0)) tell(report)
    await control()?.idle
    if (upgraded === undefined && state.pidFile !== undefined) releasePidFile(state.pidFile)
    control()?.release()
    takeStep(state, 'end')
    teller.emit({ type: 'drained', report })
    return report
  }

  /** Connections of our own predecessor go through us: it leaves first. */
  async #untilPredecessorLeft(end: Promise<void>): Promise<void> {
    const { succession } = this.#home.state.entered
    await Promise.race([succession?.bye, end])
    // One that stands still would stay for ever with nobody to see it.
    if (!this.#hurry.isSet) await Promise.race([succession?.left, this.#lost.wait()])
    await Promise.race([Promise.all(this.#passing), end])
  }

  /** The way to the successor. Resolves when it has what onRelease returned. */
  async #open({ link, onLink, identity, protocol }: Committed): Promise<void> {
    const mover = new Mover(link, {
      onStop: () => {
        this.#hurry.set()
        this.#home.state.entered.succession?.stop()
      },
      onEnd: () => this.#end.set(),
      onLost: () => {
        // Its answer to the last word is looked at there. One that was killed is told of late, if connections were on their way: the service may be going to another one by then.
        if (this.#farewell !== undefined || this.#mover !== mover) return
        const lost = this.#lost
        this.#isLost = livesOn(identity).then((livesStill) => {
          if (!livesStill) lost.set()
          return !livesStill
        })
      },
    })
    const spares = new Spares(protocol >= protocolOfSpares)
    this.#mover = mover
    this.#spares = spares
    this.#hasLinkEnded = false
    this.#linkEnded = new Promise((ended) => {
      onLink((event) => {
        if (event.type === 'closed' && this.#mover === mover) this.#hasLinkEnded = true
        spares.onLink(event)
        mover.onLink(event)
        if (event.type === 'closed') ended()
      })
    })
    await this.#release(link)
  }

  async #release(link: Link): Promise<void> {
    const { teller, onRelease } = this.#home
    const value = await teller.runHook('onRelease', onRelease)
    try {
      await sendTakeover(link, value)
    } catch (error) {
      teller.hookFailed('onRelease', error)
      await sendTakeover(link, undefined)
    }
  }

  /** False if the successor was lost. */
  async #drain(upgraded: Committed | undefined, end: Promise<void>): Promise<boolean> {
    const { teller, listeners, hooks } = this.#home
    const mover = this.#mover
    const rule = this.#home.rule()
    this.#listening = listeners.filter(({ server }) => server.listening)
    // One that does not listen any more has no counterpart in the successor.
    const servers = listeners.map(({ name, server }) => {
      return {
        name,
        server,
        mover: server.listening ? mover : undefined,
        rule,
        counts: noCounts(),
        endsAt: this.#endsAt,
      }
    })
    this.#counts = new Map(servers.map(({ name, counts }) => [name, counts]))
    this.#otherCounts = noCounts()
    const own = Promise.all(hooks.listeners.map((listener) => teller.runHook('onDrain', listener)))
    const others = hooks.own.map((begin) => begin(this.#view()))
    const hasDrained = await drain({
      servers,
      others,
      deadline: this.#end,
      hurry: this.#hurry,
      lost: this.#lost,
      isLost: () => this.#isLost,
      canReturn: () => this.#canReturn(),
      spares: this.#spares?.complete,
      isLeft: async () => upgraded === undefined || this.#sayFarewell(upgraded),
    })
    if (hasDrained) await Promise.race([own, end, this.#lost.wait()])
    return hasDrained
  }

  #view(): DrainView {
    const mover = this.#mover
    return {
      mover,
      hurry: this.#hurry,
      deadline: this.#end,
      time: this.#time,
      isComingBack: () => mover?.isLost === true && this.#canReturn(),
      countsOf: (socket) => this.countsOf(socket),
    }
  }

  /** Each listener is open, or can be opened again. */
  #canReturn(): boolean {
    return this.#listening.every(({ name, server }) => server.listening || this.#spares?.has(name))
  }

  /**
   * The last word, which the successor answers by ending the link: only then the service is safe in its hands. False if it is dead, or stood still until well after the end of the drain, and was
   * killed. Said once.
   */
  #sayFarewell(upgraded: Committed): Promise<boolean> {
    this.#farewell ??= this.#hearFarewell(upgraded)
    return this.#farewell
  }

  async #hearFarewell({ link, identity }: Committed): Promise<boolean> {
    const mover = this.#mover
    // It ends by itself with the service, or has a successor of its own.
    const isPassed = () => mover?.wasStopped === true || mover?.isReplacing === true
    // It was looked for when the link ended.
    if (this.#hasLinkEnded) return isPassed() || (!(await this.#isLost) && isAlive(identity))
    this.#noteEnd()
    this.#tellNews?.()
    link.send({ type: 'bye' })
    if (await this.#isAnswered()) return isPassed() || isAlive(identity)
    link.close()
    if (isPassed() || this.#hurry.isSet) return true
    system.kill(identity, 'SIGKILL')
    await livesOn(identity)
    return false
  }

  /** What became of the connections; of those that are left at the deadline it is known before they are cut. */
  #noteEnd(): void {
    const { history, record } = this.#home
    const { cut, ...others } = toReport(this.#counts, this.#otherCounts)
    history.drained({ ...others, cut: cut + record().connections })
  }

  /** True when the link ends; false long after the end of the drain, and at that end if the service ends too. */
  async #isAnswered(): Promise<boolean> {
    let stop = () => {}
    const late = new Promise<false>((settle) => {
      void this.#end.wait().then(() => {
        stop = deadline(this.#hurry.isSet ? 0 : answerTime, () => settle(false))
      })
    })
    try {
      return await Promise.race([this.#linkEnded.then(() => true), late])
    } finally {
      stop()
    }
  }

  /** The successor is dead: everything is ours again. */
  async #comeBack(generation: number, isStopping: boolean): Promise<void> {
    const { state, teller, control, onReturn } = this.#home
    if (!isStopping) await Promise.all(this.#listening.map((listener) => this.#listenAgain(listener)))
    this.#spares?.close()
    this.#spares = undefined
    this.#mover = undefined
    this.#farewell = undefined
    this.#left = undefined
    this.#tellNews = undefined
    this.#end = new Latch()
    this.#hurry = new Latch()
    this.#lost = new Latch()
    this.#isLost = Promise.resolve(false)
    delete state.hasSuccessor
    takeStep(state, 'return')
    if (state.pidFile !== undefined) reclaimPidFile(state.pidFile)
    teller.emit({ type: 'successor-lost', generation })
    const error = new CookError('ERR_COOK_SUCCESSOR_LOST', { generation, self: process.pid })
    onReturn(error)
    for (const tell of this.#waiting.splice(0)) tell(error)
    void teller.runHook('control', () => control()?.reopen())
  }

  async #listenAgain({ name, server }: Listener): Promise<void> {
    if (server.listening) return
    const { state, teller } = this.#home
    const path = state.registry.paths.get(server)
    await teller.runHook('listen', async () => {
      await this.#spares?.listenAgain(name, server, state.registry.backlogs.get(server))
      if (path !== undefined) ownUnixPath(state, server, path)
    })
  }

  #beginNews(link: Link): NodeJS.Timeout {
    const { history, record } = this.#home
    this.#tellNews = () => link.send({ type: 'news', ...history.news(record()) })
    this.#tellNews()
    return setInterval(this.#tellNews, newsInterval).unref()
  }
}

async function sendTakeover(link: Link, value: unknown): Promise<void> {
  for (const piece of toPieces(takeoverName, { value, version: 0 })) {
    await new Promise<void>((sent) => link.send(piece, sent))
  }
}
