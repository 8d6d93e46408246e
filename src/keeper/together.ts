/** Carries out an upgrade of all workers: asks each, and has them go on together. */
import { workerName } from '../contract/environment.ts'
import { clientOf, RemoteError } from '../control/client.ts'
import type { Progress } from '../control/status.ts'
import { CookError, messageOf } from '../errors.ts'
import { deferred, Latch } from '../waiting.ts'
import { type GroupEffect, type GroupEvent, type GroupUpgrade, newGroup, stepGroup } from './group-upgrade.ts'
import type { Hearing, Keeper } from './keeper.ts'
import type { Place } from './place.ts'
import type { Release } from './plan.ts'
import { isSameRelease } from './release.ts'
import type { Worker } from './worker.ts'

/** How long one that was refused may take to say so, in milliseconds: it may be stopped. */
const longestRefusal = 10_000
/** How long a worker may take to begin its answer, in milliseconds: less than whoever asks us. */
const patience = 2_000

export type How = {
  /** What goes to each worker, as the control socket takes it. */
  readonly options: { readonly overlap?: number; readonly readyTimeout?: number }
  readonly isRolling: boolean
}

type OnProgress = (progress: Progress) => void
/** `onServed`: the service has been replaced. */
type Hearers = { readonly onProgress: OnProgress; readonly onServed: () => void }

export class Together implements Hearing {
  readonly #keeper: Keeper
  /** Of several workers; undefined: the only one follows what was typed itself. */
  readonly #target: Release | undefined
  readonly #how: How
  readonly #onProgress: OnProgress
  readonly #onServed: () => void
  readonly #places: ReadonlyMap<number, Place>
  /** Who serves now, by slot: their successors take over. */
  readonly #old: ReadonlyMap<number, Worker | undefined>
  /** Who waits for its release, by slot. */
  readonly #holding = new Map<number, Worker>()
  /** Whose stream of progress has ended although nobody has failed: the worker has died. */
  readonly #alone = new Set<number>()
  readonly #begin = performance.now()
  readonly #ended = deferred<Extract<GroupEffect, { do: 'end' }>>()
  readonly #streams: Promise<void>[] = []
  /** Where a new one serves, of which the keeper is to hear from itself. */
  #served: readonly Place[] | undefined
  readonly #heard = new Latch()
  #group: GroupUpgrade
  /** What all ran before it was decided that they go on. */
  #before: Release | undefined
  #fault: { readonly slot: number; readonly error: Error } | undefined
  #late: NodeJS.Timeout | undefined

