/** The keeper of a service: the parent of its workers, which holds their listeners. */
import { type ProgramRecord, readProgram, writeProgram } from '../contract/environment.ts'
import type { KeeperMessage } from '../contract/keeper-messages.ts'
import type { WarningRecord } from '../contract/messages.ts'
import type { LastExit, Restarts } from '../control/status.ts'
import { CookError } from '../errors.ts'
import { withoutInspectorIn } from '../node/node-options.ts'
import { placeOfPids } from '../node/processes.ts'
import { identify } from '../node/system.ts'
import { defaults, withoutUndefined } from '../options.ts'
import { typedOf } from '../process/command.ts'
import { workerLog } from '../process/log-dir.ts'
import type { RawHandle } from '../upgrade/station.ts'
import { deferred, Turns } from '../waiting.ts'
import type { EndBy } from './ending.ts'
import { memoryPause } from './health.ts'
import { HeldHandles } from './held.ts'
import type { Changes, Home, Over } from './home.ts'
import { clusterText, say } from './log-lines.ts'
import { Past } from './past.ts'
import { PidClaim } from './pid-claim.ts'
import { Place } from './place.ts'
import type { KeeperPlan, KeepOptions, Release, Said, ServiceRecord, SlotRecord } from './plan.ts'
import { Recorder } from './records.ts'
import { environmentOf, isSameRelease, releaseOf } from './release.ts'
import type { Rules } from './slot.ts'
import { isTrusted } from './spawns.ts'
import { asOfUnit } from './unit.ts'
import { exitCodeOf, type Worker } from './worker.ts'

/** How the keeper ends: with this code, and at a first start that failed with why. */
export type End = { readonly code: number; readonly error?: Error }

/** How what a worker says reaches whoever waits for it (together.ts, upgrades.ts, scale.ts). */
export type Hearing = {
  /** A worker, or its successor, waits for the others. */
  held?(place: Place, worker: Worker, overlaps: boolean): void
  /** Somebody serves in a place, or nobody does any more. */
  changed(place: Place): void
  /** Anything of the service may have changed. */
  touched?(): void
  /** A worker could not be replaced as the keeper has asked. */
  failed?(place: Place): void
  /** So many connections of it have gone to another one. */
  given?(place: Place, moved: number): void
  /** It says that it serves, now or again. */
  returned?(place: Place): void
}

export class Keeper implements Home {
  /** As the last upgrade has changed it. */
  plan: KeeperPlan
  readonly startedAt = Date.now()
  /** Resolves when all first workers serve; rejects if one does not come up. */
  readonly started = deferred<void>()
  /** Resolves when no worker is left, and none is to come. */
  readonly ended = deferred<End>()
  /** By their numbers, in order. */
  readonly places = new Map<number, Place>()
  readonly held = new HeldHandles()
  /** That it did, and why; undefined: it runs what was started last. */
  wentBack: WarningRecord | undefined
  asked: Changes | undefined
  /** What an upgrade of all puts in place of what runs, while it is under way. */
  target: Release | undefined
  /** Names of listeners that the new version may leave, in this upgrade. */
  leaves: readonly string[] | undefined
  /** Why the last upgrade has failed; undefined: it has not. */
  upgradeFault: string | undefined
  said: Said
  readonly pidFile = new PidClaim(() => this.workers.map(({ identity }) => identity))
  readonly past = new Past()
  /** For whoever has files of a worker. */
  onGone: (place: Place, worker: Worker) => void = () => {}
  /** A program has asked for an upgrade of the whole service. */
  onWish: (worker: Worker, options: object) => void = () => {}
  readonly hearing = new Set<Hearing>()
  /** Of whatever replaces workers, or moves connections between them. */
  readonly turns = new Turns()
  /** That of the last commit of all. */
  #release: Release
  #failed: End | undefined
  #memoryAt = Number.NEGATIVE_INFINITY
  #hasSaidCluster = false
  /** That came while nobody served. */
  readonly #signals = new Set<NodeJS.Signals>()
  readonly #stopping = new AbortController()
  isStopping = false
  readonly recorder = new Recorder(() => this.record)
  #isStarting = true
  #isHeard = false
  readonly #asleep: Place[] = []

