/** Each request and each end of an answer of all HTTP servers here, as Node tells of them. */
import { subscribe } from 'node:diagnostics_channel'
import type { ServerResponse } from 'node:http'
import type { Server, Socket } from 'node:net'

/** What Node publishes of both. */
export type Exchange = { readonly response: ServerResponse; readonly socket: Socket; readonly server: Server }

type ExchangeHearer = (exchange: Exchange) => void

/** `http.server.request.start`, before the program gets the request. */
export const requestHearers = new Set<ExchangeHearer>()
/** `http.server.response.finish`, behind Node's own end of the answer. */
export const finishHearers = new Set<ExchangeHearer>()
let isWatching = false

/**
 * From before a server listens, and for good. The first subscriber changes the prototype of a
 * channel, and with it V8 throws away what it has optimized of HTTP: in a process under load the
 * clients would wait for that to be compiled again (measured: 40 ms and more for a hundred).
 */
export function watchExchanges(): void {
  if (isWatching) return
  isWatching = true
  // Mostly there is nobody: an iterator for each request would be a part of what it costs.
  const tellOf = (hearers: ReadonlySet<ExchangeHearer>) => (message: unknown) => {
    if (hearers.size > 0) for (const hear of hearers) hear(message as Exchange)
  }
  subscribe('http.server.request.start', tellOf(requestHearers))
  subscribe('http.server.response.finish', tellOf(finishHearers))
}
