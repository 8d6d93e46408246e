/** Listeners and UDP sockets: descriptors, and when they accept. Private parts of Node. */
import type { Socket as UdpSocket } from 'node:dgram'
import type { Server } from 'node:net'
import { privateProperty, usable } from './private.ts'

/**
 * lib/net.js: the libuv handle of a listening server. A worker of node:cluster has one without a
 * descriptor.
 */
type PrivateServer = { _handle?: { fd?: number; close(done?: () => void): void } | null }

/**
 * The descriptor of a listening server; undefined if it does not listen or its listener belongs to
 * another process.
 */
export function listenerDescriptor(server: Server): number | undefined {
  return usable((server as unknown as PrivateServer)._handle?.fd)
}

/**
 * lib/internal/dgram.js: `_handle` was removed in Node 25; the object under this symbol has been
 * there since 11.
 */
const dgramState = 'state symbol'

/** lib/net.js, listen(): a server to share a listener with, or a handle. */
export function carriesHandle(options: Readonly<Record<string, unknown>>): boolean {
  return Boolean(options._handle ?? options.handle)
}

/** The descriptor of a bound UDP socket, undefined before it is bound and after it is closed. */
export function udpDescriptor(socket: UdpSocket): number | undefined {
  const state = privateProperty<{ handle?: { fd?: number } | null }>(socket, dgramState)
  return usable(state?.handle?.fd)
}

/** Its libuv handle, to be sent as what it is. */
export function udpHandle(socket: UdpSocket): ListenerHandle | undefined {
  return privateProperty<{ handle?: ListenerHandle | null }>(socket, dgramState)?.handle ?? undefined
}

/** lib/net.js: the libuv handle of a listener, TCP or pipe. */
export type ListenerHandle = { readonly fd: number; close(done?: () => void): void }

/**
 * For the link, which sends it as what it is: the other process gets a descriptor of the same
 * socket, on which it does not listen yet (lib/internal/child_process.js, net.Native).
 */
export function listenerHandle(server: Server): ListenerHandle | undefined {
  return (server as unknown as { readonly _handle?: ListenerHandle | null })._handle ?? undefined
}

/**
 * For `server.listen()`, which takes a TCP handle as it is. Of a pipe it takes the descriptor, and
 * the handle itself must stay as it is from then on: it would close what the server listens on.
 */
export function whereToListen(handle: ListenerHandle): object {
  return handle.constructor.name === 'TCP' ? handle : { fd: handle.fd }
}

type ListenHandle = {
  close(done?: () => void): void
  unref(): void
  listen(backlog?: number): number
  onconnection: (this: ListenHandle, error: number, client?: unknown) => void
}

/**
 * Gives a listening server the listener of another one, which is left without. Who connects to it
 * is accepted as on the old one, whose handle knows the server (lib/net.js, onconnection). That
 * stays open until the server closes: who waits in its queue is accepted too.
 */
export function exchangeListener(server: Server, fresh: Server): void {
  const own = server as unknown as { _handle: ListenHandle | null; readonly _unref?: boolean }
  const other = fresh as unknown as { _handle: ListenHandle | null }
  const [old, next] = [own._handle, other._handle]
  if (old === null || next === null) throw new Error('a server without a listener has none to exchange')
  other._handle = null
  own._handle = next
  next.onconnection = (error, client) => old.onconnection.call(old, error, client)
  const { close } = next
  next.close = (done) => {
    close.call(next, done)
    old.close()
  }
  old.unref()
  if (own._unref === true) next.unref()
}

/** A listener whose server is closed and that is open still. */
export type KeptListener = {
  /** For `server.listen()`. */
  readonly handle: object
  /** Gives the next server what has connected meanwhile; once it listens. */
  resume(): void
}

/**
 * Keeps the listener of a server open when that closes, if it is to be kept then: a descriptor that
 * libuv has closed cannot be listened on again. libuv goes on accepting (lib/net.js, onconnection)
 * where it did, as in an overlap, so connections wait here for the next server.
 */
export function keepListener(server: Server, isKept: () => boolean, onKept: (kept: KeptListener) => void): void {
  const handle = (server as unknown as { readonly _handle: ListenHandle | null })._handle
  if (handle === null) return
  const { close } = handle
  handle.close = (done) => {
    if (!isKept()) {
      close.call(handle, done)
      return
    }
    const clients = collectClients(handle)
    if (done !== undefined) process.nextTick(done)
    onKept({ handle, resume: () => giveClients(handle, clients) })
  }
}

/**
 * Lets the next listen() of a server, on a listener that others listen on too, accept nobody: to
 * itself and its program the server listens, and who connects waits in the kernel, for the others.
 * The handle is caught when the server gets it, whenever that is, since from listen() of the handle
 * on libuv accepts (lib/net.js, setupListenHandle).
 */
