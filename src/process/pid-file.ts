/** The pid file: written whole or not at all, and never over that of another living process. */
import {
  accessSync,
  closeSync,
  constants,
  ftruncateSync,
  openSync,
  readSync,
  renameSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { dirname } from 'node:path'

import type { Identity } from '../contract/environment.ts'
import { CookError, messageOf } from '../errors.ts'
import { startedAt } from '../node/processes.ts'
import { fileAt, removeFile, statDescriptor, statPath } from '../node/stat.ts'
import { system } from '../node/system.ts'
import { faultAt, faultOnTheWay, removeOwn } from './trust.ts'

/**
 * A clock that is set while the machine runs moves what we compute as the start of a process; file
 * times have ticks of their own.
 */
const slack = 2_000

/** Writes our pid. Throws if the file names a living process that is not one of `own`. */
export function writePidFile(file: string, own: readonly Identity[]): void {
  checkPidFile(file, own)
  replacePidFile(file)
}

/** Throws what keeps us from writing it, as far as that can be seen. */
export function checkPidFile(file: string, own: readonly Identity[]): void {
  const why = faultOnTheWay(file) ?? faultAt(file) ?? faultOfFolder(file)
  if (why !== undefined) throw new CookError('ERR_COOK_PID_FILE', { file, why })
  const owner = livingOwner(file)
  const isOurs = owner === undefined || owner[0] === process.pid || own.some((one) => isSame(one, owner))
  if (!isOurs) throw new CookError('ERR_COOK_PID_FILE_TAKEN', { file, owner: owner[0] })
}

/** It is written beside the file, and takes its place. */
function faultOfFolder(file: string): string | undefined {
  if (statPath(file)?.isFolder === true) return 'it is a folder'
  // Written through its descriptor.
  if (kept.has(file)) return undefined
  try {
    accessSync(dirname(file), constants.W_OK)
    return undefined
  } catch (error) {
    return messageOf(error)
  }
}

/** Puts our pid back after a successor that had written its own has failed. */
export function reclaimPidFile(file: string): void {
  if (readPid(file) === process.pid) return
  try {
    writePidFile(file, [])
  } catch {
    // Its folder is gone, or it names somebody else who lives: the error of the upgrade is the one
    // that must be told.
  }
}

/** Removes the file at the end of a service, if it is still ours. */
export function releasePidFile(file: string): void {
  if (readPid(file) !== process.pid || faultAt(file) !== undefined) return
  const fd = kept.get(file)
  try {
    removeFile(file)
  } catch (error) {
    if (fd === undefined) throw error
    // Its folder is not ours any more: a file without a pid is one of nobody.
    ftruncateSync(fd)
  }
}

/** By path: descriptors of pid files where this process may not, or soon, write by their names. */
const kept = new Map<string, number>()

/**
 * Opens the file for good, and makes it, before this process gives up the right to. Undefined if it
 * is not ours to write: writePidFile() says why.
 */
export function keepPidFile(file: string): number | undefined {
  if (kept.has(file)) return undefined
  const { O_RDWR, O_CREAT, O_NOFOLLOW, O_NONBLOCK } = constants
  try {
    if ((faultOnTheWay(file) ?? faultAt(file)) !== undefined) return undefined
    const fd = openSync(file, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0o644)
    const stat = statDescriptor(fd)
    if (stat?.isFile === true && stat.nlink === 1 && (stat.size === 0 || readPid(file) !== undefined)) {
      kept.set(file, fd)
      return fd
    }
    closeSync(fd)
  } catch {
    // writePidFile() meets the same.
  }
  return undefined
}

/** Takes the descriptor that the predecessor has kept, if it is that of this file. */
export function inheritPidFile(file: string, fd: number): void {
  if (statDescriptor(fd)?.id === fileAt(file)?.id) kept.set(file, fd)
}

/**
 * A reader sees the old file or the new one, and a symlink in its place is replaced, not followed.
 */
function replacePidFile(file: string): void {
  const temporary = `${file}.${process.pid}.tmp`
  let isWritten = false
  try {
    removeOwn(temporary)
    // With x a symlink in its place is not followed.
    writeFileSync(temporary, `${process.pid}\n`, { flag: 'wx', mode: 0o644 })
    isWritten = true
    renameSync(temporary, file)
  } catch (cause) {
    // What was there before was somebody else's; on a full disk it is ours, and empty.
    if (isWritten || isFull(cause)) removeFile(temporary)
    if ((isFull(cause) || kept.has(file)) && overwritePidFile(file)) return
    throw new CookError('ERR_COOK_PID_FILE', { file, why: messageOf(cause) }, { cause })
  }
}

function isFull(cause: unknown): boolean {
  return ['ENOSPC', 'EDQUOT'].includes(String((cause as NodeJS.ErrnoException).code))
}

/**
 * What fits in the block that the file has already: so little goes in one write, and a reader sees
 * the old pid or the new one, with empty lines behind a shorter one.
 */
function overwritePidFile(file: string): boolean {
  const { O_RDWR, O_NOFOLLOW, O_NONBLOCK } = constants
  const own = kept.get(file)
  let fd = own
  try {
    fd ??= openSync(file, O_RDWR | O_NOFOLLOW | O_NONBLOCK)
    const stat = statDescriptor(fd)
    // Through a second name we might write into a file that somebody wants spoilt, and what is no
    // pid file is nothing of ours.
    if (stat?.isFile !== true || stat.nlink !== 1 || (stat.size > 0 && readPid(file) === undefined)) return false
    const text = `${process.pid}\n`.padEnd(stat.size, '\n')
    return writeSync(fd, text, 0) === text.length
  } catch {
    // The error of the usual way is the one to tell.
    return false
  } finally {
    if (fd !== undefined && fd !== own) closeSync(fd)
  }
}

/** A predecessor that is gone may have left its pid to a stranger. */
function isSame(one: Identity, other: Identity): boolean {
  return one[0] === other[0] && one[1] === other[1]
}

/**
 * The process in the file, if it is alive and is older than the file: a younger one has only got
 * the number.
 */
function livingOwner(file: string): Identity | undefined {
  const pid = readPid(file)
  if (pid === undefined) return undefined
  const startTime = system.startTime(pid)
  if (startTime === undefined) return undefined
  const started = startedAt(startTime)
  return started !== undefined && started > statSync(file).mtimeMs + slack ? undefined : [pid, startTime]
}

/**
 * Neither through a symlink nor from what is no file: a pipe or a device in its place would hold
 * us, or never end.
 */
export function readPid(file: string): number | undefined {
  const { O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants
  let fd: number
  try {
    fd = openSync(file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
  } catch {
    // There is none, or it is not for us to read; writing will tell which.
    return undefined
  }
  try {
    if (statDescriptor(fd)?.isFile !== true) return undefined
    const bytes = Buffer.alloc(32)
    const pid = Number(bytes.toString('latin1', 0, readSync(fd, bytes)).trim())
    return Number.isSafeInteger(pid) && pid > 0 ? pid : undefined
  } finally {
    closeSync(fd)
  }
}
