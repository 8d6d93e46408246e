/** The requests of a load: what is sent, and what must come back. */

import { bytesFrom, crc32, megabyte, places, receipt } from './bytes.ts'
import type { RequestKind } from './kinds.ts'
import { anySize, type Random } from './random.ts'

export type HttpKind = Exclude<RequestKind, 'message'>

/** How often each kind comes, in shares of their sum. */
export type Weights = { readonly [kind in HttpKind]?: number }

/** Everything that clients do to a server. */
export const mixed: Weights = {
  small: 60,
  large: 6,
  chunked: 4,
  post: 10,
  late: 6,
  pipelined: 8,
  byteByByte: 2,
  inSevens: 3,
  slowReader: 1,
}

/** For benchmarks: costs both sides the least. */
export const smallOnly: Weights = { small: 1 }

export type Request = {
  readonly kind: HttpKind
  readonly id: string
  readonly head: string
  readonly body?: Buffer
  /** The body that must be answered. */
  readonly expected: Buffer
  /** Whether the server is asked to close after its answer. */
  readonly closes: boolean
}

/** What is sent at once: one request, or several of which the later do not wait for the earlier. */
export type Batch = {
  readonly requests: readonly [Request, ...Request[]]
  /** Bytes in one write; without it all go in one. */
  readonly piece?: number
  /** Pause after each piece that is read, in milliseconds. */
  readonly readPause?: number
}

/** Most time that a `late` answer waits, in milliseconds. */
const latest = 300

/**
 * Whether a connection ends after its answer, and who says so: `both` is the client now, the server
 * then.
 */
export type Closing = 'no' | 'both' | 'asked'

/** The requests of one client, the same for the same seed. */
export function requestMaker(random: Random, weights: Weights, ends: Closing = 'no'): () => Batch {
  const closing = ends !== 'no'
  const kinds = Object.entries(weights) as [HttpKind, number][]
  const total = kinds.reduce((sum, [, weight]) => sum + weight, 0)
  let made = 0

  return () => {
    let drawn = random(1, total)
    for (const [kind, weight] of kinds) {
      drawn -= weight
      if (drawn <= 0) return batchOf(kind)
    }
    throw new Error('no kind of request has a weight')
  }

  function batchOf(kind: HttpKind): Batch {
    switch (kind) {
      case 'small':
        return { requests: [get(kind, random(1, 1_000))] }
      case 'large':
        return { requests: [get(kind, anySize(random, megabyte))] }
      case 'chunked':
        return { requests: [get(kind, anySize(random, megabyte), `&chunks=${random(1, 8)}`)] }
      case 'post':
        return { requests: [post(kind, anySize(random, megabyte))] }
      case 'late':
        return { requests: [get(kind, random(1, 1_000), `&delay=${random(1, latest)}`)] }
      case 'pipelined':
        // Only the last may ask for the end.
        return { requests: [nth(1), nth(2), nth(3)] }
      case 'byteByByte':
        return { requests: [get(kind, random(1, 1_000))], piece: 1 }
      case 'inSevens':
        return { requests: [post(kind, random(1, 500))], piece: 7 }
      case 'slowReader':
        return { requests: [get(kind, megabyte)], readPause: 5 }
    }
  }

  function nth(which: number): Request {
    return get('pipelined', random(1, 1_000), '', closing && which === 3)
  }

  function get(kind: HttpKind, size: number, more = '', closes = closing): Request {
    const id = `${++made}`
    const place = random(0, places)
    return {
      kind,
      id,
      head: `GET /load?id=${id}&size=${size}&place=${place}${more}${ending(closes)}\r\n`,
      expected: bytesFrom(place, size),
      closes,
    }
  }

  function post(kind: HttpKind, size: number): Request {
    const id = `${++made}`
    const body = bytesFrom(random(0, places), size)
    return {
      kind,
      id,
      head: `POST /load?id=${id}${ending(closing)}content-length: ${size}\r\n\r\n`,
      body,
      expected: Buffer.from(receipt(size, crc32(body))),
      closes: closing,
    }
  }

  function ending(closes: boolean): string {
    if (!closes) return ' HTTP/1.1\r\nhost: load\r\n'
    return ends === 'asked' || made % 2 === 0
      ? ' HTTP/1.1\r\nhost: load\r\nconnection: close\r\n'
      : '&close=1 HTTP/1.1\r\nhost: load\r\n'
  }
}