  constructor(keeper: Keeper, target: Release | undefined, how: How, { onProgress, onServed }: Hearers) {
    this.#keeper = keeper
    this.#target = target
    this.#how = how
    this.#onProgress = onProgress
    this.#onServed = onServed
    this.#places = new Map(keeper.all.filter(({ serving }) => serving !== undefined).map((one) => [one.number, one]))
    this.#old = new Map([...this.#places].map(([slot, { serving }]) => [slot, serving]))
    const [group, effects] = newGroup([...this.#places.keys()], how.isRolling)
    this.#group = group
    keeper.hearing.add(this)
    this.#carryOut(effects)
  }

  /** Resolves when all old ones have drained; rejects with why not all were replaced. */
  async run(): Promise<void> {
    const stop = () => this.#step({ type: 'stop' })
    this.#keeper.stopping.addEventListener('abort', stop)
    try {
      const { outcome, missing } = await this.#ended.promise
      if (outcome === 'failed' && this.#before !== undefined) this.#keeper.commit(this.#before)
      if (outcome === 'failed' || (outcome === 'mixed' && this.#how.isRolling)) throw this.#failure(missing)
      if (this.#target !== undefined) this.#keeper.commit(this.#target)
      this.#keeper.isUnited = true
      this.#onServed()
      for (const slot of missing) {
        const text = `slot ${slot} has not taken over: ${messageOf(this.#fault?.error)}. Trying again`
        this.#keeper.say(text)
        this.#onProgress({ type: 'warning', ms: this.#ms, at: Date.now(), about: `slot ${slot}`, text })
      }
      this.#bringUpOthers()
      await Promise.all(this.#streams)
      await this.#untilHeard(missing)
      const { size, generation } = this.#keeper
      if (size !== undefined) this.#onProgress({ type: 'upgraded', ms: this.#ms, generation })
    } finally {
      clearTimeout(this.#late)
      this.#keeper.stopping.removeEventListener('abort', stop)
      this.#keeper.hearing.delete(this)
    }
  }

  /** That the new one serves, the old one has told: its own word may still be on its way. */
  async #untilHeard(missing: readonly number[]): Promise<void> {
    this.#served = [...this.#places.values()].filter(({ number }) => !missing.includes(number))
    const patient = setTimeout(() => this.#heard.set(), patience)
    this.#lookAtHeard()
    await this.#heard.wait()
    clearTimeout(patient)
  }

  #lookAtHeard(): void {
    const isHeard = ({ number, serving, workers }: Place) => {
      const old = this.#old.get(number)?.generation ?? 0
      // Of one that was lost again nobody will hear.
      return (serving?.generation ?? 0) > old || [...workers.keys()].every((generation) => generation <= old)
    }
    if (this.#served?.every(isHeard)) this.#heard.set()
  }

  /** Which slots run what, where that is not one and the same. */
  #failure(missing: readonly number[]): Error {
    const { slot, error } = this.#fault ?? { slot: missing[0] ?? 0, error: new Error('it was stopped') }
    if (this.#places.size > 1) Object.assign(error, { slot, message: `slot ${slot}: ${error.message}` })
    const served = [...this.#places.keys()].filter((one) => !missing.includes(one))
    if (served.length > 0) {
      this.#keeper.isUnited = false
      const runs = `${slotsText(served)} ${served.length === 1 ? 'runs' : 'run'}`
      error.message += `. Until the next upgrade, ${runs} the new version, and ${slotsText(missing)} the old one`
    }
    return error
  }

  /** Who crashed before comes back with the new version. */
  #bringUpOthers(): void {
    const target = this.#target
    if (target === undefined) return
    const down = this.#keeper.all.filter(({ serving, isDown }) => serving === undefined && !isDown)
    for (const place of down) if (!isSameRelease(place.release, target)) void place.restart(target)
  }

  held(place: Place, worker: Worker, overlaps: boolean): void {
    this.#holding.set(place.number, worker)
    this.#step({ type: 'held', slot: place.number, overlaps })
  }

  /** What became of a successor whose predecessor has died: there is nobody who would tell. */
  changed({ number, serving, workers }: Place): void {
    this.#lookAtHeard()
    if (!this.#alone.has(number)) return
    const old = this.#old.get(number)?.generation ?? 0
    // What the keeper has started there meanwhile, since all had died, is the version of before.
    const isNew = serving !== undefined && serving.generation > old && this.#isMeant(serving)
    if (isNew) {
      const { generation, identity } = serving
      if (this.#places.size > 1)
        this.#onProgress({ type: 'serves', ms: this.#ms, pid: identity[0], generation, slot: number })
      this.#settle(number, { type: 'served', slot: number })
    } else if (![...workers.values()].some((one) => one.generation > old && this.#isMeant(one)))
      this.#settle(number, { type: 'failed', slot: number })
  }

  #isMeant({ release }: Worker): boolean {
    return this.#target === undefined || isSameRelease(release, this.#target)
  }

  #settle(slot: number, event: GroupEvent): void {
    this.#alone.delete(slot)
    this.#step(event)
  }

  #step(event: GroupEvent): void {
    const [group, effects] = stepGroup(this.#group, event)
    this.#group = group
    if (group.decision === 'go') this.#writeDown()
    this.#carryOut(effects)
    if (group.decision !== 'no' || this.#late !== undefined) return
    this.#late = setTimeout(() => {
      for (const slot of this.#group.parts.keys()) this.#step({ type: 'failed', slot })
    }, longestRefusal)
  }

  #carryOut(effects: readonly GroupEffect[]): void {
    for (const effect of effects) {
      if (effect.do === 'end') this.#ended.resolve(effect)
      else if (effect.do === 'ask') this.#streams.push(this.#ask(effect.slot))
      else this.#release(effect.slot, effect.mayGo)
    }
  }

  /** Should this keeper die now, the next one goes on with it. */
  #writeDown(): void {
    if (this.#target === undefined || this.#before !== undefined) return
    this.#before = this.#keeper.release
    this.#keeper.commit(this.#target)
    this.#keeper.recorder.write()
  }

  /** One that does not wait yet is told no at once. */
  #release(slot: number, mayGo: boolean): void {
    const worker = this.#holding.get(slot) ?? this.#places.get(slot)?.serving
    this.#holding.delete(slot)
    worker?.station.send({ type: 'release', mayGo })
  }

  /** What the worker says of it is passed on, with its slot where there are several. */
  async #ask(slot: number): Promise<void> {
    const { plan, size } = this.#keeper
    const client = clientOf(plan.folder ?? '', workerName(plan.name, slot), patience)
    const asked = { ...this.#how.options, ...(size !== undefined && { isHeld: true }) }
    let hasServed = false
    try {
      for await (const progress of client.progress('upgrade', asked)) {
        const isMany = this.#places.size > 1
        const ms = 'ms' in progress ? { ms: this.#ms } : {}
        this.#onProgress(isMany ? { ...progress, ...ms, slot } : progress)
        if (progress.type !== 'serves') continue
        hasServed = true
        this.#step({ type: 'served', slot })
      }
      if (!hasServed) throw new CookError('ERR_COOK_WORKER_LOST', { pid: this.#old.get(slot)?.identity[0] ?? 0 })
    } catch (error) {
      if (!hasServed) this.#onFault(slot, error as Error)
    }
    this.#step({ type: 'left', slot })
  }

  #onFault(slot: number, error: Error): void {
    const place = this.#places.get(slot)
    const isRefused = this.#group.decision === 'no'
    if (!isRefused) this.#fault ??= { slot, error }
    // Whoever has answered lives, and serves on.
    if (error instanceof RemoteError || place === undefined) this.#step({ type: 'failed', slot })
    else {
      this.#alone.add(slot)
      this.changed(place)
    }
  }

  get #ms(): number {
    return Math.round(performance.now() - this.#begin)
  }
}

function slotsText(slots: readonly number[]): string {
  return `slot${slots.length === 1 ? '' : 's'} ${slots.join(', ')}`
}
