/** More or fewer workers, and as many connections for each: they go from worker to worker. */
import { workerName } from '../contract/environment.ts'
import { removeLeftovers } from '../control/leftovers.ts'
import { CookError, messageOf } from '../errors.ts'
import { makePair } from '../node/pair.ts'
import { deferred, patientTimer } from '../waiting.ts'
import { endWorker, timeToEnd } from './ending.ts'
import { fewestOf, type Move, nextMove } from './evening.ts'
import type { Hearing, Keeper } from './keeper.ts'
import type { Place } from './place.ts'
import type { Worker } from './worker.ts'

/** How often it is looked whether one has too many, in milliseconds. */
const interval = 1_000
/** After a turn in which nothing could be moved, in milliseconds: connections that must stay. */
const longPause = 30_000
/** For a worker to say how many it has given, in milliseconds. */
const patience = 10_000

/** What became of a change of the number; also what the control socket answers. */
export type Scaled = { readonly from: number; readonly to: number }

export class Scale implements Hearing {
  readonly #keeper: Keeper
  /** Whose connections go to another one, for good. */
  readonly #retiring = new Set<Place>()
  #nextLook = 0
  readonly #looking: NodeJS.Timeout
  #giving: { readonly place: Place; readonly given: ReturnType<typeof deferred<number>> } | undefined
  /** Waits for workers that start or end. */
  #changed = deferred()

  constructor(keeper: Keeper) {
    this.#keeper = keeper
    keeper.hearing.add(this)
    this.#looking = setInterval(() => this.#evenOut(), interval).unref()
    void keeper.ended.promise.then(() => clearInterval(this.#looking))
  }

  changed(): void {
    this.#changed.resolve()
    this.#changed = deferred()
  }

  given(place: Place, moved: number): void {
    if (this.#giving?.place === place) this.#giving.given.resolve(moved)
  }

  /** It serves again although it was to go: who should take its connections has died. */
  returned(place: Place): void {
    if (this.#retiring.has(place)) void this.#retire(place)
  }

  /** Resolves when there are so many; rejects, with as many as before, if new ones do not start. */
  async scale(count: number): Promise<Scaled> {
    const keeper = this.#keeper
    if (keeper.isStopping) throw new CookError('ERR_COOK_STOPPING', { pid: process.pid })
    const before = keeper.all.length
    try {
      this.#tell(count)
      if (count > before) await this.#grow(before, count)
      else await this.#shrink(count)
    } catch (error) {
      this.#tell(before)
      throw error
    }
    return { from: before, to: count }
  }

  #tell(count: number): void {
    this.#keeper.keepBy({ workers: count })
    for (const worker of this.#keeper.workers) worker.station.send({ type: 'workers', count })
  }

  async #grow(before: number, count: number): Promise<void> {
    const keeper = this.#keeper
    const added = Array.from({ length: count - before }, (_, index) => keeper.add(before + index))
    for (const place of added) place.begin()
    const isOpen = () => added.some(({ isDown, isFirst }) => isFirst && !isDown)
    while (isOpen()) await this.#changed.promise
    const failed = added.find(({ isDown }) => isDown)
    if (failed === undefined) return
    const { error } = failed.firstFault ?? {}
    for (const place of added.filter(({ isDown }) => isDown)) keeper.remove(place)
    await this.#shrink(before)
    throw Object.assign(error ?? new Error('it did not start'), {
      message: `slot ${failed.number}: ${messageOf(error)}. ${before} worker${before === 1 ? ' serves' : 's serve'}, as before`,
    })
  }

  async #shrink(count: number): Promise<void> {
    const keeper = this.#keeper
    const leaving = keeper.all.filter(({ number }) => number >= count)
    // All of them first: none of them takes from another.
    for (const place of leaving) place.retire()
    await Promise.all(leaving.map((place) => this.#retire(place)))
    while (leaving.some(({ isDown }) => !isDown)) await this.#changed.promise
    for (const place of leaving) {
      this.#retiring.delete(place)
      keeper.remove(place)
      const { folder, name } = keeper.plan
      if (folder !== undefined) void removeLeftovers(folder, workerName(name, place.number))
    }
  }

  /** A place where nobody serves has nothing to give. */
  async #retire(place: Place): Promise<void> {
    const keeper = this.#keeper
    const { serving } = place
    const counts = this.#countsOf(keeper.all.filter((one) => !one.isRetiring))
    const target = keeper.places.get(fewestOf(counts) ?? -1)?.serving
    if (serving === undefined) return
    if (target === undefined) {
      endWorker(serving, 'request', timeToEnd(keeper.said.drainTimeout))
      return
    }
    this.#retiring.add(place)
    await this.#join(serving, target, { type: 'retire' })
    serving.onExit(patientTimer(timeToEnd(keeper.said.drainTimeout), () => endWorker(serving, 'SIGKILL', 0)))
  }

  /** Two workers get the ends of a channel, over which connections go from one to the other. */
  async #join(
    from: Worker,
    to: Worker,
    what: { readonly type: 'retire' } | { readonly type: 'give'; readonly count: number },
  ): Promise<void> {
    const [one, other] = await makePair(this.#keeper.plan.folder)
    const whoOf = ({ identity: [pid, startTime] }: Worker) => ({ pid, startTime })
    to.station.send({ type: 'take', ...whoOf(from) }, other.handle, () => other.close())
    from.station.send({ ...what, ...whoOf(to) }, one.handle, () => one.close())
  }

  #countsOf(places: readonly Place[]): Map<number, number> {
    const serving = places.filter((place) => place.serving !== undefined)
    return new Map(serving.map((place) => [place.number, place.open]))
  }

  #evenOut(): void {
    const keeper = this.#keeper
    const isBusy = keeper.isStopping || keeper.size === undefined || !keeper.turns.isFree
    if (isBusy || performance.now() < this.#nextLook) return
    const move = nextMove(this.#countsOf(keeper.all))
    if (move !== undefined) void keeper.turns.take(() => this.#give(move))
  }

  /** Nobody of the two is replaced meanwhile: what is on its way would be lost. */
  async #give({ from, to, count }: Move): Promise<void> {
    const { places } = this.#keeper
    const place = places.get(from)
    const [giver, taker] = [place?.serving, places.get(to)?.serving]
    if (place === undefined || giver === undefined || taker === undefined) return
    const given = deferred<number>()
    this.#giving = { place, given }
    const stopWaiting = patientTimer(patience, () => given.resolve(0))
    giver.onExit(() => given.resolve(0))
    await this.#join(giver, taker, { type: 'give', count }).catch(() => given.resolve(0))
    const moved = await given.promise
    stopWaiting()
    this.#giving = undefined
    if (moved === 0) this.#nextLook = performance.now() + longPause
  }
}
