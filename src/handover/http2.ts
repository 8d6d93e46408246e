/** HTTP/2: a GOAWAY to every session, and its streams finish. */
import type { IncomingHttpHeaders, ServerHttp2Session, ServerHttp2Stream } from 'node:http2'
import type { Socket } from 'node:net'
import { writeBetweenFrames } from '../node/connections.ts'
import { sessionsOf } from '../node/http2-sessions.ts'
import { isHttp } from '../node/listeners.ts'
import type { Draining, ProtocolDrain } from '../service-parts.ts'
import { drainHttp } from './http.ts'

type StreamListener = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, flags: number) => void

function ignore(): void {}

/**
 * How long a client may go on opening streams that has read the first GOAWAY, in milliseconds, if
 * there is as much time: its requests that were on their way are answered.
 */
const grace = 1_000
/** How often a connection is tried again that was full when its GOAWAY was due, in milliseconds. */
const retryInterval = 10

/**
 * The first GOAWAY refuses no stream: RFC 9113, 6.8. session.goaway() cannot say that: whatever
 * number it is given, nghttp2 ignores the streams that come after it (nghttp2_session.c,
 * session_allow_incoming_new_stream; measured). So the frame is written past it: length, type,
 * flags, stream; last stream, no error.
 */
const firstGoaway = Buffer.from('000008 07 00 00000000 7fffffff 00000000'.replaceAll(' ', ''), 'hex')

export function drainHttp2(draining: Draining): ProtocolDrain {
  const { server, clock } = draining
  const own = sessionsOf(server)
  // Its lists are those of HTTP/1.1 connections, which only a server with allowHTTP1 has.
  const http1 = isHttp(server) ? drainHttp({ ...draining, mover: undefined }) : undefined
  const timers = new Set<NodeJS.Timeout>()
  /** Ends the wait of requests, by session. */
  const holding = new Set<() => void>()
  let isLate = false

  function later(run: () => void, ms: number): void {
    const timer = setTimeout(() => {
      timers.delete(timer)
      run()
    }, ms)
    timers.add(timer)
  }

  function part(session: ServerHttp2Session): void {
    if (session.encrypted) closeBehindPing(session)
    // Its own SETTINGS must be the first that the client reads.
    else if (session.pendingSettingsAck) session.once('localSettings', () => announce(session))
    else announce(session)
  }

  function announce(session: ServerHttp2Session): void {
    if (session.closed || session.destroyed) return
    if (isLate) session.close()
    else if (!writeBetweenFrames(session.socket, firstGoaway)) later(() => announce(session), retryInterval)
  }

  /**
   * Nothing goes past TLS, so there is one GOAWAY only, and it refuses what is on its way to us.
   * Until it is sent, requests that come wait for a round trip: a client that waits for answers has
   * then nothing on its way. They are answered behind it. Who asks by the clock may have the last
   * ones refused.
   */
  function closeBehindPing(session: ServerHttp2Session): void {
    const listeners = session.listeners('stream') as StreamListener[]
    const held: Parameters<StreamListener>[] = []
    session.removeAllListeners('stream').on('stream', (stream, ...rest) => {
      // One that the client takes back meanwhile must not be an uncaught exception.
      held.push([stream.on('error', ignore), ...rest])
    })
    const release = () => {
      if (!holding.delete(release)) return
      if (!session.closed && !session.destroyed) session.close()
      session.removeAllListeners('stream')
      for (const listener of listeners) session.on('stream', listener)
      for (const [stream, ...rest] of held) {
        if (!stream.destroyed) session.emit('stream', stream.removeListener('error', ignore), ...rest)
      }
    }
    const ask = () => {
      const ended = own.get(session)?.ended
      const onPong = (error: Error | null) => {
        // An answer that went out meanwhile may have brought up the next request.
        if (error === null && own.get(session)?.ended !== ended) ask()
        else release()
      }
      if (session.closed || session.destroyed || !session.ping(onPong)) release()
    }
    holding.add(release)
    ask()
  }

  /** Ends a session with its last stream. */
  function closeAll(): void {
    isLate = true
    for (const release of holding) release()
    for (const session of own.keys()) if (!session.closed) session.close()
  }

  /** A client that has read it opens another connection. */
  function partAll(): void {
    for (const session of own.keys()) part(session)
    // Accepted just before, and still shaking hands, or from now on.
    server.on('session', part)
  }

  return {
    async moveIdle() {
      // None moves, and the report counts why.
      for (const { encrypted, socket } of own.keys()) if (encrypted) draining.mover?.carries(socket as Socket)
    },
    goLame() {
      partAll()
      http1?.goLame()
    },
    finish() {
      partAll()
      later(closeAll, clock.grace(grace))
      http1?.finish()
    },
    closeIdle(quiet) {
      closeAll()
      return http1?.closeIdle(quiet) ?? []
    },
    dispose() {
      for (const timer of timers) clearTimeout(timer)
      server.removeListener('session', part)
      http1?.dispose()
    },
  }
}
