/** What this process was handed by its predecessor, and what it claims of it. */
import { closeSync } from 'node:fs'
import type { Server } from 'node:net'
import { envLink, firstHandleFd, type HandleKind, type HandleRecord, type UnixPath } from '../contract/environment.ts'
import { CookError } from '../errors.ts'
import { listenerDescriptor, socketKind } from '../node/listeners.ts'
import { statDescriptor } from '../node/stat.ts'
import { type Ask, isAskedFor } from './addresses.ts'
import { type Inherited, isReserved, wordOf } from './handles.ts'
import { removeUnixFile } from './unix-file.ts'

export class Claims {
  readonly #handles: readonly Inherited[]
  readonly #unclaimed: Set<Inherited>
  /** Names of what stays with the predecessor. */
  readonly left: string[] = []

  constructor(handles: readonly Inherited[]) {
    this.#handles = handles
    this.#unclaimed = new Set(handles)
  }

  get isEmpty(): boolean {
    return this.#handles.length === 0
  }

  /**
   * The handles of one name and kind, in the order in which they were added;
   * `ERR_COOK_UNKNOWN_NAME` if there is none.
   */
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
  unixPathOf(server: Server): UnixPath | undefined {
    const fd = listenerDescriptor(server)
    const handle = this.#handles.find((one) => one.fd === fd)
    return handle?.kind === 'unix' ? handle : undefined
  }

  /** What was not claimed yet, but for the library's own. */
  get unclaimed(): readonly Inherited[] {
    return [...this.#unclaimed].filter(({ name }) => !isReserved(name))
  }

  /** That of the library's own, without claiming it. */
  pathOf(name: string): string | undefined {
    const handle = this.#handles.find((one) => one.name === name)
    return handle?.kind === 'unix' ? handle.path : undefined
  }

  /** What a program asks for: by its name, else by its address. */
  find(ask: Ask): Inherited | undefined {
    const { unclaimed } = this
    return (
      unclaimed.find((one) => one.name === ask.name && one.kind === ask.kind) ??
      unclaimed.find((one) => isAskedFor(ask, one))
    )
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
    return this.claimIf(name, (one): one is Inherited => one.kind === kind)
  }

  /**
   * Claims the Unix listener of a name if it has this path; with another it is not the one that is
   * meant.
   */
  claimUnix(name: string, path: string): Extract<Inherited, { kind: 'unix' }> | undefined {
    const isIt = (one: Inherited): one is Extract<Inherited, { kind: 'unix' }> => {
      return one.kind === 'unix' && one.path === path
    }
    return this.claimIf(name, isIt)
  }

  /** Claims that of a name if it is what is wanted. */
  claimIf<Wanted extends Inherited>(name: string, isWanted: (one: Inherited) => one is Wanted): Wanted | undefined {
    const isIt = (one: Inherited): one is Wanted => one.name === name && isWanted(one)
    const handle = [...this.#unclaimed].find(isIt)
    if (handle !== undefined) this.#unclaimed.delete(handle)
    return handle
  }

  /** It stays with the predecessor, which goes on serving it. */
  leave(handle: Inherited): void {
    this.left.push(handle.name)
    this.drop(handle.name)
  }

  /** The predecessor has closed it, and so do we, unless it was claimed. */
  drop(name: string): void {
    for (const handle of this.#unclaimed) {
      if (handle.name !== name) continue
      this.#unclaimed.delete(handle)
      closeHandle(handle)
    }
  }

  /**
   * Closes what nobody wants, once this process owns the service: a listener left open would fill
   * and never be read.
   */
  closeUnclaimed(): string[] {
    const unclaimed = [...this.#unclaimed]
    this.#unclaimed.clear()
    for (const handle of unclaimed) {
      closeHandle(handle)
      // The predecessor leaves the path to us, and nobody else could take it as long as it lived.
      if (handle.kind === 'unix') removeUnixFile(handle)
    }
    return unclaimed.map(({ name }) => name)
  }
}

/** Throws `ERR_COOK_ENVIRONMENT` unless each descriptor is what the environment says. */
export function inheritedBy(records: readonly HandleRecord[]): readonly Inherited[] {
  const handles = records.map((record, index) => ({ ...record, fd: firstHandleFd + index }))
  for (const handle of handles) checkHandle(handle)
  return handles
}

/** A program may have closed it itself, and the number may be another file's by now. */
function closeHandle({ fd, inode }: Inherited): void {
  if (statDescriptor(fd)?.ino === inode) closeSync(fd)
}

/** What was given to something else would make this process listen on a stranger's socket. */
function checkHandle(handle: Inherited): void {
  const fault = faultOf(handle)
  if (fault === undefined) return
  const { fd, kind, name } = handle
  const why = `descriptor ${fd} is not the ${wordOf(kind)} named ${JSON.stringify(name)}: ${fault}`
  throw new CookError('ERR_COOK_ENVIRONMENT', { variable: envLink, why })
}

function faultOf({ fd, kind, inode }: Inherited): string | undefined {
  const stat = statDescriptor(fd)
  if (stat === undefined) return 'it is not open'
  if (stat.ino !== inode) return 'it is another socket or file'
  // A file may be anything, and what a later version hands over nobody here can judge.
  if (!Object.hasOwn(sockets, kind)) return undefined
  if (!stat.isSocket) return 'it is not a socket'
  const found = socketKind(fd)
  return found === kind ? undefined : `it is ${sockets[found]}`
}

const sockets = { tcp: 'a TCP socket', unix: 'a Unix socket', udp: 'a UDP socket' }
