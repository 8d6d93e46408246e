/** The clients of one cell: none retries, and what each lost is known. */
import assert from 'node:assert/strict'
import type { DrainReport } from 'cook-daemon'
import { HttpConnection } from '../http-connection.ts'
import { connectionClients } from '../load/connection-clients.ts'
import { keepAliveClients } from '../load/keep-alive-clients.ts'
import type { Load } from '../load/load.ts'
import { smallOnly } from '../load/requests.ts'
import type { LoadResult } from '../load/tally.ts'
import { eventually } from '../waiting.ts'
import type { Loss } from './table.ts'

/** Of those that keep their connection, a half says nothing until the end. */
const lasting = {
  count: 30,
  weights: smallOnly,
  pause: [10, 40],
  silence: { every: 2, most: Number.POSITIVE_INFINITY },
} as const
const single = { count: 2, pause: [10, 40], goOn: true } as const

/** How a connection ends whose process is gone, or has no descriptor for it. */
const ends: readonly string[] = ['reset', 'closed', 'closedIdle', 'half']

/** Connections that are between two processes at most. */
const mostOnTheWay = 32

export class CellClients {
  /** How many keep their connection. */
  static readonly lasting = lasting.count
  readonly #lasting: Load
  readonly #single: Load
  readonly #slow: HttpConnection | undefined

  private constructor(port: number, slow: HttpConnection | undefined) {
    const where = { port, host: '127.0.0.1' }
    this.#lasting = keepAliveClients(where, lasting)
    this.#single = connectionClients(where, single)
    this.#slow = slow
  }

  /** With a request that is answered only when the test says so. */
  static async start(port: number, withSlow: boolean): Promise<CellClients> {
    const slow = withSlow ? await HttpConnection.open(port) : undefined
    slow?.send('/slow')
    const clients = new CellClients(port, slow)
    await Promise.all([clients.#lasting.ready, clients.#single.ready])
    return clients
  }

  get hasSlow(): boolean {
    return this.#slow !== undefined
  }

  /** It has its answer, or its connection has ended. */
  async untilSlowIsOver(): Promise<void> {
    const slow = this.#slow
    if (slow !== undefined)
      await eventually('the end of the long request', () => slow.hasEnded || slow.text !== '' || undefined)
  }

  /** New connections were tried meanwhile. */
  async untilAsked(): Promise<void> {
    const { requests } = this.#single.result()
    await eventually('more requests', () => this.#single.result().requests > requests + 5 || undefined)
  }

  get failures(): readonly LoadResult['failures'][] {
    return [this.#lasting.result().failures, this.#single.result().failures]
  }

  /** Holds what they lost to what the table says that they may. */
  check(loss: Loss, report: DrainReport | undefined): void {
    const [kept = {}, short = {}] = this.failures
    const words = `${JSON.stringify({ kept, short, slow: this.#slow?.text })}, ${JSON.stringify(report)}`
    // An old version that cannot hand over any more says so with its next answer.
    const kinds = loss === 'stayed' || loss === 'noRoom' ? [...ends, 'toldToClose'] : ends
    for (const kind of [...Object.keys(kept), ...Object.keys(short)]) assert.ok(kinds.includes(kind), words)
    const isSlowLost = this.#slow?.text === ''
    if (loss !== 'stayed' && loss !== 'old' && loss !== 'noRoom') assert.equal(isSlowLost, false, words)
    switch (loss) {
      case 'nothing':
        assert.deepEqual([kept, short], [{}, {}], words)
        return
      case 'accepted':
        assert.deepEqual(kept, {}, words)
        assert.ok(sum(short) <= single.count, words)
        return
      case 'closed':
        assert.deepEqual(kept, {}, words)
        return
      case 'moved': {
        const { handedOver = 0, cut = 0 } = report ?? {}
        assert.ok(cut <= mostOnTheWay && sum(kept) <= handedOver + cut, words)
        assert.ok(sum(short) <= 2 * single.count, words)
        return
      }
      case 'stayed':
        assert.ok(sum(short) <= 2 * single.count, words)
        return
      case 'noRoom':
        return
      case 'old':
        assert.ok(sum(kept) > 0 && sum(short) <= single.count, words)
        return
    }
  }

  async stop(): Promise<void> {
    await Promise.all([this.#lasting.stop(), this.#single.stop()])
    this.#slow?.socket.destroy()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#slow?.socket.destroy()
    await Promise.all([this.#lasting[Symbol.asyncDispose](), this.#single[Symbol.asyncDispose]()])
  }
}

function sum(failures: LoadResult['failures']): number {
  return Object.values(failures).reduce((total, count) => total + count, 0)
}
