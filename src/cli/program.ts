/** The program to start, as the operator typed it, with the preload that makes it upgradable. */
import { existsSync, lstatSync, readlinkSync } from 'node:fs'
import { basename, dirname, extname, join, resolve } from 'node:path'
import { type ProgramRecord, writeProgram } from '../contract/environment.ts'
import { inheritableDescriptors } from '../node/processes.ts'
import { type Command, startCommand } from '../node/system.ts'
import { defaults, withoutUndefined } from '../options.ts'
import type { LaunchPlan } from '../process/launcher.ts'
import { checkedName } from './find-service.ts'
import { checkNodeArgs, checkScript } from './not-a-program.ts'

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
  /** False with --no-move-connections. */
  readonly moveConnections?: boolean
  readonly json?: boolean
}

/** What is to be started, with everything that the operator said. */
export type Program = { readonly name: string; readonly command: Command; readonly record: ProgramRecord }

/**
 * Nothing is resolved: a symlink in the path of the script or in the working directory is followed
 * at each upgrade.
 */
export function programOf(script: string, args: readonly string[], options: StartOptions): Program {
  const { cwd } = startCommand(process.env)
  const file = resolve(cwd, script)
  checkScript(script, file, args)
  checkNodeArgs(options.nodeArg ?? [])
  const name = checkedName(options.name ?? nameOf(file))
  const found = preloadPath(file)
  if (found === undefined) throw new Error('the preload is not in the package of cook-daemon: install it again')
  // Not --import, which starts Node's loader of ES modules for a CommonJS program too: 6 ms (npm
  // run bench:cli).
  const execArgv = ['--require', found, ...(options.nodeArg ?? [])]
  const { waitReady, readyTimeout, drainTimeout, overlap, log, pid } = options
  const given = {
    waitReady,
    readyTimeout,
    drainTimeout,
    overlap,
    logFile: log && resolve(cwd, log),
    pidFile: pid && resolve(cwd, pid),
    moveConnections: options.moveConnections === false ? false : undefined,
  }
  return {
    name,
    command: { execPath: process.execPath, execArgv, args: [file, ...args], cwd },
    record: { name, ...withoutUndefined(given) },
  }
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

/** The script's name without its extension, as far as it is a name. */
export function nameOf(file: string): string {
  return basename(file, extname(file))
}

const preload = 'dist/bundle/preload.cjs'

/**
 * An absolute path with its symlinks unresolved, so that each upgrade takes what is there then. The
 * program's own copy goes before ours: two versions in one process would not get along.
 */
function preloadPath(script: string): string | undefined {
  const candidates = [...packagesAbove(script), ownPackage()]
  return candidates.map((folder) => join(folder, preload)).find((file) => existsSync(file))
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
function ownPackage(): string {
  let file = process.argv[1] ?? ''
  for (let step = 0; step < mostLinks && isSymlink(file); step++) file = resolve(dirname(file), readlinkSync(file))
  return resolve(dirname(file), '../..')
}

function isSymlink(file: string): boolean {
  return lstatSync(file, { throwIfNoEntry: false })?.isSymbolicLink() === true
}
