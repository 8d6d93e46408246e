/** Who owns a control socket, in a file for each process: known when nobody answers. */
import { linkSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { type Identity, isFields, type ProgramRecord, workerName } from '../contract/environment.ts'
import { CookError, messageOf } from '../errors.ts'
import { placeOfPids } from '../node/processes.ts'
import { fileAt, removeFile, statPath } from '../node/stat.ts'
import { type Command, isAlive, isGone, system } from '../node/system.ts'
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
  /** Where it writes, if the program has said so. */
  readonly logFile?: string
  /** It has given up root for this user: what it says itself is to be believed as that user's. */
  readonly user?: number
  /** It has handed the service over, and drains. */
  readonly leaves?: boolean
  /** Its predecessor has written this: it may be a version that has another name, or none. */
  readonly isExpected?: boolean
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
    if (owner.isExpected === true) linkUnlessThere(temporary, file)
    else renameSync(temporary, file)
  } catch (cause) {
    removeFile(temporary)
    const why = `${file} could not be written: ${messageOf(cause)}`
    throw new CookError('ERR_COOK_RUN_DIR', { folder, why }, { cause })
  }
}

/** What a process says of itself goes before what its predecessor says. */
function linkUnlessThere(temporary: string, file: string): void {
  try {
    linkSync(temporary, file)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  } finally {
    removeFile(temporary)
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

/** Whether the file of this process is there: somebody may have cleaned up. */
export function hasOwner(folder: string, name: string, pid: number): boolean {
  return fileAt(ownerPath(folder, name, pid)) !== undefined
}

/**
 * Those that were killed could not do it themselves. `except` stays: what is known of a crash. So
 * does a process of which nobody can know from here whether it lives.
 */
export function forgetDeadOwners(folder: string, name: string, except?: Owner): void {
  for (const pid of pidsIn(folder, name)) {
    if (pid !== except?.pid && isDead(ownerPath(folder, name, pid), pid)) removeOwner(folder, name, pid)
  }
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

/** Names of the workers of a service of which there is any file here. */
export function workerNames(folder: string, name: string): string[] {
  const slots = filesIn(folder)
    .filter((file) => file.startsWith(`${name}@`))
    .map((file) => /^(\d+)\.(sock|\d+\.owner)$/.exec(file.slice(name.length + 1))?.[1])
    .filter((slot) => slot !== undefined)
  return [...new Set(slots)].map((slot) => workerName(name, Number(slot)))
}

/** Workers of a service that live, as their own files have it. */
export function livingWorkers(folder: string, name: string): FoundOwner[] {
  return workerNames(folder, name).flatMap((worker) => livingOwners(folder, worker))
}

/** The one that has the name, by its own word; undefined if nobody does, or they only drain. */
export function servingOwner(folder: string, name: string): FoundOwner | undefined {
  return livingOwners(folder, name).findLast(({ leaves, isExpected }) => leaves !== true && isExpected !== true)
}

/** Throws `ERR_COOK_NAME_TAKEN`: whoever lives has the name, also where his socket was removed. */
export function demandName(folder: string, name: string): void {
  const { pid, generation } = servingOwner(folder, name) ?? {}
  if (pid === undefined || pid === process.pid) return
  throw new CookError('ERR_COOK_NAME_TAKEN', { name, why: `pid ${pid}, generation ${generation}` })
}

/** Names of processes that live, whether or not their sockets are there. */
export function ownedNames(folder: string): string[] {
  // Those of workers are of the service.
  const names = filesIn(folder).map((file) => /^([^@]+)\.\d+\.owner$/.exec(file)?.[1])
  return [...new Set(names)].filter((name) => name !== undefined && servingOwner(folder, name)) as string[]
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

export function filesIn(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch {
    // Gone with the daemon, as in a test or a container that ends: nobody is there.
    return []
  }
}

function pidsIn(folder: string, name: string): number[] {
  return filesIn(folder)
    .filter((file) => file.startsWith(`${name}.`))
    .map((file) => /^(\d+)\.owner$/.exec(file.slice(name.length + 1))?.[1])
    .filter((pid) => pid !== undefined)
    .map(Number)
}

/** What is written to be believed by whoever sends signals is looked at closely. */
function readOwner(file: string, pid: number): FoundOwner[] {
  const owner = parseOwner(file, pid)
  return owner?.place === placeOfPids() ? [owner] : []
}

/** An owner, and where its pid means something. */
function parseOwner(file: string, pid: number): (FoundOwner & { readonly place: string }) | undefined {
  try {
    const stat = statPath(file)
    if (stat?.isFile !== true || stat.uid !== process.getuid?.()) return undefined
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
      typeof owner.place === 'string'
    return isWhole ? { ...(owner as Owner & { readonly place: string }), since: stat.mtimeMs } : undefined
  } catch {
    // It has just been removed, or is no word of ours.
    return undefined
  }
}

/**
 * Whether the process of an owner file is surely gone: of one in another container nobody here
 * knows.
 */
function isDead(file: string, pid: number): boolean {
  const owner = parseOwner(file, pid)
  if (owner === undefined) return system.startTime(pid) === undefined
  const here = placeOfPids()
  if (owner.place === here) return isGone(identityOf(owner))
  // After a reboot nothing is left.
  return owner.place.split(' ')[0] !== here.split(' ')[0]
}
