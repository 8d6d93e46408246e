/**
 * The slowest answers and the longest silence while upgrades run, beside the same load without
 * them.
 */
import { Lab, type Puppet } from '../test/support/lab.ts'
import { connectionClients } from '../test/support/load/connection-clients.ts'
import { keepAliveClients } from '../test/support/load/keep-alive-clients.ts'
import { smallOnly } from '../test/support/load/requests.ts'
import type { Sizes } from './measure-handover.ts'
import type { Row } from './rows.ts'
import { summarize } from './statistics.ts'

/**
 * Time between two upgrades, in milliseconds: a deployment's own, and as long as the steady part
 * beside it.
 */
const between = 1_000

export async function* measureTail({ rounds, upgrades }: Sizes): AsyncGenerator<Row> {
  const results: Tail[] = []
  for (let round = 0; round < rounds; round++) results.push(await oneRound(upgrades))
  yield {
    what: 'p99.9 keep-alive: with upgrades / without',
    unit: 'x',
    goal: 1.5,
    ...summarize(results.map((one) => one.ratio)),
  }
  yield { what: '  with upgrades', unit: 'ms', ...summarize(results.map((one) => one.busy)) }
  yield { what: '  without', unit: 'ms', ...summarize(results.map((one) => one.steady)) }
  yield { what: 'longest silence with upgrades', unit: 'ms', goal: 25, ...summarize(results.map((one) => one.gap)) }
  yield { what: '  without', unit: 'ms', ...summarize(results.map((one) => one.steadyGap)) }
}

type Tail = {
  readonly ratio: number
  readonly busy: number
  readonly steady: number
  readonly gap: number
  readonly steadyGap: number
}

async function oneRound(upgrades: number): Promise<Tail> {
  await using lab = await Lab.open()
  let server = await lab.start('load-server')
  const { port } = (await server.event('serving')) as { port: number }
  const where = { host: '127.0.0.1', port }
  await using keepAlive = keepAliveClients(where, { count: 100, weights: smallOnly, pause: [5, 25] })
  await using single = connectionClients(where, { count: 20, pause: [5, 25] })
  await Promise.all([keepAlive.ready, single.ready])
  await pause(2_000)
  const from = performance.now()
  await pause(between * upgrades)
  const middle = performance.now()
  for (let done = 0; done < upgrades; done++) {
    server = await upgrade(lab, server)
    await pause(between)
  }
  const to = performance.now()
  const [steady, busy] = [keepAlive.latency({ from, to: middle }), keepAlive.latency({ from: middle, to })]
  const [steadyGap, gap] = [keepAlive.longestGap({ from, to: middle }), keepAlive.longestGap({ from: middle, to })]
  for (const { failures, reconnects } of [await keepAlive.stop(), await single.stop()]) {
    if (Object.keys(failures).length > 0 || reconnects > 0) throw new Error(`failures: ${JSON.stringify(failures)}`)
  }
  return { ratio: busy.p999 / steady.p999, busy: busy.p999, steady: steady.p999, gap, steadyGap }
}

async function upgrade(lab: Lab, old: Puppet): Promise<Puppet> {
  old.kill('SIGUSR2')
  const young = await lab.next()
  await young.event('serving')
  await old.gone
  return young
}

export function pause(ms: number): Promise<void> {
  return new Promise((done) => setTimeout(done, ms))
}
