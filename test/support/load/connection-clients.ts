/** Clients that open a connection for each request, one after the other; they never retry. */
import type { NetConnectOpts } from 'node:net'
import { Connection } from './connection.ts'
import { type Load, runLoad } from './load.ts'
import { randomFrom } from './random.ts'
import { requestMaker, smallOnly, type Weights } from './requests.ts'

export type ConnectionOptions = {
  /** How many clients; each has one connection at a time. */
  readonly count: number
  /** Which kinds of requests, how often. @default smallOnly */
  readonly weights?: Weights
  /**
   * Least and most time between the end of a connection and the next, in milliseconds.
   * @default [0, 0]
   */
  readonly pause?: readonly [number, number]
  /**
   * Time for an answer, and then for the server to close, in milliseconds; then it is late.
   * @default 30,000
   */
  readonly deadline?: number
  /**
   * Every request asks for the end; without it, every other leaves that to the server, which one
   * behind a proxy cannot do.
   * @default false
   */
  readonly asksForEnd?: boolean
  /** A client that has failed goes on; without it, it stays failed. @default false */
  readonly goOn?: boolean
  /** The same seed sends the same requests. @default 1 */
  readonly seed?: number
}

/** Time before the next try of a client that was refused, in milliseconds: only with `goOn`. */
const refusedPause = 10

/** The latency includes the connecting. */
export function connectionClients(where: NetConnectOpts, options: ConnectionOptions): Load {
  const { count, weights = smallOnly, pause = [0, 0], deadline = 30_000, goOn = false, seed = 1 } = options
  const { asksForEnd = false } = options

  return runLoad({ count, deadline }, async (index, course, isReady) => {
    const random = randomFrom(seed * 1_000_003 + index)
    const next = requestMaker(random, weights, asksForEnd ? 'asked' : 'both')

    while (!course.isStopping) {
      const batch = next()
      const at = performance.now()
      const connection = await Connection.open(where, { client: index, tally: course.tally, deadline }, batch)
      isReady()
      if (connection !== undefined) {
        course.watch(connection)
        await connection.exchange(batch, at)
        course.unwatch(connection)
      }
      if (connection?.hasFailed !== false && !goOn) return
      if (connection === undefined) await course.pause(refusedPause)
      else if (pause[1] > 0) await course.pause(random(...pause))
    }
  })
}
