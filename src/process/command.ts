/** What is run: as it was typed, as the next version of it is started, and where it leads to. */
import { existsSync, realpathSync } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import type { TypedRecord } from '../contract/environment.ts'
import type { Command } from '../node/system.ts'

/** What may be typed anew for a successor or a restart; what is not there stays as it is. */
export type Retyped = {
  readonly execPath?: string | undefined
  readonly execArgv?: readonly string[] | undefined
  readonly script?: string | undefined
  readonly args?: readonly string[] | undefined
  readonly cwd?: string | undefined
}

/**
 * A script that was typed as relative moves with the working directory. `elsewhere` is where to go
 * if that is not there any more.
 */
export function nextCommand(command: Command, retyped: Retyped, elsewhere = () => command.cwd): Command {
  const [file, ...args] = command.args
  const hasMoved = retyped.cwd !== undefined
  const cwd = resolve(retyped.cwd ?? (existsSync(command.cwd) ? command.cwd : elsewhere()))
  const typed = retyped.script ?? (hasMoved ? scriptOf(command) : undefined)
  const next = typed === undefined ? file : resolve(cwd, typed)
  const script = typed ?? (cwd === command.cwd ? command.script : undefined)
  return {
    execPath: retyped.execPath ?? command.execPath,
    execArgv: retyped.execArgv ?? command.execArgv,
    args: next === undefined ? [] : [next, ...(retyped.args ?? args)],
    cwd,
    ...(script !== undefined && { script }),
  }
}

/** As it was typed; where that is not known, what lies in the working directory was relative. */
function scriptOf({ script, args: [file], cwd }: Command): string | undefined {
  return script ?? (file?.startsWith(`${cwd}/`) ? file.slice(cwd.length + 1) : file)
}

/** What the process that is started so must be told of it. */
export function typedOf({ execPath, cwd, script }: Command): TypedRecord {
  return { execPath, cwd, ...(script !== undefined && { script }) }
}

/** A keeper has little to do, and each thread of V8 would cost it memory at each upgrade. */
export function keeperCommand(execPath: string, file: string): Command {
  return { execPath, execArgv: ['--single-threaded'], args: [file], cwd: '/' }
}

/** Where a command leads to. */
export type Resolved = { readonly script?: string; readonly cwd: string }

/** Symlinks followed as they are now. */
export function resolveCommand({ args: [file], cwd }: Command): Resolved {
  return { cwd: followed(cwd), ...(file !== undefined && { script: followed(file) }) }
}

/**
 * The same release once more, wherever symlinks lead to now; what is not there any more, as it was
 * typed.
 */
export function exactCommand(command: Command, { script, cwd }: Resolved): Command {
  const [file, ...args] = command.args
  const isThere = existsSync(cwd) && (script === undefined || existsSync(script))
  if (!isThere || file === undefined) return command
  return { ...command, args: [script ?? file, ...args], cwd }
}

/** What cannot be followed stays as it is. */
function followed(file: string): string {
  const found = scriptEndings.map((ending) => file + ending).find((path) => existsSync(path))
  try {
    return found === undefined ? join(realpathSync.native(dirname(file)), basename(file)) : realpathSync.native(found)
  } catch {
    // Its folder is gone too, or this user must not look there.
    return file
  }
}

/** Node tries these for a CommonJS program. */
export const scriptEndings = ['', '.js', '.json', '.node'] as const
