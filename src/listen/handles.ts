/** A handle on its way to a successor: what it is, and its descriptor. */
import type { Socket as UdpSocket } from 'node:dgram'
import type { Stats } from 'node:fs'
import type { Server } from 'node:net'
import type { HandleKind, HandleRecord, HandleShape } from '../contract/messages.ts'
import { CookError } from '../errors.ts'
import { listenerDescriptor, udpDescriptor } from '../node/sockets.ts'

const fs = process.getBuiltinModule('node:fs')

/** What a program can register, or has claimed: anything with a descriptor. */
export type HandleSource = Server | UdpSocket | Inherited | { readonly fd: number } | number

/** A handle of the predecessor: its descriptor, and what was said of it. */
export type Inherited = { readonly fd: number } & HandleRecord

/** A handle that was registered. */
export type Entry = { readonly name: string; readonly kind: HandleKind; readonly source: HandleSource }

/** What is ready to cross: a record for the environment and the descriptor that goes with it. */
export type Packed = { readonly record: HandleRecord; readonly fd: number }

/** What crosses of a handle; throws `ERR_COOK_NOT_LISTENING` and `ERR_COOK_HANDLE_KIND`. `path` and `backlog` are those of a server that does not know them itself. */
export function packed(
  { name, kind, source }: Entry,
  { path, backlog }: { readonly path?: string | undefined; readonly backlog?: number | undefined },
): Packed {
  const fd = descriptorOf(source)
  const inode = fd === undefined ? undefined : inodeOf(fd)
  if (fd === undefined || inode === undefined) {
    const why = fd === undefined ? 'it is not listening (any more)' : `descriptor ${fd} is closed`
    throw new CookError('ERR_COOK_NOT_LISTENING', { name, kind, why })
  }
  const shape = shapeOf(source, path)
  if (shape.kind !== kind) {
    const values = { name, actual: words[shape.kind], verb: adders[kind], expected: words[kind] }
    throw new CookError('ERR_COOK_HANDLE_KIND', values)
  }
  return { fd, record: { name, inode, ...(backlog !== undefined && { backlog }), ...shape } }
}

function descriptorOf(source: HandleSource): number | undefined {
  if (typeof source === 'number') return source
  // A program without types passes the first of a list that is empty.
  if (typeof source !== 'object' || source === null) return undefined
  if (isServer(source)) return listenerDescriptor(source)
  if (isUdpSocket(source)) return udpDescriptor(source)
  return source.fd
}

/** Whether it is something that listens, here or for a while no more. */
export function isServer(source: HandleSource): source is Server {
  return typeof source === 'object' && source !== null && 'listen' in source && 'address' in source
}

function isUdpSocket(source: HandleSource): source is UdpSocket {
  return typeof source === 'object' && 'bind' in source && 'address' in source
}

/** What the handle is, as its owner tells it. */
function shapeOf(source: HandleSource, path: string | undefined): HandleShape {
  if (typeof source === 'number') return { kind: 'file' }
  if (isServer(source)) {
    const address = source.address()
    if (path !== undefined) return { kind: 'unix', path }
    // An inherited Unix listener has no address, on any Node line.
    if (address === null || typeof address === 'string') return { kind: 'unix', path: address ?? '' }
    return { kind: 'tcp', ...inetAddress(address) }
  }
  if (isUdpSocket(source)) return { kind: 'udp', ...inetAddress(source.address()) }
  if (!('kind' in source)) return { kind: 'file' }
  const { fd: _fd, name: _name, inode: _inode, backlog: _backlog, ...shape } = source
  return shape
}

function inetAddress({ address, port, family }: { address: string; port: number; family: string }) {
  return { address, port, family: family === 'IPv6' ? ('IPv6' as const) : ('IPv4' as const) }
}

const words: Readonly<Record<HandleKind, string>> = {
  tcp: 'a TCP listener',
  unix: 'a Unix listener',
  udp: 'a UDP socket',
  file: 'a plain descriptor',
}

const adders: Readonly<Record<HandleKind, string>> = {
  tcp: 'addInheritTcpListener()',
  unix: 'addInheritUnixListener()',
  udp: 'addInheritUdpSocket()',
  file: 'addInheritFile()',
}

/** For people; of a later version, it may be of a kind without a word. */
export function wordOf(kind: HandleKind): string {
  return Object.hasOwn(words, kind) ? words[kind].replace(/^an? /, '') : 'handle'
}

export function inodeOf(fd: number): number | undefined {
  return statOf(fd)?.ino
}

/** Undefined for a number that is not open. */
export function statOf(fd: number): Stats | undefined {
  try {
    return fs.fstatSync(fd)
  } catch {
    return undefined
  }
}
