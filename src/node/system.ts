/** The operating system: processes and who they are, and how this one was started. */

import type { ChildProcess } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs'
import { resolve } from 'node:path'
import type { Identity, TypedRecord } from '../contract/environment.ts'
import type { UserRecord } from '../contract/user.ts'
import { spawnAs } from './as-user.ts'
import { withoutInspector, withoutInspectorIn } from './node-options.ts'

// Named exports of node:child_process cost an ES module 15 % of its boot (measured), so built-ins
// are asked for when they are needed. Our own files are all loaded at the start: what stands in
// their place after a deployment is another version.

/** How a process of ours is started: what the operator typed, with nothing resolved. */
export type Command = {
  readonly execPath: string
  readonly execArgv: readonly string[]
  /** The script, with its path, and what follows it. */
  readonly args: readonly string[]
  readonly cwd: string
  /** The script as it was typed, where that is known: a relative one moves with `cwd`. */
  readonly script?: string
}

export type SpawnOptions = {
  readonly env: Readonly<Record<string, string | undefined>>
  /** By descriptor number, without a hole. */
  readonly stdio: readonly ('ignore' | 'ipc' | 'pipe' | number)[]
  /** Of a process of root, for what is to have nothing of root's. */
  readonly user?: UserRecord | undefined
}

/** What a unit test plays in place of the operating system. */
export type System = {
  readonly pid: number
  /**
   * Start time of a living process, `unknown` if that cannot be told now, undefined for one that is
   * gone, a zombie, or on its way out.
   */
  startTime(pid: number): string | undefined
  spawn(command: Command, options: SpawnOptions): ChildProcess
  kill(identity: Identity, signal: NodeJS.Signals): void
}

export const system: System = {
  pid: process.pid,
  startTime: process.platform === 'linux' ? startTimeFromProc : startTimeFromPs,
  spawn({ execPath, execArgv, args, cwd }, { env, stdio, user }) {
    const { spawn } = process.getBuiltinModule('node:child_process')
    const options = {
      cwd,
      // As a shell does: a path that leads there, with the symlinks that were typed.
      env: { ...env, PWD: cwd },
      stdio: [...stdio],
      // A session of its own, so that no terminal takes it down.
      detached: true,
      windowsHide: true,
    }
    const words = [...execArgv, ...args]
    return user === undefined
      ? spawn(execPath, words, options)
      : spawnAs(user, { file: execPath, args: words }, options)
  },
  kill(identity, signal) {
    // Between the look and the signal the pid could pass to another process; the kernel gives a pid
    // again only after all others. What cannot be told apart from a stranger is not killed.
    if (this.startTime(identity[0]) !== identity[1]) return
    try {
      process.kill(identity[0], signal)
    } catch {
      // It ended between the look and the signal: what we wanted.
    }
  },
}

/**
 * What stands for the start time of a process that is there while this one has no descriptor left
 * to look closer: taken for dead, a living predecessor would serve beside its successor.
 */
const unknown = 'unknown'

/**
 * True while this very process runs. One that is about to end does not, though something of it may
 * be left: see untilGone().
 */
export function isAlive([pid, startTime]: Identity, os: Pick<System, 'startTime'> = system): boolean {
  const found = os.startTime(pid)
  return found === startTime || found === unknown
}

/** This process. */
export function identify(os: Pick<System, 'pid' | 'startTime'> = system): Identity {
  return [os.pid, (os === system ? ownStartTime : undefined) ?? os.startTime(os.pid) ?? '']
}

/** PF_EXITING of the kernel's task flags, set some milliseconds before the process is a zombie. */
const exiting = 0x4

/**
 * Fields 3, 4, 6, 9, 14, 15 and 22 of /proc/PID/stat: state, parent, session, flags, CPU time in
 * user and in kernel mode without its children's, start in clock ticks since boot
 * (proc_pid_stat(5)). Throws if there is no such process.
 */
export function statOf(pid: number) {
  // As UTF-8, which the name may not be: it is skipped, and Node reads no other encoding in one
  // call.
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  // The name of the program, field 2, is in parentheses and may hold anything, parentheses too.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const isZombie = fields[0] === 'Z' || fields[0] === 'X'
  const isExiting = isZombie || (Number(fields[6]) & exiting) !== 0
  // In milliseconds: USER_HZ is 100 on every architecture that Node runs on.
  const cpu = 10 * (Number(fields[11]) + Number(fields[12]))
  return { isZombie, isExiting, parent: Number(fields[1]), session: Number(fields[3]), cpu, startTime: fields[19] }
}

function startTimeFromProc(pid: number): string | undefined {
  try {
    const { isExiting, startTime } = statOf(pid)
    return isExiting ? undefined : startTime
  } catch (error) {
    // No such process; or no descriptor to read with. The link to its program needs none, and a
    // zombie has no program.
    return isShortOfDescriptors(error) && hasProgram(pid) ? unknown : undefined
  }
}

