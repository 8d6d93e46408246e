/** Live connections: where they stand, and how one changes its process. Private parts of Node. */
import type { ServerResponse } from 'node:http'
import type { Server, Socket } from 'node:net'
import { privateProperty } from './private.ts'

/**
 * lib/net.js: what ties a connection to the server that accepted it. `server` is public but for
 * `send`, which looks at it.
 */
type PrivateSocket = {
  server: Server | null
  _server: Server | null
  readonly _parent?: PrivateSocket | null
  readonly stream?: PrivateSocket | null
  _handle: { readonly reading?: boolean; readStop(): number; readStart(): number } | null
}
type CountingServer = { _connections: number; _emitCloseIfDrained?(): void }

/** The connection below a stream that reads and writes it, as one whose TLS is ours. */
const below = new WeakMap<object, Socket>()

export function layOn(stream: object, socket: Socket): void {
  below.set(stream, socket)
}

function lowest(socket: Socket): Socket {
  return below.get(socket) ?? socket
}

/**
 * Every open connection of the servers, by server, without a list that somebody would have to keep:
 * process._getActiveHandles() (src/node_process_methods.cc, there on every line) gives the owner of
 * each handle.
 */
export function connectionsOf(servers: readonly Server[]): Map<Server, Socket[]> {
  const found = new Map(servers.map((server) => [server, [] as Socket[]]))
  const { _getActiveHandles } = process as unknown as { _getActiveHandles(): readonly object[] }
  for (const handle of _getActiveHandles.call(process)) {
    // What is left of one that was destroyed, or has moved, is there until its close event.
    if (!('_server' in handle) || (handle as unknown as Socket).destroyed) continue
    found.get(handle._server as Server)?.push(handle as unknown as Socket)
  }
  return found
}

/**
 * lib/_http_server.js and src/node_http_parser.cc: the list that a server keeps of its HTTP/1.1
 * parsers, also an http2 one with allowHTTP1.
 */
const connectionsList = 'http.server.connections'
type Parser = { readonly socket?: Socket | null }
type ConnectionsList = {
  all(): readonly Parser[]
  active(): readonly Parser[]
  expired(headersTimeout: number, requestTimeout: number): Parser[]
}

/** Those for which no timeout counts before they have said something. */
const spared = new WeakSet<Socket>()
const sparing = new WeakSet<ConnectionsList>()

/**
 * Until something arrives on it, a connection is to Node as one between two requests: its time for
 * headers, which counts from the moment in which the server gets it, does not run
 * (lib/_http_server.js, checkConnections).
 */
export function sparesFromTimeout(server: Server, socket: Socket): void {
  spared.add(socket)
  const list = privateProperty<ConnectionsList>(server, connectionsList)
  if (list === undefined || sparing.has(list)) return
  sparing.add(list)
  const { expired } = list
  list.expired = (...timeouts) =>
    expired.apply(list, timeouts).filter(({ socket: late }) => late == null || late.bytesRead > 0 || !spared.has(late))
}

/**
 * Milliseconds since something went over a connection; 0 if it has no timeout. A timer knows when
 * it was started, by a clock that only another timer can be compared with (lib/internal/timers.js).
 */
export function quietTime(socket: Socket): number {
  const timer = privateProperty<PrivateTimer | null>(lowest(socket), 'timeout')
  if (timer == null) return 0
  const now = setTimeout(() => {}, 1)
  clearTimeout(now)
  return Math.max(0, (now as unknown as PrivateTimer)._idleStart - timer._idleStart)
}

type PrivateTimer = { readonly _idleStart: number }

/** The HTTP/1.1 connections of a server: all but those that were upgraded. */
export function httpConnections(server: Server): Socket[] {
  return socketsOf(privateProperty<ConnectionsList>(server, connectionsList)?.all())
}

/** Those of them whose next request is half received, or that have said nothing yet. */
export function receivingHttpConnections(server: Server): Set<Socket> {
  return new Set(socketsOf(privateProperty<ConnectionsList>(server, connectionsList)?.active()))
}

function socketsOf(parsers: readonly Parser[] = []): Socket[] {
  return parsers.flatMap(({ socket }) => socket ?? [])
}

/**
 * lib/_http_server.js: the answer that is being written on a connection; pipelined ones behind it
 * wait.
 */
export function responseInProgress(socket: Socket): ServerResponse | undefined {
  return (socket as unknown as { _httpMessage?: ServerResponse | null })._httpMessage ?? undefined
}

/**
 * The server that accepted a connection, or adopted it. Over TLS the socket below has it
 * (lib/_tls_wrap.js: `_parent`, and `stream` where that is no socket).
 */
export function serverOf(socket: Socket): Server | undefined {
  let one: PrivateSocket | null | undefined = lowest(socket) as unknown as PrivateSocket
  while (one != null) {
    if (one._server != null) return one._server
    one = one._parent ?? one.stream
  }
  return undefined
}

/** Whether a server accepted this connection as it is, and speaks HTTP on it itself. */
export function isServedBy(socket: Socket, server: Server): boolean {
  const { _server, server: speaking } = socket as unknown as PrivateSocket
  return speaking === server && (_server === server || ('encrypted' in socket && serverOf(socket) === server))
}

/**
 * What Node has read of a connection and given to nobody, as of one that was paused. Taken out
 * unheard: its listeners have nothing to do with it any more.
 */
