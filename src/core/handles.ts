/** Named handles: what this process will hand to its successor, and what it claims of what it was handed. */
import type { Socket as UdpSocket } from 'node:dgram'
import type { Stats } from 'node:fs'
import type { Server } from 'node:net'
import { CookError } from '../errors.ts'
import { listenerDescriptor, udpDescriptor } from '../node/sockets.ts'
import { handleFault } from './handle-fault.ts'
import {
  controlName,
  envLink,
  firstHandleFd,
  type HandleKind,
  type HandleRecord,
  type HandleShape,
  isWhole,
  runName,
} from './protocol.ts'

const fs = process.getBuiltinModule('node:fs')

/** What a program can register, or has claimed: anything with a descriptor. */
export type HandleSource = Server | UdpSocket | Inherited | { readonly fd: number } | number

/** A handle of the predecessor: its descriptor, and what was said of it. */
export type Inherited = { readonly fd: number } & HandleRecord

type Entry = { readonly name: string; readonly kind: HandleKind; readonly source: HandleSource }

/** What is ready to cross: a record for the environment and the descriptor that goes with it. */
export type Packed = { readonly record: HandleRecord; readonly fd: number }

/** The handles that the next upgrade hands over. */
export class Registry {
  /** Public paths of Unix listeners, which their servers do not know: bound under a private name, or inherited. */
  readonly paths = new WeakMap<Server, string>()
  /** Lengths of the queues of listeners, where the program has set them: nothing else tells. */
  readonly backlogs = new WeakMap<Server, number>()
  #entries: readonly Entry[] = []

  /** Adds a handle, in order; one that is there under this name already stays where it is. */
  add(name: string, kind: HandleKind, source: HandleSource, replace: boolean): void {
    checkName(name)
    // What cannot cross is told now, to the caller who can mend it.
    this.#pack({ name, kind, source })
    this.#add(name, kind, source, replace)
  }

  /** Adds a server that has just begun to listen, of which nothing need be asked. */
  addListening(name: string, kind: 'tcp' | 'unix', server: Server): void {
    this.#add(name, kind, server, false)
  }

  /** Adds a handle of the library itself: it takes the place of the one before, and no restore() takes it out. */
  addReserved(name: typeof controlName | typeof runName, kind: HandleKind, source: HandleSource): void {
    this.#add(name, kind, source, true)
  }

  #add(name: string, kind: HandleKind, source: HandleSource, replace: boolean): void {
    const kept = this.#entries.filter((other) => !(replace && other.name === name && other.kind === kind))
    const isThere = kept.some((other) => other.name === name && other.source === source)
    this.#entries = isThere ? kept : [...kept, { name, kind, source }]
  }

  /** Takes out what is not open any more. */
  remove(source: HandleSource): void {
    this.#entries = this.#entries.filter((entry) => entry.source !== source)
  }

  /** Takes out everything that was added: a process whose upgrade succeeded is on its way out, so the last success is its start. */
  restore(): void {
    this.#entries = this.#entries.filter(({ name }) => name === controlName || name === runName)
  }

  /** All handles, those of one name together, in the order in which the names came. */
  pack(): readonly Packed[] {
    const names = new Set(this.#entries.map((entry) => entry.name))
    return [...names].flatMap((name) =>
      this.#entries.filter((entry) => entry.name === name).map((entry) => this.#pack(entry)),
    )
  }

  /** The paths of all Unix listeners here, also of those that do not listen any more. */
  get handedPaths(): readonly string[] {
    return this.#entries.flatMap(({ source }) => (isServer(source) ? (this.paths.get(source) ?? []) : []))
  }

  /** The servers among the Unix listeners. */
  unixListeners(): readonly Server[] {
    return this.#entries.flatMap(({ kind, source }) => (kind === 'unix' && isServer(source) ? [source] : []))
  }

  #pack({ name, kind, source }: Entry): Packed {
    const fd = descriptorOf(source)
    const inode = fd === undefined ? undefined : inodeOf(fd)
    if (fd === undefined || inode === undefined) {
      const why = fd === undefined ? 'it is not listening (any more)' : `descriptor ${fd} is closed`
      throw new CookError('ERR_COOK_NOT_LISTENING', { name, kind, why })
    }
    const shape = shapeOf(source, isServer(source) ? this.paths.get(source) : undefined)
    if (shape.kind !== kind) {
      const values = { name, actual: words[shape.kind], verb: adders[kind], expected: words[kind] }
      throw new CookError('ERR_COOK_HANDLE_KIND', values)
    }
    const backlog = isServer(source) ? this.backlogs.get(source) : undefined
    return { fd, record: { name, inode, ...(backlog !== undefined && { backlog }), ...shape } }
  }
}

export function checkName(name: string): void {
  const isName = typeof name === 'string' && name !== '' && name.length <= 255 && isWhole(name)
  if (!isName || isReserved(name)) {
    throw new CookError('ERR_COOK_HANDLE_NAME', { name: JSON.stringify(name) ?? String(name) })
  }
}

