/** All that a process has started: the session that it leads. `System.spawn` gives it one. */
import type { ChildProcess } from 'node:child_process'
import { readdirSync } from 'node:fs'
import type { Identity } from '../contract/environment.ts'
import { untilGone } from './processes.ts'
import { isGone, statOf, system } from './system.ts'

/** How long what is told to end may take, in milliseconds, and what is killed. */
const grace = 2_000

/** Of a child that was just spawned: until its exit is told, its pid is nobody else's. */
export function identityOfChild({ pid = 0 }: ChildProcess): Identity {
  return [pid, (process.platform === 'linux' ? attempt(() => statOf(pid).startTime) : system.startTime(pid)) ?? '']
}

/**
 * What lives of the session that a process leads, or led: itself first, and then what it started,
 * the oldest first. What has made a session of its own is on its own. Linux; elsewhere itself.
 */
export function sessionOf(leader: Identity): readonly Identity[] {
  const [pid, startTime] = leader
  // No process of ours: to kill(2) a 0 is the whole group of whoever calls it.
  if (pid <= 1) return []
  const itself = isGone(leader) ? [] : [leader]
  if (process.platform !== 'linux') return itself
  const now = attempt(() => statOf(pid))
  // The kernel gives a pid again only when no session has it as its number: nothing was left then.
  if (now !== undefined && now.startTime !== startTime) return []
  // A command that the service itself has typed must not end with it.
  if (attempt(() => statOf(process.pid).session) === pid) return itself
  const others = pids().flatMap((one): Identity[] => {
    const stat = one === pid ? undefined : attempt(() => statOf(one))
    const isIn = stat?.session === pid && Number(stat.startTime) >= Number(startTime)
    return isIn ? [[one, String(stat.startTime)]] : []
  })
  return [...itself, ...others.filter((one) => !isGone(one)).sort((a, b) => Number(a[1]) - Number(b[1]) || a[0] - b[0])]
}

/** SIGKILL to a process and to all of its session; returns who that was. */
export function killSession(leader: Identity): readonly Identity[] {
  const members = sessionOf(leader)
  // The group at once, so that none of it can start another one in between. With a second member it
  // is its group for sure, and not the job of a shell.
  if (members.some(([pid]) => pid !== leader[0])) attempt(() => process.kill(-leader[0], 'SIGKILL'))
  // And who has left the group, as what timeout(1) runs.
  for (const one of members) system.kill(one, 'SIGKILL')
  return members
}

/**
 * Ends what is left of the session of a process that has ended, or is about to: nothing of it holds
 * a port when this resolves.
 */
export async function endSession(leader: Identity): Promise<void> {
  const members = sessionOf(leader)
  for (const one of members) system.kill(one, 'SIGTERM')
  if (members.length > 0 && (await untilGone(members, grace)) && sessionOf(leader).length === 0) return
  // More than once: what is killed may have started another one a moment before.
  for (let left = killSession(leader); left.length > 0; left = killSession(leader)) {
    if (!(await untilGone(left, grace))) return
  }
}

function pids(): readonly number[] {
  return readdirSync('/proc').map(Number).filter(Number.isInteger)
}

/** A process may end between two looks at it, and another user's cannot be looked into. */
export function attempt<Value>(look: () => Value): Value | undefined {
  try {
    return look()
  } catch {
    return undefined
  }
}
