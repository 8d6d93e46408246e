/** Named handles: what this process hands to its successor, each with its descriptor. */
import type { Socket as UdpSocket } from 'node:dgram'
import type { Server } from 'node:net'
import {
  type adminName,
  type controlName,
  type HandleKind,
  type HandleRecord,
  type HandleShape,
  isWhole,
  type pidName,
  type UnixPath,
} from '../contract/environment.ts'
import { CookError } from '../errors.ts'
import { type ListenerHandle, listenerDescriptor, listenerHandle, udpDescriptor, udpHandle } from '../node/listeners.ts'
import { statDescriptor } from '../node/stat.ts'

/** What a program can register, or has claimed: anything with a descriptor. */
export type HandleSource = Server | UdpSocket | Inherited | { readonly fd: number } | number

/** A handle of the predecessor: its descriptor, and what was said of it. */
export type Inherited = { readonly fd: number } & HandleRecord

/** A handle that was registered. */
export type Entry = { readonly name: string; readonly kind: HandleKind; readonly source: HandleSource }

/** What is ready to cross: a record for the environment and the descriptor that goes with it. */
export type Packed = {
  readonly record: HandleRecord
  readonly fd: number
  /** With which a keeper can hold it; a plain descriptor has none. */
  readonly handle?: ListenerHandle | undefined
}

/** The handles that the next upgrade hands over. */
export class Registry {
  /**
   * Public paths of Unix listeners that are bound under a private name, or inherited: their servers
   * do not know them.
   */
  readonly paths = new WeakMap<Server, UnixPath>()
  /** Lengths of the queues of listeners, where the program has set them: nothing else tells. */
  readonly backlogs = new WeakMap<Server, number>()
  #entries: readonly Entry[] = []
  /** It is not what it was. */
  onChange = () => {}

  /** Adds a handle, in order; one that is there under this name already stays where it is. */
  add(name: string, kind: HandleKind, source: HandleSource, replace: boolean): void {
    checkName(name)
    // What cannot cross is told now, to the caller who can mend it.
    this.#packed({ name, kind, source })
    this.#add(name, kind, source, replace)
  }

  /** Adds a server that has just begun to listen, of which nothing need be asked. */
  addListening(name: string, kind: 'tcp' | 'unix', server: Server): void {
    this.#add(name, kind, server, false)
  }

  /**
   * Adds a handle of the library itself: it takes the place of the one before, and no restore()
   * takes it out.
   */
  addReserved(
    name: typeof adminName | typeof controlName | typeof pidName,
    kind: HandleKind,
    source: HandleSource,
  ): void {
    this.#add(name, kind, source, true)
  }

  #add(name: string, kind: HandleKind, source: HandleSource, replace: boolean): void {
    const kept = this.#entries.filter((other) => !(replace && other.name === name && other.kind === kind))
    const isThere = kept.some((other) => other.name === name && other.source === source)
    this.#entries = isThere ? kept : [...kept, { name, kind, source }]
    this.onChange()
  }

  /** Takes out what is not open any more. */
  remove(source: HandleSource): void {
    this.#entries = this.#entries.filter((entry) => entry.source !== source)
    this.onChange()
  }

  /**
   * Takes out everything that was added: a process whose upgrade succeeded is on its way out, so
   * the last success is its start.
   */
  restore(): void {
    this.#entries = this.#entries.filter(({ name }) => isReserved(name))
  }

  /** All handles, those of one name together, in the order in which the names came. */
  pack(): readonly Packed[] {
    const names = new Set(this.#entries.map((entry) => entry.name))
    return [...names].flatMap((name) =>
      this.#entries.filter((entry) => entry.name === name).map((entry) => this.#packed(entry)),
    )
  }

  /** No plain descriptor is among them. */
  get isHoldable(): boolean {
    return this.#entries.every(({ kind }) => kind !== 'file')
  }

  /** Those of them that a keeper can hold now: what is closed for a moment comes later. */
  holdable(): readonly (Packed & { readonly handle: ListenerHandle })[] {
    return this.#entries.flatMap((entry) => {
      try {
        const { handle, ...packed } = this.#packed(entry)
        return handle === undefined ? [] : [{ ...packed, handle }]
      } catch {
        return []
      }
    })
  }

  /** The paths of all Unix listeners here, also of those that do not listen any more. */
  get handedPaths(): readonly UnixPath[] {
    return this.#entries.flatMap(({ source }) => (isServer(source) ? (this.paths.get(source) ?? []) : []))
  }

  /** The servers among the Unix listeners. */
  unixListeners(): readonly Server[] {
    return this.#entries.flatMap(({ kind, source }) => (kind === 'unix' && isServer(source) ? [source] : []))
  }

  #packed(entry: Entry): Packed {
    const { source } = entry
    return packed(entry, isServer(source) ? { path: this.paths.get(source), backlog: this.backlogs.get(source) } : {})
  }
}

