/** HTTP/2: GOAWAY to every session, streams finish; HTTP/1.1 beside it on one port drains as https does. */
import type { ServerHttp2Session } from 'node:http2'
import type { Server } from 'node:net'
import type { Draining, ProtocolDrain } from './drainer.ts'
import { drainHttp } from './http.ts'

const sessions = new WeakMap<Server, Set<ServerHttp2Session>>()

export function isHttp2(server: Server): boolean {
  return 'updateSettings' in server
}

/** Keeps the open sessions of a server, from before it listens: Node 20 and 22 have no list, and their close() sends no GOAWAY (measured). */
export function trackSessions(server: Server): void {
  if (!isHttp2(server) || sessions.has(server)) return
  const own = new Set<ServerHttp2Session>()
  sessions.set(server, own)
  server.on('session', (session: ServerHttp2Session) => {
    own.add(session)
    session.once('close', () => own.delete(session))
  })
}

/** How long a client may go on opening streams that has read the first GOAWAY, in milliseconds: its requests that were on their way are answered. */
const grace = 1_000
/** The first GOAWAY refuses no stream: RFC 9113, 6.8. */
const everyStream = 2 ** 31 - 1

export function drainHttp2(draining: Draining): ProtocolDrain {
  const { server } = draining
  const own = sessions.get(server) ?? new Set()
  // Its lists are those of HTTP/1.1 connections, which only a server with allowHTTP1 has.
  const http1 = 'closeIdleConnections' in server ? drainHttp({ ...draining, mover: undefined }) : undefined
  let timer: NodeJS.Timeout | undefined

  function sendGoaway(session: ServerHttp2Session): void {
    if (!session.closed && !session.destroyed) session.goaway(0, everyStream)
  }

  /** Ends a session with its last stream. */
  function closeAll(): void {
    for (const session of own) if (!session.closed) session.close()
  }

  return {
    moveIdle: async () => {},
    finish() {
      for (const session of own) sendGoaway(session)
      // Accepted just before, and still shaking hands.
      server.on('session', sendGoaway)
      timer = setTimeout(closeAll, grace)
      http1?.finish()
    },
    closeIdle() {
      closeAll()
      return http1?.closeIdle() ?? 0
    },
    dispose() {
      clearTimeout(timer)
      server.removeListener('session', sendGoaway)
      http1?.dispose()
    },
  }
}
