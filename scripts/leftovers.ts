/**
 * Finds what a run of the tests left behind, says what it is, and ends it. Processes are seen on
 * Linux only, files everywhere.
 */
import { readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

/**
 * Time for what is on its way out when the last test ends, in milliseconds. A Node that still boots
 * needs all of it on a busy machine.
 */
const patience = 5_000
/** Time for a killed process to be gone, in milliseconds. */
const killGrace = 5_000

type Stat = { readonly state: string; readonly parent: number; readonly startTime: string }
type Found = { readonly pid: number; readonly startTime: string; readonly words: string }

/**
 * Everything that carries `mark` in its environment, command line or working directory, zombies of
 * this process, and files in `folder`: one line for each. All of it is gone when this returns, and
 * so is the folder.
 */
export async function removeLeftovers(
  mark: string,
  folder: string,
  { grace = patience }: { readonly grace?: number } = {},
): Promise<readonly string[]> {
  const left: string[] = []
  if (process.platform === 'linux') {
    await untilNone(mark, grace)
    const seen = new Set<string>()
    // More than once: what is killed may have started another one a moment before.
    for (let round = 0; round < 3; round += 1) {
      const found = findMarked(mark)
      for (const { words } of found) seen.add(words)
      for (const one of found) kill(one, mark)
      if (found.length > 0) await untilNone(mark, killGrace)
    }
    left.push(...seen, ...findMarked(mark).map(({ pid }) => `process ${pid}, which SIGKILL does not end`))
    left.push(...zombies())
  }
  const files = attempt(() => readdirSync(folder, { recursive: true, encoding: 'utf8' }), [])
  // Node 22 and later keep compiled code there for programs that ask for it, as tsc does.
  const ours = files.filter((name) => !name.startsWith('node-compile-cache'))
  left.push(...ours.map((name) => join(folder, name)))
  rmSync(folder, { recursive: true, force: true })
  return left
}

async function untilNone(mark: string, ms: number): Promise<boolean> {
  const deadline = performance.now() + ms
  // A zombie too needs a moment: libuv reaps it when it comes to it.
  while (findMarked(mark).length > 0 || zombies().length > 0) {
    if (performance.now() > deadline) return false
    await sleep(20)
  }
  return true
}

export function findMarked(mark: string): readonly Found[] {
  const spared = ancestors()
  return pids().flatMap((pid) => {
    const stat = readStat(pid)
    if (stat === undefined || stat.state === 'Z' || spared.has(pid) || !isMarked(pid, mark)) return []
    return [{ pid, startTime: stat.startTime, words: describe(pid) }]
  })
}

/**
 * A daemon may have been given another environment, so that its folder or its arguments have to
 * tell.
 */
function isMarked(pid: number, mark: string): boolean {
  return (
    read(`/proc/${pid}/environ`).includes(mark) ||
    read(`/proc/${pid}/cmdline`).includes(mark) ||
    link(`/proc/${pid}/cwd`).includes(mark)
  )
}

function describe(pid: number): string {
  const command = read(`/proc/${pid}/cmdline`).replaceAll('\0', ' ').trim()
  const ports = listeningPorts(pid)
  const listens = ports.length > 0 ? ` (listens on port ${ports.join(', ')})` : ''
  return `process ${pid}${listens}: ${command}`
}

/**
 * proc_pid_net(5): local address in column 2, state 0A = LISTEN in column 4, inode in column 10.
 */
function listeningPorts(pid: number): readonly number[] {
  const sockets = new Set(names(`/proc/${pid}/fd`).map((fd) => link(`/proc/${pid}/fd/${fd}`)))
  return ['tcp', 'tcp6']
    .flatMap((table) => read(`/proc/${pid}/net/${table}`).split('\n'))
    .map((line) => line.trim().split(/\s+/))
    .filter((column) => column[3] === '0A' && sockets.has(`socket:[${column[9]}]`))
    .map((column) => Number.parseInt(column[1]?.split(':')[1] ?? '', 16))
}

/** Checked again right before the signal: a pid may belong to somebody else by now. */
function kill({ pid, startTime }: Found, mark: string): void {
  if (readStat(pid)?.startTime !== startTime || !isMarked(pid, mark)) return
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It ended by itself in between.
  }
}

function zombies(): readonly string[] {
  return pids()
    .filter((pid) => {
      const stat = readStat(pid)
      return stat?.state === 'Z' && stat.parent === process.pid
    })
    .map((pid) => `zombie ${pid}`)
}

/** This process and those that started it, whose environment may hold the mark of an outer run. */
function ancestors(): ReadonlySet<number> {
  const all = new Set<number>()
  for (let pid = process.pid; pid > 0 && !all.has(pid); pid = readStat(pid)?.parent ?? 0) all.add(pid)
  return all
}

/**
 * proc_pid_stat(5): the name in parentheses may hold anything, so what counts begins behind the
 * last one.
 */
function readStat(pid: number): Stat | undefined {
  const text = read(`/proc/${pid}/stat`)
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  const [state, parent, startTime] = [fields[0], fields[1], fields[19]]
  if (state === undefined || parent === undefined || startTime === undefined) return undefined
  return { state, parent: Number(parent), startTime }
}

function pids(): readonly number[] {
  return names('/proc').map(Number).filter(Number.isInteger)
}

function names(folder: string): readonly string[] {
  return attempt(() => readdirSync(folder), [])
}

function read(file: string): string {
  return attempt(() => readFileSync(file, 'latin1'), '')
}

function link(file: string): string {
  return attempt(() => readlinkSync(file), '')
}

/**
 * A process may end between two looks at it, and another user's cannot be looked into: neither is
 * ours.
 */
function attempt<Value>(look: () => Value, otherwise: Value): Value {
  try {
    return look()
  } catch {
    return otherwise
  }
}
