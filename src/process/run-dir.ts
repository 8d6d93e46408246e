/** The run directory: the control sockets of one user's daemons, and logs without another place. */

import { accessSync, constants, lstatSync, mkdirSync, readdirSync, realpathSync } from 'node:fs'
import { userInfo } from 'node:os'
import { isAbsolute, join, resolve } from 'node:path'

import { envHome, envRuntime } from '../contract/environment.ts'
import { CookError, messageOf } from '../errors.ts'
import { fileAt } from '../node/stat.ts'
import { directoryInMemory, foldersInMemory, isInContainer, isUsable } from './container.ts'
import { faultAbove, faultAt, faultOnTheWay } from './trust.ts'

type Environment = Readonly<Record<string, string | undefined>>

/**
 * Where it is; it need not be there. Not $XDG_RUNTIME_DIR, which vanishes at logout. Throws
 * `ERR_COOK_RUN_DIR` if this user has no place for one.
 */
export function runDirectory(env: Environment): string {
  const named = namedDirectory(env)
  if (named !== undefined) return named
  const own = usualDirectory(env)
  const inMemory = isInContainer() && !(own !== undefined && isUsable(own)) ? directoryInMemory() : undefined
  const folder = inMemory ?? own
  if (folder !== undefined) return folder
  throw new CookError('ERR_COOK_RUN_DIR', { folder: '~/.cook-daemon', why: 'this user has no home directory' })
}

function usualDirectory(env: Environment): string | undefined {
  if (process.getuid?.() === 0) return '/run/cook-daemon'
  const home = homeOf(env)
  return home === undefined ? undefined : join(home, '.cook-daemon')
}

/** The one that the environment names, if it does. */
export function namedDirectory(env: Environment): string | undefined {
  const named = env[envHome]
  return named === undefined || named === '' ? runtimeDirectory(env) : resolve(named)
}

/** That of a unit of systemd: the first of a list, if it is as safe as one that we make. */
function runtimeDirectory(env: Environment): string | undefined {
  const [first = ''] = (env[envRuntime] ?? '').split(':')
  if (!isAbsolute(first)) return undefined
  try {
    // With DynamicUser= it is a symlink of root's.
    if ((faultOnTheWay(first) ?? faultAt(first)) !== undefined) return undefined
    const folder = realpathSync(first)
    if ((fault(lstatSync(folder)) ?? faultAbove(folder)) !== undefined) return undefined
    accessSync(folder, constants.W_OK | constants.X_OK)
    return folder
  } catch {
    // Not there, or not for us: nobody has said that we are to use it.
    return undefined
  }
}

/** As of the environment of the start, or of the user; none in a container with any uid. */
export function homeOf({ HOME }: Environment): string | undefined {
  if (HOME !== undefined && isAbsolute(HOME)) return HOME
  try {
    return userInfo().homedir || undefined
  } catch {
    // No such user.
    return undefined
  }
}

/** Makes it, and throws `ERR_COOK_RUN_DIR` unless it is ours alone. */
export function openRunDirectory(env: Environment): string {
  const folder = findRunDirectory(env)
  if (folder instanceof CookError) throw folder
  return folder
}

/**
 * The same, but returns the error where this user has no place for one: nobody has named it, and it
 * can neither be made nor be written in. One that others could write in is an error all the same.
 */
export function findRunDirectory(env: Environment): string | CookError {
  let folder: string
  try {
    folder = runDirectory(env)
  } catch (error) {
    return error as CookError
  }
  try {
    makeRunDirectory(folder)
    return folder
  } catch (cause) {
    if (cause instanceof CookError) throw cause
    const wasNamed = env[envHome] !== undefined && env[envHome] !== ''
    const why = `${messageOf(cause)}${isInContainer() && !wasNamed ? nowhereElse : ''}`
    const error = new CookError('ERR_COOK_RUN_DIR', { folder, why }, { cause })
    if (wasNamed || (cause as NodeJS.ErrnoException).code === 'EEXIST') throw error
    return error
  }
}

/** What an image that is read-only needs. */
const nowhereElse = `, and there is no writable tmpfs at ${foldersInMemory.join(' or ')}`

/** Makes this very folder, if somebody has removed it. */
export function makeRunDirectory(folder: string): void {
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  checkRunDirectory(folder)
  accessSync(folder, constants.W_OK | constants.X_OK)
}

/**
 * False if it is not there. Whoever else could write in it could put a socket of his own in the
 * place of a daemon's.
 */
function checkRunDirectory(folder: string): boolean {
  const stat = lstatSync(folder, { throwIfNoEntry: false })
  if (stat === undefined) return false
  const why = fault(stat) ?? faultAbove(folder)
  if (why !== undefined) throw new CookError('ERR_COOK_RUN_DIR', { folder, why })
  return true
}

function fault(stat: ReturnType<typeof lstatSync> & object): string | undefined {
  if (stat.isSymbolicLink()) return 'it is a symlink'
  if (!stat.isDirectory()) return 'it is not a directory'
  const self = process.getuid?.()
  if (stat.uid !== self) return `it belongs to user ${stat.uid}, not to this user (${self})`
  const mode = (Number(stat.mode) & 0o777).toString(8).padStart(4, '0')
  return (Number(stat.mode) & 0o022) === 0 ? undefined : `others can write to it (its mode is ${mode})`
}

/** Whether this process may write there: it may have been root's, and root given up. */
export function mayWriteIn(folder: string): boolean {
  const user = process.geteuid?.()
  return user === 0 || fileAt(folder)?.uid === user
}

const suffix = '.sock'

export function controlPath(folder: string, name: string): string {
  return join(folder, `${name}${suffix}`)
}

/** Where the log of a daemon is found, whatever file it is. */
export function logPath(folder: string, name: string): string {
  return join(folder, `${name}.log`)
}

/** Names whose socket is there: their daemons may be dead. */
export function namesIn(folder: string): string[] {
  if (!checkRunDirectory(folder)) return []
  return (
    readdirSync(folder)
      .filter((file) => file.endsWith(suffix))
      .map((file) => file.slice(0, -suffix.length))
      // Those of workers are of the service.
      .filter((name) => !name.includes('@'))
      .sort()
  )
}
