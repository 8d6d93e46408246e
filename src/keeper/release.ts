/** What is started, and which version that is: as it was when it was started first. */
import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import { envInstance, envWorkers, readProgram, type TypedRecord, writeProgram } from '../contract/environment.ts'
import type { Command } from '../node/system.ts'
import { withoutUndefined } from '../options.ts'
import { exactCommand, resolveCommand } from '../process/command.ts'
import { workerLog } from '../process/log-dir.ts'
import { say } from './log-lines.ts'
import type { Release } from './plan.ts'

/** Symlinks are followed now, and not again before somebody deploys. */
export function releaseOf(command: Command, typed: TypedRecord, environment: Release['environment']): Release {
  return { command: exactCommand(command, resolveCommand(command)), typed, environment }
}

/** One that was removed meanwhile is started as it was typed. */
export function commandOf({ command, typed }: Release): Command {
  const [file, ...args] = command.args
  if (file === undefined || (existsSync(command.cwd) && existsSync(file))) return command
  say(`${file} no longer exists: starting the path as it was typed`)
  return { ...command, cwd: typed.cwd, args: [resolve(typed.cwd, typed.script ?? file), ...args] }
}

/** Of one of several: which one it is, and where it writes. `leaves`: for one upgrade. */
export function environmentOf(
  environment: Release['environment'],
  slot: number,
  workers: number,
  leaves: readonly string[] | undefined,
): Release['environment'] {
  const program = readProgram(environment)
  const logFile = program?.logFile === undefined ? undefined : workerLog(program.logFile, slot)
  const own = { ...environment, [envInstance]: String(slot), [envWorkers]: String(workers) }
  return withoutUndefined(writeProgram(own, { ...program, ...withoutUndefined({ logFile, release: leaves }) }))
}

export function isSameRelease(one: Release, other: Release): boolean {
  const { command: a, environment: x } = one
  const { command: b, environment: y } = other
  const isSameStart = a.execPath === b.execPath && a.cwd === b.cwd && String(a.args) === String(b.args)
  return isSameStart && String(a.execArgv) === String(b.execArgv) && sorted(x) === sorted(y)
}

function sorted(environment: Readonly<Record<string, string>>): string {
  return JSON.stringify(Object.entries(environment).sort(([one], [other]) => (one < other ? -1 : 1)))
}

/** As it was typed, with the arguments of the program. */
export function typedCommand({ command, typed: { execPath, cwd, script } }: Release): Command {
  const [file, ...args] = command.args
  const typed = script === undefined ? file : resolve(cwd, script)
  const common = { ...command, execPath, cwd, args: typed === undefined ? args : [typed, ...args] }
  return { ...common, ...(script !== undefined && { script }) }
}
