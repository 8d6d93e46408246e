/** Upgrades of a service: of all its workers, or of one that differs from the others. */
import { type RequestedUpgrade, upgradeOptions } from '../control/requests.ts'
import type { Progress } from '../control/status.ts'
import { CookError, messageOf } from '../errors.ts'
import { withoutUndefined } from '../options.ts'
import { nextCommand, typedOf } from '../process/command.ts'
import { type Deferred, deferred } from '../waiting.ts'
import type { Changes } from './home.ts'
import type { Hearing, Keeper } from './keeper.ts'
import type { Place } from './place.ts'
import type { KeepOptions, Release } from './plan.ts'
import { isSameRelease, releaseOf, typedCommand } from './release.ts'
import { isTrusted } from './spawns.ts'
import { Together } from './together.ts'
import type { Worker } from './worker.ts'

/** Before one that could not be replaced is tried again, in ms: twice as long each time. */
const firstPause = 1_000
const longestPause = 30_000

type How = {
  /** One after the other. */
  readonly isRolling?: boolean
  /** How the service is kept from the commit on. */
  readonly keep?: KeepOptions
}

export class Upgrades implements Hearing {
  readonly #keeper: Keeper
  #isRunning = false
  /** Brings one worker to what all run; there is one at a time. */
  #uniting: { readonly place: Place; readonly from: number; readonly ended: Deferred<boolean> } | undefined
  #failures = 0
  #timer: NodeJS.Timeout | undefined

  constructor(keeper: Keeper) {
    this.#keeper = keeper
    keeper.hearing.add(this)
    keeper.onWish = (worker, options) => void this.#grant(worker, options)
  }

  /** Resolves when all old workers have drained; rejects with everything as it was. */
  async upgrade(options: RequestedUpgrade, how: How, onProgress: (progress: Progress) => void): Promise<void> {
    return this.alone(() => this.#upgrade(options, how, onProgress))
  }

  /** What somebody has asked for; of these there is one at a time. */
  async alone<Result>(change: () => Promise<Result>): Promise<Result> {
    const keeper = this.#keeper
    if (keeper.isStopping) throw new CookError('ERR_COOK_STOPPING', { pid: process.pid })
    if (this.#isRunning) {
      const pid = keeper.first?.serving?.identity[0] ?? process.pid
      throw new CookError('ERR_COOK_UPGRADE_IN_PROGRESS', { generation: keeper.generation + 1, pid })
    }
    this.#isRunning = true
    clearTimeout(this.#timer)
    try {
      return await keeper.turns.take(change)
    } finally {
      this.#isRunning = false
      this.#look()
    }
  }

  async #upgrade(
    options: RequestedUpgrade,
    { isRolling = false, keep = {} }: How,
    onProgress: (progress: Progress) => void,
  ): Promise<void> {
    const keeper = this.#keeper
    const asked = changesOf(options)
    const target = keeper.size === undefined ? undefined : this.#targetOf(asked)
    // What is started, the keeper says, and not each of them.
    const { readyTimeout, drainTimeout, overlap, release, program } = options
    const common = withoutUndefined({ readyTimeout, drainTimeout, overlap, release, program })
    keeper.asked = asked
    keeper.target = target
    keeper.leaves = release
    keeper.past.begin()
    try {
      const how = { options: target === undefined ? options : common, isRolling }
      await new Together(keeper, target, how, { onProgress, onServed: () => keeper.keepBy(keep) }).run()
      keeper.upgradeFault = undefined
    } catch (error) {
      keeper.upgradeFault = messageOf(error)
      const code = (error as NodeJS.ErrnoException).code
      if (code !== undefined) keeper.past.fail(code)
      throw error
    } finally {
      keeper.past.end()
      keeper.asked = undefined
      keeper.target = undefined
      keeper.leaves = undefined
      keeper.changed()
    }
  }

  /** With symlinks followed once: all workers run the same. */
  #targetOf({ retyped, env, program }: Changes): Release {
    const command = nextCommand(typedCommand(this.#keeper.release), retyped)
    return releaseOf(command, typedOf(command), this.#keeper.environmentFor(env, program))
  }

  /** The program of one worker has asked. */
  async #grant(worker: Worker, options: object): Promise<void> {
    try {
      await this.upgrade(wishOf(worker, upgradeOptions(options)), {}, () => {})
      // Of all it is the one that could not be replaced.
      const isThere = this.#keeper.all.some(({ serving }) => serving === worker)
      if (isThere) worker.station.send({ type: 'wishFailed', why: 'this worker could not be replaced; trying again' })
    } catch (error) {
      this.#keeper.say(`the upgrade requested by the program failed: ${messageOf(error)}`)
      worker.station.send({ type: 'wishFailed', why: messageOf(error) })
    }
  }

  /** Alone, it has nobody to wait for. */
  held(_: Place, worker: Worker): void {
    if (this.#keeper.target === undefined) worker.station.send({ type: 'release', mayGo: true })
  }

  changed(place: Place): void {
    const uniting = this.#uniting
    const isIt = uniting?.place === place
    if (isIt && (place.serving?.generation ?? 0) > uniting.from) uniting.ended.resolve(true)
    else if (isIt && place.serving === undefined && place.workers.size === 0) uniting.ended.resolve(false)
    if (this.#failures === 0) this.#look()
  }

  /** A worker could not be replaced by what all run. */
  failed(place: Place): void {
    if (this.#uniting?.place === place) this.#uniting.ended.resolve(false)
  }

  /** One that differs, that another keeper has started, or that is to be replaced by itself. */
  #stray(): Place | undefined {
    const { size, isUnited, isStopping, release, all } = this.#keeper
    if (size === undefined || isStopping || this.#isRunning) return undefined
    return all.find(({ serving, isRestarting, isRetiring, isStale }) => {
      if (serving === undefined || isRestarting || isRetiring) return false
      return isStale || !serving.isChild || (isUnited && !isSameRelease(serving.release, release))
    })
  }

  /** One at a time, and after a failure not before its time. */
  #look(): void {
    if (this.#stray() === undefined || !this.#keeper.turns.isFree) return
    void this.#keeper.turns
      .take(async () => {
        const place = this.#stray()
        if (place !== undefined) await this.#unite(place)
      })
      .then(() => {
        clearTimeout(this.#timer)
        const pause = Math.min(longestPause, firstPause * 2 ** (this.#failures - 1))
        if (this.#failures === 0) this.#look()
        else this.#timer = setTimeout(() => this.#look(), pause).unref()
      })
  }

  async #unite(place: Place): Promise<void> {
    const { serving } = place
    if (serving === undefined) return
    const ended = deferred<boolean>()
    this.#uniting = { place, from: serving.generation, ended }
    serving.station.send({ type: 'upgrade' })
    const isReplaced = await ended.promise
    this.#uniting = undefined
    this.#failures = isReplaced ? 0 : this.#failures + 1
    if (isReplaced) place.isStale = false
  }
}

/** One that has given up root says how long it may take, and not what root starts. */
function wishOf(worker: Worker, options: RequestedUpgrade): RequestedUpgrade {
  if (isTrusted(worker)) return options
  const { readyTimeout, drainTimeout, overlap } = options
  return withoutUndefined({ readyTimeout, drainTimeout, overlap })
}

export function changesOf({ env, program = {}, execPath, execArgv, script, args, cwd }: RequestedUpgrade): Changes {
  return { retyped: { execPath, execArgv, script, args, cwd }, env: env as Changes['env'], program }
}
