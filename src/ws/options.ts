/** What a program says of its WebSockets, and what crosses with each. */
import type { IncomingMessage } from 'node:http'
import type { WebSocket } from 'ws'
import type { Agreed, RequestParts } from './private.ts'

/**
 * How the WebSockets of one server go from version to version; `State` is what the program keeps
 * for each.
 */
export type WebSocketOptions<State> = {
  /**
   * Name under which old and new version know these connections: one for each WebSocketServer.
   * @default 'ws'
   */
  readonly name?: string
  /**
   * What goes with a connection: anything that structuredClone takes. Called once, when the
   * connection leaves and its `message` listeners have ended, promises that they return included;
   * nothing of it is read any more. While a promise that it returns is pending, the program may
   * still send on it: wait there for answers that no such listener waits for. One that throws or
   * rejects has its connection closed with 1012.
   * @default nothing
   */
  saveState?(socket: WebSocket, request: IncomingMessage): State | Promise<State>
  /**
   * In the new version, for each connection that has come. The request has the url, method, headers
   * and socket of the one that opened it.
   * @default the server emits `connection` with the socket, the request and, as third argument, the
   * state
   */
  onHandedOver?(socket: WebSocket, state: State, request: IncomingMessage): void
  /**
   * Time over which those that must be closed are closed, in milliseconds, so that not all clients
   * come back at once: 10 ms each at most, and never longer than half the drain. What waits for its
   * turn to move at two thirds of it is closed in the sixth that follows.
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
