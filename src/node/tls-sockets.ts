/**
 * What Node counts of a TLS connection that OpenSSL reads and writes, and how that is taken from it
 * and given back. Private parts of Node.
 */
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { TLSSocket } from 'node:tls'
import { privateProperty } from './private.ts'

/** src/stream_base.h: what went through a handle. */
type Counters = { readonly bytesRead: number; readonly bytesWritten: number }
type Tcp = Counters & { readStart(): number; readStop(): number }
/**
 * lib/_tls_wrap.js, from Node 22 on lib/internal/tls/wrap.js: the TLSWrap of a TLSSocket, with the
 * TCP handle below it as `_parent`. `writeQueueSize` is what OpenSSL has written and nobody has
 * read (src/crypto/crypto_tls.cc, BIO_pending); `receive` is how TLSSocket itself gives it bytes
 * that were read before the handshake.
 */
type Wrap = Counters & {
  readonly _parent?: Tcp
  readonly writeQueueSize: number
  receive(bytes: Buffer): void
  shutdown(request: object): number
  readStart(): number
  readStop(): number
}
/** lib/net.js: each write goes through `_writeGeneric`. */
type WriteGeneric = (...args: unknown[]) => unknown
type PrivateSocket = {
  _handle: Wrap | null
  _writeGeneric: WriteGeneric
  readonly _requestCert?: boolean
  readonly _parent?: object | null
}

/** Bytes in both directions: sealed, as they crossed the network, and clear, as the program has. */
export type Weights = {
  readonly sealedIn: number
  readonly sealedOut: number
  readonly clearIn: number
  readonly clearOut: number
  /** Sealed, and not yet with the TCP handle. */
  readonly queued: number
}

function inside(socket: TLSSocket): PrivateSocket {
  return socket as unknown as PrivateSocket
}

/** Undefined: it is closed, or not built as we know it. */
export function weigh(socket: TLSSocket): Weights | undefined {
  const wrap = inside(socket)._handle
  const tcp = wrap?._parent
  if (wrap == null || tcp === undefined) return undefined
  return {
    sealedIn: tcp.bytesRead,
    sealedOut: tcp.bytesWritten,
    clearIn: wrap.bytesRead,
    clearOut: wrap.bytesWritten,
    queued: wrap.writeQueueSize,
  }
}

/**
 * Whether all that is used here is where it is expected: looked at on a connection over nothing,
 * without a handshake.
 */
export function isTlsAsExpected(): boolean {
  const { Duplex: Stream } = process.getBuiltinModule('node:stream')
  const { TLSSocket: Tls } = process.getBuiltinModule('node:tls')
  const below: Duplex = new Stream({ read() {}, write: (_chunk, _encoding, done) => done() })
  const socket = new Tls(below, { isServer: true })
  try {
    const { _handle: wrap, _writeGeneric } = inside(socket)
    const counts = Object.values(weigh(socket) ?? { nothing: undefined })
    const { receive, shutdown, readStart, readStop } = wrap ?? {}
    const { readStart: start, readStop: stop } = wrap?._parent ?? {}
    const calls = [_writeGeneric, receive, shutdown, readStart, readStop, start, stop]
    return counts.every((one) => typeof one === 'number') && calls.every((one) => typeof one === 'function')
  } catch {
    return false
  } finally {
    socket.on('error', () => {}).destroy()
    below.destroy()
  }
}

/**
 * Calls `look` right before the first write of a connection; returns what ends the wait. The
 * property is set, not removed: V8 turns an object that loses one into a slow one.
 */
export function beforeFirstWrite(socket: TLSSocket, look: () => void): () => void {
  const own = inside(socket)
  const { _writeGeneric: write } = own
  const end = () => {
    own._writeGeneric = write
  }
  own._writeGeneric = function (...args) {
    end()
    look()
    return write.apply(this, args)
  }
  return end
}

/**
 * From now on a write of this connection throws: its keys are used elsewhere, and the same number
 * used twice would lay them open. Returns what lifts that.
 */
export function forbidWrites(socket: TLSSocket): () => void {
  const own = inside(socket)
  const { _writeGeneric: write, _handle: wrap } = own
  const refuse = () => {
    throw new Error('a TLS connection was written to after its keys had moved')
  }
  own._writeGeneric = refuse
  if (wrap !== null) wrap.shutdown = refuse
  return () => {
    own._writeGeneric = write
    if (wrap !== null) Reflect.deleteProperty(wrap, 'shutdown')
  }
}

/** The TCP handle, to be sent as what it is: it stays open here (net.Native of the channel). */
export function tcpHandle(socket: TLSSocket): object | undefined {
  return inside(socket)._handle?._parent
}

/** The same of a connection without TLS, or below one. */
export function handleOf(socket: Socket): object | undefined {
  return (socket as unknown as { readonly _handle: object | null })._handle ?? undefined
}

/** It goes on here, and what was read of it elsewhere comes first. */
export function goOn(socket: TLSSocket, bytes: Buffer): void {
  const wrap = inside(socket)._handle
  if (bytes.length > 0) wrap?.receive(bytes)
  // What it received may have ended it.
  if (!socket.destroyed) inside(socket)._handle?.readStart()
}

/** The server asked it for a certificate: its handshake had more than one message of the client. */
export function wasAskedForCertificate(socket: TLSSocket): boolean {
  return inside(socket)._requestCert === true
}

/** lib/_tls_wrap.js, kPskCallback: keys that were agreed on beforehand. */
export function usesSharedKeys(socket: object): boolean {
  return privateProperty(socket, 'pskcallback') !== undefined
}