export function listenWithoutAccepting(server: Server): { accept(): void; cancel(): void } {
  const own = server as unknown as { _handle: ListenHandle | null }
  // Of one that listens already, which Node refuses.
  const before = own._handle
  let isOver = false
  let wasSet = false
  let held: { readonly handle: ListenHandle; backlog?: number | undefined } | undefined
  const define = (property: PropertyDescriptor) =>
    Object.defineProperty(server, '_handle', { configurable: true, enumerable: true, ...property })
  define({
    get: () => before,
    set(handle: ListenHandle | null) {
      wasSet = true
      define({ value: handle, writable: true })
      if (handle === null || isOver) return
      const holding: typeof held = { handle }
      held = holding
      handle.listen = (backlog) => {
        holding.backlog = backlog
        return 0
      }
    },
  })
  return {
    /** From now on. */
    accept() {
      isOver = true
      // Otherwise it does not listen yet, or was closed meanwhile and may listen elsewhere.
      if (held === undefined || own._handle !== held.handle) return
      Reflect.deleteProperty(held.handle, 'listen')
      const code = held.handle.listen(held.backlog)
      if (code === 0) return
      // Others listen on it, so that this is no more than the length of the queue. As Node would
      // tell it all the same.
      server.emit('error', Object.assign(new Error('listen failed'), { errno: code, syscall: 'listen' }))
    },
    /** It did not listen after all: its next listen() is like any other. */
    cancel() {
      isOver = true
      if (!wasSet) define({ value: before, writable: true })
    },
  }
}

/** Who connects from now on waits, until what this returns is called. */
export function holdClients(server: Server): () => void {
  const handle = (server as unknown as { readonly _handle: ListenHandle | null })._handle
  if (handle === null) return () => {}
  const { onconnection } = handle
  const clients = collectClients(handle)
  return () => {
    handle.onconnection = onconnection
    giveClients(handle, clients)
  }
}

function collectClients(handle: ListenHandle): unknown[] {
  const clients: unknown[] = []
  handle.onconnection = (error, client) => {
    if (error === 0) clients.push(client)
  }
  return clients
}

function giveClients(handle: ListenHandle, clients: unknown[]): void {
  for (const client of clients.splice(0)) handle.onconnection.call(handle, 0, client)
}

/** From now on datagrams stay in the kernel, for whoever else reads the socket. */
export function stopDatagrams(socket: UdpSocket): void {
  datagramHandle(socket)?.recvStop?.()
}

export function startDatagrams(socket: UdpSocket): void {
  datagramHandle(socket)?.recvStart?.()
}

function datagramHandle(socket: UdpSocket): { recvStart?(): void; recvStop?(): void } | null | undefined {
  return privateProperty<{ handle?: object | null }>(socket, dgramState)?.handle
}

/**
 * Runs `after` right behind the close of a server's listener, in the same turn: libuv has removed
 * the file of a Unix listener by then (src/unix/pipe.c, uv__pipe_close).
 */
export function afterListenerClose(server: Server, after: () => void): void {
  const handle = (server as unknown as PrivateServer)._handle
  if (handle == null) return
  const close = handle.close
  handle.close = function (done) {
    close.call(this, done)
    after()
  }
}

/**
 * Stops accepting. http.Server's own close would reset idle connections, and on Node 26 those whose
 * first request is on its way.
 */
export function stopAccepting(server: Server): void {
  process.getBuiltinModule('node:net').Server.prototype.close.call(server)
}

/** Whether it keeps the process from its end (lib/net.js, unref). */
export function isReferenced(server: Server): boolean {
  return (server as unknown as { readonly _unref?: boolean })._unref !== true
}

/** http or https, by what only such servers have. */
export function isHttp(server: Server): boolean {
  return 'closeIdleConnections' in server
}

export function isTls(server: Server): boolean {
  return 'setSecureContext' in server
}

export function isHttp2(server: Server): boolean {
  return 'updateSettings' in server
}

/**
 * What a socket is, without listening on it, reading from it or closing it: lib/net.js opens a
 * handle by the type of the descriptor, and refuses one that is neither TCP nor Unix. The handle is
 * left open for good, since its close would close the descriptor.
 */
export function socketKind(fd: number): 'tcp' | 'unix' | 'udp' {
  const { Socket } = process.getBuiltinModule('node:net')
  try {
    const socket = new Socket({ fd, readable: false, writable: false })
    const own = socket as unknown as { _handle: { unref(): void } | null }
    const isTcp = own._handle?.constructor.name === 'TCP'
    own._handle?.unref()
    own._handle = null
    return isTcp ? 'tcp' : 'unix'
  } catch {
    // ERR_INVALID_FD_TYPE.
    return 'udp'
  }
}
