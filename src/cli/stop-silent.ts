/** The end of a daemon that does not answer: what is known of its processes is enough to end them, and nobody else. */

import type { Identity } from '../contract/environment.ts'
import { type Client, isSilence, whoText } from '../control/client.ts'
import { identityOf } from '../control/owner-files.ts'
import { CookError } from '../errors.ts'
import { system } from '../node/system.ts'
import { type End, endByWord, grace, type StopOptions, standsStill, timeToEnd, untilEnded } from './ending.ts'
import { paint, print } from './output.ts'

/** A process that is killed is gone a moment before its socket is, and resets who connects in between; the pause is in milliseconds. */
const tries = 100
const pause = 20

/** How often it is told how long it still takes, in milliseconds. */
const tellInterval = 5_000

/** Who has had SIGTERM already, when, by performance.now(), and whom it is to end. */
export type Told = { readonly pid: number; readonly begin: number; readonly identities: readonly Identity[] }

/**
 * SIGTERM to all its generations, and SIGCONT for one that is stopped; SIGKILL when the time is over that it would take to finish. Each is told by its pid and its start time.
 * A new version that was being started when the old one stood still takes over when that is gone: it is ended as well.
 */
export async function endSilent(client: Client, options: StopOptions, why: CookError, told?: Told): Promise<End> {
  const begin = told?.begin ?? performance.now()
  const passed = () => performance.now() - begin
  const say = (text: string, at = passed()) => {
    if (options.json !== true) print(`${paint('dim', `${(at / 1000).toFixed(3).padStart(8)} s`)}  ${text}`)
  }
  const owners = client.owners()
  const owner = owners.at(-1)
  // Gone since it was asked, or about to be.
  if (owner === undefined) {
    if (told === undefined) throw why
    return { pid: told.pid, wasKilled: await untilEnded(told.identities, grace), answered: false }
  }
  if (options.json !== true) print(`${paint('bold', client.name)} does not answer: ${whoText(owner)}`)
  const identities = owners.map(identityOf)
  const left = () => Math.max(0, timeToEnd(options, owner.drainTimeout) - passed())
  // Once: the second one cuts.
  const untold = identities.filter(([pid]) => pid !== told?.pid)
  for (const identity of untold) system.kill(identity, 'SIGTERM')
  for (const identity of identities) system.kill(identity, 'SIGCONT')
  if (told !== undefined) say(`SIGTERM to pid ${told.pid}`, 0)
  if (untold.length > 0) say(`SIGTERM to ${pidsText(untold.map(([pid]) => pid))}`)
  const tellLeft = () => say(`SIGKILL in ${seconds(left())}`)
  tellLeft()
  const telling = setInterval(tellLeft, tellInterval)
  let wasKilled: boolean
  try {
    wasKilled = await untilEnded(identities, left(), (pids) => say(`SIGKILL to ${pidsText(pids)}`))
  } finally {
    clearInterval(telling)
  }
  say('gone')
  const next = await endNext(client, owner.generation, options)
  return { pid: owner.pid, wasKilled: wasKilled || next?.wasKilled === true, answered: false }
}

/** Behind the end of one that was killed: a version that was on its way owns the service now; a fresh start of somebody else is left alone. */
export async function endNext(
  client: Client,
  generation: number,
  options: StopOptions,
  left = tries,
): Promise<End | undefined> {
  try {
    if ((await client.status()).generation <= generation) return undefined
    return await endByWord(client, options)
  } catch (error) {
    if (!(error instanceof CookError)) throw error
    if (error.code === 'ERR_COOK_NOT_RUNNING') return undefined
    if (error.code === 'ERR_COOK_NO_ANSWER' && !isSilence(error) && left > 0) {
      await new Promise((done) => setTimeout(done, pause))
      return endNext(client, generation, options, left - 1)
    }
    if (standsStill(error) && (client.owners().at(-1)?.generation ?? 0) > generation) {
      return endSilent(client, options, error)
    }
    if (error.code !== 'ERR_COOK_NO_ANSWER') throw error
    const { name, path } = client
    throw new Error(
      `all that is known of ${name} has ended, but something still holds ${path}: most likely a new version that was being started, and stands still as well (ss -xlp, or lsof, tells its pid)`,
      { cause: error },
    )
  }
}

function pidsText(pids: readonly number[]): string {
  return `pid ${pids.join(' and ')}`
}

function seconds(ms: number): string {
  return `${Math.ceil(ms / 1000)} s`
}
