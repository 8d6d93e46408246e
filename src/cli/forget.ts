/** `forget`: what is known of a service that is down. */
import { clientOf } from '../control/client.ts'
import { CookError } from '../errors.ts'
import { hasRecord, removeRecord } from '../keeper/records.ts'
import { runDirectory } from '../process/run-dir.ts'
import { checkedName, ifNotRunning } from './find-service.ts'
import { exitCodes, printDone } from './output.ts'

export async function forget(name: string): Promise<number> {
  const folder = runDirectory(process.env)
  const client = clientOf(folder, checkedName(name))
  const running = await client.status().catch(ifNotRunning)
  if (running !== undefined) {
    throw new Error(`${name} is running (pid ${running.pid}): stop it first. It was not forgotten`)
  }
  if (!hasRecord(folder, name)) throw new CookError('ERR_COOK_NOT_KNOWN', { name, folder })
  // A worker whose keeper was killed serves on.
  const living = client.owners().at(-1)
  if (living !== undefined)
    throw new Error(`${name} is running (pid ${living.pid}): stop it first. It was not forgotten`)
  removeRecord(folder, name)
  await client.removeLeftovers()
  printDone(`${name} is forgotten`)
  return exitCodes.done
}
