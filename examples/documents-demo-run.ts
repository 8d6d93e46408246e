/**
 * `npm run demo:documents`: the demo of the original Go API as a real daemon, under clients that
 * never retry, upgraded twice.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { isAlive, system } from '../src/node/system.ts'

/**
 * DEMO_SHORT=1 shows the same in a moment, for the tests. The original programs accept for 10 s
 * after an upgrade.
 */
const [upgrades, rest, linger] = process.env.DEMO_SHORT === '1' ? [1, 200, 1_000] : [2, 2_000, 10_000]
const folder = mkdtempSync(join(tmpdir(), 'cook-daemon-demo-'))
const log = join(folder, 'log')
const pids = new Set<number>()
const processes: (readonly [pid: number, startTime: string])[] = []
let printed = 0
const failures: string[] = []
let connections = 0
let isOver = false
/** Aborted by ^C: every wait ends, and the demo cleans up. */
const controller = new AbortController()

for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => controller.abort())

process.exitCode = 1
try {
  process.exitCode = await show()
} finally {
  isOver = true
  // The demo of the original Go API ends on no signal but this one.
  for (const identity of processes) system.kill(identity, 'SIGKILL')
  while (processes.some((identity) => isAlive(identity))) await sleep(5)
  rmSync(folder, { recursive: true, force: true })
}

async function show(): Promise<number> {
  const port = await freePort()
  const demo = fileURLToPath(new URL('documents-demo.js', import.meta.url))
  console.log(
    `The demo of the original Go API on 127.0.0.1:${port}: each line begins with the pid of the process that wrote it.\n`,
  )
  const env = { ...process.env, DEMO_LOG: log, DEMO_PORT: String(port), DEMO_LINGER: String(linger) }
  const launcher = spawn(process.execPath, [demo], { env, stdio: ['ignore', 'ignore', 'inherit'] })
  const [code] = await once(launcher, 'exit')
  if (code !== 0) throw new Error(`the daemon did not start: exit code ${code}`)
  const generations = [await daemonPid(1)]
  // The original launcher does not wait for its daemon, which says that it runs before it listens.
  while (!(await listens(port))) await sleep(20)
  const clients = Promise.all(Array.from({ length: 4 }, () => client(port)))
  await accepted(generations[0])
  for (let upgrade = 1; upgrade <= upgrades; upgrade++) {
    const old = generations.at(-1) ?? 0
    console.log(`\n--- upgrade ${upgrade}: kill -s SIGUSR1 ${old} ---\n`)
    signal(old, 'SIGUSR1')
    const young = await daemonPid(upgrade + 1)
    await until(() => printLog().includes(`${old} execute upgrade`), 'the upgrade')
    await accepted(young)
    generations.push(young)
    await sleep(rest)
  }
  console.log(`\n--- the old generations accept for ${linger / 1_000} s more, as in the original, and leave ---\n`)
  const areGone = () => processes.every((identity) => identity[0] === generations.at(-1) || !isAlive(identity))
  await until(() => printLog() !== '' && areGone(), 'the end of the old generations')
  await accepted(generations.at(-1))
  isOver = true
  await clients
  printLog()
  return verdict(generations)
}

/**
 * Opens one connection after the other, never twice for one purpose, and counts what a user would
 * call a failure.
 */
async function client(port: number): Promise<void> {
  while (!isOver) {
    const socket = connect(port, '127.0.0.1')
    try {
      await once(socket, 'connect')
      socket.resume().end('\n')
      await once(socket, 'close')
      connections++
    } catch (error) {
      failures.push((error as Error).message)
    }
    await sleep(100)
  }
}

async function listens(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1')
  try {
    await once(socket, 'connect')
    return true
  } catch {
    controller.signal.throwIfAborted()
    return false
  } finally {
    socket.destroy()
  }
}

/** The pid of a generation's daemon, which is the n-th to say that it runs. */
async function daemonPid(generation: number): Promise<number> {
  const find = () => [...printLog().matchAll(/^(\d+) daemonized success\. child-daemon/gm)][generation - 1]?.[1]
  await until(() => find() !== undefined, `generation ${generation}`)
  return Number(find())
}

/** Accepting, a process has its signal handlers: the original installs them before. */
async function accepted(pid: number | undefined): Promise<void> {
  const before = count(pid)
  await until(() => count(pid) > before, `a connection accepted by ${pid}`)
}

function count(pid: number | undefined): number {
  return [...printLog().matchAll(new RegExp(`^${pid} \\w+ listener accept`, 'gm'))].length
}

/** Prints what the log has gained, and gives all of it. */
function printLog(): string {
  const text = readFileSync(log, 'utf8')
  process.stdout.write(text.slice(printed))
  printed = text.length
  for (const [, digits] of text.matchAll(/^(\d+) /gm)) {
    const pid = Number(digits)
    const startTime = pids.has(pid) ? undefined : system.startTime(pid)
    if (startTime !== undefined) processes.push([pid, startTime])
    pids.add(pid)
  }
  return text
}

function verdict(generations: readonly number[]): number {
  console.log('\ngeneration  process  connections accepted')
  for (const [index, pid] of generations.entries()) {
    console.log(`${String(index + 1).padEnd(10)}  ${String(pid).padEnd(7)}  ${count(pid)}`)
  }
  for (const failure of new Set(failures)) console.log(`failed: ${failure}`)
  const isGood = failures.length === 0 && generations.every((pid) => count(pid) > 0)
  const what = `${upgrades} upgrades, ${connections} connections, ${failures.length} refused or reset`
  console.log(`\n${isGood ? '✓' : '✗'} ${what}`)
  return isGood ? 0 : 1
}

function signal(pid: number, name: NodeJS.Signals): void {
  const identity = processes.find(([one]) => one === pid)
  if (identity !== undefined) system.kill(identity, name)
}

async function until(isTrue: () => boolean, name: string): Promise<void> {
  const end = performance.now() + 60_000
  while (!isTrue()) {
    controller.signal.throwIfAborted()
    if (performance.now() > end) throw new Error(`waited in vain for ${name}`)
    await sleep(20)
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  return port
}
