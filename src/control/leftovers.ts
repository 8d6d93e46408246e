/** What a service leaves in the run directory that was killed: removed by whoever finds it gone. */
import { join } from 'node:path'
import { clearDead } from '../listen/dead-path.ts'
import { fileAt, removeFile } from '../node/stat.ts'
import { controlPath } from '../process/run-dir.ts'
import { filesIn, forgetDeadOwners, livingOwners, type Owner, workerNames } from './owner-files.ts'

/** Private names are there for microseconds: one of this age, in milliseconds, is left over. */
const privateAge = 5_000

/**
 * Removes the socket on which nobody listens any more, and the files of dead processes of this
 * name. `except` is that of a crash: it has what a restart starts.
 */
export async function removeLeftovers(folder: string, name: string, except?: Owner): Promise<void> {
  if (livingOwners(folder, name).length > 0) return
  try {
    await clearDead(controlPath(folder, name))
    forgetDeadOwners(folder, name, except)
    for (const file of filesIn(folder).filter((one) => isPrivateName(one, name))) {
      const path = join(folder, file)
      const stat = fileAt(path)
      if (stat !== undefined && Date.now() - stat.ctimeMs > privateAge) removeFile(path)
    }
  } catch {
    // Somebody starts it in this moment, or the folder cannot be written in. Nobody asked for this.
  }
}

/** Those of its workers too, which go with it. */
export async function removeAllLeftovers(folder: string, name: string, except?: Owner): Promise<void> {
  for (const worker of workerNames(folder, name)) await removeLeftovers(folder, worker)
  await removeLeftovers(folder, name, except)
}

/** Of a socket or an owner file that is being made (unix-path.ts, dead-path.ts, owner-files.ts). */
function isPrivateName(file: string, name: string): boolean {
  if (!file.startsWith(`${name}.`)) return false
  return /^(service\.\d+\.tmp|sock\.[0-9a-z]+|sock\.dead-\d+|\d+\.owner\.\d+\.tmp)$/.test(file.slice(name.length + 1))
}
