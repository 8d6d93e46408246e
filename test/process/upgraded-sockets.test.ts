/**
 * Sockets that an unmodified program has upgraded: a WebSocket is closed between two messages, and
 * never before its handshake is answered; what is no WebSocket is left alone.
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { type TestContext, test } from 'node:test'
import { WebSocket, WebSocketServer } from 'ws'
import type { Program } from '../support/program.ts'
import { type Lines, start } from '../support/scripted.ts'
import { eventually, within } from '../support/waiting.ts'

// ---------------------------------------------------------------------------------------------- within a message

/** As much of http-proxy as is used here. */
type Proxies = {
  createProxyServer(options: object): NodeJS.EventEmitter & { ws(...upgrade: unknown[]): void }
}

const httpProxy: Lines = async ({ web, serving, load }) => {
  const { default: proxies } = (await load('http-proxy')) as unknown as { default: Proxies }
  const proxy = proxies.createProxyServer({ target: process.env.UPSTREAM, ws: true })
  proxy.on('error', () => {})
  const server = web().on('upgrade', (...upgrade) => proxy.ws(...upgrade))
  server.listen(process.env.PORT, () => serving(server))
}

const pipe: Lines = ({ web, serving }) => {
  const { connect } = process.getBuiltinModule('node:net')
  const server = web().on('upgrade', ({ method, url, rawHeaders }, socket) => {
    const upstream = connect(Number(new URL(process.env.UPSTREAM ?? '').port), '127.0.0.1')
    const names = rawHeaders.filter((_, index) => index % 2 === 0)
    const fields = names.map((name, index) => `${name}: ${rawHeaders[index * 2 + 1]}\r\n`)
    upstream.write(`${method} ${url} HTTP/1.1\r\n${fields.join('')}\r\n`)
    socket.pipe(upstream).pipe(socket)
    for (const one of [upstream, socket]) one.on('error', () => {})
  })
  server.listen(process.env.PORT, () => serving(server))
}

for (const [name, lines] of [
  ['the package http-proxy', httpProxy],
  ['a pipe', pipe],
] as const) {
  test(`a WebSocket that is only passed on, by ${name}, is closed behind the message that is on its way`, async () => {
    await using upstream = await Upstream.open()
    await using program = await start(lines, { env: { UPSTREAM: `http://127.0.0.1:${upstream.port}` } })
    const client = await Client.open(program.port)
    const sayRest = upstream.sayHalf()
    await eventually('half a message', () => client.bytesRead > Upstream.message.length / 2 || undefined)
    const other = await Client.open(program.port)
    program.kill('SIGUSR2')
    assert.deepEqual(await within('the close of another one', other.ended), ['close 1012'])
    sayRest()
    assert.deepEqual(await within('its close', client.ended), [`message ${Upstream.message.length}`, 'close 1012'])
    await program.untilServed()
    await program.stop()
  })
}

/** What stands behind the proxy. */
class Upstream {
  static readonly message = Buffer.alloc(1_000_000, 'message ')
  readonly #server: Server
  readonly #sockets: Duplex[] = []

  static async open(): Promise<Upstream> {
    const server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    return new Upstream(server)
  }

