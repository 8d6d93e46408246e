/** An HTTP/1.1 connection whose TLS is ours ends after some time: the next one is OpenSSL's. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { LastAnswers } from './last-answers.ts'

/** What Node publishes of a request. */
type Exchange = { readonly response: ServerResponse; readonly socket: Socket }

/** Those whose time is over. Only with them there is anything to do at a request. */
const overdue = new Set<Socket>()
const last = new LastAnswers()

/** From `ms` on its next answer is its last one, which the client reads in it. */
export function closeAfter(socket: Socket, ms: number): void {
  const timer = setTimeout(() => {
    if (overdue.size === 0) subscribe('http.server.request.start', onStart)
    overdue.add(socket)
  }, ms)
  timer.unref()
  socket.once('close', () => {
    clearTimeout(timer)
    if (overdue.delete(socket) && overdue.size === 0) unsubscribe('http.server.request.start', onStart)
  })
}

function onStart(message: unknown): void {
  const { response, socket } = message as Exchange
  if (overdue.has(socket)) last.closeWith(response, socket)
}
