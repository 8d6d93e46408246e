/** Unix listeners whose path lives through upgrades: under a private name, and a public link. */
import { chmodSync, closeSync, constants, existsSync, linkSync, openSync } from 'node:fs'
import type { Server } from 'node:net'
import { resolve } from 'node:path'
import { CookError, messageOf } from '../errors.ts'
import { afterListenerClose } from '../node/listeners.ts'
import { removeFile, type Stat, statDescriptor, statPath } from '../node/stat.ts'
import { faultAt, faultOnTheWay, isTrusted, removeOwn } from '../process/trust.ts'
import type { Service } from '../service.ts'
import { listening } from './listening.ts'

/**
 * sun_path of unix(7) less its final zero. Node 20 and 22 cut a longer one silently and bind
 * another path (measured).
 */
const longest = process.platform === 'darwin' ? 103 : 107

/**
 * Listens on a Unix path whose file the close of this server does not remove: libuv removes the
 * name that was bound, so that is a private one. Returns the absolute path.
 */
async function bindUnixPath(server: Server, path: string, { mode, backlog }: OpenOptions): Promise<string> {
  const file = resolve(path)
  const bound = besides(file)
  const bytes = Buffer.byteLength(bound)
  if (bytes > longest) throw new CookError('ERR_COOK_PATH_TOO_LONG', { path, bytes, most: longest })
  await clear(file).catch((cause: unknown) => {
    throw cause instanceof CookError ? cause : unixPathError(path, cause)
  })
  try {
    removeOwn(bound)
  } catch (cause) {
    throw unixPathError(path, cause)
  }
  try {
    await listening(server, () => server.listen({ path: bound, backlog }))
    if (mode !== undefined) setMode(bound, mode)
    // Unlike rename(2), link(2) does not take a path from a process that has just bound it
    // (measured).
    linkSync(bound, file)
  } catch (cause) {
    server.close()
    throw isCode(cause, 'EEXIST') ? justBound(path, cause) : unixPathError(path, cause)
  } finally {
    removeFile(bound)
  }
  return file
}

/**
 * Opens a Unix listener of this process: the server knows its public path, and the file goes when
 * the service does.
 */
export async function openUnixPath(
  service: Service,
  server: Server,
  path: string,
  options: OpenOptions,
): Promise<void> {
  ownUnixPath(service, server, await bindUnixPath(server, path, options))
}

type OpenOptions = { readonly mode?: number | undefined; readonly backlog?: number | undefined }

/**
 * The same for a program that binds a path itself: in one turn of the loop, as listen() is, and a
 * path that is there is left to Node, which refuses it. A second name stays beside it, from which
 * the path is put back if a program removes it.
 */
export function bindBeside(service: Service, server: Server, file: string, listen: (path: string) => void): void {
  const bound = besides(file)
  if (Buffer.byteLength(bound) > longest || existsSync(file)) {
    listen(file)
    return
  }
  if (faultAt(bound, { mayHaveNames: true }) !== undefined) {
    // Of another user, who has guessed the name.
    listen(file)
    return
  }
  removeFile(bound)
  listen(bound)
  // What keeps it from listening is told in an event.
  if (!server.listening) return
  try {
    linkSync(bound, file)
    removeOwn(spareOf(file))
    linkSync(bound, spareOf(file))
    ownUnixPath(service, server, file)
  } catch (cause) {
    server.close()
    const error = Object.assign(unixPathError(file, cause), { cause })
    process.nextTick(() => server.emit('error', error))
  } finally {
    removeFile(bound)
  }
}

/** Puts back a path that a program has removed although somebody listens there. */
export function restoreUnixPath(file: string): void {
  if (existsSync(file)) return
  try {
    if (isTrusted(statPath(spareOf(file))?.uid ?? -1)) linkSync(spareOf(file), file)
  } catch {
    // It was bound without a second name, as by createDaemon(): there is nothing to put it back
    // from.
  }
}

/** All those of this process that its successor has taken over. */
export function restoreUnixPaths({ handles }: Service): void {
  for (const file of handles.handedPaths) restoreUnixPath(file)
}

/**
 * Sets the mode of the socket itself. Not by its name: chmod(2) follows a symlink that somebody may
 * have put there meanwhile.
 */
function setMode(path: string, mode: number): void {
  if (process.platform !== 'linux') {
    chmodSync(path, mode)
    return
  }
  // O_PATH, which Node has no name for.
  const fd = openSync(path, 0o10000000 | constants.O_NOFOLLOW)
  try {
    if (statDescriptor(fd)?.isSocket !== true) throw new Error(`${path} was exchanged`)
    chmodSync(`/proc/self/fd/${fd}`, mode)
  } finally {
    closeSync(fd)
  }
}

function spareOf(file: string): string {
  return `${file}.spare`
}