  private constructor(server: Server) {
    this.#server = server
    const webSockets = new WebSocketServer({ noServer: true })
    server.on('upgrade', (request, socket, head) => {
      this.#sockets.push(socket)
      webSockets.handleUpgrade(request, socket, head, () => {})
    })
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  /** To the client that has come last; returns what says the other half. */
  sayHalf(): () => void {
    const socket = this.#sockets.at(-1)
    const { message } = Upstream
    const [first, second] = [message.subarray(0, 300_000), message.subarray(300_000)]
    socket?.write(Buffer.concat([head(0x02, first.length), first, head(0x80, second.length)]))
    socket?.write(second.subarray(0, 300_000))
    return () => socket?.write(second.subarray(300_000))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    await new Promise((closed) => this.#server.close(closed))
  }
}

/** The head of a frame of more than 64 kB. */
function head(first: number, length: number): Buffer {
  const bytes = Buffer.alloc(10)
  bytes.writeUInt16BE((first << 8) | 127)
  bytes.writeBigUInt64BE(BigInt(length), 2)
  return bytes
}

/** A client, and what comes of it. */
class Client {
  readonly ended: Promise<readonly string[]>
  readonly opened: Promise<unknown>
  readonly #events: string[] = []
  readonly #socket: Socket

  constructor(port: number, path = '/') {
    const socket = connect(port, 'localhost')
    this.#socket = socket
    const webSocket = new WebSocket(`ws://localhost:${port}${path}`, { createConnection: () => socket })
    webSocket.on('message', (message: Buffer) => this.#events.push(`message ${message.length}`))
    webSocket.on('error', ({ message, code = message }: NodeJS.ErrnoException) => this.#events.push(code))
    this.opened = new Promise((open) => webSocket.on('open', open))
    webSocket.on('open', () => this.#events.push('open'))
    this.ended = new Promise((end) => {
      webSocket.on('unexpected-response', (request, { statusCode }) => {
        request.destroy()
        end([...this.#events, `answer ${statusCode}`])
      })
      webSocket.on('close', (code) => end([...this.#events, `close ${code}`]))
    })
  }

  static async open(port: number): Promise<Client> {
    const client = new Client(port)
    await within('a WebSocket', client.opened)
    client.#events.length = 0
    return client
  }

  get bytesRead(): number {
    return this.#socket.bytesRead
  }
}

// ---------------------------------------------------------------------------------------------- the handshake

/** Answers handshakes to /late when it gets SIGHUP: as its query says, or as any other. */
const late: Lines = async ({ web, serving, log, load }) => {
  const { WebSocketServer: Sockets } = (await load('ws')) as unknown as typeof import('ws')
  const sockets = new Sockets({ noServer: true })
  const server = web().on('upgrade', async (request, socket, head) => {
    const { pathname, searchParams } = new URL(request.url ?? '/', 'http://localhost')
    if (pathname === '/late') {
      log('asked')
      await new Promise((come) => process.once('SIGHUP', come))
    }
    if (!searchParams.has('status')) sockets.handleUpgrade(request, socket, head, () => {})
    else socket.end(`HTTP/1.1 ${searchParams.get('status')} No\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`)
  })
  server.listen(process.env.PORT, () => serving(server))
}

/** A WebSocket whose handshake is not answered yet, when another one has been closed by a drain. */
async function askAndDrain(
  t: TestContext,
  path: string,
  signal: NodeJS.Signals,
  record = {},
): Promise<{ program: Program; client: Client; close: string | undefined }> {
  const program = await start(late, { record })
  t.after(() => program[Symbol.asyncDispose]())
  const client = new Client(program.port, path)
  await program.printed(/: asked$/m)
  const other = await Client.open(program.port)
  program.kill(signal)
  const [close] = await within('the close of another WebSocket', other.ended)
  return { program, client, close }
}

for (const [signal, what, expected] of [
  ['SIGUSR2', 'an upgrade', 'close 1012'],
  ['SIGTERM', 'a stop', 'close 1001'],
] as const) {
  test(`a WebSocket whose handshake is still being answered at ${what} opens first, and is closed then`, async (t) => {
    const { program, client, close } = await askAndDrain(t, '/late', signal)
    assert.equal(close, expected)
    program.kill('SIGHUP', 0)
    assert.deepEqual(await within('its end', client.ended), ['open', expected])
    if (signal === 'SIGUSR2') await program.untilServed()
    await program.stop()
  })
}

test('a handshake that is turned down while the old version drains gets that answer, and nothing else', async (t) => {
  const { program, client } = await askAndDrain(t, '/late?status=401', 'SIGUSR2')
  program.kill('SIGHUP', 0)
  assert.deepEqual(await within('its end', client.ended), ['answer 401'])
  await program.untilServed()
  await program.stop()
})

test('a handshake that is never answered ends at drainTimeout, without a word', async (t) => {
  const { program, client } = await askAndDrain(t, '/late', 'SIGUSR2', { drainTimeout: 600 })
  assert.deepEqual(await within('its end', client.ended), ['ECONNRESET', 'close 1006'])
  await program.untilServed()
  await program.stop()
})
