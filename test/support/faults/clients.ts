/** The clients of one cell: none retries, and what each lost is known. */
import { HttpConnection } from '../http-connection.ts'
import type { Puppet } from '../lab.ts'
import { connectionClients } from '../load/connection-clients.ts'
import { keepAliveClients } from '../load/keep-alive-clients.ts'
import type { FailureKind } from '../load/kinds.ts'
import type { Load } from '../load/load.ts'
import { smallOnly } from '../load/requests.ts'
import { eventually } from '../waiting.ts'

/** Of those that keep their connection, a half says nothing until the end. */
const kept = { count: 30, weights: smallOnly, pause: [10, 40] as const, silence: { every: 2, most: Number.POSITIVE_INFINITY } }
const single = { count: 2, pause: [10, 40] as const, goOn: true }

/** How a connection ends whose process is gone. */
const ends: readonly FailureKind[] = ['reset', 'closed', 'closedIdle', 'half']

export class CellClients {
  readonly #kept: Load
  readonly #single: Load
  readonly #slow: HttpConnection | undefined

  private constructor(port: number, slow: HttpConnection | undefined) {
    const where = { port, host: '127.0.0.1' }
    this.#kept = keepAliveClients(where, kept)
    this.#single = connectionClients(where, single)
    this.#slow = slow
  }

  /** With a request that is answered only when the test says so. */
  static async start(port: number, withSlow: boolean): Promise<CellClients> {
    const slow = withSlow ? await HttpConnection.open(port) : undefined
    slow?.send('/slow')
    const clients = new CellClients(port, slow)
    await Promise.all([clients.#kept.ready, clients.#single.ready])
    return clients
  }

  get hasSlow(): boolean {
    return this.#slow !== undefined
  }

  /** It has its answer, or its connection has ended. */
  get slowIsOver(): Promise<unknown> {
    return eventually('the end of the long request', () => this.#slow === undefined || this.#slow.hasEnded || this.#slow.text !== '' || undefined)
  }

  /** New connections were tried meanwhile. */
  async untilAsked(): Promise<void> {
    const { requests } = this.#single.result()
    await eventually('more requests', () => this.#single.result().requests > requests + 5 || undefined)
  }

  failures(): object {
    return [this.#kept.result().failures, this.#single.result().failures]
  }

  /** In words that can be compared: which connections ended, and how many at most. */
  lost(dead: Puppet | undefined): string {
    void dead
    const [lasting, short] = [this.#kept.result(), this.#single.result()]
    const slow = this.#slow === undefined ? '' : this.#slow.text === '' ? ', the long request' : ''
    return `${JSON.stringify(lasting.failures)} ${JSON.stringify(short.failures)}${slow}`
  }

  async stop(): Promise<void> {
    await Promise.all([this.#kept.stop(), this.#single.stop()])
    this.#slow?.socket.destroy()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#slow?.socket.destroy()
    await Promise.all([this.#kept[Symbol.asyncDispose](), this.#single[Symbol.asyncDispose]()])
  }
}
void ends
