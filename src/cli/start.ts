/** `start`: a daemon, and the wait until it serves. */

import { type ProgramRecord, writeProgram } from '../contract/environment.ts'

import { clientOf } from '../control/client.ts'
import type { Status } from '../control/status.ts'
import { CookError, messageOf } from '../errors.ts'
import { inheritableDescriptors } from '../node/processes.ts'
import { type Command, startCommand } from '../node/system.ts'
import { defaults, withoutUndefined } from '../options.ts'
import { type LaunchPlan, launchDaemon } from '../process/launcher.ts'
import { openLog } from '../process/log.ts'
import { logPath, openRunDirectory } from '../process/run-dir.ts'
import { checkedName } from './find-service.ts'
import { exitCodes, paint, print, printJson, tell } from './output.ts'
import { preloadPath } from './preload-path.ts'

const fs = process.getBuiltinModule('node:fs')
const { basename, extname, resolve } = process.getBuiltinModule('node:path')

/** As commander gives them. */
export type StartOptions = {
  readonly name?: string
  readonly waitReady?: boolean
  readonly readyTimeout?: number
  readonly drainTimeout?: number
  readonly overlap?: number
  readonly log?: string
  readonly pid?: string
  readonly nodeArg?: readonly string[]
  /** False with --no-hand-over. */
  readonly handOver?: boolean
  readonly json?: boolean
}

/** What is to be started, with everything that the operator said. */
export type Program = { readonly name: string; readonly command: Command; readonly record: ProgramRecord }

export async function start(script: string, args: readonly string[], options: StartOptions): Promise<number> {
  return startProgram(programOf(script, args, options), options.json === true)
}

/** Nothing is resolved: a symlink in the path of the script or in the working directory is followed at each upgrade. */
export function programOf(script: string, args: readonly string[], options: StartOptions): Program {
  const { cwd } = startCommand(process.env)
  const file = resolve(cwd, script)
  const name = checkedName(options.name ?? nameOf(file))
  if (!isThere(file)) throw new Error(`there is no program ${file}`)
  const preload = preloadPath(file)
  if (preload === undefined) throw new Error('the preload is not in the package of cook-daemon: install it again')
  // Not --import, which starts Node's loader of ES modules for a CommonJS program too: 6 ms (npm run bench:cli).
  const execArgv = ['--require', preload, ...(options.nodeArg ?? [])]
  const { waitReady, readyTimeout, drainTimeout, overlap, log, pid } = options
  const given = {
    waitReady,
    readyTimeout,
    drainTimeout,
    overlap,
    logFile: log && resolve(cwd, log),
    pidFile: pid && resolve(cwd, pid),
    moveConnections: options.handOver === false ? false : undefined,
  }
  return {
    name,
    command: { execPath: process.execPath, execArgv, args: [file, ...args], cwd },
    record: { name, ...withoutUndefined(given) },
  }
}

export async function startProgram(program: Program, isJson: boolean): Promise<number> {
  const { name } = program
  const folder = openRunDirectory(process.env)
  const client = clientOf(folder, name)
  const running = await client.status().catch(ifNotRunning)
  if (running !== undefined) return tellRunning(running)
  const logFile = program.record.logFile ?? logPath(folder, name)
  const log = openLog(logFile)
  try {
    checkLog(log, logFile)
    await launchDaemon({ ...planFor({ ...program, record: { ...program.record, logFile } }), output: [log, log] })
  } catch (error) {
    // Two at once: the other one has won.
    const other = isNameTaken(error) ? await client.status().catch(() => undefined) : undefined
    return other === undefined ? tell(error) : tellRunning(other)
  } finally {
    fs.closeSync(log)
  }
  linkLog(folder, name, logFile)
  const status = await client.status().catch(ifNotRunning)
  if (isJson) printJson(status ?? { name, logFile })
  else print(`${paint('green', name)} ${status === undefined ? unmanaged : servesText(status)}, log ${logFile}`)
  return exitCodes.done
}

/** How such a program is started, but for its output. */
export function planFor({ command, record }: Program, env = process.env): Omit<LaunchPlan, 'output'> {
  return {
    command,
    cwd: command.cwd,
    environment: writeProgram(env, record),
    waitReady: true,
    readyTimeout: record.readyTimeout ?? defaults.readyTimeout,
    close: inheritableDescriptors(),
  }
}

/** A program of the verbs alone says that it is up, and has no control socket. */
const unmanaged = 'is up, but opened no control socket: the other commands do not reach it'

function servesText({ pid, generation, listeners }: Status): string {
  const addresses = listeners.map(({ address }) => address).join(', ')
  return `serves${addresses && ` on ${addresses}`} (pid ${pid}, generation ${generation})`
}

function tellRunning({ name, pid, generation }: Status): number {
  const values = { name, why: `pid ${pid}, generation ${generation}` }
  const { message } = new CookError('ERR_COOK_NAME_TAKEN', values)
  return tell(new Error(`${message}. To replace it by what is on disk now: cook-daemon upgrade ${name}`))
}

function isNameTaken(error: unknown): boolean {
  return /a service named \S+ is already running/.test(messageOf(error))
}

export function ifNotRunning(error: unknown): undefined {
  if (error instanceof CookError && error.code === 'ERR_COOK_NOT_RUNNING') return undefined
  throw error
}

/** The script's name without its extension, as far as it is a name. */
export function nameOf(file: string): string {
  return basename(file, extname(file))
}

/** Node tries these too for a CommonJS program, and takes a folder with an index. */
function isThere(file: string): boolean {
  return ['', '.js', '.json', '.node'].some((ending) => fs.existsSync(file + ending))
}

/** On a full disk a program would lose what it writes without a word: console.log ignores that. */
function checkLog(log: number, logFile: string): void {
  const probe = `${logFile}.${process.pid}.tmp`
  try {
    const stat = fs.fstatSync(log)
    if (stat.isFile()) {
      const fd = fs.openSync(probe, 'wx', 0o600)
      try {
        fs.writeSync(fd, 'as much as a first line may need\n')
      } finally {
        fs.closeSync(fd)
        fs.rmSync(probe, { force: true })
      }
    } else if (stat.isCharacterDevice()) {
      fs.writeSync(log, '\n')
    }
  } catch (cause) {
    throw new Error(`the log ${logFile} cannot be written: ${messageOf(cause)}`, { cause })
  }
}

/** So that the log of a dead daemon is found by its name. */
function linkLog(folder: string, name: string, logFile: string): void {
  const link = logPath(folder, name)
  if (link === logFile) return
  try {
    if (fs.lstatSync(link, { throwIfNoEntry: false })?.isSymbolicLink()) fs.rmSync(link)
    fs.symlinkSync(logFile, link)
  } catch {
    // There is a log of an earlier start, and it stays.
  }
}
