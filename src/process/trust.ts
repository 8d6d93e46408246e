/** Whether what stands at a path may be a trap that another user has set. */
import { readlinkSync, realpathSync, statSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { fileAt, removeFile, type Stat, statPath } from '../node/stat.ts'

/** Mode of a folder in which nobody removes what is another's, as /tmp (S_ISVTX of inode(7)). */
const sticky = 0o1000

/**
 * Why a file must not be touched; undefined: it may be, or is not there. What stands in a folder in
 * which only we or root can write was put there by one of us. Elsewhere it is ours if it belongs to
 * us or root and has no other name, since anybody may give another user's file a second one. A user
 * in whose folder alone it stands has it as his own.
 */
export function faultAt(file: string, { mayHaveNames = false } = {}): string | undefined {
  const stat = statPath(file)
  return stat === undefined ? undefined : faultOf(file, stat, mayHaveNames)
}

/** The same for what was opened. */
export function faultOf(file: string, stat: Stat, mayHaveNames = false): string | undefined {
  const folder = statSync(dirname(file))
  const isShared = (folder.mode & 0o022) !== 0
  if (isTrusted(folder.uid) && !isShared) return undefined
  const isHis = !isShared && stat.uid === folder.uid && stat.isFile
  if (!isTrusted(stat.uid) && !isHis) {
    const what = stat.isSymlink ? 'it is a symlink that' : 'it'
    return `${what} belongs to user ${stat.uid}, and users other than this one and root can write to its folder`
  }
  // A folder has as many names as it has folders in it.
  const hasNames = stat.nlink > 1 && stat.isFile && !mayHaveNames
  return hasNames ? 'it has a hard link, and others can write to its folder' : undefined
}

/** Whether a user is this one or root: nobody else is believed. */
export function isTrusted(uid: number): boolean {
  return uid === 0 || uid === process.geteuid?.()
}

/** Whether what a user has made in a folder can be exchanged by that user and root alone. */
export function isSafeBase(folder: string): boolean {
  const stat = fileAt(folder)
  if (stat?.isFolder !== true || !isTrusted(stat.uid)) return false
  return (stat.mode & 0o022) === 0 || (stat.mode & sticky) !== 0
}

/** Removes what stands in the way under a name of ours; throws if it is not ours. */
export function removeOwn(file: string): void {
  const fault = faultAt(file, { mayHaveNames: true })
  if (fault !== undefined) throw new Error(`${file} is in the way: ${fault}`)
  removeFile(file)
}

/**
 * Why the way to a file may lead elsewhere in the next moment: a symlink on it is another user's.
 */
export function faultOnTheWay(file: string): string | undefined {
  for (let at = dirname(resolve(file)); at !== dirname(at); at = dirname(at)) {
    if (statPath(at)?.isSymlink !== true) continue
    const fault = faultAt(at)
    if (fault !== undefined) return `${at} on the way to it: ${fault}`
  }
  return undefined
}

/**
 * Why another user could exchange a folder: one above it is his, or one in which he can write and
 * that is not sticky. A folder of our own group is ours, as user private groups have it.
 */
export function faultAbove(folder: string): string | undefined {
  const onTheWay = faultOnTheWay(folder)
  if (onTheWay !== undefined) return onTheWay
  for (let at = dirname(realpathSync(folder)); ; at = dirname(at)) {
    const stat = statSync(at)
    if (!isTrusted(stat.uid)) return `${at} above it belongs to user ${stat.uid}`
    const ofOthers = stat.gid === process.getegid?.() ? 0o002 : 0o022
    if ((stat.mode & ofOthers) !== 0 && (stat.mode & sticky) === 0) return `others can write to ${at} above it`
    if (at === dirname(at)) return undefined
  }
}

/** As of the kernel. */
const mostLinks = 40

/** Who may change a file besides this user and root. */
export type OtherOwner = { readonly uid: number; readonly gid: number }

/**
 * Why somebody else decides what this user reads at a path: the file, a folder above it or a link
 * on the way can be changed or exchanged by him. Of root nobody else's group is believed either.
 */
export function faultOfSource(file: string, other?: OtherOwner, links = 0): string | undefined {
  if (links > mostLinks) return `${file} is a symlink loop`
  for (let at = resolve(file); ; at = dirname(at)) {
    const stat = statPath(at)
    if (stat === undefined) return `${at} does not exist`
    if (!isTrusted(stat.uid) && stat.uid !== other?.uid) return `${at} belongs to user ${stat.uid}`
    if (stat.isSymlink) {
      const fault = faultOfSource(resolve(dirname(at), readlinkSync(at)), other, links + 1)
      if (fault !== undefined) return fault
    } else {
      const isOpen = (stat.mode & othersOf(stat, other)) !== 0
      if (isOpen && !(stat.isFolder && (stat.mode & sticky) !== 0)) return `others can write to ${at}`
      // In a folder such as /tmp anybody may give another user's file a second name.
      if (stat.isFile && stat.nlink > 1 && (statSync(dirname(at)).mode & 0o022) !== 0) return `${at} has a hard link`
    }
    if (at === dirname(at)) return undefined
  }
}

/** The bits of whoever must not write. A user's own group is that user. */
function othersOf({ uid, gid }: Stat, other: OtherOwner | undefined): number {
  const isOwn = uid !== 0 && uid === process.geteuid?.() && gid === process.getegid?.()
  const isOthers = uid === other?.uid && gid === other.gid
  return isOwn || isOthers ? 0o002 : 0o022
}
