/** `stop`: the end of a daemon, whether it answers or not. */
import type { Client } from '../control/client.ts'
import { identityOf } from '../control/owner-files.ts'
import { processState } from '../node/processes.ts'
import { system } from '../node/system.ts'
import { type End, endByWord, type StopOptions, standsStill, timeToEnd, untilEnded, untilGone } from './ending.ts'
import { which } from './find-service.ts'
import { exitCodes, paint, print, printJson } from './output.ts'

export async function stop(name: string | undefined, options: StopOptions): Promise<number> {
  const client = await which(name)
  const { pid, wasKilled, answered } = await endAll(client, options)
  if (options.json === true) printJson({ name: client.name, pid, wasKilled, answered })
  else print(`${paint('green', client.name)} has stopped${wasKilled ? ', and had to be killed' : ''}`)
  return exitCodes.done
}

/** How long an end is waited for before it is looked what becomes of it, in milliseconds, and again: a daemon without connections takes a tenth of it. */
const slice = 100

/** Ends all generations; what does not end in time is killed. By SIGTERM, which says the same as `POST /stop`, needs no connection, and is heard in two thirds of the time (docs/limits.md). */
export async function endAll(client: Client, options: StopOptions): Promise<End> {
  const owners = client.owners()
  const owner = owners.at(-1)
  if (owner?.stopSignal !== 'SIGTERM' || isStopped(owner.pid)) return endByAsking(client, options)
  const { pid, generation } = owner
  const identities = owners.map(identityOf)
  const begin = performance.now()
  const time = timeToEnd(options, owner.drainTimeout)
  const left = () => Math.max(0, time - (performance.now() - begin))
  // An upgrade came between the look and the signal, which then told a process that drains.
  const hasPassed = () => (client.owners().at(-1)?.generation ?? 0) > generation
  system.kill(identityOf(owner), 'SIGTERM')
  if (!(await untilGone(identities, Math.min(slice, time)))) {
    let answer: unknown
    void client
      .status()
      .catch((error: unknown) => error)
      .then((told) => {
        answer = told
      })
    while (!(await untilGone(identities, Math.min(slice, left())))) {
      if (hasPassed()) break
      if (standsStill(answer)) {
        const told = { pid, begin, identities }
        return (await import('./stop-silent.ts')).endSilent(client, options, answer, told)
      }
      // Somebody else serves: the record was that of a process which never did.
      if (isOther(answer, pid)) return endByAsking(client, options)
      if (left() > 0) continue
      const wasKilled = await untilEnded(identities, 0)
      await (await import('./stop-silent.ts')).endNext(client, generation, options)
      return { pid, wasKilled, answered: answer !== undefined }
    }
  }
  if (hasPassed()) return endAll(client, options)
  return { pid, wasKilled: false, answered: true }
}

function isOther(answer: unknown, pid: number): boolean {
  return typeof answer === 'object' && answer !== null && 'pid' in answer && answer.pid !== pid
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
