/** The options of handOverWebSockets(), and what moves with each WebSocket. */
import type { IncomingMessage } from 'node:http'
import type { WebSocket } from 'ws'
import type { Agreed, RequestParts } from './private.ts'

/**
 * How the WebSockets of one server move from version to version; `State` is the state that the
 * program keeps for each.
 */
export type WebSocketOptions<State> = {
  /**
   * Name of these connections in the old and the new version; another one for each WebSocketServer.
   * @default 'ws'
   */
  readonly name?: string
  /**
   * State that moves with a connection: anything that structuredClone accepts, at most 64 MiB.
   * Called once, when the connection leaves and its `message` listeners and their promises have
   * finished; nothing more is read from it. While the returned promise is pending, the program may
   * still send: wait here for answers that no listener waits for. If it throws or rejects, the
   * connection is closed with 1012.
   * @default nothing
   */
  saveState?(socket: WebSocket, request: IncomingMessage): State | Promise<State>
  /**
   * Called in the new version for each connection that was handed over. The request has the url,
   * method, headers and socket of the original one.
   * @default the server emits `connection` with the socket, the request and, as third argument, the
   * state
   */
  onHandedOver?(socket: WebSocket, state: State, request: IncomingMessage): void
  /**
   * Time over which closes are spread, in milliseconds, so that clients do not all reconnect at
   * once: at most 10 ms each, and at most half of the drain. What still waits to move after two
   * thirds of the drain is closed in the next sixth.
   * @default 5000
   */
  readonly spread?: number
}

/**
 * What crosses with a connection. Old and new may run different versions of this file: add, ignore
 * the unknown, never reuse a meaning.
 */
export type Luggage = {
  readonly agreed: Agreed
  readonly isPaused: boolean
  readonly request: RequestParts | undefined
  readonly state: unknown
}
