/**
 * How fast connections move with many on the way at once, beside two at a time, on a quiet machine
 * and on a busy one. Both in one run, by turns.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { Lab } from '../test/support/lab.ts'
import { connectionClients } from '../test/support/load/connection-clients.ts'
import { keepAliveClients } from '../test/support/load/keep-alive-clients.ts'
import { smallOnly } from '../test/support/load/requests.ts'
import { openIdle, type Sizes } from './measure-handover.ts'
import { pause } from './measure-tail.ts'
import { programFile } from './processes.ts'
import type { Row } from './rows.ts'
import { ratio, summarize } from './statistics.ts'

const neighbours = 4

/** Two at a time is what the library falls back to, and what it did before. */
const ways = { many: {}, two: { NODE_OPTIONS: `--require ${programFile('two-at-a-time', 'CommonJS')}` } } as const
type Way = keyof typeof ways

export async function* measureMoves({ connections, rounds }: Sizes): AsyncGenerator<Row> {
  for (const busy of [0, neighbours]) {
    const speeds = await byTurns(rounds, (way) => moveIdle(way, connections, busy))
    const where = busy === 0 ? 'quiet machine' : `${busy} busy neighbours`
    yield {
      what: `time, ${where}: many on the way / two`,
      unit: 'x',
      goal: busy === 0 ? 0.77 : 0.5,
      ...summarize(speeds.many.map((speed, at) => ratio(speeds.two[at] ?? 0, speed))),
    }
    yield { what: '  connections a second, many', unit: '', ...summarize(speeds.many) }
    yield { what: '  connections a second, two', unit: '', ...summarize(speeds.two) }
  }
}

/** Two cores with nothing left: the clients never pause. */
export async function* measureSaturated({ rounds, upgrades }: Sizes): AsyncGenerator<Row> {
  const results = await byTurns(rounds, (way) => upgradeSaturated(way, upgrades))
  for (const way of ['many', 'two'] as const) {
    const goal = (value: number) => (way === 'many' ? { goal: value } : {})
    const drains = results[way].map(({ drain }) => drain)
    const tails = results[way].map(({ tail }) => tail)
    yield { what: `${way}: from the commit to no connection`, unit: 'ms', ...goal(200), ...summarize(drains) }
    yield { what: `${way}: p99.9 with upgrades / without`, unit: 'x', ...goal(1.5), ...summarize(tails) }
  }
}

/** One way and the other, so that both see the same hour of the machine. */
async function byTurns<Value>(rounds: number, measure: (way: Way) => Promise<Value>): Promise<Record<Way, Value[]>> {
  const results: Record<Way, Value[]> = { many: [], two: [] }
  for (let round = 0; round < rounds; round++) {
    for (const way of ['two', 'many'] as const) results[way].push(await measure(way))
  }
  return results
}

/** Connections a second, from the commit to the end of the drain on the old process's clock. */
async function moveIdle(way: Way, connections: number, busy: number): Promise<number> {
  await using lab = await Lab.open()
  const old = await lab.start('load-server', { env: { LOAD_KEEP_ALIVE: '60000', ...ways[way] } })
  const { port } = (await old.event('serving')) as { port: number }
  const sockets = await openIdle(port, connections)
  const loops = Array.from({ length: busy }, () => spawn(process.execPath, ['-e', 'for (;;);'], { stdio: 'ignore' }))
  try {
    const { report, took } = await upgrade(lab, old)
    if (report.handedOver !== connections) throw new Error(`${report.handedOver} of ${connections} moved`)
    return connections / (took / 1_000)
  } finally {
    for (const loop of loops) await endLoop(loop)
    for (const socket of sockets) socket.destroy()
  }
}

async function upgradeSaturated(way: Way, upgrades: number): Promise<{ drain: number; tail: number }> {
  await using lab = await Lab.open()
  let server = await lab.start('load-server', { env: ways[way] })
  const { port } = (await server.event('serving')) as { port: number }
  const where = { host: '127.0.0.1', port }
  await using keepAlive = keepAliveClients(where, { count: 100, weights: smallOnly, pause: [0, 0] })
  await using single = connectionClients(where, { count: 20, pause: [0, 0] })
  await Promise.all([keepAlive.ready, single.ready])
  await pause(2_000)
  const from = performance.now()
  await pause(1_000 * upgrades)
  const middle = performance.now()
  const drains: number[] = []
  for (let done = 0; done < upgrades; done++) {
    const { young, took } = await upgrade(lab, server)
    drains.push(took)
    await server.gone
    server = young
    await pause(1_000)
  }
  const steady = keepAlive.latency({ from, to: middle })
  const during = keepAlive.latency({ from: middle })
  for (const { failures, reconnects } of [await keepAlive.stop(), await single.stop()]) {
    if (Object.keys(failures).length > 0 || reconnects > 0) throw new Error(`failures: ${JSON.stringify(failures)}`)
  }
  return { drain: summarize(drains).median, tail: during.p999 / steady.p999 }
}

type Told = { readonly at: number; readonly report: { readonly handedOver: number } }

async function upgrade(lab: Lab, old: Awaited<ReturnType<Lab['next']>>) {
  old.kill('SIGUSR2')
  const young = await lab.next()
  const committed = (await old.event('upgraded')) as Told
  const { at, report } = (await old.event('drained')) as Told
  return { young, report, took: at - committed.at }
}

async function endLoop(loop: ChildProcess): Promise<void> {
  const ended = new Promise((done) => loop.once('exit', done))
  loop.kill('SIGKILL')
  await ended
}
