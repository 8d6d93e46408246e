/** Named handles: what this process will hand to its successor, and what it claims of what it was handed. */
import type { Server } from 'node:net'
import {
  controlName,
  firstHandleFd,
  type HandleKind,
  type HandleRecord,
  isWhole,
  runName,
} from '../contract/messages.ts'
import { CookError } from '../errors.ts'
import { listenerDescriptor } from '../node/sockets.ts'
import { checkHandle } from './handle-fault.ts'
import { type Entry, type HandleSource, type Inherited, inodeOf, isServer, type Packed, packed } from './handles.ts'

const fs = process.getBuiltinModule('node:fs')

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
    this.#packed({ name, kind, source })
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
      this.#entries.filter((entry) => entry.name === name).map((entry) => this.#packed(entry)),
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

/** What the predecessor handed to this process. */
export class Claims {
  readonly #handles: readonly Inherited[]
  readonly #unclaimed: Set<Inherited>

  /** Throws `ERR_COOK_ENVIRONMENT` unless each descriptor is what the environment says. */
  constructor(records: readonly HandleRecord[]) {
    this.#handles = records.map((record, index) => ({ ...record, fd: firstHandleFd + index }))
    for (const handle of this.#handles) checkHandle(handle)
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
