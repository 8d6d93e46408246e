/**
 * The service of the comparison, the same in all systems: answers the load over HTTP and
 * WebSockets, and says its version and its pid.
 */
import { appendFileSync, readFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { Server as NetServer } from 'node:net'
import { type WebSocket, WebSocketServer } from 'ws'
import { type EchoState, loadHandler, loadWebSocketHandler } from '../../../test/fixtures/load-server-handler.ts'

export type App = {
  readonly server: Server
  readonly webSockets: WebSocketServer
  /** What is kept for each WebSocket. */
  readonly states: Map<WebSocket, EchoState>
}

export const port = Number(process.env.PORT)
export const host = '127.0.0.1'
export const drainAsTold = process.env.BENCH_DRAIN === 'soft' ? 'soft' : 'close'

/**
 * The version is what is on disk when the process starts, as with any deployment; `bad 2` does not
 * come up in slot 2. Who runs which version is noted: of several processes not each answers soon.
 */
export function createApp(): App {
  const version = readFileSync(process.env.BENCH_VERSION ?? '', 'utf8')
  if (version === `bad ${process.env.NODE_APP_INSTANCE}`) throw new Error('a bad version')
  appendFileSync(process.env.BENCH_STARTED ?? '', `${version} ${process.pid}\n`)
  const answer = loadHandler(version)
  const server = createServer((request, response) => {
    response.setHeader('x-pid', process.pid)
    answer(request, response)
  })
  const webSockets = new WebSocketServer({ server })
  const states = new Map<WebSocket, EchoState>()
  const talk = loadWebSocketHandler(version)
  webSockets.on('connection', (socket: WebSocket, _request: unknown, state?: EchoState) => {
    states.set(socket, talk(socket, state))
    socket.once('close', () => states.delete(socket))
  })
  return { server, webSockets, states }
}

/**
 * Time for a drain, in milliseconds: a client that never stops asking would keep a closed server
 * for ever.
 */
const drainTimeout = 5_000

/**
 * What programs do at the end by themselves. `close`: stop with `server.close()`, which ends idle
 * connections at once. `soft`: stop accepting only, and end each connection with its next answer;
 * those that ask for nothing end at their keep-alive timeout.
 */
export function drain({ server, webSockets }: App, how: 'close' | 'soft', done: () => void): void {
  for (const socket of webSockets.clients) socket.close(1001)
  // A proxy may open another on a connection that it has kept.
  webSockets.on('connection', (socket) => socket.close(1001))
  if (how === 'close') {
    server.close(done)
  } else {
    server.prependListener('request', (_request, response) => response.setHeader('connection', 'close'))
    NetServer.prototype.close.call(server, done)
  }
  setTimeout(done, drainTimeout + (how === 'soft' ? server.keepAliveTimeout : 0)).unref()
}
