/** The program to start, as the operator typed it, with the preload that makes it upgradable. */
import { existsSync, lstatSync, readlinkSync, statSync } from 'node:fs'
import { basename, dirname, extname, join, resolve } from 'node:path'
import { type ProgramRecord, writeProgram } from '../contract/environment.ts'
import { inheritableDescriptors } from '../node/processes.ts'
import { type Command, startCommand } from '../node/system.ts'
import { defaults, withoutUndefined } from '../options.ts'
import { nextCommand, type Retyped, scriptEndings } from '../process/command.ts'
import type { LaunchPlan } from '../process/launcher.ts'
import { checkedName } from './find-service.ts'
import { nodeAt } from './node-binary.ts'
import { checkNodeArgs, checkScript } from './not-a-program.ts'
import { UsageError } from './output.ts'
import { checkForUser, userOf } from './user.ts'

/** As commander gives them. */
export type StartOptions = {
  readonly name?: string
  readonly waitReady?: boolean
  /** False with --no-listen. */
  readonly listen?: boolean
  readonly readyTimeout?: number
  readonly drainTimeout?: number
  readonly lameDuck?: number
  /** Of `start` and `run`: [HOST:]PORT. */
  readonly admin?: string
  readonly overlap?: number
  readonly log?: string
  readonly pid?: string
  readonly nodeArg?: readonly string[]
  /** False with --no-move-connections. */
  readonly moveConnections?: boolean
  readonly moveTls?: boolean
  readonly moveTlsFor?: number
  readonly cwd?: string
  readonly node?: string
  readonly json?: boolean
  /** False with --no-keep; of `run`, true with --keep. */
  readonly keep?: boolean
  readonly hangTimeout?: number
  /** Bytes. */
  readonly maxMemory?: number
  /** Of `start` and `run`: how many processes serve side by side. */
  readonly workers?: number
  /** Bytes; 0: never. */
  readonly logMaxSize?: number
  readonly logKeep?: number
  /** By name or number. */
  readonly uid?: string
  readonly gid?: string
}

/** Of what ran before: with the environment of this command, in place of that of its start. */
export type AgainOptions = StartOptions & { readonly updateEnv?: boolean }

/** What is to be started, with everything that the operator said. */
export type Program = { readonly name: string; readonly command: Command; readonly record: ProgramRecord }

/**
 * Nothing is resolved: a symlink in the path of the script or in the working directory is followed
 * at each upgrade.
 */
export function programOf(script: string, args: readonly string[], options: StartOptions): Program {
  const cwd = placeOf(options)
  const file = resolve(cwd, script)
  checkFolder(cwd)
  checkScript(script, file, args)
  checkNodeArgs(options.nodeArg ?? [])
  const name = checkedName(options.name ?? nameOf(file))
  const execPath = options.node === undefined ? process.execPath : nodeAt(options.node, cwd)
  const found = packageFile(file, preload)
  if (found === undefined) throw new Error('the preload is not in the package of cook-daemon: install it again')
  // Not --import, which starts Node's loader of ES modules for a CommonJS program too: 6 ms (npm
  // run bench:cli).
  const execArgv = ['--require', found, ...(options.nodeArg ?? [])]
  const command = { execPath, execArgv, args: [file, ...args], cwd, script }
  const record = { name, ...recordOf(options) }
  if (record.user !== undefined) checkForUser(record.user, command)
  return { name, command, record }
}

/** Where the command is typed, or as if it was: relative paths begin there. */
export function placeOf({ cwd }: Pick<StartOptions, 'cwd'>): string {
  const typed = startCommand(process.env).cwd
  return cwd === undefined ? typed : resolve(typed, cwd)
}

/** What each generation reads; what is not said is not there. */
function recordOf(options: StartOptions): ProgramRecord {
  const { waitReady, readyTimeout, drainTimeout, lameDuck, admin, overlap, log, pid, moveTls, moveTlsFor } = options
  const cwd = placeOf(options)
  return withoutUndefined({
    noListen: options.listen === false ? true : undefined,
    waitReady,
    readyTimeout,
    drainTimeout,
    lameDuck,
    admin,
    overlap,
    logFile: log && resolve(cwd, log),
    pidFile: pid && resolve(cwd, pid),
    moveConnections: options.moveConnections === false ? false : undefined,
    moveTls,
    moveTlsFor,
    user: userOf(options),
  })
}

