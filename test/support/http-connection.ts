/** One HTTP/1.1 connection, byte for byte: it never reconnects, and knows how it ended. */
import { once } from 'node:events'
import { connect, type NetConnectOpts, type Socket } from 'node:net'
import { eventually, within } from './waiting.ts'

export type HttpAnswer = { readonly status: number; readonly body: string; readonly closes: boolean }

export class HttpConnection {
  readonly socket: Socket
  /** Resolves when it is closed, by whomever. */
  readonly closed: Promise<unknown>
  /** What has arrived and was not read as an answer. */
  text = ''
  hasEnded = false

  constructor(socket: Socket) {
    this.socket = socket
    // A reset is an end too; which it was stands in what is missing.
    socket.on('error', () => {})
    socket.setEncoding('utf8').on('data', (text: string) => {
      this.text += text
    })
    this.closed = new Promise((closed) => {
      socket.once('close', () => {
        this.hasEnded = true
        closed(undefined)
      })
    })
  }

  /** A port of this machine, or anything else to connect to. */
  static async open(where: number | NetConnectOpts): Promise<HttpConnection> {
    const socket = connect(typeof where === 'number' ? { port: where, host: '127.0.0.1' } : where)
    await within('a connection', once(socket, 'connect'))
    return new HttpConnection(socket)
  }

  send(path = '/', headers = ''): void {
    this.socket.write(`GET ${path} HTTP/1.1\r\nhost: test\r\n${headers}\r\n`)
  }

  async ask(path = '/'): Promise<HttpAnswer> {
    this.send(path)
    return this.answer()
  }

  /** The next answer; rejects if the connection ends before it. */
  async answer(): Promise<HttpAnswer> {
    return eventually('an answer', () => {
      const [, head = '', rest = ''] = /^(.*?)\r\n\r\n(.*)$/s.exec(this.text) ?? []
      const length = Number(/^content-length: (\d+)/im.exec(head)?.[1] ?? 0)
      if (head === '' || rest.length < length) {
        if (this.hasEnded) throw new Error(`the connection was closed, with ${JSON.stringify(this.text)}`)
        return undefined
      }
      this.text = rest.slice(length)
      const status = Number(head.split(' ')[1])
      return { status, body: rest.slice(0, length), closes: /^connection: close/im.test(head) }
    })
  }
}

/** How many connections are attended to at once. */
const atOnce = 50

/** Many connections that have had an answer and say nothing more. */
export async function idleConnections(port: number, count: number): Promise<readonly HttpConnection[]> {
  const clients: HttpConnection[] = []
  let opened = 0
  async function open(): Promise<void> {
    while (opened++ < count) {
      const client = await HttpConnection.open(port)
      clients.push(client)
      await client.ask()
    }
  }
  await Promise.all(Array.from({ length: atOnce }, open))
  return clients
}

/** Asks on each; gives the different answers. */
export async function askAll(clients: readonly HttpConnection[]): Promise<readonly HttpAnswer[]> {
  const answers = new Map<string, HttpAnswer>()
  let asked = 0
  async function ask(): Promise<void> {
    for (let client = clients[asked++]; client !== undefined; client = clients[asked++]) {
      const answer = await client.ask()
      answers.set(JSON.stringify(answer), answer)
    }
  }
  await Promise.all(Array.from({ length: atOnce }, ask))
  return [...answers.values()]
}
