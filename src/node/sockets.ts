/** The only file that touches private parts of Node. Each is probed, and its source named; test/process/node-private.test.ts holds them. */
import type { ChildProcess } from 'node:child_process'
import type { Socket as UdpSocket } from 'node:dgram'
import type { ServerResponse } from 'node:http'
import type { Server, Socket } from 'node:net'

/** lib/net.js: the libuv handle of a listening server. A worker of node:cluster has one without a descriptor. */
type PrivateServer = { _handle?: { fd?: number; close(done?: () => void): void } | null }

/** The descriptor of a listening server; undefined if it does not listen or its listener belongs to another process. */
export function listenerDescriptor(server: Server): number | undefined {
  return usable((server as unknown as PrivateServer)._handle?.fd)
}

/** lib/internal/dgram.js: `_handle` was removed in Node 25; the object under this symbol has been there since 11. */
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

/** lib/net.js: the libuv handle of a listener, TCP or pipe. */
export type ListenerHandle = { readonly fd: number; close(done?: () => void): void }

/** For the link, which sends it as what it is: the other process gets a descriptor of the same socket, on which it does not listen yet (lib/internal/child_process.js, net.Native). */
export function listenerHandle(server: Server): ListenerHandle | undefined {
  return (server as unknown as { readonly _handle?: ListenerHandle | null })._handle ?? undefined
}

/** For `server.listen()`, which takes a TCP handle as it is. Of a pipe it takes the descriptor, and the handle itself must stay as it is from then on: it would close what the server listens on. */
export function whereToListen(handle: ListenerHandle): object {
  return handle.constructor.name === 'TCP' ? handle : { fd: handle.fd }
}

type ListenHandle = {
  close(done?: () => void): void
  listen(backlog?: number): number
  onconnection: (this: ListenHandle, error: number, client?: unknown) => void
}

/** A listener whose server is closed and that is open still. */
export type KeptListener = {
  /** For `server.listen()`. */
  readonly handle: object
  /** Gives the next server what has connected meanwhile; once it listens. */
  resume(): void
}

/**
 * Keeps the listener of a server open when that closes, if it is to be kept then: a descriptor that libuv has closed cannot be listened on again. libuv goes on accepting
 * (lib/net.js, onconnection) where it did, as in an overlap, so connections wait here for the next server.
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
 * Runs a call of listen() on a listener that others listen on too. To itself and its program the server listens then, but nobody is accepted before the function is called that this returns: who
 * connects waits in the kernel, for the others (lib/net.js, setupListenHandle: from listen() of the handle on libuv accepts, and all else is done without it).
 */
