/**
 * How fast idle keep-alive connections move, what those feel that wait, and what it costs the old
 * process.
 */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { fileURLToPath } from 'node:url'
import { Lab } from '../test/support/lab.ts'
import { keepAliveClients } from '../test/support/load/keep-alive-clients.ts'
import { smallOnly } from '../test/support/load/requests.ts'
import type { Row } from './rows.ts'
import { ratio, summarize } from './statistics.ts'

export type Sizes = { readonly connections: number; readonly rounds: number; readonly upgrades: number }

export async function* measureHandover({ connections, rounds }: Sizes): AsyncGenerator<Row> {
  const ours: Moving[] = []
  const busy: Moving[] = []
  const bare: number[] = []
  for (let round = 0; round < rounds; round++) {
    ours.push(await moveWithServe(connections, 1))
    bare.push(await moveWithBareLoop(connections))
    busy.push(await moveWithServe(connections, 10))
  }
  const speeds = ours.map(({ perSecond }) => perSecond)
  yield {
    what: 'time: serve() / the bare loop',
    unit: 'x',
    goal: 1,
    ...summarize(speeds.map((one, at) => ratio(bare[at] ?? 0, one))),
  }
  yield { what: '  connections a second, serve()', unit: '', ...summarize(speeds) }
  yield { what: '  connections a second, bare loop', unit: '', ...summarize(bare) }
  yield {
    what: '  connections a second, 10 clients busy',
    unit: '',
    ...summarize(busy.map(({ perSecond }) => perSecond)),
  }
  yield { what: 'p99 of busy clients: during / steady', unit: 'x', goal: 3, ...summarize(busy.map(({ p99 }) => p99)) }
  yield { what: 'old process gone after the last', unit: 'ms', goal: 200, ...summarize(ours.map(({ gone }) => gone)) }
  yield {
    what: 'memory of the old process: most / before',
    unit: 'x',
    goal: 1.1,
    ...summarize(ours.map((one) => one.memory)),
  }
}

type Moving = { readonly perSecond: number; readonly p99: number; readonly gone: number; readonly memory: number }

/** With one client beside them that asks now and then, or with some that never stop. */
async function moveWithServe(connections: number, count: 1 | 10): Promise<Moving> {
  await using lab = await Lab.open()
  const old = await lab.start('load-server', { env: { LOAD_KEEP_ALIVE: '60000' } })
  const { port } = (await old.event('serving')) as { port: number }
  const sockets = await openIdle(port, connections)
  await using load = keepAliveClients(
    { host: '127.0.0.1', port },
    { count, weights: smallOnly, pause: count === 1 ? [50, 50] : [1, 5] },
  )
  await load.ready
  const from = performance.now()
  await untilAnswers(load, count === 1 ? 20 : 2_000)
  const memory = residentMemory(old.pid)
  const steady = load.latency({ from })
  old.kill('SIGUSR2')
  const young = await lab.next()
  await young.event('serving')
  const started = performance.now()
  let most = memory
  const watch = setInterval(() => {
    most = Math.max(most, residentMemory(old.pid))
  }, 20)
  const { report } = (await old.event('drained')) as { report: { handedOver: number } }
  const ended = performance.now()
  clearInterval(watch)
  await old.gone
  const gone = performance.now() - ended
  const during = load.latency({ from: started, to: ended })
  const { failures } = await load.stop()
  if (report.handedOver < connections || Object.keys(failures).length > 0) {
    throw new Error(`${report.handedOver} of ${connections} moved, failures: ${JSON.stringify(failures)}`)
  }
  for (const socket of sockets) socket.destroy()
  return {
    perSecond: report.handedOver / ((ended - started) / 1_000),
    p99: during.p99 / steady.p99,
    gone,
    memory: most / memory,
  }
}

/**
 * The same connections, sent by a program that does nothing else: a handle, its acknowledgement,
 * the next.
 */
async function moveWithBareLoop(connections: number): Promise<number> {
  const program = fileURLToPath(new URL('programs/bare-loop.js', import.meta.url))
  const child = fork(program, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  try {
    const [port] = (await once(child, 'message')) as [number]
    const sockets = await openIdle(port, connections)
    child.send('go')
    const [perSecond] = (await once(child, 'message')) as [number]
    for (const socket of sockets) socket.destroy()
    return perSecond
  } finally {
    child.kill('SIGKILL')
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
  }
}

/** Connections that have had one answer each. */
export async function openIdle(port: number, count: number): Promise<Socket[]> {
  const sockets: Socket[] = []
  while (sockets.length < count) {
    const batch = Array.from({ length: Math.min(200, count - sockets.length) }, () => openOne(port))
    sockets.push(...(await Promise.all(batch)))
  }
  return sockets
}

async function openOne(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1')
  await once(socket, 'connect')
  socket.write('GET /load?id=1&size=1&place=0 HTTP/1.1\r\nHost: localhost\r\n\r\n')
  await once(socket, 'data')
  return socket
}

async function untilAnswers(load: { result(): { readonly answers: number } }, count: number): Promise<void> {
  while (load.result().answers < count) await new Promise((done) => setTimeout(done, 20))
}

function residentMemory(pid: number): number {
  try {
    return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0)
  } catch {
    // It has ended since the last look.
    return 0
  }
}
