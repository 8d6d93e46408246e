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

export function drainHttp2(draining: Draining): ProtocolDrain {
  const own = sessions.get(draining.server) ?? new Set()
  // Its lists are those of HTTP/1.1 connections, which only a server with allowHTTP1 has.
  const http1 = 'closeIdleConnections' in draining.server ? drainHttp({ ...draining, mover: undefined }) : undefined
  return {
    moveIdle: async () => {},
    finish() {
      for (const session of own) if (!session.closed) session.close()
      http1?.finish()
    },
    closeIdle: () => http1?.closeIdle() ?? 0,
    dispose: () => http1?.dispose(),
  }
}