export type Changes = {
  readonly retyped: Retyped
  readonly record: ProgramRecord
  /** In place of what it has. */
  readonly env?: LaunchPlan['environment'] | undefined
}

/** What an upgrade or a restart changes of what runs. */
export function changesOf(command: Command, args: readonly string[], options: StartOptions): Changes {
  const { cwd, node, nodeArg } = options
  const place = placeOf(options)
  checkNodeArgs(nodeArg ?? [])
  if (cwd !== undefined) checkFolder(place)
  const moved: Retyped = {
    cwd: cwd === undefined ? undefined : place,
    execPath: node === undefined ? undefined : nodeAt(node, place),
    args: args.length === 0 ? undefined : args,
  }
  const execArgv = [...preloadFor(command, nextCommand(command, moved)), ...(nodeArg ?? ownArguments(command))]
  const isSame = String(execArgv) === String(command.execArgv)
  return { retyped: { ...moved, execArgv: isSame ? undefined : execArgv }, record: recordOf(options) }
}

/** That of the release in which the script lies, if it is another now. */
function preloadFor(before: Command, { args: [file = ''], cwd }: Command): readonly string[] {
  const [option, old] = preloadArguments(before)
  if (option === undefined || old === undefined) return []
  if (file === before.args[0] && cwd === before.cwd && existsSync(old)) return [option, old]
  return [option, packageFile(file, preload) ?? old]
}

function preloadArguments({ execArgv }: Command): readonly string[] {
  return execArgv[0] === '--require' && execArgv[1]?.endsWith(preload) === true ? execArgv.slice(0, 2) : []
}

/** Those for Node that the operator typed. */
export function ownArguments(command: Command): readonly string[] {
  return command.execArgv.slice(preloadArguments(command).length)
}

/** Refuses what cannot be started, before anything is stopped for it. */
export function checkCommand({ execPath, args: [file = ''], cwd }: Command): void {
  checkFolder(cwd)
  if (!existsSync(execPath)) throw new Error(`Node is no longer at ${execPath}: name another one with --node`)
  if (!scriptEndings.some((ending) => existsSync(file + ending))) throw new Error(`there is no program ${file}`)
}

function checkFolder(cwd: string): void {
  const stat = statSync(cwd, { throwIfNoEntry: false })
  if (stat?.isDirectory() === true) return
  throw new UsageError(`the working directory ${cwd} ${stat === undefined ? 'does not exist' : 'is not a directory'}`)
}

/** How such a program is started, but for its output. */
export function planFor(
  { command, record }: Program,
  env: LaunchPlan['environment'] = process.env,
): Omit<LaunchPlan, 'output'> {
  return {
    command,
    cwd: command.cwd,
    environment: writeProgram(env, record),
    waitReady: true,
    readyTimeout: record.readyTimeout ?? defaults.readyTimeout,
    close: inheritableDescriptors(),
  }
}

/** The script's name without its extension, as far as it is a name. */
export function nameOf(file: string): string {
  return basename(file, extname(file))
}

const preload = 'dist/bundle/preload.cjs'

/**
 * A file of this package: an absolute path with its symlinks unresolved, so that each upgrade takes
 * what is there then. The program's own copy goes before ours: two versions in one process would
 * not get along.
 */
export function packageFile(script: string, file: string): string | undefined {
  const candidates = [...packagesAbove(script), ownPackage()]
  return candidates.map((folder) => join(folder, file)).find((path) => existsSync(path))
}

function packagesAbove(file: string): string[] {
  const found: string[] = []
  for (let folder = dirname(file); ; folder = dirname(folder)) {
    found.push(join(folder, 'node_modules/cook-daemon'))
    if (folder === dirname(folder)) return found
  }
}

/** As of the kernel. */
const mostLinks = 40

/**
 * The package of this very command, by the path that was typed: node_modules/.bin/cook-daemon is a
 * symlink in it, and one above it may be `current`.
 */
export function ownPackage(): string {
  let file = process.argv[1] ?? ''
  for (let step = 0; step < mostLinks && isSymlink(file); step++) file = resolve(dirname(file), readlinkSync(file))
  return resolve(dirname(file), '../..')
}

function isSymlink(file: string): boolean {
  return lstatSync(file, { throwIfNoEntry: false })?.isSymbolicLink() === true
}