/**
 * True when nothing of this very process is left that could hold a socket. The first thread of one
 * that exits is a zombie while others live on for some milliseconds, with all descriptors open; a
 * zombie that is alone waits for its parent only.
 */
export function isGone(identity: Identity): boolean {
  if (isAlive(identity)) return false
  if (process.platform !== 'linux') return true
  const [pid, startTime] = identity
  try {
    const stat = statOf(pid)
    return stat.startTime !== startTime || (stat.isZombie && readdirSync(`/proc/${pid}/task`).length <= 1)
  } catch {
    // No such process.
    return true
  }
}

/**
 * Looked up at import: later there may be no descriptor to read it with. Elsewhere each look runs
 * `ps`.
 */
const ownStartTime = process.platform === 'linux' ? startTimeFromProc(process.pid) : undefined

function isShortOfDescriptors(error: unknown): boolean {
  return ['EMFILE', 'ENFILE'].includes(String((error as NodeJS.ErrnoException).code))
}

function hasProgram(pid: number): boolean {
  try {
    return readlinkSync(`/proc/${pid}/exe`) !== ''
  } catch (error) {
    // Another user's cannot be looked into, but is there.
    return (error as NodeJS.ErrnoException).code === 'EACCES'
  }
}

function startTimeFromPs(pid: number): string | undefined {
  const { spawnSync } = process.getBuiltinModule('node:child_process')
  const { stdout, status } = spawnSync('ps', ['-o', 'stat=,lstart=', '-p', String(pid)], { encoding: 'utf8' })
  const [, state, startTime] = /^\s*(\S+)\s+(.+?)\s*$/.exec(stdout ?? '') ?? []
  return status !== 0 || state === undefined || state.startsWith('Z') ? undefined : startTime
}

/** False on a Linux without /proc, as in a bare chroot: no process can be told from another. */
export function canTellProcesses(): boolean {
  return process.platform !== 'linux' || existsSync('/proc/self/stat')
}

/**
 * The environment with which this process was started. Not `process.env`: what dotenv or
 * loadEnvFile wrote into that would be handed down for ever, and a changed file would never arrive
 * (measured).
 */
export function startEnvironment(): Readonly<Record<string, string | undefined>> {
  return withoutInspectorIn(
    process.platform === 'linux' && canTellProcesses() ? environmentFromProc() : { ...process.env },
  )
}

function environmentFromProc(): Record<string, string | undefined> {
  const env: Record<string, string | undefined> = {}
  let text: string
  try {
    text = readFileSync('/proc/self/environ', 'utf8')
  } catch {
    // A worker thread of a process that has given up root: that may not look at itself any more.
    return { ...process.env }
  }
  for (const pair of text.split('\0')) {
    const at = pair.indexOf('=')
    if (at > 0) env[pair.slice(0, at)] ??= pair.slice(at + 1)
  }
  return env
}

/**
 * What the operator typed to start this process, so that a symlink in it is followed again at each
 * upgrade.
 */
export function startCommand(env: Readonly<Record<string, string | undefined>>, told?: TypedRecord): Command {
  const execArgv = withoutInspector(process.execArgv)
  const [script, ...rest] = process.argv.slice(1)
  // Not looked at again: where a symlink leads may have changed since this process was started.
  if (told !== undefined && script !== undefined) {
    const { execPath, cwd, script: typed } = told
    const args = [typed === undefined ? script : resolve(cwd, typed), ...rest]
    return { execPath, execArgv, args, cwd, ...(typed !== undefined && { script: typed }) }
  }
  const real = workingDirectory()
  const typed = env.PWD !== undefined && isSameDirectory(env.PWD, real) ? env.PWD : real
  // Node makes argv[1] absolute from the resolved working directory, which undoes a symlink in
  // that.
  const args =
    script === undefined ? [] : [script.startsWith(`${real}/`) ? typed + script.slice(real.length) : script, ...rest]
  return { execPath: process.execPath, execArgv, args, cwd: typed }
}

/** Where this process is, or was when that was still there. */
export function workingDirectory(): string {
  try {
    return process.cwd()
  } catch {
    // The directory was deleted, as old releases are; $PWD may name the new one by now.
    return process.env.PWD ?? '/'
  }
}

function isSameDirectory(one: string, other: string): boolean {
  if (one === other) return true
  try {
    const [a, b] = [statSync(one), statSync(other)]
    return one.startsWith('/') && a.ino === b.ino && a.dev === b.dev
  } catch {
    // One of them does not exist.
    return false
  }
}

/**
 * lib/internal/process/worker_thread_only.js marks what a worker thread may not do.
 * node:worker_threads would tell too, but each fork of a program loads the preload, and would load
 * that.
 */
export function isWorkerThread(): boolean {
  return (process.chdir as { disabled?: boolean }).disabled === true
}