/** Makes a public path that of a server, whether we bound it or inherited it. */
export function ownUnixPath(service: Service, server: Server, path: string): void {
  service.handles.paths.set(server, path)
  server.address = () => path
  // Before the commit it is still the predecessor's, and from the next one on the successor's.
  removePathAtClose(server, path, () => service.ownsNames)
}

/**
 * Removes the path when the listener is closed, if it is this process's by then: not a successor's,
 * nor still the predecessor's.
 */
function removePathAtClose(server: Server, path: string, isOurs: () => boolean): void {
  const inode = inodeOf(path)
  afterListenerClose(server, () => {
    if (!isOurs() || inodeOf(path) !== inode) return
    removeFile(path)
    if (inodeOf(spareOf(path)) === inode) removeFile(spareOf(path))
  })
}

/**
 * Keeps a path to which libuv has bound the server directly, and which it will remove with the
 * listener: a second name puts it back in the same turn of the loop. For some microseconds a client
 * finds no file; bindUnixPath has no such gap.
 */
export function keepPathAtClose(server: Server, path: string): void {
  const spare = besides(path)
  try {
    linkSync(path, spare)
  } catch {
    // The file is gone already: there is nothing to keep.
    return
  }
  const removeSpare = () => removeFile(spare)
  process.once('exit', removeSpare)
  afterListenerClose(server, () => {
    try {
      linkSync(spare, path)
    } catch {
      // Somebody was quicker and has published the path: it is there, which is what matters.
    }
    removeSpare()
    process.removeListener('exit', removeSpare)
  })
}

function unixPathError(path: string, cause: unknown): CookError {
  return new CookError('ERR_COOK_UNIX_PATH', { path, why: messageOf(cause) }, { cause })
}

/** A private name in the same folder, the only place from which link(2) surely reaches the path. */
function besides(path: string): string {
  return `${path}.${process.pid.toString(36)}`
}

/** Removes the file of a dead owner; throws if somebody lives there, or if it is no socket. */
async function clear(file: string): Promise<void> {
  const stat = statPath(file)
  if (stat === undefined) return
  if (!stat.isSocket) throw new CookError('ERR_COOK_PATH_IN_USE', { path: file, why: 'it is not a socket' })
  const fault = faultOnTheWay(file) ?? faultAt(file, { mayHaveNames: true })
  if (fault !== undefined) throw new CookError('ERR_COOK_PATH_IN_USE', { path: file, why: fault })
  const answer = await knock(file)
  if (answer === 'ENOENT') return
  if (answer !== 'ECONNREFUSED') {
    const why = answer === 'connected' ? 'a living process listens there' : `connecting to it gave ${answer}`
    throw new CookError('ERR_COOK_PATH_IN_USE', { path: file, why })
  }
  removeDead(file, stat)
}

/**
 * A start takes microseconds for this; a claim that is older, in milliseconds, is of one that was
 * killed in them.
 */
const claimAge = 5_000

/**
 * Removes the very file that was seen dead, and no other that stands there by now. A second name of
 * it, which link(2) gives to one process only, is the right to remove the first: as long as the
 * dead one is there nobody can publish another. (Moving it aside to look at it took the path from
 * living ones.)
 */
function removeDead(file: string, dead: Stat): void {
  const claim = `${file}.dead-${dead.ino}`
  const claimed = statPath(claim)
  if (claimed !== undefined && Date.now() - claimed.ctimeMs > claimAge) removeOwn(claim)
  try {
    linkSync(file, claim)
  } catch (error) {
    // Another start has just removed it: which of us publishes is for link(2) to decide.
    if (isCode(error, 'ENOENT')) return
    throw isCode(error, 'EEXIST') ? justBound(file, error) : error
  }
  try {
    const found = statPath(claim)
    // File systems give a freed inode number again at once: the time belongs to it.
    if (found?.ino !== dead.ino || found.mtimeMs !== dead.mtimeMs) throw justBound(file)
    removeFile(file)
  } finally {
    removeFile(claim)
  }
}

function justBound(path: string, cause?: unknown): CookError {
  return new CookError('ERR_COOK_PATH_IN_USE', { path, why: 'another process has just bound it' }, { cause })
}

/** `connected`, or the code of the error: a path without a living owner refuses. */
function knock(file: string): Promise<string> {
  const { connect } = process.getBuiltinModule('node:net')
  return new Promise((answer) => {
    const socket = connect(file, () => {
      socket.destroy()
      answer('connected')
    })
    socket.once('error', (error: NodeJS.ErrnoException) => answer(error.code ?? error.message))
  })
}

function inodeOf(path: string): number | undefined {
  return statPath(path)?.ino
}

function isCode(error: unknown, code: string): boolean {
  return (error as NodeJS.ErrnoException)?.code === code
}
