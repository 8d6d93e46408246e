/** Which daemon is meant. */

import { everyService, isDaemonName } from '../check.ts'
import { type Client, clientOf } from '../control/client.ts'
import { type FoundOwner, ownedNames } from '../control/owner-files.ts'
import type { Status } from '../control/status.ts'
import { CookError } from '../errors.ts'
import { namesIn, runDirectory } from '../process/run-dir.ts'
import { UsageError } from './output.ts'

export type Running = { readonly client: Client; readonly status: Status | Silent }

/** One whose process is known and does not answer. */
export type Silent = {
  readonly name: string
  readonly pid: number
  readonly startTime: string
  readonly generation: number
  readonly phase: 'silent'
}

/** The daemon of this name; without one, the only one that runs. */
export async function which(name: string | undefined): Promise<Client> {
  const folder = runDirectory(process.env)
  const names = servicesIn(folder)
  if (name !== undefined) return clientOf(folder, checkedName(name))
  // The one socket that is there is asked for what is wanted at once.
  if (names.length === 1) return clientOf(folder, String(names[0]))
  const running = await allRunning()
  const [first] = running
  if (first === undefined) throw new CookError('ERR_COOK_NONE_RUNNING', { folder })
  if (running.length === 1) return first.client
  throw new UsageError(`several services run; name one: ${running.map(({ client }) => client.name).join(', ')}`)
}

/** Those whose socket is there, and those whose socket was removed. */
export function servicesIn(folder: string): string[] {
  const names = namesIn(folder)
  return [...new Set([...names, ...ownedNames(folder)])].sort()
}

/** Every daemon that answers, and every one that should. */
export async function allRunning(folder: string = runDirectory(process.env)): Promise<Running[]> {
  const all = servicesIn(folder)
    .filter(isDaemonName)
    .map(async (name) => {
      const client = clientOf(folder, name)
      try {
        return [{ client, status: await client.status() }]
      } catch (error) {
        const silent = silentOf(client, error)
        if (silent !== undefined) return [{ client, status: silent }]
        // A socket of a dead process, or of no daemon: told to whoever asks for it by its name.
        if (error instanceof CookError) return []
        throw error
      }
    })
  return (await Promise.all(all)).flat()
}

export function silentOf(client: Client, error: unknown): Silent | undefined {
  return error instanceof CookError && error.code === 'ERR_COOK_UNRESPONSIVE' ? silentBy(client) : undefined
}

/** As its processes are known without asking them. */
export function silentBy(client: Client): Silent | undefined {
  const owner = client.owners().at(-1)
  if (owner === undefined) return undefined
  const { pid, startTime, generation } = owner
  return { name: client.name, pid, startTime, generation, phase: 'silent' }
}

/**
 * The processes of one that does not answer, or that has lost its control socket; none if anything
 * else is wrong.
 */
export function silentOwners(client: Client, error: unknown): readonly FoundOwner[] {
  const isSilent =
    error instanceof CookError && (error.code === 'ERR_COOK_UNRESPONSIVE' || error.code === 'ERR_COOK_NOT_RUNNING')
  return isSilent ? client.owners() : []
}

export function ifNotRunning(error: unknown): undefined {
  if (error instanceof CookError && error.code === 'ERR_COOK_NOT_RUNNING') return undefined
  throw error
}

/** False for a keeper without a worker at this moment. */
export function servesNow(status: Status | undefined): status is Status {
  return status !== undefined && status.phase !== 'gone'
}

export function checkedName(name: string): string {
  if (isDaemonName(name)) return name
  if (name === everyService) throw new UsageError(`${name} means every service, and cannot be the name of one`)
  throw new UsageError(
    `${JSON.stringify(name)} is not a valid name: it must have 1 to 64 letters, digits, '.', '_' and '-', and begin with a letter or digit`,
  )
}
