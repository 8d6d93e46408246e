/** The open HTTP/2 sessions of each server. */
import type { ServerHttp2Session } from 'node:http2'
import type { Server } from 'node:net'
import { isHttp2 } from './listeners.ts'

/** Open sessions of a server, with the number of streams that have ended of those over TLS. */
type Sessions = Map<ServerHttp2Session, { ended: number }>

const sessions = new WeakMap<Server, Sessions>()

/**
 * Keeps the open sessions of a server, from before it listens: Node 20 and 22 have no list, and
 * their close() sends no GOAWAY (measured).
 */
export function trackSessions(server: Server): void {
  if (!isHttp2(server) || sessions.has(server)) return
  const own: Sessions = new Map()
  sessions.set(server, own)
  server.on('session', (session: ServerHttp2Session) => {
    const live = { ended: 0 }
    own.set(session, live)
    session.once('close', () => own.delete(session))
    if (session.encrypted) session.on('stream', (stream) => stream.once('close', () => live.ended++))
  })
}

export function sessionsOf(server: Server): Sessions {
  return sessions.get(server) ?? new Map()
}
