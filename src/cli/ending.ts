/** The end of a daemon that answers, and the wait for the end of processes that are no children. */

import type { Identity } from '../contract/environment.ts'
import type { GenerationRecord } from '../contract/messages.ts'
import type { Client } from '../control/client.ts'
import { CookError } from '../errors.ts'
import { isAlive, system } from '../node/system.ts'

export type StopOptions = { readonly json?: boolean; readonly killAfter?: number }

/** How a daemon has ended. */
export type End = { readonly pid: number | undefined; readonly wasKilled: boolean; readonly answered: boolean }

/** What a daemon gets beyond its drainTimeout, in milliseconds, before it is killed. */
export const grace = 5_000

/** Asks it to end, and kills what has not in time. */
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

/** True if they are gone in time. No event tells the end of a process that is no child: it is looked for, and less often the longer it takes. */
export async function untilGone(identities: readonly Identity[], ms: number): Promise<boolean> {
  const begin = performance.now()
  while (identities.some((identity) => isAlive(identity))) {
    const passed = performance.now() - begin
    if (passed > ms) return false
    await new Promise((done) => setTimeout(done, Math.min(20, 1 + passed / 50)))
  }
  return true
}
