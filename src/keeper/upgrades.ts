/** Upgrades of a service: of all its workers, or of one that differs from the others. */
import { type RequestedUpgrade, upgradeOptions } from '../control/requests.ts'
import type { Progress } from '../control/status.ts'
import { CookError, messageOf } from '../errors.ts'
import { nextCommand, typedOf } from '../process/command.ts'
import { deferred } from '../waiting.ts'
import type { Hearing, Keeper } from './keeper.ts'
import type { Place } from './place.ts'
import type { KeepOptions, Release } from './plan.ts'
import { isSameRelease, releaseOf, typedCommand } from './release.ts'
import type { Changes } from './spawns.ts'
import { Together } from './together.ts'
import type { Worker } from './worker.ts'

/** Before one that could not be replaced is tried again, in milliseconds: twice as long each time. */
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
  #uniting: { readonly place: Place; readonly from: number; readonly ended: ReturnType<typeof deferred> } | undefined
  #failures = 0
  #timer: NodeJS.Timeout | undefined

  constructor(keeper: Keeper) {
    this.#keeper = keeper
    keeper.hearing.add(this)
    keeper.onWish = (worker, options) => void this.#grant(worker, options)
  }

  /** Resolves when all old workers have drained; rejects with everything as it was. */
  async upgrade(
    options: RequestedUpgrade,
    { isRolling = false, keep = {} }: How,
    onProgress: (progress: Progress) => void,
  ): Promise<void> {
    const keeper = this.#keeper
    if (keeper.isStopping) throw new CookError('ERR_COOK_STOPPING', { pid: process.pid })
    if (this.#isRunning) {
      const pid = keeper.first?.serving?.identity[0] ?? process.pid
      throw new CookError('ERR_COOK_UPGRADE_IN_PROGRESS', { generation: keeper.generation + 1, pid })
    }
    this.#isRunning = true
    clearTimeout(this.#timer)
    await this.#uniting?.ended.promise
    const asked = changesOf(options)
    const target = keeper.size === undefined ? undefined : this.#targetOf(asked)
    const { env: _, execPath: _e, execArgv: _a, args: _g, cwd: _c, ...common } = options
    keeper.asked = asked
    keeper.target = target
    keeper.leaves = options.release
    try {
      const how = { options: target === undefined ? options : common, isRolling }
      await new Together(keeper, target, how, { onProgress, onServed: () => keeper.keepBy(keep) }).run()
    } finally {
      keeper.asked = undefined
      keeper.target = undefined
      this.#isRunning = false
      this.#unite()
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
      await this.upgrade(upgradeOptions(options), {}, () => {})
    } catch (error) {
      this.#keeper.say(`the upgrade that the program asked for has failed: ${messageOf(error)}`)
      worker.station.send({ type: 'wishFailed', why: messageOf(error) })
    }
  }

  /** Alone, it has nobody to wait for. */
  held(_: Place, worker: Worker): void {
    if (!this.#isRunning) worker.station.send({ type: 'release', mayGo: true })
  }

  changed(place: Place): void {
    const uniting = this.#uniting
    if (uniting?.place === place && (place.serving?.generation ?? 0) > uniting.from) this.#end('succeeded')
    else if (uniting?.place === place && place.serving === undefined && place.workers.size === 0) this.#end('failed')
    this.#unite()
  }

  /** A worker could not be replaced by what all run. */
  failed(place: Place): void {
    if (this.#uniting?.place === place) this.#end('failed')
  }

  #end(outcome: 'succeeded' | 'failed'): void {
    const uniting = this.#uniting
    this.#uniting = undefined
    this.#failures = outcome === 'failed' ? this.#failures + 1 : 0
    uniting?.ended.resolve(undefined)
    const pause = Math.min(longestPause, firstPause * 2 ** (this.#failures - 1))
    clearTimeout(this.#timer)
    if (outcome === 'failed') this.#timer = setTimeout(() => this.#look(), pause).unref()
    else this.#look()
  }

  /** Unless it waits for its time after a failure. */
  #unite(): void {
    if (this.#failures === 0) this.#look()
  }

  /** One that differs, or that another keeper has started, is replaced: by the release of all. */
  #look(): void {
    const { size, isUnited, isStopping, release, all } = this.#keeper
    if (size === undefined || !isUnited || isStopping || this.#isRunning || this.#uniting !== undefined) return
    const place = all.find(({ serving, isRestarting }) => {
      const isOther = serving !== undefined && (!serving.isChild || !isSameRelease(serving.release, release))
      return isOther && !isRestarting
    })
    if (place?.serving === undefined) return
    const { serving } = place
    this.#uniting = { place, from: serving.generation, ended: deferred() }
    serving.station.send({ type: 'upgrade' })
  }
}

export function changesOf({ env, program = {}, execPath, execArgv, args, cwd }: RequestedUpgrade): Changes {
  return { retyped: { execPath, execArgv, args, cwd }, env: env as Changes['env'], program }
}
