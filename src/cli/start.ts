/** `start`: a daemon, and the wait until it serves. */
import { closeSync, existsSync, lstatSync, rmSync, symlinkSync } from 'node:fs'
import { resolve } from 'node:path'
import { isDaemonName } from '../check.ts'
import { clientOf } from '../control/client.ts'
import type { Status } from '../control/status.ts'
import { CookError } from '../errors.ts'
import type { KeepOptions, ServiceRecord } from '../keeper/plan.ts'
import { recordOf } from '../keeper/records.ts'
import { typedCommand } from '../keeper/release.ts'
import { nextCommand, scriptEndings } from '../process/command.ts'
import { type LaunchPlan, launchDaemon } from '../process/launcher.ts'
import { openLog } from '../process/log.ts'
import { logFolders, openDefaultLog } from '../process/log-dir.ts'
import { findRunDirectory, logPath, runDirectory } from '../process/run-dir.ts'
import { workerAlone } from './down.ts'
import { ifNotRunning } from './find-service.ts'
import { checkRotation, isNameTaken, keeperPlan, keepOptionsOf, startKeeper } from './keep.ts'
import { exitCodes, paint, print, printDone, printJson, tell, UsageError, withVerdict } from './output.ts'
import {
  type AgainOptions,
  changesOf,
  checkCommand,
  type Program,
  planFor,
  programOf,
  type StartOptions,
} from './program.ts'
import { checkForUser, foundAgain } from './user.ts'
import { waitingFor } from './waiting.ts'
import { isSameScript, nodeText, type Running, tellDoubts, whatRuns } from './what-runs.ts'

/** A program, or by its name a service that is down: as it was started last. */
export async function start(script: string, args: readonly string[], options: StartOptions): Promise<number> {
  const known = args.length === 0 && isServiceName(script) ? recordFor(script) : undefined
  if (known !== undefined) return startFrom(known, options)
  return startProgram(programOf(script, args, options), options)
}

/** Of a restart: with what environment, and what ran before. */
type Again = {
  readonly env?: LaunchPlan['environment']
  readonly before?: Running
  readonly keep?: KeepOptions
}

export async function startProgram(program: Program, options: StartOptions, again: Again = {}): Promise<number> {
  const { name } = program
  const isJson = options.json === true
  checkRotation(again.keep ?? keepOptionsOf(options), { isKept: options.keep !== false, hasLog: true })
  const folder = findRunDirectory(process.env)
  if (folder instanceof CookError) return startAlone(program, folder, options, again)
  const client = clientOf(folder, name)
  const running = await client.status().catch(ifNotRunning)
  if (running !== undefined) return tellRunning(running, program)
  const alone = workerAlone(folder, name)
  if (alone !== undefined) throw alone
  const { logFile, log } = openLogOf(program, folder)
  try {
    await waitingFor(startText(program), launch(withLog(program, logFile), { folder, log, options, again }))
  } catch (error) {
    // Two at once: the other one has won.
    const other = isNameTaken(error) ? await client.status().catch(() => undefined) : undefined
    if (other !== undefined) return tellRunning(other, program)
    return tell(isJson ? error : withVerdict(error, `not started: nothing was left running. Full log: ${logFile}`))
  } finally {
    closeSync(log)
  }
  linkLog(folder, name, logFile)
  const status = await client.status().catch(ifNotRunning)
  if (isJson) printJson(status ?? { name, logFile })
  else {
    printDone(`${name} ${status === undefined ? unmanaged : servesText(status)}, log ${logFile}`)
    print(`  ${[whatRuns(status ?? program), nodeText(status?.node, again.before)].filter(Boolean).join(', ')}`)
    for (const { text } of status?.warnings ?? []) print(paint('yellow', `warning: ${text}`))
  }
  tellDoubts(name, status ?? program, again.before)
  return exitCodes.done
}

/** For a user without a place for a run directory: its log has one, and signals do the rest. */
async function startAlone(program: Program, lack: CookError, options: StartOptions, again: Again): Promise<number> {
  // Their keeper asks each by a control socket of its own.
  if (options.workers !== undefined) throw lack
  const isJson = options.json === true
  const isNamed = program.record.logFile !== undefined
  if (!isNamed && logFolders(process.env, undefined).length === 0) throw lack
  const { logFile, log } = openLogOf(program, undefined)
  try {
    await waitingFor(startText(program), launch(withLog(program, logFile), { log, options, again }))
  } catch (error) {
    throw isJson ? error : withVerdict(error, `not started: nothing was left running. Full log: ${logFile}`)
  } finally {
    closeSync(log)
  }
  if (isJson) printJson({ name: program.name, logFile })
  else printDone(`${program.name} ${unmanaged}, log ${logFile}\n  ${whatRuns(program)}`)
  tellDoubts(program.name, program)
  return exitCodes.done
}

