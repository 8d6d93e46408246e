/** What root does in the name of another user: with the rights of that one alone. */
import type { ChildProcess, SpawnOptions } from 'node:child_process'
import { existsSync } from 'node:fs'
import { isId, type UserRecord } from '../contract/user.ts'

/** `gid` and what follows are not there for a number without an entry. */
export type FoundUser = Pick<UserRecord, 'uid' | 'name' | 'home' | 'shell'> & { readonly gid?: number }

/** By name or number; undefined: there is no such user. For root, which can look as that user. */
export function findUser(named: string): FoundUser | undefined {
  const uid = idOf(named, process.seteuid, process.geteuid)
  if (uid === undefined) return undefined
  try {
    process.seteuid?.(uid)
    const { userInfo } = process.getBuiltinModule('node:os')
    const { gid, username, homedir, shell } = userInfo()
    return { uid, gid, name: username, home: homedir, ...(shell !== null && { shell }) }
  } catch {
    // It has no entry.
    return { uid }
  } finally {
    process.seteuid?.(0)
  }
}

/** The number of a group; undefined: there is none of this name. */
export function findGroup(named: string): number | undefined {
  return idOf(named, process.setegid, process.getegid)
}

/** All groups of a user, with this one as the first. */
export function groupsOf(name: string, gid: number): readonly number[] {
  return restoring(() => {
    // Not in @types/node.
    ;(process as unknown as { initgroups(user: string, group: number): void }).initgroups(name, gid)
    process.setegid?.(gid)
    return process.getgroups?.() ?? [gid]
  })
}

/** The system alone knows a name: for a moment this process is that one. */
function idOf(
  named: string,
  set: ((id: string | number) => void) | undefined,
  get: (() => number) | undefined,
): number | undefined {
  const own = get?.()
  if (set === undefined || get === undefined || own === undefined) return undefined
  try {
    set(named)
    return get()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_UNKNOWN_CREDENTIAL') throw error
    const id = /^\d+$/.test(named) ? Number(named) : undefined
    return isId(id) ? id : undefined
  } finally {
    set(own)
  }
}

/** Does something at once with the rights of this user: a path leads where it may go. */
export function actingAs<Result>({ uid, gid, groups }: UserRecord, act: () => Result): Result {
  return restoring(() => {
    process.setgroups?.([gid, ...groups])
    process.setegid?.(gid)
    process.seteuid?.(uid)
    return act()
  })
}

function restoring<Result>(act: () => Result): Result {
  const [groups = [], gid = 0] = [process.getgroups?.(), process.getegid?.()]
  try {
    return act()
  } finally {
    process.seteuid?.(0)
    process.setegid?.(gid)
    process.setgroups?.([...groups])
  }
}

type Start = { readonly file: string; readonly args: readonly string[] }

/**
 * Starts a program of which nothing is read or run as root: who may have written it, its Node or
 * its folders is that user. Throws where the user may not enter `cwd`.
 */
export function spawnAs(
  user: UserRecord,
  start: Start,
  { cwd, env, ...options }: SpawnOptions & { readonly cwd: string; readonly env: NodeJS.ProcessEnv },
): ChildProcess {
  const { spawn } = process.getBuiltinModule('node:child_process')
  const before = whereWeAre()
  // libuv would go there as root, and so behind folders that are closed to this user.
  actingAs(user, () => process.chdir(cwd))
  try {
    const { file, args, ...how } = startAs(user, start, env)
    return spawn(file, args, { ...options, ...how })
  } finally {
    process.chdir(existsSync(before) ? before : '/')
  }
}

/** Why this user could not run a Node; undefined: nothing keeps them from it. */
export function faultOfNode(user: UserRecord, execPath: string): string | undefined {
  try {
    const { spawnSync } = process.getBuiltinModule('node:child_process')
    const { file, args, ...how } = startAs(user, { file: execPath, args: ['--version'] }, {})
    const { status, stderr, error } = spawnSync(file, args, { ...how, cwd: '/', encoding: 'utf8' })
    return status === 0 ? undefined : (error?.message ?? (stderr.trim() || `exit code ${status}`))
  } catch (error) {
    return (error as Error).message
  }
}

/** Of util-linux; not by $PATH, which may lead into folders of others. */
const setpriv = ['/usr/bin/setpriv', '/bin/setpriv', '/run/current-system/sw/bin/setpriv'] as const

/** What a C library believes, and with it a program that is root still. */
const believed = /^(LD_|MUSL_|GLIBC_|GCONV_PATH$|GETCONF_DIR$|LOCPATH$|NLSPATH$|LANGUAGE$|LANG$|LC_|MALLOC_|TZDIR$)/

/**
 * libuv, which starts what Node spawns, takes all other groups from a process that gets another
 * user (uv__process_child_init in src/unix/process.c), and Node cannot do better. So a user of
 * several groups is made by a program of the system.
 */
function startAs({ uid, gid, groups }: UserRecord, { file, args }: Start, env: NodeJS.ProcessEnv) {
  if (groups.every((group) => group === gid)) return { file, args, env, uid, gid }
  const tool = setpriv.find((path) => existsSync(path))
  if (tool === undefined) {
    throw new Error(`its user is in more than one group, which needs setpriv (util-linux)`)
  }
  const isPlain = ([name]: readonly [string, unknown]) => !believed.test(name)
  const entries = Object.entries(env).filter(([, value]) => value !== undefined)
  const later = entries.filter((one) => !isPlain(one)).map(([name, value]) => `${name}=${value}`)
  const ids = [`--reuid=${uid}`, `--regid=${gid}`, `--groups=${[...new Set([gid, ...groups])].join(',')}`]
  return {
    file: tool,
    args: [...ids, '--', '/usr/bin/env', ...later, file, ...args],
    env: Object.fromEntries(entries.filter(isPlain)),
  }
}

function whereWeAre(): string {
  try {
    return process.cwd()
  } catch {
    // Deleted meanwhile.
    return '/'
  }
}
