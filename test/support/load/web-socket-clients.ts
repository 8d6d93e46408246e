/**
 * Clients that each hold one WebSocket and send numbered messages on it; the server numbers them
 * too. They never reconnect unasked.
 */
import { bytesFrom, places } from './bytes.ts'
import { type Load, runLoad } from './load.ts'
import { anySize, randomFrom } from './random.ts'
import { NumberedWebSocket } from './web-socket.ts'
import type { Where } from './where.ts'

export type WebSocketOptions = {
  /** How many clients, each with a WebSocket of its own. */
  readonly count: number
  /** Messages of one client without an answer at a time. @default 2 */
  readonly inFlight?: number
  /**
   * Size of the biggest message, in bytes; small ones are as frequent as big ones.
   * @default 10,000
   */
  readonly mostBytes?: number
  /**
   * Least and most time between an answer and the next message, in milliseconds.
   * @default [0, 50]
   */
  readonly pause?: readonly [number, number]
  /**
   * Time for an answer, in milliseconds; then the message is late and its client has failed.
   * @default 30,000
   */
  readonly deadline?: number
  /**
   * A client that has failed connects again, which is counted; without it, it stays failed.
   * @default false
   */
  readonly reconnect?: boolean
  /** Offers permessage-deflate. @default false */
  readonly compress?: boolean
  /** Path and query. @default / */
  readonly url?: string
  /** The same seed sends the same messages. @default 1 */
  readonly seed?: number
}

/**
 * Time before the next try of a client that was refused, in milliseconds: only with `reconnect`.
 */
const refusedPause = 10

export function webSocketClients(where: Where, options: WebSocketOptions): Load {
  const { count, inFlight = 2, mostBytes = 10_000, pause = [0, 50], deadline = 30_000 } = options
  const { reconnect = false, compress = false, url = '/', seed = 1 } = options

  return runLoad({ count, deadline }, async (index, course, isReady) => {
    const { tally } = course
    const random = randomFrom(seed * 1_000_003 + index)
    let isFirst = true

    do {
      const socket = await NumberedWebSocket.open({ where, url, compress }, { client: index, tally, deadline })
      isReady()
      if (socket === undefined) await course.pause(refusedPause)
      else {
        if (!isFirst) tally.reconnects++
        isFirst = false
        course.watch(socket)
        await Promise.all(Array.from({ length: inFlight }, () => converse(socket)))
        await socket.close()
        course.unwatch(socket)
      }
    } while (reconnect && !course.isStopping)

    async function converse(socket: NumberedWebSocket): Promise<void> {
      for (;;) {
        await socket.ask(bytesFrom(random(0, places), anySize(random, mostBytes)))
        if (socket.isOver || course.isStopping) return
        if (pause[1] > 0) await course.pause(random(...pause), socket)
      }
    }
  })
}
