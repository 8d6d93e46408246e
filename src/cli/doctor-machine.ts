/** What `doctor` looks at on the machine, whatever runs on it. */
import { existsSync, readdirSync, readFileSync, statfsSync } from 'node:fs'
import { userInfo } from 'node:os'
import { dirname } from 'node:path'
import { CookError } from '../errors.ts'
import { attempt } from '../node/sessions.ts'
import { statOf } from '../node/system.ts'
import { logFolders } from '../process/log-dir.ts'
import { findRunDirectory, homeOf } from '../process/run-dir.ts'
import { type Finding, type Found, finding } from './findings.ts'
import { isSystemdHere } from './units.ts'

/** statfs(2). */
const tmpfs = 0x01021994
/** Each connection needs one. */
const fewDescriptors = 8_192

export function lookAtMachine(): readonly Finding[] {
  return [
    ...finding('machine', 'node', ['ok', `${process.version} (${process.execPath})`]),
    ...finding('machine', 'run directory', lookAtRunDirectory()),
    ...finding('machine', 'HOME', lookAtHome()),
    ...finding('machine', 'open files', lookAtDescriptors()),
    ...finding('machine', 'zombies', lookAtZombies()),
    ...finding('machine', 'systemd', ['ok', isSystemdHere() ? 'is the init system' : 'is not the init system']),
  ]
}

/** Its files are gone when the machine starts again, and take memory. */
export function isInMemory(path: string): boolean {
  let at = path
  while (!existsSync(at) && at !== dirname(at)) at = dirname(at)
  return attempt(() => statfsSync(at).type === tmpfs) === true
}

function lookAtRunDirectory(): Found | undefined {
  const folder = findRunDirectory(process.env)
  if (folder instanceof CookError) return ['fault', folder.message, folder.help]
  const user = attempt(() => userInfo().username) ?? String(process.geteuid?.())
  const goes = folder.startsWith('/run/user/') && isSystemdHere() && !existsSync(`/var/lib/systemd/linger/${user}`)
  if (!goes) return ['ok', folder]
  const help = `loginctl enable-linger ${user}`
  return ['warning', `${folder} is removed, with all services in it, when ${user} logs out`, help]
}

function lookAtHome(): Found | undefined {
  const home = homeOf(process.env)
  if (home !== undefined) return ['ok', home]
  const [folder] = logFolders(process.env, undefined)
  if (folder !== undefined) return ['ok', 'is not set, and is not needed']
  return [
    'warning',
    'is not set: logs go to the run directory, which may be in memory',
    'Set HOME, XDG_STATE_HOME or --log',
  ]
}

function lookAtDescriptors(): Found | undefined {
  const hard = mostFilesOf('self', 'hard')
  if (hard === undefined) return
  if (hard === 'unlimited' || Number(hard) >= fewDescriptors) return ['ok', `up to ${hard} per process`]
  return [
    'warning',
    `at most ${hard} per process, and each connection needs one`,
    'Raise it: ulimit -Hn, LimitNOFILE= of a unit, --ulimit nofile= of a container',
  ]
}

/** Files that a process may open, now or at most when it asks: a number, or `unlimited`. */
export function mostFilesOf(pid: number | 'self', which: 'soft' | 'hard'): string | undefined {
  const limits = attempt(() => readFileSync(`/proc/${pid}/limits`, 'utf8')) ?? ''
  const [, soft, hard] = /^Max open files +(\S+) +(\S+)/m.exec(limits) ?? []
  return which === 'soft' ? soft : hard
}

/** Those of pid 1 are those that nobody waits for. */
function lookAtZombies(): Found | undefined {
  if (process.platform !== 'linux') return
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name))
  const stats = pids.flatMap((pid) => attempt(() => statOf(Number(pid))) ?? [])
  const left = stats.filter(({ isZombie, parent }) => isZombie && parent === 1)
  const name = attempt(() => readFileSync('/proc/1/comm', 'utf8').trim()) ?? 'pid 1'
  if (left.length === 0) return ['ok', 'none']
  return [
    'warning',
    `pid 1 (${name}) has not reaped ${left.length} exited ${left.length === 1 ? 'process' : 'processes'}`,
    'In a container, run an init as pid 1: docker run --init, or shareProcessNamespace in a pod',
  ]
}