export function checkName(name: string): void {
  const isName = typeof name === 'string' && name !== '' && name.length <= 255 && isWhole(name)
  if (!isName || isReserved(name)) {
    throw new CookError('ERR_COOK_HANDLE_NAME', { name: JSON.stringify(name) ?? String(name) })
  }
}

/**
 * The name of a listener that is given none: by it a program that goes from the preload to serve(),
 * or back, finds it again.
 */
export function tcpName(host: string | undefined, port: number | undefined): string {
  return `tcp:${host ?? '*'}:${port}`
}

export function unixName(path: string): string {
  return `unix:${path}`
}

export function isReserved(name: string): boolean {
  return name.startsWith('cook:')
}

/**
 * What crosses of a handle; throws `ERR_COOK_NOT_LISTENING` and `ERR_COOK_HANDLE_KIND`. `path` and
 * `backlog` are those of a server that does not know them itself.
 */
function packed(
  { name, kind, source }: Entry,
  { path, backlog }: { readonly path?: UnixPath | undefined; readonly backlog?: number | undefined },
): Packed {
  const fd = descriptorOf(source)
  const inode = fd === undefined ? undefined : statDescriptor(fd)?.ino
  if (fd === undefined || inode === undefined) {
    const why = fd === undefined ? 'it is not listening' : `descriptor ${fd} is closed`
    throw new CookError('ERR_COOK_NOT_LISTENING', { name, kind, why })
  }
  const shape = shapeOf(source, path)
  if (shape.kind !== kind) {
    const values = { name, actual: words[shape.kind], verb: adders[kind], expected: words[kind] }
    throw new CookError('ERR_COOK_HANDLE_KIND', values)
  }
  return { fd, handle: handleOf(source), record: { name, inode, ...(backlog !== undefined && { backlog }), ...shape } }
}

function descriptorOf(source: HandleSource): number | undefined {
  if (typeof source === 'number') return source
  // A program without types passes the first of a list that is empty.
  if (typeof source !== 'object' || source === null) return undefined
  if (isServer(source)) return listenerDescriptor(source)
  if (isUdpSocket(source)) return udpDescriptor(source)
  return source.fd
}

function handleOf(source: HandleSource): ListenerHandle | undefined {
  if (typeof source !== 'object' || source === null) return undefined
  if (isServer(source)) return listenerHandle(source)
  return isUdpSocket(source) ? udpHandle(source) : undefined
}

/** Whether it is something that listens, here or for a while no more. */
function isServer(source: HandleSource): source is Server {
  return typeof source === 'object' && source !== null && 'listen' in source && 'address' in source
}

function isUdpSocket(source: HandleSource): source is UdpSocket {
  return typeof source === 'object' && 'bind' in source && 'address' in source
}

/** What the handle is, as its owner tells it. */
function shapeOf(source: HandleSource, path: UnixPath | undefined): HandleShape {
  if (typeof source === 'number') return { kind: 'file' }
  if (isServer(source)) {
    const address = source.address()
    if (path !== undefined) return { kind: 'unix', ...path }
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
