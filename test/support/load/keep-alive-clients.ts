/** Clients that each open one connection and send request after request on it; they never retry. */
import { Connection } from './connection.ts'
import { type Load, runLoad } from './load.ts'
import { randomFrom } from './random.ts'
import { mixed, requestMaker, type Weights } from './requests.ts'
import type { Where } from './where.ts'

export type KeepAliveOptions = {
  /** How many clients, each with a connection of its own. */
  readonly count: number
  /** Which kinds of requests, how often. @default mixed */
  readonly weights?: Weights
  /**
   * Least and most time between an answer and the next request, in milliseconds; Infinity: until
   * `stop()`.
   * @default [0, 0]
   */
  readonly pause?: readonly [number, number]
  /**
   * Every how-manieth client says nothing at first, and for at most how many milliseconds;
   * Infinity: until `stop()`.
   * @default every 10th, 1,000 ms
   */
  readonly silence?: { readonly every: number; readonly most: number }
  /**
   * Time for an answer, in milliseconds; then the request is late and its client has failed.
   * @default 30,000
   */
  readonly deadline?: number
  /**
   * A client that has failed connects again, which is counted; without it, it stays failed.
   * @default false
   */
  readonly reconnect?: boolean
  /** The same seed sends the same requests. @default 1 */
  readonly seed?: number
}

/**
 * Time before the next try of a client that was refused, in milliseconds: only with `reconnect`.
 */
const refusedPause = 10

export function keepAliveClients(where: Where, options: KeepAliveOptions): Load {
  const { count, weights = mixed, pause = [0, 0], silence = { every: 10, most: 1_000 } } = options
  const { deadline = 30_000, reconnect = false, seed = 1 } = options

  return runLoad({ count, deadline }, async (index, course, isReady) => {
    const { tally } = course
    const random = randomFrom(seed * 1_000_003 + index)
    const next = requestMaker(random, weights)
    let batch = next()
    let isFirst = true
    let firstPause = index % silence.every === silence.every - 1 ? random(1, silence.most) : 0

    do {
      const connection = await Connection.open(where, { client: index, tally, deadline }, batch)
      isReady()
      if (connection === undefined) await course.pause(refusedPause)
      else {
        if (!isFirst) tally.reconnects++
        isFirst = false
        course.watch(connection)
        await course.pause(firstPause, connection)
        await converse(connection)
        connection.destroy()
        course.unwatch(connection)
      }
      firstPause = 0
    } while (reconnect && !course.isStopping)

    async function converse(connection: Connection): Promise<void> {
      for (;;) {
        await connection.exchange(batch)
        batch = next()
        if (connection.isOver || course.isStopping) return
        if (pause[1] > 0) await course.pause(random(...pause), connection)
      }
    }
  })
}