/** The name of a listener that is given none: by it a program that goes from the preload to serve(), or back, finds it again. */
export function tcpName(host: string | undefined, port: number | undefined): string {
  return `tcp:${host ?? '*'}:${port}`
}

export function unixName(path: string): string {
  return `unix:${path}`
}

function isReserved(name: string): boolean {
  return name.startsWith('cook:')
}

function descriptorOf(source: HandleSource): number | undefined {
  if (typeof source === 'number') return source
  // A program without types passes the first of a list that is empty.
  if (typeof source !== 'object' || source === null) return undefined
  if (isServer(source)) return listenerDescriptor(source)
  if (isUdpSocket(source)) return udpDescriptor(source)
  return source.fd
}

function isServer(source: HandleSource): source is Server {
  return typeof source === 'object' && 'listen' in source && 'address' in source
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

/** What the predecessor handed to this process. */
export class Claims {
  readonly #handles: readonly Inherited[]
  readonly #unclaimed: Set<Inherited>

  /** Throws `ERR_COOK_ENVIRONMENT` unless each descriptor is what the environment says. */
  constructor(records: readonly HandleRecord[]) {
    this.#handles = records.map((record, index) => ({ ...record, fd: firstHandleFd + index }))
    for (const handle of this.#handles) {
      const fault = handleFault(handle, statOf(handle.fd))
      if (fault === undefined) continue
      // One of a later version may be of a kind without a word.
      const what = Object.hasOwn(words, handle.kind) ? words[handle.kind].replace(/^an? /, '') : 'handle'
      const named = `the ${what} named ${JSON.stringify(handle.name)}`
      const why = `descriptor ${handle.fd} is not ${named}: ${fault}`
      throw new CookError('ERR_COOK_ENVIRONMENT', { variable: envLink, why })
    }
    this.#unclaimed = new Set(this.#handles)
  }

  /** The handles of one name and kind, in the order in which they were added; `ERR_COOK_UNKNOWN_NAME` if there is none. */
  claim<Kind extends HandleKind>(name: string, kind: Kind): Extract<Inherited, { kind: Kind }>[] {
    const isWanted = (handle: Inherited): handle is Extract<Inherited, { kind: Kind }> =>
      handle.name === name && handle.kind === kind
    const found = this.#handles.filter(isWanted)
    if (found.length === 0) {
      const names = this.#handles.map((handle) => `${handle.name} (${handle.kind})`).join(', ') || 'nothing'
      throw new CookError('ERR_COOK_UNKNOWN_NAME', { kind, name: JSON.stringify(name), names })
    }
    for (const handle of found) this.#unclaimed.delete(handle)
    return found
  }

  /** The path of a server that listens on a Unix listener of the predecessor. */
  unixPathOf(server: Server): string | undefined {
    const fd = listenerDescriptor(server)
    const handle = this.#handles.find((one) => one.fd === fd)
    return handle?.kind === 'unix' ? handle.path : undefined
  }

  /** What was not claimed yet, but for the library's own. */
  get unclaimed(): readonly Inherited[] {
    return [...this.#unclaimed].filter(({ name }) => !isReserved(name))
  }

  /** Claims one handle. */
  claimHandle(handle: Inherited): void {
    this.#unclaimed.delete(handle)
  }

  /** For the next one that asks. */
  putBack(handle: Inherited): void {
    this.#unclaimed.add(handle)
  }

  /** Claims the first handle of a name and kind, if there is one. */
  claimOne(name: string, kind: HandleKind): Inherited | undefined {
    const handle = [...this.#unclaimed].find((one) => one.name === name && one.kind === kind)
    if (handle !== undefined) this.#unclaimed.delete(handle)
    return handle
  }

  /** Claims the Unix listener of a name if it has this path; with another it is not the one that is meant. */
  claimUnix(name: string, path: string): Inherited | undefined {
    const isThere = [...this.#unclaimed].some((one) => one.name === name && one.kind === 'unix' && one.path === path)
    return isThere ? this.claimOne(name, 'unix') : undefined
  }

  /** Closes what nobody wants, once this process owns the service: a listener left open would fill and never be read. */
  closeUnclaimed(): string[] {
    const unclaimed = [...this.#unclaimed]
    this.#unclaimed.clear()
    for (const handle of unclaimed) {
      // A program may have closed it itself, and the number may be another file's by now.
      if (inodeOf(handle.fd) === handle.inode) fs.closeSync(handle.fd)
      // The predecessor leaves the path to us, and nobody else could take it as long as it lived.
      if (handle.kind === 'unix') fs.rmSync(handle.path, { force: true })
    }
    return unclaimed.map(({ name }) => name)
  }
}

function inodeOf(fd: number): number | undefined {
  return statOf(fd)?.ino
}

function statOf(fd: number): Stats | undefined {
  try {
    return fs.fstatSync(fd)
  } catch {
    // Not open: not what was promised.
    return undefined
  }
}
