/** An HTTP/1.1 connection whose TLS is ours ends after some time: the next one is OpenSSL's. */
import type { Socket } from 'node:net'
import { type Exchange, requestHearers } from '../node/exchanges.ts'
import { LastAnswers } from './last-answers.ts'

/** Those whose time is over. Only with them there is anything to do at a request. */
const overdue = new Set<Socket>()
const last = new LastAnswers()

/** From `ms` on its next answer is its last one, which the client reads in it. */
export function closeAfter(socket: Socket, ms: number): void {
  const timer = setTimeout(() => {
    if (overdue.size === 0) requestHearers.add(onStart)
    overdue.add(socket)
  }, ms)
  timer.unref()
  socket.once('close', () => {
    clearTimeout(timer)
    if (overdue.delete(socket) && overdue.size === 0) requestHearers.delete(onStart)
  })
}

function onStart({ response, socket }: Exchange): void {
  if (overdue.has(socket)) last.closeWith(response, socket)
}
