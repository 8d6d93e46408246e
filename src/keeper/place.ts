/** A place for a worker at work: who lives there, and what is done there by its rules. */
import { randomBytes } from 'node:crypto'
import { type Identity, type LinkRecord, readProgram } from '../contract/environment.ts'
import type { Exit } from '../contract/old-side.ts'
import { protocolVersion } from '../contract/protocol.ts'
import type { UserRecord } from '../contract/user.ts'
import type { LastExit, Restarts, WorkerState } from '../control/status.ts'
import { CookError, messageOf } from '../errors.ts'
import { makePair } from '../node/pair.ts'
import { endSession, killSession } from '../node/sessions.ts'
import { identify, system } from '../node/system.ts'
import { defaults } from '../options.ts'
import { deferred } from '../waiting.ts'
import { type EndBy, endWorker, timeToEnd } from './ending.ts'
import { notSpawned, untilServes } from './first-start.ts'
import { Health } from './health.ts'
import type { Home, Over } from './home.ts'
import { backText, crashText } from './log-lines.ts'
import type { KeepOptions, Release, SlotRecord } from './plan.ts'
import { commandOf, isSameRelease } from './release.ts'
import { isInOrder, newSlot, type Slot, type SlotEffect, type SlotEvent, stepSlot } from './slot.ts'
import { Spawns } from './spawns.ts'
import { type Birth, exitCodeOf, giveBirth, type Worker, type WorkerEvents } from './worker.ts'
import { openWorkerControl } from './worker-control.ts'

export class Place {
  readonly number: number
  readonly home: Home
  readonly workers = new Map<number, Worker>()
  readonly health: Health
  restarts: Restarts = { crash: 0, hang: 0, memory: 0 }
  lastExit: LastExit | undefined
  /** Of the worker that was started last. */
  generation: number
  /** Connections that are open here, as its worker said last. */
  open = 0
  /** Its worker is to be replaced by itself. */
  isStale = false
  /** It is to go for good. */
  isRetiring = false
  /** Why its first start has failed. */
  firstFault: { readonly error: Error; readonly code: number } | undefined
  #slot: Slot<Release>
  #timer: NodeJS.Timeout | undefined
  /** Waits for the end of a restart. */
  #restarted: ReturnType<typeof deferred<Error | undefined>> | undefined
  /** What the worker gets to end at a restart, in milliseconds. */
  #killAfter: number | undefined
  /** Why the next exit is no crash of the program's own. */
  #reason: keyof Restarts = 'crash'
  /** How often one was started here. */
  #starts = 0
  /** Has crashed: what it has started ends once the next one is started, for whom clients wait. */
  #crashed: Identity | undefined
  readonly #spawns: Spawns

  constructor(number: number, home: Home, release: Release, generation: number) {
    this.number = number
    this.home = home
    this.generation = generation
    this.#slot = newSlot(release)[0]
    this.#spawns = new Spawns(this)
    this.health = new Health(home.plan.options, this)
  }

  get state(): WorkerState {
    const { at, hasFailed, isStopping } = this.#slot
    if (at === 'down') return isStopping ? 'stopped' : 'crashed'
    if (at === 'waiting' && hasFailed) return 'failed'
    return at
  }

  get isDown(): boolean {
    return this.#slot.at === 'down'
  }

  get isStopping(): boolean {
    return this.#slot.isStopping
  }

  /** Nothing has served here yet. */
  get isFirst(): boolean {
    return this.#slot.isFirst
  }

  /** It ends, for another one to be started in its place: what it closes meanwhile stays held. */
  get isRestarting(): boolean {
    return this.#slot.next !== undefined
  }

  /** What a start after a crash starts. */
  get release(): Release {
    return this.#slot.release
  }

  /** The worker that owns the service here now. */
  get serving(): Worker | undefined {
    const { serving } = this.#slot
    return serving === undefined ? undefined : this.workers.get(serving.generation)
  }

