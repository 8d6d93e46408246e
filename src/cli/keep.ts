/** A program under a keeper: what the keeper gets to know, and the wait until the worker serves. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { writeProgram } from '../contract/environment.ts'
import { type Client, RemoteError } from '../control/client.ts'
import type { Status } from '../control/status.ts'
import { CookError, type CookErrorCode } from '../errors.ts'
import type { KeeperAnswer, KeeperPlan, KeepOptions } from '../keeper/plan.ts'
import { inheritableDescriptors } from '../node/processes.ts'
import { system } from '../node/system.ts'
import { withoutUndefined } from '../options.ts'
import { keeperCommand } from '../process/command.ts'
import { exitWords, spawned } from '../process/launcher.ts'
import { print, UsageError } from './output.ts'
import { ownPackage, type Program, type StartOptions } from './program.ts'

/** Of a restart: the environment of the start, not that of this command. */
type Environment = Readonly<Record<string, string | undefined>>

export function keepOptionsOf(options: StartOptions): KeepOptions {
  const { keep, hangTimeout, maxMemory, logMaxSize, logKeep, workers } = options
  return withoutUndefined({ keep, hangTimeout, maxMemory, logMaxSize, logKeep, workers })
}

/** Throws where there is nothing to rotate, or nobody to do it. */
export function checkRotation(
  { logMaxSize, logKeep }: KeepOptions,
  { isKept, hasLog }: { readonly isKept: boolean; readonly hasLog: boolean },
): void {
  if (logMaxSize === undefined && logKeep !== undefined) {
    throw new UsageError('--log-keep needs --log-max-size: without it no log is rotated')
  }
  if (logMaxSize && !isKept) {
    throw new UsageError('--log-max-size needs a keeper, which rotates the log: remove --no-keep, or use logrotate')
  }
  if (logMaxSize && !hasLog) {
    throw new UsageError('--log-max-size needs --log: without it, run writes no log file')
  }
}

export function keeperPlan(
  { name, command, record: program }: Program,
  {
    folder,
    env,
    options,
  }: { readonly folder?: string | undefined; readonly env: Environment; readonly options: KeepOptions },
): KeeperPlan {
  const environment = withoutUndefined(writeProgram(env, program))
  return { name, command, environment, program, options, file: keeperFile(), ...(folder !== undefined && { folder }) }
}

/** With its symlinks unresolved: after a deploy it is that of the new release. */
function keeperFile(): string {
  return join(ownPackage(), 'dist/bin/keeper.js')
}

/** Resolves when the first worker serves; rejects, with nothing left, with why it does not. */
export async function startKeeper(plan: KeeperPlan, log: number): Promise<void> {
  // What is meant for the program must not run in its keeper.
  const { NODE_OPTIONS: _, ...env } = plan.environment
  const file = keeperFile()
  if (!existsSync(file)) throw new Error('the keeper is not in the package of cook-daemon: install it again')
  const command = keeperCommand(process.execPath, file)
  const child = await spawned(() => system.spawn(command, { env, stdio: ['ignore', log, log, 'ipc'] }))
  const answer = await new Promise<KeeperAnswer | string>((done) => {
    child.once('message', (message) => done(message as KeeperAnswer))
    child.once('exit', (code, signal) => done(exitWords({ code, signal })))
    child.send({ plan, close: inheritableDescriptors() }, (error) => error && done(error.message))
  })
  if (child.connected) child.disconnect()
  child.unref()
  if (typeof answer === 'string') throw new Error(`the keeper of ${plan.name} exited: ${answer}`)
  if (answer.type !== 'refused') return
  const { message, code = '', help = '' } = answer
  throw new RemoteError({ type: 'error', message, code, help })
}

/** Whether another one has won the name, in a start of two at once. */
export function isNameTaken(error: unknown): boolean {
  const code = 'ERR_COOK_NAME_TAKEN' satisfies CookErrorCode
  const { code: own, cause } = error as { readonly code?: string; readonly cause?: { readonly code?: string } }
  return own === code || cause?.code === code
}

/** Throws unless the service has one. */
export function demandKeeper({ name, keeper }: Status): void {
  if (keeper === undefined) throw new CookError('ERR_COOK_NO_KEEPER', { name })
}

/** How long another keeper may take to answer, in milliseconds: its worker is replaced under it. */
const longestRenewal = 30_000
const pause = 50

/** The worker starts it, as if the old one had died; nothing of the service changes. */
export async function replaceKeeper(client: Client, before: Status, isJson: boolean): Promise<Status> {
  demandKeeper(before)
  const { keeper, generation } = before
  await client.ask('POST /keeper', { execPath: process.execPath, file: keeperFile() })
  const end = performance.now() + longestRenewal
  for (;;) {
    const now = await client.status().catch(() => undefined)
    const isNew = now?.keeper !== undefined && now.keeper.pid !== keeper?.pid && now.generation > generation
    if (isNew && !isJson) print(`the keeper is pid ${now.keeper.pid} now (node ${now.keeper.node})`)
    if (isNew) return now
    if (performance.now() > end) {
      throw new Error(
        `no new keeper responded within ${longestRenewal / 1000} s; the worker of ${client.name} still serves. The reason is in its log: cook-daemon logs ${client.name}`,
      )
    }
    await new Promise((done) => setTimeout(done, pause))
  }
}

/** Of an upgrade or a restart. Throws where there is nobody to keep it so. */
export function keepChanges(before: Status, options: StartOptions): { readonly keep?: KeepOptions } {
  const { keep: _, workers: __, ...keep } = keepOptionsOf(options)
  if (Object.keys(keep).length === 0) return {}
  demandKeeper(before)
  return { keep }
}
