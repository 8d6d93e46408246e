/** What the system tells of this process and of others, beside who they are. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import type { Identity } from '../contract/environment.ts'
import { isAlive, isGone } from './system.ts'

/**
 * Resolves to true when these processes are gone, to the last thread; to false if that takes longer
 * than so many milliseconds. No event tells the end of a process that is not our child: it is
 * looked for, and less often the longer it takes.
 */
export async function untilGone(identities: readonly Identity[], ms: number): Promise<boolean> {
  const begin = performance.now()
  while (!identities.every(isGone)) {
    const passed = performance.now() - begin
    if (passed > ms) return false
    await new Promise((done) => setTimeout(done, Math.min(20, 1 + passed / 50)))
  }
  return true
}

/** How long a process that exits may take from the end of its link to its own, in milliseconds. */
const longestEnd = 2_000

/** Whether the process at the other end of a link still lives after that has ended. */
export async function livesOn(identity: Identity): Promise<boolean> {
  return !(await untilGone([identity], longestEnd)) && isAlive(identity)
}

/**
 * Bytes of memory that this process has in use; 0 if there is no descriptor left to find out with.
 */
export function residentMemory(): number {
  try {
    return process.memoryUsage.rss()
  } catch {
    return 0
  }
}

/**
 * What a process does at this moment, as ps(1) shows it in one letter; undefined where that cannot
 * be known.
 */
export function processState(pid: number): string | undefined {
  if (process.platform !== 'linux') return undefined
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    return stat[stat.lastIndexOf(')') + 2]
  } catch {
    // No such process.
    return undefined
  }
}

/**
 * What a pid and a start time belong to: this run of the machine, and this container. After a
 * reboot, or where two containers share a folder, the same pair may be a stranger's. Empty where a
 * start time is a date anyway.
 */
export function placeOfPids(): string {
  place ??= process.platform === 'linux' ? findPlace() : ''
  return place
}

/** Kept: a process that has given up root may not look at its own namespace any more. */
let place: string | undefined

function findPlace(): string {
  return `${readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim()} ${readlinkSync('/proc/self/ns/pid')}`
}

/**
 * Milliseconds since the epoch at which a process started, or undefined where that cannot be known.
 */
export function startedAt(startTime: string): number | undefined {
  if (process.platform !== 'linux') return Date.parse(startTime) || undefined
  const uptime = Number(readFileSync('/proc/uptime', 'latin1').split(' ')[0])
  // USER_HZ is 100 on every architecture that Node runs on.
  return Date.now() - uptime * 1000 + Number(startTime) * 10
}

/**
 * Descriptors above 2 that every child of this process would inherit. Node closes the first 16 on
 * exec and those up to the first hole, so one at 200, as in the shell's `flock` idiom, slips
 * through (measured). Linux only; elsewhere none are found.
 */
export function inheritableDescriptors(): readonly number[] {
  if (process.platform !== 'linux') return []
  const closeOnExec = 0o2000000
  return readdirSync('/proc/self/fd')
    .map(Number)
    .filter((fd) => fd > 2 && (descriptorFlags(fd) & closeOnExec) === 0)
}

function descriptorFlags(fd: number): number {
  try {
    const [, flags = '2000000'] = /^flags:\s*(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1')) ?? []
    return Number.parseInt(flags, 8)
  } catch {
    // It was the descriptor of the listing itself, closed by now.
    return 0o2000000
  }
}

/**
 * Calls back when the program makes this process the primary of a cluster: cluster.setupPrimary(),
 * which every fork() calls, listens to `internalMessage` of the process
 * (lib/internal/cluster/primary.js). What the callback throws is thrown by the program's call.
 * Returns what ends the watch.
 */
export function watchClusterPrimary(onPrimary: () => void): () => void {
  const onListener = (name: string | symbol) => {
    if (name === 'internalMessage') onPrimary()
  }
  process.on('newListener', onListener)
  return () => void process.removeListener('newListener', onListener)
}
