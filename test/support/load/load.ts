/** What all loads have in common: many clients, one tally, one end. */
import type { RequestKind } from './kinds.ts'
import { type LoadResult, Tally } from './tally.ts'
import type { Latency, Timeline, Window } from './timeline.ts'

export type Load = {
  /** Resolves when every client has its connection, or has failed to get one. */
  readonly ready: Promise<void>
  /** What has happened so far. */
  result(): LoadResult
  /** Of a part of the run, of one kind of request or of all. */
  latency(window: Window & { readonly kind?: RequestKind }): Latency
  /**
   * The longest time without an answer to any client that ended in this part of the run, in
   * milliseconds.
   */
  longestGap(window: Window): number
  /** Every answer, for other questions. */
  readonly timeline: Timeline
  /** Finishes what is in flight, asks once more on each connection that is idle, closes all. */
  stop(): Promise<LoadResult>
  /** Cuts everything: for a test that has failed already. */
  [Symbol.asyncDispose](): Promise<void>
}

/** What a client sees of its load. */
export type Course = {
  readonly tally: Tally
  readonly isStopping: boolean
  /**
   * Waits, in milliseconds, Infinity included; shorter when the load stops or the connection is
   * over.
   */
  pause(ms: number, connection?: Watched): Promise<void>
  /**
   * Has a connection looked after until it is over: its deadline, and its end when the load is cut.
   */
  watch(connection: Watched): void
  unwatch(connection: Watched): void
}

export type Watched = { readonly onOver: Set<() => void>; checkDeadline(now: number): void; destroy(): void }

/** Connections that a load opens at once: a listener's queue holds 511. */
const connectingAtOnce = 100

/**
 * `client` runs until its course is stopping; it calls `isReady` when it has its first connection.
 */
export function runLoad(
  { count, deadline }: { readonly count: number; readonly deadline: number },
  client: (index: number, course: Course, isReady: () => void) => Promise<void>,
): Load {
  const tally = new Tally(count)
  const watched = new Set<Watched>()
  const wakes = new Set<() => void>()
  let isCut = false
  const course = { tally, isStopping: false, pause, watch, unwatch }
  // One timer for all: a timer for each request would cost more than the request.
  const looking = setInterval(
    () => {
      const now = performance.now()
      for (const connection of watched) connection.checkDeadline(now)
    },
    Math.min(deadline / 4, 250),
  )

  const readies: Promise<void>[] = []
  const running = Promise.all(Array.from({ length: count }, (_, index) => run(index))).finally(() =>
    clearInterval(looking),
  )

  async function run(index: number): Promise<void> {
    let isReady = () => {}
    readies.push(
      new Promise((resolve) => {
        isReady = resolve
      }),
    )
    await readies[index - connectingAtOnce]
    if (!course.isStopping) await client(index, course, isReady)
    isReady()
  }

  function pause(ms: number, connection?: Watched): Promise<void> {
    if (course.isStopping) return Promise.resolve()
    return new Promise((resolve) => {
      const timer = Number.isFinite(ms) ? setTimeout(wake, ms) : undefined
      wakes.add(wake)
      connection?.onOver.add(wake)

      function wake(): void {
        clearTimeout(timer)
        wakes.delete(wake)
        connection?.onOver.delete(wake)
        resolve()
      }
    })
  }

  function watch(connection: Watched): void {
    watched.add(connection)
    if (isCut) connection.destroy()
  }

  function unwatch(connection: Watched): void {
    watched.delete(connection)
  }

  async function stop(): Promise<LoadResult> {
    end()
    await running
    return tally.result()
  }

  function end(): void {
    tally.until ??= performance.now()
    course.isStopping = true
    for (const wake of wakes) wake()
  }

  async function cut(): Promise<void> {
    end()
    isCut = true
    for (const connection of watched) connection.destroy()
    await running
  }

  return {
    ready: Promise.all(readies).then(() => {}),
    result: () => tally.result(),
    latency: (window) => tally.timeline.latency(window),
    longestGap: (window) => tally.timeline.longestGapIn(window),
    timeline: tally.timeline,
    stop,
    [Symbol.asyncDispose]: cut,
  }
}
