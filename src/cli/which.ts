/** Which daemon is meant. */
import { type Client, clientOf } from '../control/client.ts'
import type { Status } from '../control/status.ts'
import { namesIn, runDirectory } from '../core/run-dir.ts'
import { CookError } from '../errors.ts'
import { isDaemonName } from '../options.ts'
import { UsageError } from './output.ts'

export type Running = { readonly client: Client; readonly status: Status }

/** The daemon of this name; without one, the only one that runs. */
export async function which(name: string | undefined): Promise<Client> {
  const folder = runDirectory(process.env)
  const names = namesIn(folder)
  if (name !== undefined) return clientOf(folder, checkedName(name))
  // The one socket that is there is asked for what is wanted at once.
  if (names.length === 1) return clientOf(folder, String(names[0]))
  const running = await allRunning()
  const [first] = running
  if (first === undefined) throw new CookError('ERR_COOK_NOT_RUNNING', { name: `anything in ${folder}` })
  if (running.length === 1) return first.client
  throw new UsageError(`which one? There are ${running.map(({ client }) => client.name).join(', ')}`)
}

/** Every daemon that answers. */
export async function allRunning(): Promise<Running[]> {
  const folder = runDirectory(process.env)
  const all = namesIn(folder)
    .filter(isDaemonName)
    .map(async (name) => {
      const client = clientOf(folder, name)
      try {
        return [{ client, status: await client.status() }]
      } catch (error) {
        // A socket of a dead process, or of no daemon: told to whoever asks for it by its name.
        if (error instanceof CookError) return []
        throw error
      }
    })
  return (await Promise.all(all)).flat()
}

export function checkedName(name: string): string {
  if (isDaemonName(name)) return name
  throw new UsageError(
    `${JSON.stringify(name)} is no name: letters, digits, '.', '_' and '-', at most 64, and the first a letter or digit`,
  )
}
