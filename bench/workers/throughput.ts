/** Time and processor time of a request with several workers, beside node:cluster with as many. */
import { connect } from 'node:net'
import autocannon from 'autocannon'
import { processorTimeOf } from '../belongings.ts'
import type { Row } from '../rows.ts'
import { compare, ratio, summarize } from '../statistics.ts'
import type { Site } from '../versus/site.ts'
import { cluster, type Group, ours, type Sizes, withGroup } from './group.ts'

/** Connections at a time. */
const atOnce = 40
/** Milliseconds without an answer. */
const deadline = 30_000
/** Rounds in each of `--rounds`; one is over in a second or two. */
const rounds = 4

const kinds = [
  ['keep-alive', keepAlive],
  ['new connections', newConnections],
] as const

export async function* measureThroughput(sizes: Sizes): AsyncGenerator<Row> {
  for (const workers of [2, 4]) yield* beside(workers, sizes)
}

type Cost = { readonly times: number[]; readonly processor: number[] }

async function* beside(workers: number, sizes: Sizes): AsyncGenerator<Row> {
  const costs = await withBoth(workers, async (sites) => {
    const found = kinds.map(() => sites.map((): Cost => ({ times: [], processor: [] })))
    const pids = sites.map((site) => site.processes())
    // The first rounds let V8 compile what is hot.
    for (let round = -2; round < rounds * sizes.rounds; round++) {
      for (const [kind, [, ask]] of kinds.entries()) {
        for (const at of round % 2 === 0 ? [0, 1] : [1, 0]) {
          const [site, cost] = [sites[at], found[kind]?.[at]]
          if (site === undefined || cost === undefined) continue
          const one = await costOf(pids[at] ?? [], () => ask(site.port, sizes.requests))
          if (round < 0) continue
          cost.times.push(one.time / sizes.requests)
          cost.processor.push(one.processor / sizes.requests)
        }
      }
    }
    return found
  })
  for (const [kind, [name]] of kinds.entries()) {
    const [mine, other] = costs[kind] ?? []
    if (mine === undefined || other === undefined) continue
    const what = `${workers} workers, ${name}`
    yield { what: `${what}: time, ours / node:cluster`, unit: 'x', goal: 1, ...compare(mine.times, other.times, ratio) }
    const processor = compare(mine.processor, other.processor, ratio)
    yield { what: '  processor time, ours / node:cluster', unit: 'x', goal: 1, ...processor }
    const thousand = (values: readonly number[]) => summarize(values.map((value) => value * 1_000))
    yield { what: '  1,000 requests: processor time, ours', unit: 'ms', ...thousand(mine.processor) }
    yield { what: '  1,000 requests: processor time, node:cluster', unit: 'ms', ...thousand(other.processor) }
  }
}

/** Both are up at the same time, and one of them has nothing to do. */
function withBoth<Value>(workers: number, work: (sites: readonly Site[]) => Promise<Value>): Promise<Value> {
  const within = (group: Group, next: (site: Site) => Promise<Value>) =>
    withGroup(group, workers, (_, site) => next(site))
  return within(ours, (mine) => within(cluster, (other) => work([mine, other])))
}

/** In milliseconds; the processor time is that of all processes, keeper or primary included. */
async function costOf(
  pids: readonly number[],
  ask: () => Promise<void>,
): Promise<{ readonly time: number; readonly processor: number }> {
  const sum = () => pids.reduce((all, pid) => all + processorTimeOf(pid), 0)
  const [before, begin] = [sum(), performance.now()]
  await ask()
  return { time: performance.now() - begin, processor: sum() - before }
}

async function keepAlive(port: number, amount: number): Promise<void> {
  const url = `http://127.0.0.1:${port}/load?id=1&size=100&place=0`
  const { errors, non2xx } = await autocannon({ url, connections: atOnce, amount, sampleInt: 100 })
  if (errors + non2xx > 0) throw new Error(`${errors + non2xx} of ${amount} requests failed`)
}

async function newConnections(port: number, amount: number): Promise<void> {
  let begun = 0
  const client = async () => {
    while (begun++ < amount) await askOnce(port)
  }
  await Promise.all(Array.from({ length: atOnce }, client))
}

function askOnce(port: number): Promise<void> {
  return new Promise((answered, failed) => {
    let isAnswered = false
    const socket = connect(port, '127.0.0.1')
    socket.write('GET /load?id=1&size=100&place=0 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n')
    socket.setTimeout(deadline, () => socket.destroy())
    socket.on('data', () => {
      isAnswered = true
    })
    socket.once('error', failed).once('close', () => (isAnswered ? answered() : failed(new Error('no answer'))))
  })
}
