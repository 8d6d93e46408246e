/** `stop`: asks a daemon to end, and ends one that does not answer. */
import type { Identity } from '../contract/environment.ts'
import type { Client } from '../control/client.ts'
import { type FoundOwner, identityOf } from '../control/owner-files.ts'
import type { Progress } from '../control/status.ts'
import { CookError } from '../errors.ts'
import { timeToEnd } from '../keeper/ending.ts'
import { isAlive } from '../node/system.ts'
import { userOf } from '../node/users.ts'
import { noteStopped } from './down.ts'
import { type End, endSilent, type StopOptions, untilEnded } from './end-silent.ts'
import { silentOwners, which } from './find-service.ts'
import { exitCodes, printDone, printJson } from './output.ts'
import { waitingFor } from './waiting.ts'

export async function stop(name: string | undefined, options: StopOptions): Promise<number> {
  const client = await which(name)
  const before = client.owners()
  try {
    const { pid, wasKilled, answered } = await waitingFor(
      `stopping ${client.name}; waiting until it has finished what it accepted`,
      endAll(client, options),
    )
    noteStopped(client.name)
    const others = before.filter((one) => isAlive(identityOf(one)))
    const json = { name: client.name, pid, wasKilled, answered }
    if (options.json === true) printJson(others.length === 0 ? json : { ...json, others: others.map(identityOf) })
    if (others.length > 0) throw new Error(othersText(client, pid, others))
    if (options.json !== true) {
      printDone(wasKilled ? `${client.name} was killed: it did not stop in time` : `${client.name} has stopped`)
    }
    return exitCodes.done
  } finally {
    await client.removeLeftovers()
  }
}

/** Two processes have one name if files were removed in the moment of a second start. */
function othersText({ name }: Client, pid: number | undefined, others: readonly FoundOwner[]): string {
  const pids = others.map((one) => `pid ${one.pid}, generation ${one.generation}`).join(' and ')
  return `pid ${pid} has stopped, but another process with the name ${name} is still running: ${pids}. Stop it too: cook-daemon stop ${name}`
}

/** Ends all generations; what does not end in time is killed. */
export async function endAll(client: Client, options: StopOptions): Promise<End> {
  try {
    // A question first: a POST that waits in a process that does not respond would be a second stop
    // once that goes on, which cuts what it still answers.
    await client.status()
    return await endByAsking(client, options)
  } catch (error) {
    const owners = silentOwners(client, error)
    const owner = owners.at(-1)
    if (owner === undefined) throw error
    const wasKilled = await endSilent(client, owners, options)
    const next = await endNext(client, owner.generation, options)
    return { pid: owner.pid, wasKilled: wasKilled || next?.wasKilled === true, answered: false }
  }
}

/** Asks it to end, and kills what is still there when its time is over. */
async function endByAsking(client: Client, options: StopOptions): Promise<End> {
  let told: (Progress & { readonly type: 'stopping' }) | undefined
  for await (const progress of client.progress('stop')) {
    if (progress.type !== 'stopping') continue
    told = progress
    // From here on its processes are watched: one that hangs at its end says nothing more.
    break
  }
  if (told === undefined) {
    const { name, path } = client
    throw new CookError('ERR_COOK_NO_ANSWER', { name, path, why: 'what answered is not a cook-daemon' })
  }
  const identities = mayBeEnded(
    client,
    told.generations.map(({ pid, startTime }) => [pid, startTime]),
  )
  const { keeper } = told
  const all = keeper === undefined ? identities : [...identities, keeper]
  const wasKilled = await untilEnded(all, timeToEnd(told.drainTimeout, options.killAfter))
  return { pid: told.generations.at(-1)?.pid, wasKilled, answered: true }
}

/**
 * A process that has given up root must not have root kill whom it likes: its own user's, and those
 * that root has written down.
 */
function mayBeEnded(client: Client, identities: readonly Identity[]): readonly Identity[] {
  const { user } = client.lastOwner() ?? {}
  if (user === undefined) return identities
  const written = client.owners().map(identityOf)
  const isWritten = (one: Identity) => written.some(([pid, startTime]) => pid === one[0] && startTime === one[1])
  return identities.filter((one) => userOf(one[0]) === user || isWritten(one))
}

/**
 * A version that was being started when the old one was killed owns the service now; a fresh start
 * of somebody else is left alone.
 */
async function endNext(client: Client, generation: number, options: StopOptions): Promise<End | undefined> {
  try {
    if ((await client.status()).generation <= generation) return undefined
    return await endByAsking(client, options)
  } catch (error) {
    const owners = silentOwners(client, error)
    const owner = owners.at(-1)
    if (owner !== undefined && owner.generation > generation) {
      return { pid: owner.pid, wasKilled: await endSilent(client, owners, options), answered: false }
    }
    if (!(error instanceof CookError)) throw error
    if (error.code === 'ERR_COOK_NOT_RUNNING') return undefined
    if (error.code !== 'ERR_COOK_NO_ANSWER') throw error
    const { name, path } = client
    throw new Error(
      `all known processes of ${name} have exited, but another process still holds ${path}: most likely a new version that was starting and does not respond (ss -xlp or lsof shows its pid)`,
      { cause: error },
    )
  }
}
