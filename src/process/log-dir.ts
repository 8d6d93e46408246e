/** Where the log of a service is that was told no other place: on a disk, not in memory. */
import { mkdirSync } from 'node:fs'
import { isAbsolute, join, parse } from 'node:path'
import { envHome, workerName } from '../contract/environment.ts'
import { messageOf } from '../errors.ts'
import { statTarget } from '../node/stat.ts'
import { openLog } from './log.ts'
import { homeOf, logPath } from './run-dir.ts'
import { faultOnTheWay, isTrusted } from './trust.ts'

type Environment = Readonly<Record<string, string | undefined>>

/**
 * Folders of logs, the best first; the last one is the run directory, if there is one. A service
 * that was given a home stays in it, and one that systemd gave a LogsDirectory= uses that.
 */
export function logFolders(env: Environment, runFolder: string | undefined, uid = process.getuid?.()): string[] {
  const last = runFolder === undefined ? [] : [runFolder]
  const home = env[envHome]
  if (home !== undefined && home !== '') return last
  const given = env.LOGS_DIRECTORY?.split(':')[0] ?? ''
  const own = uid === 0 ? '/var/log/cook-daemon' : stateFolder(env)
  return [...[given, own ?? ''].filter((folder) => isAbsolute(folder)), ...last]
}

/** XDG Base Directory Specification: what persists, and is of no use to another machine. */
function stateFolder(env: Environment): string | undefined {
  const { XDG_STATE_HOME: state = '' } = env
  const home = homeOf(env)
  if (isAbsolute(state)) return join(state, 'cook-daemon')
  return home && join(home, '.local/state/cook-daemon')
}

export type DefaultLog = {
  readonly file: string
  readonly fd: number
  /** Why it is not where it should be. */
  readonly fault?: string
}

/** Opens the log of a name in the first folder that will do; throws why the last one does not. */
export function openDefaultLog(folders: readonly string[], name: string): DefaultLog {
  const faults: string[] = []
  for (const folder of folders.slice(0, -1)) {
    const file = logPath(folder, name)
    try {
      openFolder(folder)
      return { file, fd: openLog(file), ...faultOf(faults) }
    } catch (error) {
      faults.push(`${folder} cannot be used for logs: ${messageOf(error)}`)
    }
  }
  const file = logPath(String(folders.at(-1)), name)
  return { file, fd: openLog(file), ...faultOf(faults) }
}

function faultOf(faults: readonly string[]): { readonly fault?: string } {
  return faults.length === 0 ? {} : { fault: faults.join('; ') }
}

/** Nobody else may exchange a log in it: what it says is read by whoever looks for a fault. */
function openFolder(folder: string): void {
  mkdirSync(folder, { recursive: true, mode: 0o750 })
  const onTheWay = faultOnTheWay(join(folder, 'log'))
  if (onTheWay !== undefined) throw new Error(onTheWay)
  const stat = statTarget(folder)
  if (stat?.isFolder !== true) throw new Error('it is not a directory')
  if (!isTrusted(stat.uid)) throw new Error(`it belongs to user ${stat.uid}`)
  if ((stat.mode & 0o022) !== 0) throw new Error('others can write to it')
}

/** Of one worker of several: `web.log` is the log of the service, `web@0.log` that of a worker. */
export function workerLog(logFile: string, slot: number): string {
  const { dir, name, ext } = parse(logFile)
  return join(dir, `${workerName(name, slot)}${ext}`)
}
