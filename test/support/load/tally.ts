/** Counts what the clients of one load send, get and lose. */
import type { FailureKind, RequestKind } from './kinds.ts'
import { type Latency, Timeline } from './timeline.ts'

/** One failure in words; `at` is on the clock of `performance.now()`. */
export type Fault = {
  readonly at: number
  readonly client: number
  readonly kind: FailureKind
  readonly words: string
}

/** A request without its answer. */
export type Loss = Pick<Fault, 'at' | 'kind'>

export type LoadResult = {
  readonly seconds: number
  readonly clients: number
  /** Clients that have failed; without `reconnect` they stay so. */
  readonly failedClients: number
  /** Connections that were opened. */
  readonly connections: number
  /** Connections that took the place of another: 0 without `reconnect`. */
  readonly reconnects: number
  /** Every request is either open, answered, or failed. */
  readonly requests: number
  readonly answers: number
  readonly failedRequests: number
  readonly requestsByKind: Counts<RequestKind>
  readonly answersByKind: Counts<RequestKind>
  /** Answers by who gave them: `x-generation`, '' when an answer did not say. */
  readonly generations: Counts<string>
  /**
   * Empty when nothing failed. One for each request that was lost, or one for a connection that was
   * lost between two.
   */
  readonly failures: Counts<FailureKind>
  /** WebSockets that the server closed, by code. */
  readonly closes: Counts<string>
  /** The first failures in words. */
  readonly faults: readonly Fault[]
  /** Every request that was lost, in order. */
  readonly lost: readonly Loss[]
  /** The longest time in which no client at all got an answer, in milliseconds. */
  readonly longestGap: number
  /** Worked out when it is asked for: a live view that does not ask for it costs nothing. */
  readonly latency: Latency
}

export type Counts<Key extends string> = { readonly [key in Key]?: number }

/** Failures that are told in words; the others are only counted. */
const toldFaults = 100

export class Tally {
  readonly timeline = new Timeline()
  readonly started = performance.now()
  readonly #requests = new Map<RequestKind, number>()
  readonly #answers = new Map<RequestKind, number>()
  readonly #generations = new Map<string, number>()
  readonly #failures = new Map<FailureKind, number>()
  readonly #closes = new Map<string, number>()
  readonly #failedClients = new Set<number>()
  readonly #faults: Fault[] = []
  readonly #lost: Loss[] = []
  readonly #clients: number
  /** Set when the load is told to stop: from then on silence is no gap. */
  until: number | undefined
  connections = 0
  reconnects = 0

  constructor(clients: number) {
    this.#clients = clients
  }

  request(kind: RequestKind): void {
    add(this.#requests, kind)
  }

  answer(kind: RequestKind, took: number, now: number, generation: string): void {
    add(this.#answers, kind)
    add(this.#generations, generation)
    this.timeline.add(kind, took, now, generation)
  }

  /** `losesRequest` is false for a connection that is lost between two requests. */
  fail(client: number, kind: FailureKind, words: string, losesRequest: boolean): void {
    add(this.#failures, kind)
    this.#failedClients.add(client)
    const at = performance.now()
    if (losesRequest) this.#lost.push({ at, kind })
    if (this.#faults.length < toldFaults) this.#faults.push({ at, client, kind, words })
  }

  /** A message that seemed lost has come after all. */
  foundAgain(): void {
    add(this.#failures, 'lost', -1)
    this.#lost.splice(
      this.#lost.findLastIndex(({ kind }) => kind === 'lost'),
      1,
    )
  }

  closed(code: number): void {
    add(this.#closes, `${code}`)
  }

  result(): LoadResult {
    const { timeline } = this
    const answers = timeline.length
    return {
      seconds: (performance.now() - this.started) / 1_000,
      clients: this.#clients,
      failedClients: this.#failedClients.size,
      connections: this.connections,
      reconnects: this.reconnects,
      requests: [...this.#requests.values()].reduce((sum, count) => sum + count, 0),
      answers,
      failedRequests: this.#lost.length,
      requestsByKind: Object.fromEntries(this.#requests),
      answersByKind: Object.fromEntries(this.#answers),
      generations: Object.fromEntries(this.#generations),
      failures: Object.fromEntries(this.#failures),
      closes: Object.fromEntries(this.#closes),
      faults: [...this.#faults],
      lost: [...this.#lost],
      longestGap: this.#longestGap(),
      get latency() {
        return timeline.latency({}, answers)
      },
    }
  }

  /** One that is still open counts too: a server that has gone silent has a gap that grows. */
  #longestGap(): number {
    const { longestGap, lastAnswer = this.started } = this.timeline
    return Math.max(longestGap, (this.until ?? performance.now()) - lastAnswer)
  }
}

function add<Key>(counts: Map<Key, number>, key: Key, change = 1): void {
  const count = (counts.get(key) ?? 0) + change
  if (count === 0) counts.delete(key)
  else counts.set(key, count)
}
