/** What stands before the pods of a service: a TCP router, whose list of pods changes. */
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'

/**
 * Whoever connects gets the next pod of the list and stays with it until one of both ends the
 * connection, as through the proxies of a cluster.
 */
export class Endpoints {
  readonly #ports: number[] = []
  readonly #server: Server
  readonly #clients = new Set<Socket>()
  #turn = 0

  private constructor() {
    this.#server = createServer({ allowHalfOpen: true, noDelay: true }, (client) => this.#route(client))
  }

  static async open(): Promise<Endpoints> {
    const endpoints = new Endpoints()
    endpoints.#server.listen(0, '127.0.0.1')
    await once(endpoints.#server, 'listening')
    return endpoints
  }

  get address(): { readonly host: string; readonly port: number } {
    return { host: '127.0.0.1', port: (this.#server.address() as AddressInfo).port }
  }

  add(port: number): void {
    this.#ports.push(port)
  }

  remove(port: number): void {
    this.#ports.splice(this.#ports.indexOf(port), 1)
  }

  #route(client: Socket): void {
    const port = this.#ports[this.#turn++ % this.#ports.length] ?? 0
    const pod = connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true })
    this.#clients.add(client)
    client.pipe(pod).pipe(client)
    client.once('error', () => pod.resetAndDestroy()).once('close', () => this.#clients.delete(client))
    pod.once('error', () => client.resetAndDestroy())
  }

  [Symbol.dispose](): void {
    this.#server.close()
    for (const client of this.#clients) client.destroy(new Error('the test is over'))
  }
}
