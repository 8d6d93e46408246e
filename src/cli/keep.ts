/** A program under a keeper: what the keeper is told, and the wait until the worker serves. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { writeProgram } from '../contract/environment.ts'
import { RemoteError } from '../control/client.ts'
import type { CookErrorCode } from '../errors.ts'
import type { KeeperAnswer, KeeperPlan, KeepOptions } from '../keeper/plan.ts'
import { inheritableDescriptors } from '../node/processes.ts'
import { system } from '../node/system.ts'
import { exitWords, spawned } from '../process/launcher.ts'
import { ownPackage, type Program, type StartOptions } from './program.ts'

/** Of a restart: the environment of the start, not that of this command. */
type Environment = Readonly<Record<string, string | undefined>>

export function keepOptionsOf({ keep, hangTimeout, maxMemory }: StartOptions): KeepOptions {
  return {
    ...(keep !== undefined && { keep }),
    ...(hangTimeout !== undefined && { hangTimeout }),
    ...(maxMemory !== undefined && { maxMemory }),
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
  const known = Object.entries(writeProgram(env, program)).filter(([, value]) => value !== undefined)
  const environment = Object.fromEntries(known) as Record<string, string>
  return { name, command, environment, program, options, file: keeperFile(), ...(folder !== undefined && { folder }) }
}

/** With its symlinks unresolved: after a deploy it is that of the new release. */
export function keeperFile(): string {
  return join(ownPackage(), 'dist/bin/keeper.js')
}

/** Resolves when the first worker serves; rejects with why it does not, and nothing is left then. */
export async function startKeeper(plan: KeeperPlan, log: number): Promise<void> {
  // What is meant for the program must not run in its keeper.
  const { NODE_OPTIONS: _, ...env } = plan.environment
  const file = keeperFile()
  if (!existsSync(file)) throw new Error('the keeper is not in the package of cook-daemon: install it again')
  const command = { execPath: process.execPath, execArgv: [], args: [file], cwd: '/' }
  const child = await spawned(() => system.spawn(command, { env, stdio: ['ignore', log, log, 'ipc'] }))
  const answer = await new Promise<KeeperAnswer | string>((done) => {
    child.once('message', (message) => done(message as KeeperAnswer))
    child.once('exit', (code, signal) => done(exitWords({ code, signal })))
    child.send({ plan, close: inheritableDescriptors() }, (error) => error && done(error.message))
  })
  if (child.connected) child.disconnect()
  child.unref()
  if (typeof answer === 'string') throw new Error(`the keeper of ${plan.name} has ended: ${answer}`)
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
