/** Unix listeners whose path lives through upgrades: under a private name, and a public link. */
import { chmodSync, closeSync, constants, existsSync, linkSync, openSync } from 'node:fs'
import type { Server } from 'node:net'
import { resolve } from 'node:path'
import type { UnixPath } from '../contract/environment.ts'
import { CookError, messageOf } from '../errors.ts'
import { afterListenerClose } from '../node/listeners.ts'
import { isListenedOn } from '../node/sockets.ts'
import { fileAt, removeFile, statDescriptor } from '../node/stat.ts'
import { withoutUndefined } from '../options.ts'
import { faultAt, removeOwn } from '../process/trust.ts'
import { removeUnixFile, spareOf } from '../process/unix-file.ts'
import type { Service } from '../service.ts'
import { clearDead, isCode, justBound } from './dead-path.ts'
import { listening } from './listening.ts'

/**
 * sun_path of unix(7) less its final zero. Node 20 and 22 cut a longer one silently and bind
 * another path (measured).
 */
const longest = process.platform === 'darwin' ? 103 : 107

/**
 * Listens on a Unix path whose file the close of this server does not remove: libuv removes the
 * name that was bound, so that is a private one. Returns the absolute path, and its file.
 */
export async function bindUnixPath(server: Server, path: string, { mode, backlog }: OpenOptions): Promise<UnixPath> {
  const file = resolve(path)
  const bound = besides(file)
  const bytes = Buffer.byteLength(bound)
  if (bytes > longest) throw new CookError('ERR_COOK_PATH_TOO_LONG', { path, bytes, most: longest })
  await clearDead(file).catch((cause: unknown) => {
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
    return toUnixPath(file, bound)
  } catch (cause) {
    server.close()
    throw isCode(cause, 'EEXIST') ? justBound(path, cause) : unixPathError(path, cause)
  } finally {
    removeFile(bound)
  }
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

/**
 * The same at once, for a process that is about to give up the right to. Throws what the other one
 * rejects with.
 */
export function openUnixPathNow(service: Service, server: Server, path: string, { mode }: OpenOptions): void {
  const bound = besides(path)
  try {
    if (isListenedOn(path)) throw justBound(path)
    removeOwn(path)
    removeOwn(bound)
    // Bound when the call returns; why it could not be is an event, which comes too late.
    listening(server, () => server.listen({ path: bound })).catch(() => {})
    if (!server.listening) throw new Error(`nothing could be bound as ${bound}`)
    if (mode !== undefined) setMode(bound, mode)
    linkSync(bound, path)
    ownUnixPath(service, server, toUnixPath(path, bound))
  } catch (cause) {
    server.close()
    throw cause instanceof CookError ? cause : unixPathError(path, cause)
  } finally {
    removeFile(bound)
  }
}

/** A public path, and the file that stands there now under this name or another one. */
function toUnixPath(path: string, name = path): UnixPath {
  const file = fileAt(name)
  return file?.isSocket === true ? { path, file: file.id, mode: file.mode & 0o777 } : { path }
}

export type OpenOptions = { readonly mode?: number | undefined; readonly backlog?: number | undefined }

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
    linkSpare(file)
    ownUnixPath(service, server, { ...toUnixPath(file, bound), hasSpare: true })
  } catch (cause) {
    server.close()
    const error = Object.assign(unixPathError(file, cause), { cause })
    process.nextTick(() => server.emit('error', error))
  } finally {
    removeFile(bound)
  }
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

/** Gives the socket at a path its second name. */
export function linkSpare(file: string): void {
  removeOwn(spareOf(file))
  linkSync(file, spareOf(file))
}

/** Makes a public path that of a server, whether we bound it or inherited it. */
export function ownUnixPath(service: Service, server: Server, given: UnixPath): void {
  const { path, file, mode, hasSpare, isActivated } = given
  // A predecessor of an earlier version does not say which file it is.
  const own = file === undefined ? toUnixPath(path) : withoutUndefined({ path, file, mode, hasSpare, isActivated })
  service.handles.paths.set(server, own)
  server.address = () => path
  afterListenerClose(server, () => {
    // Before the commit it is still the predecessor's, and from the next one on the successor's.
    if (service.ownsNames) removeUnixFile(own)
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
  const removeSpare = () => {
    try {
      removeFile(spare)
    } catch {
      // Its folder is not ours any more; nobody finds it there by this name.
    }
  }
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
