/** `stop`: the end of a daemon, whether it answers or not. */
import type { Client } from '../control/client.ts'
import { identityOf } from '../core/owners.ts'
import { now } from '../node/clock.ts'
import { processState } from '../node/processes.ts'
import { system } from '../node/system.ts'
import { type End, endByWord, type StopOptions, standsStill, timeToEnd, untilEnded, untilGone } from './ending.ts'
import { exitCodes, paint, print, printJson } from './output.ts'
import { which } from './which.ts'

export async function stop(name: string | undefined, options: StopOptions): Promise<number> {
  const client = await which(name)
  const { pid, wasKilled, answered } = await endAll(client, options)
  if (options.json === true) printJson({ name: client.name, pid, wasKilled, answered })
  else print(`${paint('green', client.name)} has stopped${wasKilled ? ', and had to be killed' : ''}`)
  return exitCodes.done
}

/** How long an end is waited for before anybody is asked what becomes of it, in milliseconds: a daemon without connections takes a tenth of it. */
const soon = 100

/** Ends all generations; what does not end in time is killed. By SIGTERM, which says the same as `POST /stop`, needs no connection, and takes half the time (docs/limits.md). */
export async function endAll(client: Client, options: StopOptions): Promise<End> {
  const owners = client.owners()
  const owner = owners.at(-1)
  if (owner?.stopSignal === undefined || isStopped(owner.pid)) return endByAsking(client, options)
  const { pid, generation } = owner
  const begin = now()
  const time = timeToEnd(options, owner.drainTimeout)
  const left = () => Math.max(0, time - (now() - begin))
  const identities = owners.map(identityOf)
  system.kill(identityOf(owner), owner.stopSignal)
  // An upgrade came between the look and the signal, which then told a process that drains.
  const hasPassed = () => (client.owners().at(-1)?.generation ?? 0) > generation
  if (!(await untilGone(identities, Math.min(soon, time))) && !hasPassed()) {
    const asked = client.status().catch((error: unknown) => error)
    const answer = await Promise.race([asked, untilGone(identities, left())])
    if (standsStill(answer)) {
      return (await import('./stop-silent.ts')).endSilent(client, options, answer, { pid, begin })
    }
    if (await untilEnded(identities, left())) {
      await (await import('./stop-silent.ts')).endNext(client, generation, options)
      return { pid, wasKilled: true, answered: true }
    }
  }
  if (hasPassed()) return endAll(client, options)
  return { pid, wasKilled: false, answered: true }
}

/** By a signal, or a debugger. */
function isStopped(pid: number): boolean {
  return /^T$/i.test(processState(pid) ?? '')
}

/** For one of which nothing is known here, or that has not said what stops it. */
async function endByAsking(client: Client, options: StopOptions): Promise<End> {
  try {
    // A question first: a POST that waits in a process that stands still would be a second stop once that goes on, which cuts what it still answers.
    await client.status()
    return await endByWord(client, options)
  } catch (error) {
    if (!standsStill(error)) throw error
    return (await import('./stop-silent.ts')).endSilent(client, options, error)
  }
}
