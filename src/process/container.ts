/** A container whose file system is read-only: where a run directory may be in memory. */
import { accessSync, constants } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileAt } from '../node/stat.ts'
import { isSafeBase } from './trust.ts'

/** In this order; engines mount the second one in every container, also in a read-only one. */
export const foldersInMemory = ['/tmp', '/dev/shm'] as const

/**
 * Whether pid 1 is this user's, or another one's than root, as where the containers of a pod share
 * their processes. On a machine it is root's; there root is the same, but has a /run that can be
 * written in.
 */
export function isInContainer(): boolean {
  const uid = fileAt('/proc/1')?.uid
  return uid !== undefined && (uid !== 0 || process.geteuid?.() === 0)
}

/** Whether a folder is there, or can be made, and is written in. */
export function isUsable(folder: string): boolean {
  let at = folder
  while (fileAt(at) === undefined && at !== dirname(at)) at = dirname(at)
  return mayWrite(at)
}

/** Found again by the commands; undefined: there is no room for one that is this user's alone. */
export function directoryInMemory(): string | undefined {
  const user = process.geteuid?.()
  // An empty volume of Kubernetes is not sticky: another container's user could exchange it there.
  const found = foldersInMemory.find((base) => isSafeBase(base) && mayWrite(base) && isFree(folderIn(base, user)))
  return found && folderIn(found, user)
}

function folderIn(base: string, user: number | undefined): string {
  return join(base, `cook-daemon-${user}`)
}

/** Somebody else may have made it first. */
function isFree(folder: string): boolean {
  const stat = fileAt(folder)
  return stat === undefined || (stat.isFolder && stat.uid === process.geteuid?.() && (stat.mode & 0o022) === 0)
}

function mayWrite(folder: string): boolean {
  try {
    accessSync(folder, constants.W_OK | constants.X_OK)
    return true
  } catch {
    return false
  }
}
