/** The run directory: the control sockets of one user's daemons, and logs without another place. */

import { lstatSync, mkdirSync, readdirSync } from 'node:fs'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'

import { envHome } from '../contract/environment.ts'
import { CookError, messageOf } from '../errors.ts'
import { faultAbove } from './trust.ts'

type Environment = Readonly<Record<string, string | undefined>>

/** Where it is; it need not be there. Not $XDG_RUNTIME_DIR, which vanishes at logout. */
export function runDirectory(env: Environment): string {
  const home = env[envHome]
  if (home !== undefined && home !== '') return resolve(home)
  if (process.getuid?.() === 0) return '/run/cook-daemon'
  return join(homedir(), '.cook-daemon')
}

/** Makes it, and throws `ERR_COOK_RUN_DIR` unless it is ours alone. */
export function openRunDirectory(env: Environment): string {
  const folder = runDirectory(env)
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 })
  } catch (cause) {
    throw new CookError('ERR_COOK_RUN_DIR', { folder, why: messageOf(cause) }, { cause })
  }
  checkRunDirectory(folder)
  return folder
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
  return (Number(stat.mode) & 0o022) === 0 ? undefined : `others can write in it (its mode is ${mode})`
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
  return readdirSync(folder)
    .filter((file) => file.endsWith(suffix))
    .map((file) => file.slice(0, -suffix.length))
    .sort()
}