  constructor(plan: KeeperPlan) {
    this.plan = plan
    this.said = { ...defaults, ...plan.program }
    this.#release = releaseOf(plan.command, typedOf(plan.command), plan.environment)
  }

  /** Starts the first worker, and then all others: it opens the listeners that they share. */
  begin(): void {
    this.add(0).begin()
  }

  /** Another keeper has kept it before: of its workers some may live. */
  remember({ slots, release, isUnited = true }: ServiceRecord): void {
    this.#release = release
    this.isUnited = isUnited
    this.#isStarting = false
    for (const one of slots) this.add(one.slot).remember(one)
    // It may have died before it had started all of them.
    for (let slot = 0; slot < (this.size ?? 1); slot++) if (!this.places.has(slot)) this.add(slot)
    this.recorder.open()
  }

  /** Nobody lives there: they start when the first of the others has told what it listens on. */
  resume(places: readonly Place[]): void {
    this.#asleep.push(...places)
    if (this.#isHeard) this.#wake()
  }

  #wake(): void {
    this.#isHeard = true
    for (const place of this.#asleep.splice(0)) place.resume()
  }

  add(number: number): Place {
    const generation = Math.max(this.plan.generation ?? 1, this.generation) - 1
    const place = new Place(number, this, this.#release, generation)
    place.restarts = this.past.restartsOf(number)
    this.places.set(number, place)
    return place
  }

  /** There is no such slot from now on. */
  remove(place: Place): void {
    place.health.end()
    this.places.delete(place.number)
    this.held.forget(place.number)
    this.past.keepRestarts(place.number, place.restarts)
    this.changed()
  }

  get workers(): Worker[] {
    return this.all.flatMap((place) => [...place.workers.values()])
  }

  get all(): Place[] {
    return [...this.places.values()]
  }

  /** Undefined: nobody serves. */
  get first(): Place | undefined {
    return this.all.find((place) => place.serving !== undefined)
  }

  get size(): number | undefined {
    return this.plan.options.workers
  }

  get generation(): number {
    return Math.max(...this.all.map((place) => place.serving?.generation ?? place.generation))
  }

  get stopping(): AbortSignal {
    return this.#stopping.signal
  }

  /** That of the service: of the best that any slot is in. */
  get state(): ServiceRecord['state'] {
    const states = this.all.map(({ state }) => state)
    return statesByRank.find((one) => states.includes(one)) ?? 'stopped'
  }

  get release(): Release {
    return this.size === undefined ? (this.places.get(0)?.release ?? this.#release) : this.#release
  }

  /** The release of the service from now on: of a slot that is started anew or is new too. */
  commit(release: Release): void {
    this.#release = release
    const { release: _, ...program } = readProgram(release.environment) ?? this.plan.program
    this.plan = { ...this.plan, program }
    this.changed()
  }

  /** Ends the service: once more, and what is still answered is cut. */
  stop(by: EndBy): void {
    // One that is still starting gets the signal too, and the time that it takes to end by it.
    if (this.isStopping) this.#stopping.abort()
    else setTimeout(() => this.#stopping.abort(), this.said.lameDuck + this.said.drainTimeout).unref()
    this.isStopping = true
    for (const place of this.all) place.stop(by)
  }

  /** For all who serve, as if each had the pid of the keeper, or for the next that does. */
  signal(signal: NodeJS.Signals): void {
    // A worker that has given up root is upgraded to what was typed by this too.
    if (signal === 'SIGUSR2') this.asked = { retyped: {}, program: {} }
    // One of several has all of them upgraded.
    const places = signal === 'SIGUSR2' ? this.all.filter((one) => one === this.first) : this.all
    if (!places.map((place) => place.signal(signal)).includes(true)) this.#signals.add(signal)
  }

  /** Ends what runs, and starts this in its place. Resolves to why it was not done. */
  async restart(release: Release, killAfter?: number): Promise<Error | undefined> {
    if (this.isStopping) return new CookError('ERR_COOK_STOPPING', { pid: process.pid })
    this.wentBack = undefined
    const faults = await Promise.all(this.all.map((place) => place.restart(release, killAfter)))
    const fault = faults.find((one) => one !== undefined)
    if (fault === undefined) this.commit(release)
    return fault
  }

  /** What a start gets: the environment of the last one unless there is another, and its words. */
  environmentFor(env: Release['environment'] | undefined, program: ProgramRecord): Release['environment'] {
    const { release, plan } = this
    const own = withoutInspectorIn(env === undefined ? release.environment : asOfUnit(env))
    return withoutUndefined(writeProgram(own, { ...plan.program, ...program }))
  }

  environmentAt({ number }: Place, { environment }: Release): Release['environment'] {
    const { size, target, leaves } = this
    return size === undefined ? environment : environmentOf(environment, number, size, target && leaves)
  }

  logAt({ number }: Place): string | undefined {
    const { logFile } = (this.target && readProgram(this.target.environment)) ?? this.plan.program
    return this.size === undefined || logFile === undefined ? logFile : workerLog(logFile, number)
  }

  targetOf(place: Place): Release | undefined {
    if (this.size === undefined) return undefined
    return this.target ?? (this.isUnited ? this.#release : place.release)
  }

  /** Whether all slots are to run one release: not after an upgrade one by one that has failed. */
  isUnited = true

  /** By these options from now on, and after the keeper's own death. */
  keepBy(changed: KeepOptions): void {
    const options = { ...this.plan.options, ...changed }
    this.plan = { ...this.plan, options }
    for (const place of this.all) place.keepBy(options)
    this.changed()
  }

  rulesFor(place: Place): Rules {
    const { isRun = false } = this.plan.options
    const others = this.all.filter((one) => one !== place && isSameRelease(one.release, place.release))
    const known = others.map(({ experience }) => experience)
    const early = known.reduce((sum, one) => sum + one.early, 0)
    const elsewhere = { isProven: known.some(({ isProven }) => isProven), early }
    return { givesUp: isRun, chance: Math.random, elsewhere }
  }

  /** One of several that ends is started again, since the others go on. */
  endsAtCrash(): boolean {
    const { isRun = false, keep = false, workers = 1 } = this.plan.options
    return isRun && !keep && workers === 1
  }

  mayReplaceForMemory(): boolean {
    if (performance.now() - this.#memoryAt < memoryPause) return false
    this.#memoryAt = performance.now()
    return true
  }

  tellChanged(place: Place): void {
    for (const one of this.hearing) one.changed(place)
  }

  hear(place: Place, worker: Worker, message: KeeperMessage, handle: RawHandle | undefined): void {
    switch (message.type) {
      case 'handle':
        this.held.hear(place.number, message.record, handle, isTrusted(worker))
        return
      case 'handles':
        if (!place.isRestarting) this.held.keepOnly(place.number, message.inodes)
        return
      case 'serves':
        // Its last word is read when it is gone.
        if (worker.exited !== undefined) return
        this.said = {
          ...message,
          lameDuck: message.lameDuck ?? 0,
          admin: isTrusted(worker) ? message.admin : this.said.admin,
        }
        if (this.size === undefined) this.commit(worker.release)
        this.#wake()
        if (isTrusted(worker) || message.pidFile === this.plan.program.pidFile) this.pidFile.keep(message.pidFile)
        place.serves(worker)
        if (this.#isStarting) this.#onStarted()
        for (const one of this.hearing) one.returned?.(place)
        return
      case 'stopping':
        // A new version that was not accepted ends alone, and so does an old one that drains.
        if (place.isOwner(worker) && !worker.wasTold && !place.isRetiring && !this.isStopping) this.stop('request')
        return
      case 'given':
        for (const one of this.hearing) one.given?.(place, message.moved)
        return
      case 'held':
        for (const one of this.hearing) one.held?.(place, worker, message.overlaps === true)
        return
      case 'cluster':
        if (!this.#hasSaidCluster) this.say(clusterText)
        this.#hasSaidCluster = true
        return
      case 'wish':
        this.onWish(worker, message.options)
        return
      case 'failed':
        this.say(`the worker could not be upgraded to itself: ${message.why}`, place)
        for (const one of this.hearing) one.failed?.(place)
        return
    }
  }

  onServes(place: Place, _worker: Worker): void {
    const signals = [...this.#signals]
    this.#signals.clear()
    for (const signal of signals) this.signal(signal)
    this.tellChanged(place)
  }

  /** The first has opened what all share, and all of that has arrived here. */
  #onStarted(): void {
    const { workers = 1 } = this.plan.options
    if (this.all.length === 1) for (let next = 1; next < workers; next++) this.add(next).begin()
    if (this.all.some(({ isFirst }) => isFirst)) return
    this.#isStarting = false
    this.started.resolve()
  }

  onExit(place: Place, worker: Worker): void {
    this.onGone(place, worker)
    setImmediate(() => this.tellChanged(place))
  }

  /** The others follow: one service runs one version. */
  onBack(place: Place): void {
    if (this.size !== undefined) this.commit(place.release)
  }

  onOver(place: Place, why: Over): void {
    this.tellChanged(place)
    if (why === 'first' && this.#isStarting) this.#fail(place)
    if (this.all.every(({ isDown }) => isDown)) this.#leave(why)
  }

  /** All have to come up: the others end, and then the keeper. */
  #fail({ firstFault, number }: Place): void {
    const { error = new Error('it did not start'), code = 1 } = firstFault ?? {}
    if (this.all.length > 1) error.message = `slot ${number}: ${error.message}`
    this.#failed ??= { code: code || 1, error }
    this.isStopping = true
    for (const one of this.all) if (!one.isDown && !one.isStopping) one.stop('request')
  }

  #leave(why: Over): void {
    this.pidFile.release()
    if (this.#isStarting) this.recorder.undo()
    const code = exitCodeOf(this.lastExit)
    const { isRun = false, keep = false } = this.plan.options
    this.ended.resolve(this.#failed ?? { code: why === 'crashes' && keep ? code || 1 : isRun ? code : 0 })
  }

  say(text: string, place?: Place): void {
    say(this.size === undefined || place === undefined ? text : `slot ${place.number}: ${text}`)
  }

  changed(): void {
    this.recorder.changed()
    for (const one of this.hearing) one.touched?.()
  }

  get lastExit(): LastExit | undefined {
    // One that was stopped before it has ever served says nothing of those that have.
    const served = this.all.filter(({ isFirst }) => !isFirst)
    const exits = (served.length > 0 ? served : this.all).flatMap(({ lastExit }) => lastExit ?? [])
    return exits.sort((one, other) => one.at - other.at).at(-1)
  }

  get restarts(): Restarts {
    const sum = (of: keyof Restarts) => this.all.reduce((all, { restarts }) => all + restarts[of], 0)
    return { crash: sum('crash'), hang: sum('hang'), memory: sum('memory') }
  }

  get record(): ServiceRecord {
    const [pid, startTime] = identify()
    const { plan, state, generation, restarts, lastExit, release, isUnited } = this
    const slots: SlotRecord[] = this.all.map((place) => place.record)
    const now = { format: 1, at: Date.now(), keeper: { pid, startTime }, place: placeOfPids() } as const
    return { ...now, plan, state, generation, restarts, release, isUnited, slots, ...(lastExit && { lastExit }) }
  }
}

/** As long as one serves, the service does. */
const statesByRank = ['serving', 'starting', 'waiting', 'failed', 'crashed', 'stopped'] as const