export function takeUnread(socket: Socket): Buffer | undefined {
  if (socket.readableLength === 0) return undefined
  const own = socket as unknown as { emit(...args: unknown[]): boolean }
  const { emit } = own
  own.emit = () => false
  const unread: Buffer | string | null = socket.read()
  own.emit = emit
  return typeof unread === 'string' ? Buffer.from(unread, socket.readableEncoding ?? 'utf8') : (unread ?? undefined)
}

/** From now on what arrives stays in the kernel, for whoever reads next. */
export function stopReading(socket: Socket): void {
  ;(lowest(socket) as unknown as PrivateSocket)._handle?.readStop()
}

/**
 * One that Node itself has paused stays so: it starts that again, and ends the connection with
 * EALREADY if somebody else has (lib/net.js, tryReadStart).
 */
export function startReading(socket: Socket): void {
  const { _handle: handle } = lowest(socket) as unknown as PrivateSocket
  if (handle?.reading) handle.readStart()
}

/**
 * Before a connection is sent away: otherwise `send` puts the server in worker mode, and its
 * `close` event never comes (measured). Nor may a timer of Node's find it without its server: that
 * is an uncaught exception (lib/_http_server.js, socketOnTimeout).
 */
export function releaseConnection(socket: Socket): void {
  // Nor would one that ends on the way leave open what the successor is about to get.
  socket.setTimeout(0)
  ;(socket as unknown as PrivateSocket).server = null
}

/**
 * Puts bytes on an HTTP/2 connection without TLS between two frames of Node's own; false if Node or
 * the kernel has something waiting, and it is to be tried again. It goes past Node's stream, since
 * src/node_http2.cc (OnStreamAfterWrite) aborts at a write that is not its own.
 */
export function writeBetweenFrames(socket: Socket, bytes: Buffer): boolean {
  const { fd, writeQueueSize } =
    (socket as unknown as { _handle?: { fd?: number; writeQueueSize?: number } })._handle ?? {}
  // What libuv was given are whole frames: once its queue is empty, the last one is out.
  if (fd === undefined || fd < 0 || writeQueueSize !== 0) return false
  try {
    // So few bytes go whole or not at all.
    return process.getBuiltinModule('node:fs').writeSync(fd, bytes) > 0
  } catch {
    // Full: it is not blocking. Or gone, which Node finds out by itself.
    return false
  }
}

/**
 * A connection that was sent away and came back, for sending it again: nothing is read here
 * (lib/net.js, pauseOnCreate).
 */
export function connectionOf(handle: object): Socket {
  const { Socket } = process.getBuiltinModule('node:net')
  return new Socket({ handle, pauseOnCreate: true } as object)
}

/**
 * A TCP connection by its handle, as another process sent it: nothing is read before somebody does.
 */
export function connectionOfHandle(handle: object): Socket {
  const { Socket } = process.getBuiltinModule('node:net')
  buffer ??= Buffer.allocUnsafeSlow(bufferSize)
  const reader: Reader = { read() {} }
  const onread = {
    buffer,
    callback(size: number, bytes: Buffer) {
      reader.read(bytes.subarray(0, size))
      return true
    },
  }
  const socket = new Socket({ handle, pauseOnCreate: true, allowHalfOpen: true, onread } as object)
  readers.set(socket, reader)
  return socket
}

type Reader = { read(bytes: Buffer): void }

const readers = new WeakMap<Socket, Reader>()
/** What libuv reads at once, for all connections: whoever reads one takes it in the same turn. */
let buffer: Buffer | undefined
const bufferSize = 65_536

/**
 * Calls `read` with what arrives. Of a connection by its handle that is no chunk of a stream, which
 * would be made for each: the bytes are only there until `read` returns (net.Socket, `onread`).
 */
export function readRaw(socket: Socket, read: (bytes: Buffer) => void): void {
  const reader = readers.get(socket)
  if (reader === undefined) socket.on('data', read)
  else reader.read = read
}

/**
 * Makes a connection that was handed over one of the server's own, and announces it as a new one:
 * of TLS as one whose handshake is done.
 */
export function adoptConnection(server: Server, socket: Socket): void {
  tieConnection(server, socket)
  server.emit(below.has(socket) ? 'secureConnection' : 'connection', socket)
}

/** Makes a connection one of the server's own: counted, and awaited by `close`. */
export function tieConnection(server: Server, socket: Socket): void {
  const own = lowest(socket) as unknown as PrivateSocket
  own.server = server
  own._server = server
  ;(server as unknown as CountingServer)._connections++
  // Below TLS it is that which decides: it has a word to say at the end.
  if (!below.has(socket)) socket.allowHalfOpen = (server as unknown as { allowHalfOpen: boolean }).allowHalfOpen
}

/**
 * Its server counts a connection no more that is open here for nothing but its way back; returns
 * what undoes that (lib/net.js, Socket.prototype._destroy).
 */
export function untieConnection(socket: Socket): () => void {
  let own = lowest(socket) as unknown as PrivateSocket
  while (own._server == null && own._parent != null) own = own._parent
  const server = own._server as (Server & CountingServer) | null
  if (server == null) return () => {}
  own._server = null
  server._connections--
  server._emitCloseIfDrained?.()
  return () => {
    own._server = server
    server._connections++
  }
}