export function listenWithoutAccepting(server: Server, call: () => void): () => void {
  const own = server as unknown as { readonly _handle: ListenHandle | null }
  // Of one that listens already, which Node refuses.
  let handle = own._handle
  let backlog: number | undefined
  Object.defineProperty(server, '_handle', {
    configurable: true,
    enumerable: true,
    get: () => handle,
    set(made: ListenHandle | null) {
      handle = made
      if (made === null) return
      made.listen = (given) => {
        backlog = given
        return 0
      }
    },
  })
  try {
    call()
  } finally {
    Object.defineProperty(server, '_handle', { configurable: true, enumerable: true, writable: true, value: handle })
  }
  return () => {
    // Otherwise it was closed meanwhile, and may listen elsewhere.
    if (handle === null || own._handle !== handle) return
    Reflect.deleteProperty(handle, 'listen')
    const code = handle.listen(backlog)
    // Others listen on it, so that this is no more than the length of the queue. As Node would tell it all the same.
    if (code !== 0) server.emit('error', Object.assign(new Error('listen failed'), { errno: code, syscall: 'listen' }))
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

/** What a descriptor is, as the kernel tells it. */
export type SocketFacts =
  | { readonly kind: 'tcp' | 'udp'; readonly address: string; readonly port: number; readonly isConnected: boolean }
  /** Node does not tell the path. */
  | { readonly kind: 'unix' }
  | { readonly kind: 'none' }

/**
 * Looks at a socket without listening on it, reading from it or closing it: a handle is opened on the descriptor (lib/net.js, Socket; src/udp_wrap.cc, UDPWrap::Open), asked, and left open for good, since its
 * close would close the descriptor. That costs some hundred bytes; another handle may be opened on the same descriptor, as this one never polls it. /proc/net/tcp would tell as much, but its reader walks the kernel's table
 * of all connections, which takes from 6 ms up (measured).
 */
export function factsOf(fd: number): SocketFacts {
  const { Socket } = process.getBuiltinModule('node:net')
  try {
    const socket = new Socket({ fd, readable: false, writable: false })
    const { address, port } = socket.address() as { address?: string; port?: number }
    const isConnected = socket.remotePort !== undefined
    leaveOpen(socket as unknown as { _handle: Leavable })
    return address === undefined || port === undefined ? { kind: 'unix' } : { kind: 'tcp', address, port, isConnected }
  } catch {
    // ERR_INVALID_FD_TYPE: neither TCP nor Unix.
    return udpFactsOf(fd) ?? { kind: 'none' }
  }
}

function udpFactsOf(fd: number): SocketFacts | undefined {
  // The type only says what an address that is sent to may look like, and none is.
  const socket = process.getBuiltinModule('node:dgram').createSocket('udp4')
  const state = privateProperty<{ handle: (Leavable & { open(fd: number): number }) | null }>(socket, dgramState)
  if (state?.handle?.open(fd) !== 0) {
    socket.close()
    return undefined
  }
  const { address, port } = socket.address()
  state.handle.unref()
  state.handle = null
  return { kind: 'udp', address, port, isConnected: false }
}

type Leavable = { unref(): void }

function leaveOpen(owner: { _handle: Leavable | null }): void {
  owner._handle?.unref()
  owner._handle = null
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
 * Runs `after` right behind the close of a server's listener, in the same turn: libuv has removed the file of a Unix listener by
 * then (src/unix/pipe.c, uv__pipe_close).
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
 * lib/internal/fs/sync_write_stream.js: where stdout and stderr are files, they write to the number in `fd`. Node has no dup2, so what writes to 1 and 2 themselves
 * is not redirected. Returns whether one of the two was.
 */
export function redirectOutput(fd: number): boolean {
  const streams = [process.stdout, process.stderr] as unknown as { fd: number; _type?: string }[]
  const files = streams.filter((stream) => stream._type === 'fs')
  for (const stream of files) stream.fd = fd
  return files.length > 0
}

// ---------------------------------------------------------------------------------------------- live connections

/** lib/net.js: what ties a connection to the server that accepted it. `server` is public but for `send`, which looks at it. */
type PrivateSocket = {
  server: Server | null
  _server: Server | null
  _handle: { readonly reading?: boolean; readStop(): number; readStart(): number } | null
}
type CountingServer = { _connections: number }

/** Stops accepting. http.Server's own close would reset idle connections, and on Node 26 those whose first request is on its way. */
export function stopAccepting(server: Server): void {
  process.getBuiltinModule('node:net').Server.prototype.close.call(server)
}

/**
 * Every open connection of the servers, by server, without a list that somebody would have to keep: process._getActiveHandles() (src/node_process_methods.cc,
 * there on every line) gives the owner of each handle.
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

/** lib/_http_server.js and src/node_http_parser.cc: the list that a server keeps of its HTTP/1.1 parsers, also an http2 one with allowHTTP1. */
const connectionsList = 'http.server.connections'
type Parser = { readonly socket?: Socket | null }
type ConnectionsList = { all(): readonly Parser[]; active(): readonly Parser[] }

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

/** lib/_http_server.js: the answer that is being written on a connection; pipelined ones behind it wait. */
export function responseInProgress(socket: Socket): ServerResponse | undefined {
  return (socket as unknown as { _httpMessage?: ServerResponse | null })._httpMessage ?? undefined
}

/** The server that accepted a connection, or adopted it. Over TLS the socket below has it, and this one `server` (lib/_tls_wrap.js). */
export function serverOf(socket: Socket): Server | undefined {
  const { _server, server } = socket as unknown as PrivateSocket
  return _server ?? ('encrypted' in socket ? server : undefined) ?? undefined
}

/** What Node has read of a connection and given to nobody, as of one that was paused. Taken out unheard: its listeners have nothing to do with it any more. */
export function takeUnread(socket: Socket): Buffer | undefined {
  if (socket.readableLength === 0) return undefined
  const own = socket as unknown as Emitter
  const { emit } = own
  own.emit = () => false
  const unread: Buffer | string | null = socket.read()
  own.emit = emit
  return typeof unread === 'string' ? Buffer.from(unread, socket.readableEncoding ?? 'utf8') : (unread ?? undefined)
}

/** From now on what arrives stays in the kernel, for whoever reads next. */
export function stopReading(socket: Socket): void {
  ;(socket as unknown as PrivateSocket)._handle?.readStop()
}

/** One that Node itself has paused stays so: it starts that again, and ends the connection with EALREADY if somebody else has (lib/net.js, tryReadStart). */
export function startReading(socket: Socket): void {
  const { _handle: handle } = socket as unknown as PrivateSocket
  if (handle?.reading) handle.readStart()
}

/**
 * Before a connection is sent away: otherwise `send` puts the server in worker mode, and its `close` event never comes (measured). Nor may
 * a timer of Node's find it without its server: that is an uncaught exception (lib/_http_server.js, socketOnTimeout).
 */
export function releaseConnection(socket: Socket): void {
  // Nor would one that ends on the way leave open what the successor is about to get.
  socket.setTimeout(0)
  ;(socket as unknown as PrivateSocket).server = null
}

/**
 * Puts bytes on an HTTP/2 connection without TLS between two frames of Node's own; false if Node or the kernel has something waiting, and it is to be tried again. It goes past Node's
 * stream, since src/node_http2.cc (OnStreamAfterWrite) aborts at a write that is not its own.
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

/** A connection that was sent away and came back, for sending it again: nothing is read here (lib/net.js, pauseOnCreate). */
export function connectionOf(handle: object): Socket {
  const { Socket } = process.getBuiltinModule('node:net')
  return new Socket({ handle, pauseOnCreate: true } as object)
}

/** Makes a connection that was handed over one of the server's own, and announces it as a new one. */
export function adoptConnection(server: Server, socket: Socket): void {
  tieConnection(server, socket)
  server.emit('connection', socket)
}

/** Makes a connection one of the server's own: counted, and awaited by `close`. */
export function tieConnection(server: Server, socket: Socket): void {
  const own = socket as unknown as PrivateSocket
  own.server = server
  own._server = server
  ;(server as unknown as CountingServer)._connections++
  socket.allowHalfOpen = (server as unknown as { allowHalfOpen: boolean }).allowHalfOpen
}

// ---------------------------------------------------------------------------------------------- the channel

/** What happens on the channel between two Node processes. */
export type ChannelEvents = {
  /** An internal message, unseen by the program, and the handle that came with it; returns whether it was for us. */
  message(raw: unknown, handle: unknown): boolean
  closed(): void
  /** Node's acknowledgement of a handle that was sent: the other process has it, and the next is on its way. */
  acknowledged?(): void
  /** The other process had no descriptor left for a connection that was sent; it is here, and open. */
  refused?(handle: object): void
  /** Garbage arrived. In plain Node it would be an uncaught exception here (measured). */
  broken(error: unknown): void
}

/**
 * lib/internal/process/worker_thread_only.js marks what a worker thread may not do. node:worker_threads would tell, but loading it is
 * 1.7 ms of the first verb (measured).
 */
export function isWorkerThread(): boolean {
  return (process.chdir as { disabled?: boolean }).disabled === true
}

/** lib/internal/child_process.js, Control: the descriptor of the channel to the process that started this one. */
export function channelDescriptor(): number | undefined {
  return usable((process.channel as { fd?: number } | undefined)?.fd)
}

/**
 * Calls back when the program makes this process the primary of a cluster: cluster.setupPrimary(), which every fork() calls, listens to `internalMessage` of the process
 * (lib/internal/cluster/primary.js). What the callback throws is thrown by the program's call. Loading node:cluster to look would cost every start. Returns what ends the watch.
 */
export function watchClusterPrimary(onPrimary: () => void): () => void {
  const onListener = (name: string | symbol) => {
    if (name === 'internalMessage') onPrimary()
  }
  process.on('newListener', onListener)
  return () => void process.removeListener('newListener', onListener)
}

type Emitter = { emit(name: string | symbol, ...args: unknown[]): boolean }

/** Runs what needs the channel of this process on `process`, where Node keeps it. */
export type Lend = <Value>(call: () => Value) => Value

/**
 * Takes the channel to the process that started this one out of the program's sight: `process.connected`, `channel`, `disconnect` and `send`
 * are as in a process that was started by hand. Node's own code (lib/internal/child_process.js, setupChannel) finds them in what is lent.
 */
export function hideChannel(): Lend {
  let depth = 0
  for (const name of ['connected', 'channel', 'disconnect', 'send']) {
    let value: unknown = process[name as 'channel']
    const get = () => (depth > 0 ? value : undefined)
    // A program may have a `send` of its own from now on.
    const set = (given: unknown) => {
      if (depth > 0) value = given
      else Object.defineProperty(process, name, { value: given, writable: true, configurable: true, enumerable: true })
    }
    Object.defineProperty(process, name, { get, set, configurable: true, enumerable: false })
  }
  return (call) => {
    depth++
    try {
      return call()
    } finally {
      depth--
    }
  }
}

/**
 * Watches the channel of a child, or of this process to the one that started it: the program's `message` and `disconnect` listeners see
 * nothing of it. Returns the function that ends the watch.
 */
export function watchChannel(
  target: ChildProcess | NodeJS.Process,
  events: ChannelEvents,
  lend: Lend = (call) => call(),
): () => void {
  // lib/internal/child_process.js, setupChannel: the reader parses what arrives in the handle's `onread` and hands it on through
  // `emit` in a later tick; bytes that are no message throw in the first, messages that Node itself chokes on in the second.
  const channel = privateProperty<{ onread?: (...args: unknown[]) => void }>(target, 'kChannelHandle')
  const onread = channel?.onread
  if (channel !== undefined && onread !== undefined) {
    let lineBytes = 0
    channel.onread = function (...args) {
      const [bytes] = args
      let isTooLong = false
      if (bytes instanceof ArrayBuffer) {
        const end = Buffer.from(bytes).lastIndexOf(0x0a)
        lineBytes = end < 0 ? lineBytes + bytes.byteLength : bytes.byteLength - end - 1
        // Node keeps what is no whole line yet, without end.
        isTooLong = lineBytes > longestMessage
      }
      const read = () => lend(() => onread.apply(this, args))
      if (isTooLong) events.broken(new Error(`a message of more than ${longestMessage} bytes`))
      else if (!isRead(read) && blankBrokenLines(channel, bytes)) isRead(read)
      // The end of the stream comes without data. Node holds its `disconnect` back for as long as a handle that it sent is not acknowledged,
      // which a process that died never does; what was read before is handed on in earlier ticks.
      if (args[0] === undefined) process.nextTick(closed)
    }
  }
  function isRead(read: () => void): boolean {
    try {
      read()
      return true
    } catch (error) {
      events.broken(error)
      return false
    }
  }
  let isClosed = false
  function closed(): void {
    if (isClosed) return
    isClosed = true
    closePendingHandle(target)
    events.closed()
  }
  const emitter = target as unknown as Emitter
  const emit = emitter.emit
  const watched: Emitter['emit'] = function (this: Emitter, name, ...args) {
    if (name === 'disconnect') {
      closed()
      return true
    }
    if (name !== 'internalMessage') return emit.call(this, name, ...args)
    try {
      if (events.message(args[0], args[1])) return true
      const { cmd } = (args[0] ?? {}) as { readonly cmd?: unknown }
      const refused = cmd === 'NODE_HANDLE_NACK' && events.refused !== undefined ? takePendingHandle(target) : undefined
      const wasHeard = lend(() => emit.call(this, name, ...args))
      if (cmd === 'NODE_HANDLE_ACK') events.acknowledged?.()
      if (refused !== undefined) events.refused?.(refused)
      return wasHeard
    } catch (error) {
      events.broken(error)
      return true
    }
  }
  emitter.emit = watched
  return () => {
    // Whoever wrapped it after us (signal-exit does) keeps a working chain: ours only passes on from here.
    if (emitter.emit === watched) emitter.emit = emit
  }
}

/** Bytes of one message at most. The longest of ours is a connection with the largest state. */
const longestMessage = 128 * 1024 * 1024

type PendingHandle = { _pendingMessage: { readonly handle: { close(): void } } | null }

/** lib/internal/child_process.js: a handle that was sent and not acknowledged stays open here, and its client would wait for ever. */
function closePendingHandle(target: object): void {
  ;(target as PendingHandle)._pendingMessage?.handle.close()
}

/** Node would send it three times more, at once, and close it then; each time packed in once more, so that the other side acknowledges it twice. */
function takePendingHandle(target: object): object | undefined {
  const channelEnd = target as PendingHandle
  const handle = channelEnd._pendingMessage?.handle
  channelEnd._pendingMessage = null
  return handle
}

/**
 * lib/internal/child_process/serialization.js: a line that is no message takes with it what arrived behind it, a handle's message maybe, for whose acknowledgement the other side waits for ever. It becomes
 * blanks, which JSON.parse() passes over, and so does what was read before it; false if nothing else is left.
 */
function blankBrokenLines(channel: object, bytes: unknown): boolean {
  if (!(bytes instanceof ArrayBuffer)) return false
  const all = Buffer.from(bytes)
  let begun = privateProperty<string>(channel, 'kJSONBuffer') ?? ''
  let isBroken = false
  for (let start = 0, end = all.indexOf(0x0a); end >= 0; start = end + 1, end = all.indexOf(0x0a, start)) {
    if (!isJson(begun + all.toString('utf8', start, end))) {
      all.fill(' ', isBroken ? start : 0, end + 1)
      isBroken = true
    }
    begun = ''
  }
  if (!isBroken) return false
  setPrivateProperty(channel, 'kJSONBuffer', '')
  setPrivateProperty(channel, 'kStringDecoder', undefined)
  // Blanks alone would be the begin of a line, whose end a disconnect waits for.
  ;(channel as { buffering?: boolean }).buffering = false
  return all.some((byte) => byte !== 0x20)
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

function privateProperty<Value>(target: object, description: string): Value | undefined {
  const symbol = Object.getOwnPropertySymbols(target).find((one) => one.description === description)
  return symbol === undefined ? undefined : (target as Record<symbol, Value>)[symbol]
}

function setPrivateProperty(target: object, description: string, value: unknown): void {
  const symbol = Object.getOwnPropertySymbols(target).find((one) => one.description === description)
  if (symbol !== undefined) (target as Record<symbol, unknown>)[symbol] = value
}

function usable(fd: number | undefined): number | undefined {
  return fd === undefined || fd < 0 ? undefined : fd
}
