/** Between a client and a server: hands on what the client sends, as much of it as the test says. */
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'

export class Sluice {
  readonly port: number
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  #chop: (() => number) | undefined
  /** Bytes that go on; what is beyond them waits. */
  #open = Number.POSITIVE_INFINITY
  readonly #waiting: { readonly to: Socket; bytes: Buffer }[] = []

  private constructor(server: Server, port: number) {
    this.#server = server
    this.port = (server.address() as AddressInfo).port
    server.on('connection', (client) => {
      const target = connect(port, '127.0.0.1')
      for (const socket of [client, target]) {
        this.#sockets.add(socket)
        socket
          .on('error', () => {})
          .once('close', () => {
            this.#sockets.delete(socket)
            client.destroy()
            target.destroy()
          })
      }
      target.pipe(client)
      client.on('data', (bytes) => {
        this.#waiting.push({ to: target, bytes })
        this.#flow()
      })
      client.once('end', () => target.end())
    })
  }

  static async open(port: number): Promise<Sluice> {
    const server = createServer({ noDelay: true, allowHalfOpen: true }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    return new Sluice(server, port)
  }

  /** From now on so many bytes go through, and the others wait. */
  let(bytes: number): void {
    this.#open = bytes
    this.#flow()
  }

  /** What the clients send goes on in pieces of so many bytes, one in each turn of the loop. */
  chop(size: () => number): void {
    this.#chop = size
    this.let(0)
    const step = () => {
      if (this.#chop === undefined) return
      this.let(size())
      this.#open = 0
      setImmediate(step)
    }
    step()
  }

  /** What waits goes through, and all that follows. */
  lift(): void {
    this.let(Number.POSITIVE_INFINITY)
  }

  #flow(): void {
    for (let first = this.#waiting[0]; first !== undefined && this.#open > 0; first = this.#waiting[0]) {
      const part = first.bytes.subarray(0, this.#open)
      this.#open -= part.length
      first.to.write(part)
      first.bytes = first.bytes.subarray(part.length)
      if (first.bytes.length === 0) this.#waiting.shift()
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#chop = undefined
    for (const socket of this.#sockets) socket.destroy()
    const closed = once(this.#server, 'close')
    this.#server.close()
    await closed
  }
}
