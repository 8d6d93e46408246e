/** A worker beside others: by its keeper it waits for them, and asks for an upgrade of all. */
import type { Fields } from '../contract/environment.ts'
import type { KeeperMessage, KeeperMessageOf } from '../contract/keeper-messages.ts'
import { CookError } from '../errors.ts'
import type { Service } from '../service.ts'
import type { Among } from '../service-parts.ts'
import { type Deferred, deferred } from '../waiting.ts'
import type { RawHandle } from './station.ts'

/** How often one of several says how many connections it has, in milliseconds. */
const countInterval = 1_000

/** False: there is no keeper now. */
type Say = (message: KeeperMessage) => boolean

export class AmongWorkers implements Among {
  workers: number
  isOneOfSeveral: boolean
  readonly #service: Service
  readonly #say: Say
  #counting: NodeJS.Timeout | undefined
  /** A wait for the others. */
  #hold: Deferred<boolean> | undefined
  /** They have failed before this one had come so far. */
  #isRefused = false
  /** An upgrade of the service that this process has asked for, until it fails. */
  #wish: Deferred<never> | undefined

  /** `workers` undefined: it was asked for no number, and serves alone. */
  constructor(service: Service, workers: number | undefined, say: Say) {
    this.#service = service
    this.#say = say
    this.workers = workers ?? 1
    this.isOneOfSeveral = workers !== undefined
    if (this.isOneOfSeveral) this.#count()
  }

  hold(overlaps: boolean): Promise<boolean> {
    if (this.#isRefused || !this.#say({ type: 'held', ...(overlaps && { overlaps }) })) return Promise.resolve(false)
    this.#hold ??= deferred<boolean>()
    return this.#hold.promise
  }

  /** It never resolves: the keeper asks this process for its part. */
  wish(options: object): Promise<never> {
    this.#wish = deferred<never>()
    if (!this.#say({ type: 'wish', options: options as Fields })) this.#refuseWish('its keeper is gone')
    return this.#wish.promise
  }

  beginPart(): void {
    this.#isRefused = false
  }

  usesCluster(): void {
    this.#say({ type: 'cluster' })
  }

  /** Whether the others go on, nobody knows any more. */
  lost(): void {
    // One that is alone goes on without a keeper.
    if (this.isOneOfSeveral) {
      this.#service.stopUpgrade('keeper')
      this.#release(false)
    }
    this.#refuseWish('its keeper is gone')
  }

  /** False: it is about something else. */
  hear(message: KeeperMessage, handle: RawHandle | undefined): boolean {
    switch (message.type) {
      case 'release':
        this.#release(message.mayGo)
        return true
      case 'workers':
        this.workers = message.count
        this.isOneOfSeveral = true
        this.#count()
        return true
      case 'wishFailed':
        this.#refuseWish(message.why)
        return true
      case 'retire':
      case 'give':
      case 'take':
        if (handle !== undefined) this.#goSideways(message, handle)
        return true
      default:
        return false
    }
  }

  #release(mayGo: boolean): void {
    this.#hold?.resolve(mayGo)
    if (this.#hold === undefined && !mayGo) {
      this.#isRefused = true
      this.#service.stopUpgrade('others')
    }
    this.#hold = undefined
  }

  #refuseWish(why: string): void {
    this.#wish?.resolve(Promise.reject(new CookError('ERR_COOK_SERVICE_NOT_UPGRADED', { why })))
    this.#wish = undefined
  }

  #count(): void {
    let told = -1
    this.#counting ??= setInterval(() => {
      const { openConnections: count } = this.#service
      if (count === told || !this.#say({ type: 'open', count })) return
      told = count
    }, countInterval).unref()
  }

  /** The handle stays open for good: its close would close the channel's descriptor. */
  #goSideways(message: KeeperMessageOf<'retire' | 'give' | 'take'>, { fd }: RawHandle): void {
    const { sideways } = this.#service
    const other = { identity: [message.pid, message.startTime] as const, fd }
    if (message.type === 'retire') sideways?.retire(other)
    else if (message.type === 'take') sideways?.take(other)
    else void sideways?.give(other, message.count).then((moved) => this.#say({ type: 'given', moved }))
  }
}
