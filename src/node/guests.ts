/**
 * HTTP/1.1 connections that an HTTP server did not accept itself: another server, or one of another
 * protocol, gave them to it by `httpServer.emit('connection', socket)`.
 */
import type { Server, Socket } from 'node:net'
import { connectionsOf, isServedBy, serverOf } from './connections.ts'
import { finishHearers, requestHearers } from './exchanges.ts'
import { isHttp } from './listeners.ts'

/**
 * Those that have asked something, with what had been read of each at the end of its last answer: a
 * server that never listens has no list of its connections.
 */
const guests = new Map<Socket, number>()
let isWatching = false

/**
 * From before it listens. A server that speaks HTTP itself has no need of it: each request costs a
 * moment.
 */
export function trackGuests(server: Server): void {
  if (isWatching || isHttp(server)) return
  isWatching = true
  requestHearers.add(({ socket, server: from }) => {
    if (guests.has(socket) || isServedBy(socket, from)) return
    guests.set(socket, -1)
    socket.once('close', () => guests.delete(socket))
  })
  finishHearers.add(({ socket }) => {
    if (guests.has(socket)) guests.set(socket, socket.bytesRead)
  })
}

/**
 * Calls `given` with each HTTP server that gets a connection which `server` accepted, before it
 * reads of it: lib/_http_server.js sets `socket.server` first. Over TLS of the program's own that
 * is not seen.
 */
export function watchGiven(server: Server, given: (to: Server) => void): void {
  if (isHttp(server)) return
  const watch = (socket: Socket) => {
    let { server: speaking } = socket as unknown as { readonly server?: unknown }
    Object.defineProperty(socket, 'server', {
      configurable: true,
      enumerable: true,
      get: () => speaking,
      set(to: unknown) {
        speaking = to
        if (typeof to === 'object' && to !== null && isHttp(to as Server)) given(to as Server)
      },
    })
  }
  server.prependListener('connection', watch)
  server.prependListener('secureConnection', watch)
}

/** Those that this server accepted, or that nobody knows who accepted. */
export function guestsOf(server: Server): Socket[] {
  const plain = (connectionsOf([server]).get(server) ?? []).filter((socket) => {
    const { server: other, parser } = socket as unknown as {
      readonly server?: Server | null
      readonly parser?: unknown
    }
    return other != null && other !== server && isHttp(other) && parser != null
  })
  const known = [...guests.keys()].filter((socket) => (serverOf(socket) ?? server) === server)
  return [...new Set([...plain, ...known])]
}

/** Something of its next request has arrived. */
export function isGuestAsking(socket: Socket): boolean {
  return socket.bytesRead > 0 && socket.bytesRead !== guests.get(socket)
}
