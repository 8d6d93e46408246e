/** Tells a client in its answer that it is the last one: it never sends into what is going. */
import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

export class LastAnswers {
  /** Answers that are to say "Connection: close", by connection. */
  readonly #last = new WeakMap<Socket, ServerResponse>()

  closeWith(response: ServerResponse, socket: Socket): void {
    const before = this.#last.get(socket)
    // Pipelined: the connection closes with the last answer, or the others would never come.
    if (before !== undefined && before !== response && !before.headersSent) before.shouldKeepAlive = true
    if (!response.shouldKeepAlive || response.headersSent) return
    response.shouldKeepAlive = false
    this.#last.set(socket, response)
  }
}