/** A service that is down, as its record has it; symlinks are followed anew. */
export async function startFrom({ plan, release }: ServiceRecord, options: AgainOptions): Promise<number> {
  const before = release === undefined ? plan.command : typedCommand(release)
  const { retyped, record } = changesOf(before, [], options)
  const command = nextCommand(before, retyped)
  checkCommand(command)
  const { name, program } = plan
  const env = options.updateEnv === true ? process.env : (release?.environment ?? plan.environment)
  const user = record.user ?? (program.user && foundAgain(program.user))
  if (user !== undefined) checkForUser(user, command)
  const again = { name, command, record: { ...program, ...record, ...(user && { user }), name } }
  const keep = { ...plan.options, ...keepOptionsOf(options), isRun: false }
  return startProgram(again, options, { env, before: { command: before }, keep })
}

/** Undefined: there never was such a service, or its record cannot be read. */
export function recordFor(name: string): ServiceRecord | undefined {
  return recordOf(runDirectory(process.env), name)
}

/** No file of this name is there to be meant. */
export function isServiceName(script: string): boolean {
  return isDaemonName(script) && !scriptEndings.some((ending) => existsSync(resolve(script + ending)))
}

type Launch = {
  readonly folder?: string
  readonly log: number
  readonly options: StartOptions
  readonly again: Again
}

/** Under a keeper, unless that is not wanted. */
export async function launch(program: Program, { folder, log, options, again }: Launch): Promise<void> {
  if (options.keep === false && options.workers !== undefined)
    throw new UsageError('--workers needs a keeper: remove --no-keep or --workers')
  if (options.keep === false) return launchDaemon({ ...planFor(program, again.env), output: [log, log] })
  const env = again.env ?? process.env
  return startKeeper(keeperPlan(program, { folder, env, options: again.keep ?? keepOptionsOf(options) }), log)
}

function openLogOf({ name, record: { logFile } }: Program, runFolder: string | undefined) {
  if (logFile !== undefined) return { logFile, log: openLog(logFile) }
  const { file, fd, fault } = openDefaultLog(logFolders(process.env, runFolder), name)
  const warning = paint('yellow', 'warning:', 'stderr')
  if (fault !== undefined) process.stderr.write(`${warning} ${fault}; the log is ${file}\n`)
  return { logFile: file, log: fd }
}

function withLog(program: Program, logFile: string): Program {
  return { ...program, record: { ...program.record, logFile } }
}

function startText({ name, record: { waitReady, noListen } }: Program): string {
  const goal = waitReady || noListen ? 'reports that it is ready' : 'listens'
  return `starting ${name}; waiting until it ${goal}`
}

/** A program of the verbs alone says that it is up, and has no control socket. */
const unmanaged = 'is up, but has no control socket: the other commands cannot reach it'

export function servesText({ pid, generation, listeners }: Status): string {
  const addresses = listeners.map(({ address }) => address).join(', ')
  return `serves${addresses && ` on ${addresses}`} (pid ${pid}, generation ${generation})`
}

/** A name that comes from that of a file may be another program's. */
export function tellRunning(running: Status, { name, command }: Program): number {
  const { pid, generation } = running
  const values = { name, why: `pid ${pid}, generation ${generation}, ${whatRuns(running)}` }
  const { message } = new CookError('ERR_COOK_NAME_TAKEN', values)
  const advice = isSameScript(running.command, command)
    ? `To replace it with what is on disk now: cook-daemon upgrade ${name}`
    : `It runs another program than ${command.args[0]}: choose another name with --name`
  return tell(new Error(`${message}. ${advice}`))
}

/** So that the log of a dead daemon is found by its name. */
export function linkLog(folder: string, name: string, logFile: string): void {
  const link = logPath(folder, name)
  if (link === logFile) return
  try {
    if (lstatSync(link, { throwIfNoEntry: false })?.isSymbolicLink()) rmSync(link)
    symlinkSync(logFile, link)
  } catch {
    // There is a log of an earlier start, and it stays.
  }
}
