/** What the clients of a proof have seen, and when. */

/** What is counted together, in milliseconds. */
export const cellTime = 5

export type Counts = {
  readonly answered: number
  /** Of WebSockets: each ping that was answered by a pong. */
  readonly pings: number
  readonly failed: number
  readonly reconnected: number
  /** Of these, WebSockets. */
  readonly returned: number
}

export type Cell = {
  /** By the version that they came from; undefined: they do not say it. */
  readonly answers: Map<number | undefined, number>
  /** By what was seen. */
  readonly failures: Map<string, number>
  pings: number
}

export class Tape {
  readonly #counts = { answered: 0, pings: 0, failed: 0, reconnected: 0, returned: 0 }
  /** By time, as performance.now() says it, in units of `cellTime`. */
  readonly cells = new Map<number, Cell>()
  /** How many failed, by what was seen. */
  readonly failures = new Map<string, number>()

  get counts(): Counts {
    return { ...this.#counts }
  }

  answer(version: number | undefined): void {
    this.#counts.answered++
    add(this.#cell().answers, version)
  }

  ping(): void {
    this.#counts.pings++
    this.#cell().pings++
  }

  failure(why: string): void {
    this.#counts.failed++
    add(this.failures, why)
    add(this.#cell().failures, why)
  }

  reconnect(isWebSocket: boolean): void {
    this.#counts.reconnected++
    if (isWebSocket) this.#counts.returned++
  }

  #cell(): Cell {
    const at = Math.floor(performance.now() / cellTime)
    const known = this.cells.get(at)
    if (known !== undefined) return known
    const cell = { answers: new Map(), failures: new Map(), pings: 0 }
    this.cells.set(at, cell)
    return cell
  }
}

export function add<Key>(counts: Map<Key, number>, key: Key, count = 1): void {
  counts.set(key, (counts.get(key) ?? 0) + count)
}
