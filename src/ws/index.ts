/**
 * WebSockets of the `ws` package stay open through an upgrade: they move to the successor, with the
 * state that the program keeps for each.
 * @module cook-daemon/ws
 */
import type { IncomingMessage } from 'node:http'
import type { WebSocket, WebSocketServer } from 'ws'
import { checkWebSocketOptions } from '../check.ts'
import { type Daemon, serviceOf } from '../daemon.ts'
import { CookError } from '../errors.ts'
import { currentContext } from '../node/context.ts'
import { MessageHandlers } from './handlers.ts'
import { drainWebSockets } from './leave.ts'
import type { Luggage, WebSocketOptions } from './options.ts'
import { buildRequest, type RequestParts, requestParts, WsInside } from './private.ts'

export type { WebSocketOptions }

/**
 * Lets the open connections of a `ws` server move to the successor when the daemon is upgraded.
 * Call it in both versions, before `ready()`; with `serve()`, in its `prepare` option. WebSockets
 * that cannot move are closed with 1012; at a stop all are closed with 1001. Throws `ERR_COOK_WS`
 * for an unsupported version of `ws` or after `ready()`, and `ERR_COOK_OPTION`.
 */
export function handOverWebSockets<State = unknown>(
  daemon: Daemon,
  server: WebSocketServer,
  options: WebSocketOptions<State> = {},
): void {
  checkWebSocketOptions(options)
  const { name = 'ws', onHandedOver } = options
  const service = serviceOf(daemon)
  if (service.hasAnswered) throw new CookError('ERR_COOK_WS', { why: 'ready() was called already' })
  const ws = new WsInside(server)
  const context = currentContext()
  const handlers = new MessageHandlers()
  const requests = new WeakMap<WebSocket, RequestParts>()
  // Undefined with `clientTracking: false`, whatever the types say.
  const open = (server.clients as Set<WebSocket> | undefined) ?? trackOpen(server)
  server.on('connection', (webSocket, request: IncomingMessage | undefined) => {
    handlers.watch(webSocket)
    if (request !== undefined && !requests.has(webSocket)) requests.set(webSocket, requestParts(request))
  })
  service.ownDrains.push((departure) =>
    drainWebSockets({ name, options, context, server, open, requests, handlers, ws, service }, departure),
  )
  daemon.onHandedOver(name, (socket, value) => {
    const { agreed, isPaused, request: sent, state } = value as Luggage
    const webSocket = ws.attach(socket, agreed)
    handlers.watch(webSocket)
    const request = buildRequest(socket, sent)
    if (sent !== undefined) requests.set(webSocket, sent)
    if (onHandedOver === undefined) server.emit('connection', webSocket, request, state)
    else onHandedOver(webSocket, state as State, request)
    if (isPaused) webSocket.pause()
  })
}

function trackOpen(server: WebSocketServer): Set<WebSocket> {
  const open = new Set<WebSocket>()
  server.on('connection', (webSocket) => {
    open.add(webSocket)
    webSocket.once('close', () => open.delete(webSocket))
  })
  return open
}
