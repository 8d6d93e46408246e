/** `start`, `upgrade` and `restart` of what a configuration describes. */

import { withoutOwn } from '../contract/environment.ts'
import { type Client, clientOf } from '../control/client.ts'
import type { Status } from '../control/status.ts'
import { CookError } from '../errors.ts'
import { findRunDirectory, runDirectory } from '../process/run-dir.ts'
import type { Described } from './described.ts'
import type { StopOptions } from './end-silent.ts'
import { ifNotRunning } from './find-service.ts'
import { exitCodes, note, paint, print, printJson, UsageError } from './output.ts'
import type { Changes } from './program.ts'
import { restartKept } from './restart.ts'
import { scale } from './scale.ts'
import { recordFor, servesText, startProgram } from './start.ts'
import { endAll } from './stop.ts'
import { type UpgradeCommandOptions, upgradeRunning } from './upgrade.ts'
import { isSameProgram, whatRuns } from './what-runs.ts'

type Environment = Readonly<Record<string, string | undefined>>

export async function startDescribed(one: Described, keep?: false): Promise<number> {
  const { name, program, options, env } = one
  const folder = findRunDirectory(process.env)
  const client = folder instanceof CookError ? undefined : clientOf(folder, name)
  const running = await client?.status().catch(ifNotRunning)
  if (running !== undefined && isHis(running, one)) return tellRuns(running, one)
  const own = keep === undefined ? options : { ...options, keep }
  const code = await startProgram(program, own, { env: { ...process.env, ...env } })
  if (one.mayListen) await tellWhere(client, name)
  return code
}

function tellRuns(running: Status, { name, options }: Described): number {
  if (options.json === true) printJson(running)
  else print(`${paint('green', name)} runs already, and ${servesText(running)}`)
  return 0
}

/** The file could not say it, and nobody else knows before it runs. */
async function tellWhere(client: Client | undefined, name: string): Promise<void> {
  const status = await client?.status().catch(() => undefined)
  if (status?.listeners.length !== 0) return
  note(
    `${name} has listened nowhere in its first 3 s, and counts as a program without a server (noListen). If it is one that takes longer, it says so with wait_ready, or a cook.config.json describes it`,
  )
}

export async function upgradeDescribed(one: Described, options: UpgradeCommandOptions): Promise<number> {
  const client = clientOf(runDirectory(process.env), one.name)
  const running = await client.status().catch(ifNotRunning)
  if (running === undefined && options.orStart !== undefined) return startDescribed(one)
  if (running === undefined) throw new CookError('ERR_COOK_NOT_RUNNING', { name: one.name })
  demandHis(running, one, 'upgraded')
  const code = await upgradeRunning(client, running, { ...options, ...one.options }, () =>
    changesBy(one, client, options),
  )
  return code === exitCodes.done ? scaleTo(one, running) : code
}

/** The file may have another number than what runs. */
async function scaleTo({ name, options }: Described, { workers }: Status): Promise<number> {
  const isSo = options.workers === undefined || options.workers === (workers?.length ?? 1)
  return isSo ? exitCodes.done : scale(name, options.workers, options)
}

export async function restartDescribed(
  one: Described,
  options: StopOptions & { readonly updateEnv?: boolean },
): Promise<number> {
  const client = clientOf(runDirectory(process.env), one.name)
  const running = await client.status().catch(() => undefined)
  if (running !== undefined) demandHis(running, one, 'restarted')
  if (running?.keeper !== undefined) {
    return restartKept(client, running, { ...options, ...one.options }, () => changesBy(one, client, options))
  }
  const isThere = running !== undefined || client.owners().length > 0
  if (isThere) await endAll(client, options)
  return startDescribed(one, isThere ? false : undefined)
}

/** Another project may have a service of the same name. */
function demandHis(running: Status, one: Described, done: string): void {
  if (isHis(running, one)) return
  throw new UsageError(
    `${one.name} runs another program, and was not ${done}: it runs ${whatRuns(running)}, and the file names ${whatRuns(one.program)}. Choose another name for that, or stop ${one.name} first`,
  )
}

/** Of the same folder it is the same service, even if its script has another name now. */
function isHis({ command }: Status, { program }: Described): boolean {
  return command.cwd === program.command.cwd || isSameProgram(command, program.command, true)
}

/** All that the file says; where it says nothing, what ran before stays. */
function changesBy(one: Described, client: Client, options: { readonly updateEnv?: boolean }): Changes {
  const { command, record } = one.program
  const { execPath, execArgv, args, cwd, script } = command
  const { name: _, ...said } = record
  const retyped = { cwd, script, args: args.slice(1), execArgv, execPath: one.isNodeNamed ? execPath : undefined }
  return { retyped, record: said, env: environmentBy(one, client, options.updateEnv === true) }
}

/** Undefined: what it has is what the file says. */
function environmentBy({ name, env, kept }: Described, client: Client, isNew: boolean): Environment | undefined {
  const known = recordFor(name)
  const before = known?.release?.environment ?? known?.plan.environment ?? client.owners().at(-1)?.environment
  const chosen = kept.flatMap((variable) => (before?.[variable] === undefined ? [] : [[variable, before[variable]]]))
  const said: Environment = { ...env, ...Object.fromEntries(chosen) }
  if (isNew) return { ...process.env, ...said }
  if (Object.entries(said).every(([variable, value]) => before?.[variable] === value)) return undefined
  if (before === undefined) note(`the environment of the start of ${name} is not known: it gets that of this command`)
  return { ...withoutOwn(before ?? process.env), ...said }
}