  /** Whether its release is in order, and how often it has crashed before it was. */
  get experience(): { readonly isProven: boolean; readonly early: number } {
    return { isProven: isInOrder(this.#slot, performance.now()), early: this.#slot.early }
  }

  get record(): SlotRecord {
    const { number: slot, generation, restarts, lastExit } = this
    const { release, before, isProven } = this.#slot
    const known = { slot, generation, restarts, release, isProven }
    return { ...known, ...(before && { before }), ...(lastExit && { lastExit }) }
  }

  /** Starts the first worker. */
  begin(): void {
    this.#carryOut([{ do: 'start', release: this.#slot.release }])
  }

  /** As another keeper has known it. */
  remember({ before, isProven = false, restarts, lastExit, generation, release }: SlotRecord): void {
    Object.assign(this, { restarts, lastExit, generation })
    this.#slot = { ...this.#slot, release, before, isProven }
  }

  /** It has no worker of its own; what has crashed meanwhile is started anew. */
  resume(): void {
    this.#slot = { ...this.#slot, isFirst: false }
    this.begin()
  }

  /** Takes up a worker that another keeper has started. */
  attach(worker: Worker): void {
    // Of what it knew nothing is typed or followed anew.
    this.#slot = { ...this.#slot, release: worker.release }
    this.take(worker)
    this.serves(worker)
    if (this.home.size === undefined) this.renew()
  }

  /** Whoever serves here is the last one. */
  retire(): void {
    this.isRetiring = true
    if (!this.isStopping) this.step({ type: 'stop' })
  }

  stop(by: EndBy): void {
    this.step({ type: 'stop' })
    const { serving } = this
    const { drainTimeout, lameDuck } = this.home.said
    const ms = timeToEnd(drainTimeout + (by === 'SIGTERM' ? lameDuck : 0))
    // Those before it hear of it from the one that serves.
    if (serving !== undefined) endWorker(serving, by, ms)
    else for (const worker of this.workers.values()) endWorker(worker, by === 'request' ? 'SIGTERM' : by, ms)
  }

  /** Ends what runs, and starts this in its place. Resolves to why it was not done. */
  async restart(release: Release, killAfter?: number): Promise<Error | undefined> {
    const { at, isStopping } = this.#slot
    if (isStopping || at === 'down') return new CookError('ERR_COOK_STOPPING', { pid: process.pid })
    this.#restarted ??= deferred<Error | undefined>()
    this.#killAfter = killAfter
    const { promise } = this.#restarted
    this.step({ type: 'restart', release, now: performance.now() })
    return promise
  }

  /** SIGKILL: its event loop does not turn. */
  killHanging(worker: Worker): void {
    this.#reason = 'hang'
    killSession(worker.identity)
  }

  mayReplaceForMemory(): boolean {
    return this.home.mayReplaceForMemory()
  }

  say(text: string): void {
    this.home.say(text, this)
  }

  /** Replaces its worker by itself: of several, when nothing else moves. */
  renew(): void {
    if (this.home.size === undefined) this.serving?.station.send({ type: 'upgrade' })
    else {
      this.isStale = true
      this.home.tellChanged(this)
    }
  }

  countMemory(): void {
    this.restarts = { ...this.restarts, memory: this.restarts.memory + 1 }
    this.home.changed()
  }

  keepBy(options: KeepOptions): void {
    this.health.watch(options)
  }

  step(event: SlotEvent<Release>): void {
    const [slot, effects] = stepSlot(this.#slot, event, this.home.rulesFor(this), isSameRelease)
    this.#slot = slot
    // In the foreground without a word to keep it is the worker that decides when it ends.
    if (effects.some((one) => one.do === 'crashed') && this.home.endsAtCrash()) {
      this.#slot = { ...slot, at: 'down' }
      this.#leave('crashes')
    } else {
      this.#carryOut(effects)
    }
    if (this.#slot.at !== 'starting') this.#endLeft()
    this.home.changed()
  }

  #carryOut(effects: readonly SlotEffect<Release>[]): void {
    for (const effect of effects) {
      switch (effect.do) {
        case 'start':
          void this.#start(effect.release)
          break
        case 'wait':
          clearTimeout(this.#timer)
          this.#timer = setTimeout(() => this.step({ type: 'timer' }), effect.ms)
          break
        case 'replace':
          if (this.serving === undefined) break
          endWorker(this.serving, 'request', timeToEnd(this.home.said.drainTimeout, this.#killAfter))
          break
        case 'watch':
          clearTimeout(this.#timer)
          this.#timer = setTimeout(() => this.step({ type: 'overdue' }), this.#readyTimeout).unref()
          break
        case 'kill':
          this.say('the worker has exited, and no process took over: the other processes of the service are killed')
          for (const { identity } of this.workers.values()) killSession(identity)
          break
        case 'crashed':
          this.#sayCrash(effect)
          break
        case 'back':
          this.home.wentBack = { at: Date.now(), about: 'release', text: backText(this.release) }
          this.say(this.home.wentBack.text)
          this.home.onBack(this)
          break
        case 'end':
          this.#leave(effect.why)
          break
      }
    }
  }

  #leave(why: Over): void {
    clearTimeout(this.#timer)
    this.health.end()
    this.#restarted?.resolve(new Error('the service was stopped'))
    this.home.onOver(this, why)
  }

  /** Plays the predecessor for a process that starts with what the keeper holds, and no state. */
  async #start(release: Release): Promise<void> {
    const generation = ++this.generation
    const nonce = randomBytes(16).toString('hex')
    const { home } = this
    const { program, folder, options } = home.plan
    const start = ++this.#starts
    let worker: Worker | undefined
    try {
      if (this.#userOf(release) !== undefined) await openWorkerControl(home, this.number)
      const [own, other] = await makePair(folder)
      const handles = home.held.recordsFor(this.number)
      const common = { protocol: protocolVersion, nonce, generation, handles, typed: release.typed }
      const link: LinkRecord = { ...common, predecessor: identify() }
      const birth = { link, command: commandOf(release), release, linkFd: other.fd, log: home.logAt(this) }
      try {
        worker = await this.birth(birth)
      } finally {
        other.close()
        if (worker === undefined) own.close()
        this.#endLeft()
      }
      const { stopping: signal } = home
      // What goes to the terminal of `run` has been read there.
      const isShown = options.isRun === true && program.logFile === undefined
      const asked = { link, own, readyTimeout: this.#readyTimeout, signal, isShown, news: home.past.news }
      await untilServes(worker, { ...asked, onReady: () => home.recorder.open() })
      this.serves(worker)
    } catch (error) {
      const fault = worker === undefined ? notSpawned(release.command, error) : (error as Error)
      this.firstFault = { error: fault, code: exitCodeOf(worker?.exited) }
      // It had come up, and another one is started by now.
      if (start !== this.#starts) return
      if (!this.isFirst) this.say(`generation ${generation} did not start: ${messageOf(fault)}`)
      this.#tellRestarted(fault)
      this.step({ type: 'failed', now: performance.now() })
    }
  }

  /** As whom a program runs from its start on: only the first of all opens what root alone may. */
  #userOf({ environment }: Release): UserRecord | undefined {
    const { user, noListen } = readProgram(environment) ?? {}
    const opens = this.isFirst && this.number === 0 && noListen !== true
    return opens || process.geteuid?.() !== 0 ? undefined : user
  }

  get #readyTimeout(): number {
    return this.home.plan.program.readyTimeout ?? defaults.readyTimeout
  }

  serves(worker: Worker): void {
    const { generation, release } = worker
    this.#reason = 'crash'
    this.step({ type: 'serves', generation, release, now: performance.now() })
    this.#spawns.count(worker, 'succeeded')
    this.home.onServes(this, worker)
    this.#tellRestarted(undefined)
  }

  /** It serves, or the keeper has started it to serve. */
  isOwner({ generation }: Worker): boolean {
    const { at, serving } = this.#slot
    return at === 'starting' || serving?.generation === generation
  }

  /** Starts it with what the keeper holds. */
  async birth(birth: Omit<Birth, 'fds' | 'slot' | 'workers' | 'environment' | 'user'>): Promise<Worker> {
    const { home, number: slot } = this
    const fds = home.held.descriptorsOf(birth.link.handles)
    const environment = home.environmentAt(this, birth.release)
    const where = { slot, workers: home.size, environment, fds, user: this.#userOf(birth.release) }
    const worker = await giveBirth({ ...birth, ...where }, this.events)
    this.take(worker)
    return worker
  }

  take(worker: Worker): void {
    this.generation = Math.max(this.generation, worker.generation)
    this.workers.set(worker.generation, worker)
    this.step({ type: 'started', generation: worker.generation })
    worker.tellHow(this.home.plan)
  }

  readonly events: WorkerEvents = {
    message: (worker, message, handle) => {
      if (message.type === 'spawn' || message.type === 'pair' || message.type === 'born' || message.type === 'kill')
        this.#spawns.hear(worker, message)
      else if (message.type === 'pong') this.health.heard(worker)
      // An old one that drains has what does not move.
      else if (message.type === 'open') this.open = worker === this.serving ? message.count : this.open
      else this.home.hear(this, worker, message, handle)
    },
    exit: (worker, exit) => this.#onExit(worker, exit),
  }

  #onExit(worker: Worker, { code, signal }: Exit): void {
    const { generation, identity } = worker
    // Its generation may be another one's by now.
    if (this.workers.get(generation) !== worker) return
    // What one that was told to stop has said before is no news.
    const words = this.isStopping && code === 0 ? '' : worker.words
    this.workers.delete(generation)
    for (const other of this.workers.values()) other.passOver()
    this.home.onExit(this, worker)
    this.#spawns.count(worker, 'failed')
    const isLast = this.workers.size === 0
    // The regular end of an old one may be heard before the new one's word that it serves.
    const isLoss = this.#slot.serving?.generation === generation && (code !== 0 || isLast)
    const lastExit = { generation, pid: identity[0], code, signal, at: Date.now(), words: words.replace(/^\. /, '') }
    if (isLoss || isLast) this.lastExit = lastExit
    if (isLoss && !this.isStopping) this.#crashed = identity
    this.step({ type: 'exit', generation, now: performance.now() })
  }

  /** What a crashed worker has started would run twice. */
  #endLeft(): void {
    if (this.#crashed !== undefined) void endSession(this.#crashed)
    this.#crashed = undefined
  }

  #sayCrash({ inRow, hasFailed }: Extract<SlotEffect<Release>, { do: 'crashed' }>): void {
    const reason = this.#reason
    this.#reason = 'crash'
    this.restarts = { ...this.restarts, [reason]: this.restarts[reason] + 1 }
    const text = crashText(this.lastExit, { reason, inRow, hasFailed })
    if (text !== undefined) this.say(text)
  }

  /** Whoever waits for a restart hears how it went, unless there is another one to come. */
  #tellRestarted(fault: Error | undefined): void {
    if (this.#slot.next !== undefined) return
    this.#restarted?.resolve(fault)
    this.#restarted = undefined
  }

  /** As if it had the pid of the keeper. */
  signal(signal: NodeJS.Signals): boolean {
    if (this.serving === undefined) return false
    system.kill(this.serving.identity, signal)
    return true
  }
}
