/** Servers that answer as told, byte for byte: to see whether the load notices. */
import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { type WebSocket, WebSocketServer } from 'ws'
import { echoOf } from '../fixtures/load-server-handler.ts'
import { bytesFrom } from './load/bytes.ts'

export type ScriptedServer = AsyncDisposable & { readonly where: { readonly host: string; readonly port: number } }

export type ScriptedRequest = {
  /** Which request of its connection this is, from 1. */
  readonly nth: number
  readonly id: string
  readonly socket: Socket
  readonly body: Buffer
  /** The right answer. */
  readonly answer: Buffer
}

/** `script` gets each GET of the load as it comes. */
export function scriptedServer(script: (request: ScriptedRequest) => void): Promise<ScriptedServer> {
  return rawServer((socket) => {
    let [nth, text] = [0, '']
    socket.setEncoding('latin1').on('data', (more: string) => {
      const heads = (text + more).split('\r\n\r\n')
      text = heads.pop() ?? ''
      for (const head of heads) script(readRequest(head, ++nth, socket))
    })
  })
}

export async function rawServer(onConnection: (socket: Socket) => void): Promise<ScriptedServer> {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    // What the client does with a bad server is its own affair.
    socket.on('error', () => {}).once('close', () => sockets.delete(socket))
    onConnection(socket)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    where: { host: '127.0.0.1', port: (server.address() as AddressInfo).port },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy()
      server.close()
      await once(server, 'close')
    },
  }
}

type AnswerParts = {
  readonly status?: string
  readonly id?: string
  readonly body?: Buffer
  readonly length?: string
  readonly more?: string
}

/** An answer of which each part can be another than it should. */
export function answerWith({
  status = '200 OK',
  id = '',
  body = Buffer.alloc(0),
  length = `content-length: ${body.length}`,
  more = '',
}: AnswerParts): Buffer {
  const head = `HTTP/1.1 ${status}\r\nx-generation: bad\r\nx-id: ${id}\r\n${more}${length}\r\n\r\n`
  return Buffer.concat([Buffer.from(head), body])
}

/**
 * resetAndDestroy() sends an end before its reset, so that it is a matter of luck what the client
 * sees.
 */
export function reset(socket: Socket): void {
  const { _handle } = socket as unknown as { readonly _handle?: { reset(done: () => void): number } }
  _handle?.reset(() => socket.destroy())
}

/**
 * Together with bytes that the client has not read a reset looks like an end (libuv); a poll of the
 * loop that both live in comes first.
 */
export function resetWhenRead(socket: Socket): void {
  setTimeout(() => setImmediate(() => reset(socket)), 20)
}

function readRequest(head: string, nth: number, socket: Socket): ScriptedRequest {
  const asked = new URLSearchParams(/\?(\S+)/.exec(head)?.[1])
  const id = asked.get('id') ?? ''
  const body = bytesFrom(Number(asked.get('place')), Number(asked.get('size')))
  return { nth, id, socket, body, answer: answerWith({ id, body }) }
}

export type ScriptedMessage = {
  /** The client's number. */
  readonly nth: number
  readonly socket: WebSocket
  /** Counts the message and gives the right answer to it. */
  take(): Buffer
  /** Sets the counter. */
  forget(): void
}

/** `script` gets each message of the load as it comes. */
export async function scriptedWebSocketServer(script: (message: ScriptedMessage) => void): Promise<ScriptedServer> {
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0 })
  server.on('connection', (socket) => {
    let count = 0
    socket.on('message', (message: Buffer) => {
      const take = () => echoOf(++count, 'bad', message)
      const forget = () => {
        count = 0
      }
      script({ nth: message.readUInt32LE(), socket, take, forget })
    })
  })
  await once(server, 'listening')
  return {
    where: { host: '127.0.0.1', port: (server.address() as AddressInfo).port },
    async [Symbol.asyncDispose]() {
      for (const socket of server.clients) socket.terminate()
      server.close()
      await once(server, 'close')
    },
  }
}
