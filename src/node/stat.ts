/** Looking at and removing what may be a socket or a pipe, without a trap for the module loader. */

import type { BigIntStats } from 'node:fs'
import { fstatSync, lstatSync, statSync, unlinkSync } from 'node:fs'

export type Stat = {
  /** What a file is as long as it is there: two that are absent have none, and are not the same. */
  readonly id: string
  readonly ino: number
  readonly uid: number
  readonly gid: number
  readonly mode: number
  readonly nlink: number
  readonly size: number
  readonly mtimeMs: number
  readonly ctimeMs: number
  readonly isFile: boolean
  readonly isFolder: boolean
  readonly isSocket: boolean
  readonly isSymlink: boolean
}

/** Of a path, not of what a symlink there leads to; undefined if nothing is there. */
export function statPath(path: string): Stat | undefined {
  const stat = lstatSync(path, { bigint: true, throwIfNoEntry: false })
  return stat && plain(stat)
}

/** What stands at a path; undefined if nothing does, or if it cannot be looked at. */
export function fileAt(path: string): Stat | undefined {
  try {
    return statPath(path)
  } catch {
    // Something on the way to it is no folder, or not for us to enter.
    return undefined
  }
}

/** Of what a path leads to. */
export function statTarget(path: string): Stat | undefined {
  try {
    const stat = statSync(path, { bigint: true, throwIfNoEntry: false })
    return stat && plain(stat)
  } catch {
    // A folder on the way is closed to us, or symlinks lead in a circle.
    return undefined
  }
}

/** Undefined for a number that is not open. */
export function statDescriptor(fd: number): Stat | undefined {
  try {
    return plain(fstatSync(fd, { bigint: true }))
  } catch {
    return undefined
  }
}

/** Removes a file, if it is there. Not rmSync(), which looks at it with numbers. */
export function removeFile(path: string): void {
  try {
    unlinkSync(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
}

// With bigints: realpathSync() of lib/fs.js looks at the type that the last stat with numbers has
// found, whatever that was of, and stops at a socket or a pipe. import and require() would then
// take a package that is a symlink, as pnpm makes them, without the packages beside its target.
function plain(stat: BigIntStats): Stat {
  return {
    id: `${stat.dev}:${stat.ino}`,
    ino: Number(stat.ino),
    uid: Number(stat.uid),
    gid: Number(stat.gid),
    mode: Number(stat.mode),
    nlink: Number(stat.nlink),
    size: Number(stat.size),
    mtimeMs: Number(stat.mtimeNs) / 1e6,
    ctimeMs: Number(stat.ctimeNs) / 1e6,
    isFile: stat.isFile(),
    isFolder: stat.isDirectory(),
    isSocket: stat.isSocket(),
    isSymlink: stat.isSymbolicLink(),
  }
}
