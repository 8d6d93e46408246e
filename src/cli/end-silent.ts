/** Ends a daemon that does not answer: all of its processes that are known, and nobody else. */
import type { Identity } from '../contract/environment.ts'
import { type Client, whoText } from '../control/client.ts'
import { type FoundOwner, identityOf } from '../control/owner-files.ts'
import { timeToEnd } from '../keeper/ending.ts'
import { untilGone } from '../node/processes.ts'
import { killSession } from '../node/sessions.ts'
import { isGone, system } from '../node/system.ts'
import { paint, print } from './output.ts'

export type StopOptions = { readonly json?: boolean; readonly killAfter?: number }

/** How a daemon has ended. */
export type End = { readonly pid: number | undefined; readonly wasKilled: boolean; readonly answered: boolean }

/** How often it is said how long it still takes, in milliseconds. */
const sayInterval = 5_000

/**
 * SIGTERM to all its generations, and SIGCONT for one that is stopped; SIGKILL when the time is
 * over that it would take to finish. Each is known by its pid and its start time. True if one had
 * to be killed.
 */
export async function endSilent(client: Client, owners: readonly FoundOwner[], options: StopOptions): Promise<boolean> {
  const say = (text: string) => {
    if (options.json !== true) print(text)
  }
  const begin = performance.now()
  const sayStep = (text: string) =>
    say(`${paint('dim', `${((performance.now() - begin) / 1000).toFixed(3).padStart(8)} s`)}  ${text}`)
  const owner = owners.at(-1)
  if (owner !== undefined) say(`${paint('bold', client.name)} does not respond: ${whoText(owner)}`)
  const identities = owners.map(identityOf)
  for (const identity of identities) system.kill(identity, 'SIGTERM')
  for (const identity of identities) system.kill(identity, 'SIGCONT')
  sayStep(`SIGTERM to ${pidsText(identities)}`)
  const time = timeToEnd(owner?.drainTimeout ?? 0, options.killAfter)
  const sayLeft = () => sayStep(`SIGKILL in ${Math.ceil((time - (performance.now() - begin)) / 1000)} s`)
  sayLeft()
  const saying = setInterval(sayLeft, sayInterval)
  try {
    return await untilEnded(identities, time, (left) => sayStep(`SIGKILL to ${pidsText(left)}`))
  } finally {
    clearInterval(saying)
    sayStep('gone')
  }
}

/** How long what was killed may take to be gone, in milliseconds. */
const grace = 5_000

/** Waits for their end, and kills what is left then, with what it started; true if it had to. */
export async function untilEnded(
  identities: readonly Identity[],
  ms: number,
  onKill: (left: readonly Identity[]) => void = () => {},
): Promise<boolean> {
  if (await untilGone(identities, ms)) return false
  const left = identities.filter((identity) => !isGone(identity))
  onKill(left)
  const killed = left.flatMap(killSession)
  if (await untilGone(killed, grace)) return true
  throw new Error(
    `${pidsText(killed)} still runs after SIGKILL: it waits in the kernel for a disk or a network file system, or it belongs to another user`,
  )
}

function pidsText(identities: readonly Identity[]): string {
  return `pid ${identities.map(([pid]) => pid).join(' and ')}`
}
