/** What `top` knows of all services: each is asked by itself; one that hangs delays no other. */
import { type Client, clientOf } from '../../control/client.ts'
import { CookError, messageOf } from '../../errors.ts'
import { attempt } from '../../node/sessions.ts'
import { statOf } from '../../node/system.ts'
import { downOf } from '../down.ts'
import { silentBy, silentOf } from '../find-service.ts'
import { isOthers, type Place, places } from '../places.ts'
import { runs, type Seen, type State } from '../rows.ts'
import { allServices } from '../seen.ts'

/** `cpu`: percent of one core since the last look, by pid, as far as it is known. */
export type Look = { readonly all: readonly Seen[]; readonly cpu: ReadonlyMap<number, number> }

/** What has not answered for so long is silent, in milliseconds; as for every other command. */
export const silence = 5_000
/** How often other users are asked, in milliseconds: each by a process of Node. */
const othersInterval = 10_000

export class Looks {
  readonly #wait: number
  #asked: ReadonlyMap<string, Asked> = new Map()
  #others: readonly Seen[] = []
  #othersAt = Number.NEGATIVE_INFINITY
  #isAskingOthers = false
  #spent: ReadonlyMap<number, Spent> = new Map()

  /**
   * Milliseconds until a question is given up. In a view that goes on it stays open: with each new
   * one the queue of a silent socket would grow.
   */
  constructor(wait: number) {
    this.#wait = wait
  }

  /** Waits for answers, but at most so many milliseconds: what comes later is in the next one. */
  async look(ms: number): Promise<Look> {
    const found = places()
    const own = found.filter((place) => !isOthers(place))
    const all = own.flatMap((place) =>
      place.names.map((name) => this.#asked.get(keyOf(place, name)) ?? new Asked(name, place, this.#wait)),
    )
    this.#asked = new Map(all.map((one) => [keyOf(one.place, one.name), one]))
    const others = this.#askOthers(found.filter(isOthers))
    await within(ms, [...all.map((one) => one.ask()), others])
    const known = all.flatMap(({ name, place, state }) => (state === undefined ? [] : [{ name, place, state }]))
    const seen = [...known, ...this.#others]
    return { all: seen, cpu: this.#cpuOf(seen.flatMap(({ state }) => pidsOf(state))) }
  }

  /** Undefined: it is not time for that, or they are being asked. */
  #askOthers(others: readonly Place[]): Promise<void> | undefined {
    const now = performance.now()
    if (this.#isAskingOthers || now - this.#othersAt < othersInterval) return undefined
    this.#isAskingOthers = true
    return allServices(others).then((seen) => {
      this.#others = seen
      this.#othersAt = performance.now()
      this.#isAskingOthers = false
    })
  }

  #cpuOf(pids: readonly number[]): Look['cpu'] {
    const at = performance.now()
    const spent = new Map(pids.flatMap((pid) => spentBy(pid, at)))
    const before = this.#spent
    this.#spent = spent
    return new Map([...spent].flatMap(([pid, now]) => percent(pid, before.get(pid), now)))
  }
}

/** One service of this user. */
class Asked {
  readonly name: string
  readonly place: Place
  readonly #client: Client
  #since: number | undefined
  /** Undefined: there is no such service. */
  #last: State | undefined

  constructor(name: string, place: Place, wait: number) {
    this.name = name
    this.place = place
    this.#client = clientOf(place.folder, name, wait)
    this.#last = { name, phase: 'unknown', why: 'has not responded yet' }
  }

  /** Undefined: it has not answered what it was asked before. */
  ask(): Promise<void> | undefined {
    if (this.#since !== undefined) return undefined
    this.#since = performance.now()
    return this.#answer().then((state) => {
      this.#last = state
      this.#since = undefined
    })
  }

  get state(): State | undefined {
    const isSilent = this.#since !== undefined && performance.now() - this.#since >= silence
    return (isSilent ? silentBy(this.#client) : undefined) ?? this.#last
  }

  async #answer(): Promise<State | undefined> {
    const { name, place } = this
    try {
      return await this.#client.status()
    } catch (error) {
      const found = silentOf(this.#client, error) ?? downOf(name, place.folder)
      // A socket of no daemon.
      if (found !== undefined || error instanceof CookError) return found
      return { name, phase: 'unknown', why: messageOf(error) }
    }
  }
}

type Spent = { readonly startTime: string | undefined; readonly ms: number; readonly at: number }

/** Nothing where there is no /proc, or no such process any more. */
function spentBy(pid: number, at: number): (readonly [number, Spent])[] {
  const stat = attempt(() => statOf(pid))
  return stat === undefined ? [] : [[pid, { startTime: stat.startTime, ms: stat.cpu, at }]]
}

/** The pid may be another process's by now. */
function percent(pid: number, before: Spent | undefined, now: Spent): (readonly [number, number])[] {
  if (before === undefined || before.startTime !== now.startTime) return []
  return [[pid, (100 * (now.ms - before.ms)) / (now.at - before.at)]]
}

/** What another user has answered need not be numbers. */
export function pidsOf(state: State): readonly number[] {
  if (!runs(state)) return []
  const { workers, generations } = { workers: [], generations: [], ...state }
  const all = attempt(() => [state, ...workers, ...generations].map(({ pid }) => pid)) ?? []
  return all.filter((pid) => pid !== undefined && Number.isSafeInteger(pid) && pid > 0) as readonly number[]
}

export function keyOf({ folder }: Place, name: string): string {
  return `${folder}/${name}`
}

async function within(ms: number, all: readonly (Promise<void> | undefined)[]): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise((done) => {
    timer = setTimeout(done, ms)
  })
  await Promise.race([Promise.all(all), late])
  clearTimeout(timer)
}
