/** `stop` and `restart`: the end of a daemon, whether it answers or not. */
import type { Client } from '../control/client.ts'
import type { GenerationRecord, Identity } from '../core/protocol.ts'
import { CookError } from '../errors.ts'
import { isAlive, system } from '../node/system.ts'
import { exitCodes, paint, print, printJson } from './output.ts'
import { startProgram } from './start.ts'
import { which } from './which.ts'

export type StopOptions = { readonly json?: boolean; readonly killAfter?: number }

/** How a daemon has ended. */
type End = { readonly pid: number | undefined; readonly wasKilled: boolean; readonly answered: boolean }

/** What a daemon gets beyond its drainTimeout, in milliseconds, before it is killed. */
const grace = 5_000

export async function stop(name: string | undefined, options: StopOptions): Promise<number> {
  const client = await which(name)
  const { pid, wasKilled, answered } = await endAll(client, options)
  if (options.json === true) printJson({ name: client.name, pid, wasKilled, answered })
  else print(`${paint('green', client.name)} has stopped${wasKilled ? ', and had to be killed' : ''}`)
  return exitCodes.done
}

/** The same program with the same options, and with the environment of whoever types it. */
export async function restart(name: string | undefined, options: StopOptions): Promise<number> {
  const client = await which(name)
  // One that does not answer has left word of what it is.
  const silent = (error: unknown) => {
    const owner = standsStill(error) ? client.owners().at(-1) : undefined
    if (owner === undefined) throw error
    return owner
  }
  const { command, program = { protocol: 1 } } = await client.status().catch(silent)
  await endAll(client, options)
  const again = { name: client.name, command, record: { ...program, name: client.name } }
  return startProgram(again, options.json === true)
}

/** Ends all generations; what does not end in time is killed. */
export async function endAll(client: Client, options: StopOptions): Promise<End> {
  try {
    // A question first: a POST that waits in a process that stands still would be a second stop once that goes on, which cuts what it still answers.
    await client.status()
    return await endByWord(client, options)
  } catch (error) {
    if (!standsStill(error)) throw error
    return (await import('./stop-silent.ts')).endSilent(client, options, error)
  }
}

export async function endByWord(client: Client, options: StopOptions): Promise<End> {
  let told: { readonly drainTimeout: number; readonly generations: readonly GenerationRecord[] } | undefined
  for await (const progress of client.progress('stop')) {
    if (progress.type !== 'stopping') continue
    told = progress
    // From here on its processes are watched: one that stands still at its end says nothing more.
    break
  }
  if (told === undefined) {
    const { name, path } = client
    throw new CookError('ERR_COOK_NO_ANSWER', { name, path, why: 'what answered is no cook-daemon' })
  }
  const identities = told.generations.map(({ pid, startTime }) => [pid, startTime] as const)
  const wasKilled = await untilEnded(identities, timeToEnd(options, told.drainTimeout))
  return { pid: told.generations.at(-1)?.pid, wasKilled, answered: true }
}

export function standsStill(error: unknown): error is CookError {
  return error instanceof CookError && error.code === 'ERR_COOK_STANDS_STILL'
}

export function timeToEnd({ killAfter }: StopOptions, drainTimeout: number): number {
  return killAfter ?? drainTimeout + grace
}

/** Waits for their end, and kills what is left then; true if something was. */
export async function untilEnded(
  identities: readonly Identity[],
  ms: number,
  onKill: (pids: readonly number[]) => void = () => {},
): Promise<boolean> {
  if (await untilGone(identities, ms)) return false
  const left = identities.filter((identity) => isAlive(identity))
  onKill(left.map(([pid]) => pid))
  for (const identity of left) system.kill(identity, 'SIGKILL')
  if (await untilGone(left, grace)) return true
  const pids = left.filter((identity) => isAlive(identity)).map(([pid]) => pid)
  throw new Error(
    `SIGKILL was sent to pid ${pids.join(' and ')}, which is still there: it waits in the kernel, for a disk or a network file system, or belongs to another user`,
  )
}

/** True if they are gone in time. No event tells the end of a process that is no child. */
export async function untilGone(identities: readonly Identity[], ms: number): Promise<boolean> {
  const deadline = performance.now() + ms
  while (identities.some((identity) => isAlive(identity))) {
    if (performance.now() > deadline) return false
    await new Promise((done) => setTimeout(done, 2))
  }
  return true
}
