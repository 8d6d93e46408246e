/** Unix paths of living listeners that somebody has removed: told, and made again. */
import { linkSync } from 'node:fs'
import type { Server } from 'node:net'
import type { UnixPath } from '../contract/environment.ts'
import { exchangeListener } from '../node/listeners.ts'
import { fileAt, type Stat, statPath } from '../node/stat.ts'
import { isTrusted } from '../process/trust.ts'
import { removeUnixFile, spareOf } from '../process/unix-file.ts'
import type { Service } from '../service.ts'
import { bindUnixPath, linkSpare, ownUnixPath } from './unix-path.ts'

/** Why nobody reaches a listener by its path; undefined: it is there, or what listens has none. */
export function pathFault(service: Service, server: Server): string | undefined {
  const own = pathOf(service, server)
  switch (own && lossOf(own)) {
    case 'removed':
      if (own?.isActivated === true) return 'its file was removed; a restart of its socket unit restores it'
      return 'its file was removed; the next upgrade restores it'
    case 'replaced':
      return 'another file is in its place, and is not touched'
    default:
      return undefined
  }
}

/**
 * Whether restoreUnixPaths() has anything to do: an upgrade begins in the turn in which it is asked
 * for otherwise.
 */
export function isPathLost(service: Service): boolean {
  return service.handles.unixListeners().some((server) => isOnePathLost(service, server, false))
}

/** Of one listener. */
export function isOnePathLost(service: Service, server: Server, replacesDead: boolean): boolean {
  const own = pathOf(service, server)
  return own !== undefined && own.isActivated !== true && isToRestore(lossOf(own), replacesDead)
}

/** Programs set the mode of a file when they listen: it is kept for one that is made again. */
export function noteModes({ handles }: Service): void {
  for (const server of handles.unixListeners()) {
    const own = handles.paths.get(server)
    const found = own && fileAt(own.path)
    if (found !== undefined && found.id === own?.file) handles.paths.set(server, { ...own, mode: found.mode & 0o777 })
  }
}

/**
 * Makes the paths again that are absent. What stands in the place of one is left alone; when the
 * service comes back, a dead process in its place was our successor, and is replaced. A path that
 * cannot be made is an event, and the service goes on.
 */
export async function restoreUnixPaths(service: Service, { isReturn = false } = {}): Promise<void> {
  for (const server of service.handles.unixListeners()) {
    await service.runHook('unixPath', () => restoreUnixPath(service, server, isReturn))
  }
}

/** The same for one listener; rejects if its path cannot be made. */
export async function restoreUnixPath(service: Service, server: Server, replacesDead: boolean): Promise<void> {
  const own = pathOf(service, server)
  const loss = own && lossOf(own)
  if (own === undefined || own.isActivated === true || !isToRestore(loss, replacesDead)) return
  if (loss !== 'spare removed' && !restoreFromSpare(own)) await openAgain(service, server, own)
  if (own.hasSpare === true) linkSpare(own.path)
}

/** Puts back a path from its second name, which is the same file; false if there is none. */
export function restoreFromSpare({ path, file }: UnixPath): boolean {
  const spare = fileAt(spareOf(path))
  if (spare === undefined || spare.id !== (file ?? spare.id) || !isTrusted(spare.uid)) return false
  try {
    linkSync(spareOf(path), path)
    return true
  } catch {
    // Something is there, or the folder is not to be written in: whoever opens it anew is told.
    return false
  }
}

/** On a socket of its own, which the server gets: no way leads from a socket to a name for it. */
async function openAgain(service: Service, server: Server, own: UnixPath): Promise<void> {
  const { backlogs, paths } = service.handles
  const { createServer } = process.getBuiltinModule('node:net')
  const fresh = createServer()
  const bound = await bindUnixPath(fresh, own.path, { mode: own.mode, backlog: backlogs.get(server) })
  if (server.listening) {
    exchangeListener(server, fresh)
    // A path that libuv knows as its own goes with the listener that had it.
    if (paths.has(server)) ownUnixPath(service, server, { ...own, ...bound })
  } else {
    removeUnixFile(bound)
    fresh.close()
  }
}

type Loss = 'removed' | 'replaced' | 'spare removed'

function isToRestore(loss: Loss | undefined, replacesDead: boolean): boolean {
  return loss === 'removed' || loss === 'spare removed' || (loss === 'replaced' && replacesDead)
}

function lossOf({ path, file, hasSpare }: UnixPath): Loss | undefined {
  let found: Stat | undefined
  try {
    found = statPath(path)
  } catch {
    // It is not for us to look at, as when root was given up: not to see it is not to miss it.
    return undefined
  }
  if (found === undefined) return 'removed'
  if (file !== undefined && found.id !== file) return 'replaced'
  return hasSpare === true && fileAt(spareOf(path)) === undefined ? 'spare removed' : undefined
}

/** The path of a server that listens on one: also of one that was bound by the program itself. */
function pathOf({ handles }: Service, server: Server): UnixPath | undefined {
  if (!server.listening) return undefined
  const address = server.address()
  return handles.paths.get(server) ?? (typeof address === 'string' && address !== '' ? { path: address } : undefined)
}
