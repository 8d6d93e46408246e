/** How a process gives up root, and who another process is. */
import { readFileSync } from 'node:fs'
import type { UserRecord } from '../contract/user.ts'

/**
 * Calls back right before this process becomes another user, while it still is root: what only root
 * can do is done then, or never. What the callback throws keeps nobody from giving up root.
 */
export function beforeRootIsGivenUp(onDrop: (user: number) => void): void {
  if (process.geteuid?.() !== 0) return
  const become = process.seteuid
  for (const name of ['setuid', 'seteuid'] as const) {
    const plain = process[name]
    if (plain === undefined) continue
    process[name] = (id: number | string) => {
      const user = process.geteuid?.() === 0 ? numberOf(id) : undefined
      if (user !== undefined && user !== 0) onDrop(user)
      plain.call(process, id)
    }
  }

  /** Only the system knows a user by name: for a moment this process is that one. */
  function numberOf(id: number | string): number | undefined {
    if (typeof id === 'number') return id
    try {
      become?.call(process, id)
      return process.geteuid?.()
    } catch {
      // There is no such user, which the call will say.
      return undefined
    } finally {
      if (process.geteuid?.() !== 0) become?.call(process, 0)
    }
  }
}

function userFromPs(pid: number): number | undefined {
  const { spawnSync } = process.getBuiltinModule('node:child_process')
  const { stdout, status } = spawnSync('ps', ['-o', 'uid=', '-p', String(pid)], { encoding: 'utf8' })
  return status === 0 ? Number(stdout) : undefined
}

/** As which user a process acts (proc_pid_status(5)); undefined where that cannot be known. */
export function userOf(pid: number): number | undefined {
  try {
    if (process.platform !== 'linux') return userFromPs(pid)
    // Not the owner of /proc/PID: that is root for a process that has changed its user.
    const [, user] = /^Uid:\s+\d+\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? []
    return user === undefined ? undefined : Number(user)
  } catch {
    return undefined
  }
}

/**
 * Whether a process is this user's and no other's, real, effective and saved: one that has given up
 * root and runs a program of root's by its bit is not.
 */
export function isWholly(pid: number, user: number | undefined): boolean {
  if (process.platform !== 'linux') return userOf(pid) === user
  try {
    const [, ...ids] = /^Uid:\s+(\d+)\s+(\d+)\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? []
    return ids.length === 3 && ids.every((id) => Number(id) === user)
  } catch {
    // It is gone.
    return false
  }
}

/** For good. Throws unless nothing of root is left, and then this process must end. */
export function becomeUser({ uid, gid, groups }: UserRecord): void {
  if (process.geteuid?.() !== 0) throw new Error('only root can become another user')
  process.setgroups?.([...new Set([gid, ...groups])])
  process.setgid?.(gid)
  process.setuid?.(uid)
  const ids = [process.getuid?.(), process.geteuid?.(), process.getgid?.(), process.getegid?.()]
  if (String(ids) !== String([uid, uid, gid, gid])) throw new Error(`its ids are ${ids.join(', ')} after that`)
  try {
    process.setuid?.(0)
  } catch {
    // As it must be.
    return
  }
  throw new Error('it could become root again')
}
