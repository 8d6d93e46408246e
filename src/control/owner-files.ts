/** Who owns a control socket, in a file for each process: known when nobody answers. */
import { readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { type Identity, isFields, type ProgramRecord } from '../contract/environment.ts'
import { CookError, messageOf } from '../errors.ts'
import { placeOfPids } from '../node/processes.ts'
import { removeFile, statPath } from '../node/stat.ts'
import { type Command, isAlive, isGone } from '../node/system.ts'
import { mayWriteIn } from '../process/run-dir.ts'

export type Owner = {
  readonly pid: number
  readonly startTime: string
  readonly generation: number
  /** In milliseconds. */
  readonly drainTimeout: number
  /** What a restart starts. */
  readonly command: Command
  readonly program?: ProgramRecord
  /** With what, secrets too: nowhere else than in this file, which its user alone can read. */
  readonly environment?: Readonly<Record<string, string | undefined>>
  /** It has given up root for this user: what it says itself is to be believed as that user's. */
  readonly user?: number
}

/** An owner as it is found: alive, and since when it is one, in milliseconds since the epoch. */
export type FoundOwner = Owner & { readonly since: number }

/**
 * Written at the commit, by both sides: whichever of them stands still right behind it, the new
 * owner is known. One name for each process, so that nobody writes over another's.
 */
export function writeOwner(folder: string, name: string, owner: Owner): void {
  if (!mayWriteIn(folder)) return
  const file = ownerPath(folder, name, owner.pid)
  // Both sides may write at once.
  const temporary = `${file}.${process.pid}.tmp`
  try {
    removeFile(temporary)
    writeFileSync(temporary, `${JSON.stringify({ ...owner, place: placeOfPids() })}\n`, { flag: 'wx', mode: 0o600 })
    renameSync(temporary, file)
  } catch (cause) {
    removeFile(temporary)
    const why = `${file} could not be written: ${messageOf(cause)}`
    throw new CookError('ERR_COOK_RUN_DIR', { folder, why }, { cause })
  }
}

/** At the end of a process, or of its service. */
export function removeOwner(folder: string, name: string, pid: number): void {
  if (mayWriteIn(folder)) removeFile(ownerPath(folder, name, pid))
}

/**
 * Whoever opens the socket anew is no successor of those who had it: they have nothing to do with
 * the name any more.
 */
export function forgetOwners(folder: string, name: string, self: number): void {
  for (const pid of pidsIn(folder, name)) if (pid !== self) removeOwner(folder, name, pid)
}

/** Those that were killed could not do it themselves. */
export function forgetDeadOwners(folder: string, name: string): void {
  const living = livingOwners(folder, name).map(({ pid }) => pid)
  for (const pid of pidsIn(folder, name)) if (!living.includes(pid)) removeOwner(folder, name, pid)
}

/**
 * Those of a name that live, oldest generation first; the last one owns the service, and those
 * before it drain. A file of a process that is gone, whose pid is another's by now, or that was
 * written before the machine started, or in another container, counts for nothing.
 */
export function livingOwners(folder: string, name: string): FoundOwner[] {
  return pidsIn(folder, name)
    .flatMap((pid) => readOwner(ownerPath(folder, name, pid), pid))
    .filter(({ pid, startTime }) => isAlive([pid, startTime]))
    .sort((one, other) => one.generation - other.generation)
}

/**
 * The last one of a name that has died here without taking its file along: it was killed, or has
 * crashed.
 */
export function lastDeadOwner(folder: string, name: string): Owner | undefined {
  return (
    pidsIn(folder, name)
      .flatMap((pid) => readOwner(ownerPath(folder, name, pid), pid))
      // One that has given up root could not take its file along.
      .filter((owner) => isGone(identityOf(owner)) && owner.user === undefined)
      .sort((one, other) => one.since - other.since)
      .at(-1)
  )
}

/**
 * What was written last of a service, by a process that lives or not: as root alone could write it,
 * also where the process that serves is another user's.
 */
export function lastOwner(folder: string, name: string): Owner | undefined {
  return pidsIn(folder, name)
    .flatMap((pid) => readOwner(ownerPath(folder, name, pid), pid))
    .sort((one, other) => one.since - other.since)
    .at(-1)
}

export function identityOf({ pid, startTime }: Owner): Identity {
  return [pid, startTime]
}

function ownerPath(folder: string, name: string, pid: number): string {
  return join(folder, `${name}.${pid}.owner`)
}

function pidsIn(folder: string, name: string): number[] {
  let files: readonly string[]
  try {
    files = readdirSync(folder)
  } catch {
    // Gone with the daemon, as in a test or a container that ends: nobody is there.
    return []
  }
  return files
    .filter((file) => file.startsWith(`${name}.`))
    .map((file) => /^(\d+)\.owner$/.exec(file.slice(name.length + 1))?.[1])
    .filter((pid) => pid !== undefined)
    .map(Number)
}

/** What is written to be believed by whoever sends signals is looked at closely. */
function readOwner(file: string, pid: number): FoundOwner[] {
  try {
    const stat = statPath(file)
    if (stat?.isFile !== true || stat.uid !== process.getuid?.()) return []
    const owner = JSON.parse(readFileSync(file, 'utf8')) as Partial<Owner & { readonly place: string }>
    const isWhole =
      owner.pid === pid &&
      Number.isSafeInteger(pid) &&
      pid > 1 &&
      typeof owner.startTime === 'string' &&
      owner.startTime !== '' &&
      Number.isSafeInteger(owner.generation) &&
      typeof owner.drainTimeout === 'number' &&
      Array.isArray(owner.command?.args) &&
      (owner.environment === undefined || isFields(owner.environment)) &&
      owner.place === placeOfPids()
    return isWhole ? [{ ...(owner as Owner), since: stat.mtimeMs }] : []
  } catch {
    // It has just been removed, or is no word of ours.
    return []
  }
}
