/** How many keep-alive connections each of eight workers has, and how soon those are even. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { keepAliveClients } from '../../test/support/load/keep-alive-clients.ts'
import { smallOnly } from '../../test/support/load/requests.ts'
import { eventually, within } from '../../test/support/waiting.ts'
import { pause } from '../measure-tail.ts'
import type { Row } from '../rows.ts'
import { summarize } from '../statistics.ts'
import type { Site } from '../versus/site.ts'
import { cluster, ours, type Running, type Sizes, withGroup, withOther, workersOf } from './group.ts'

const workers = 8
/** Milliseconds for them to become even, and to stay so. */
const [patience, after] = [60_000, 2_000] as const

export async function* measureEvenness(sizes: Sizes): AsyncGenerator<Row> {
  const { rounds, connections } = sizes
  const most = (connections / workers) * 1.25 + 8
  const round = (first: number) => withGroup(ours, first, (running, site) => evenOut(running, site, connections, most))
  for (const [title, first] of [
    ['with as many workers from the start', workers],
    ['that one worker had, after scale 1 -> 8', 1],
  ] as const) {
    const found: Evened[] = []
    for (let done = 0; done < rounds; done++) found.push(await round(first))
    const of = (name: keyof Evened) => summarize(found.map((one) => one[name]))
    yield { what: `${title}: most at first / allowed`, unit: 'x', ...of('first') }
    yield { what: '  most afterwards / allowed', unit: 'x', goal: 1, ...of('last') }
    yield { what: '  until they were even', unit: 'ms', ...of('took') }
    yield { what: '  failed', unit: '', goal: 0, ...of('failed') }
    yield { what: '  connections lost', unit: '', goal: 0, ...of('ended') }
  }
  const other = await withOther(cluster, sizes, workers, (running, site) => firstCounts(running, site, connections))
  if (other === undefined) return
  yield { what: 'node:cluster, which deals them out: most / allowed', unit: 'x', ...summarize([other / most]) }
}

type Evened = Record<'first' | 'last' | 'took' | 'failed' | 'ended', number>

async function evenOut(running: Running, site: Site, count: number, most: number): Promise<Evened> {
  await using clients = clientsOf(site, count)
  await within('the connections of the clients', clients.ready, patience)
  // They even out from now on.
  if (workersOf(running).length < workers) await running.scale?.(workers)
  const begin = performance.now()
  const first = Math.max(...(await allCounts(running, site, count)))
  await eventually('even counts', () => mostOf(running, site) <= most || undefined, patience)
  const took = performance.now() - begin
  await pause(after)
  const last = mostOf(running, site)
  const { failedRequests, failedClients } = await within('the last answers', clients.stop(), patience)
  return { first: first / most, last: last / most, took, failed: failedRequests, ended: failedClients }
}

async function firstCounts(running: Running, site: Site, count: number): Promise<number> {
  await using clients = clientsOf(site, count)
  await within('the connections of the clients', clients.ready, patience)
  return Math.max(...(await allCounts(running, site, count)))
}

function clientsOf({ port }: Site, count: number) {
  return keepAliveClients({ host: '127.0.0.1', port }, { count, weights: smallOnly, pause: [50, 150] })
}

/** Those that wait in the queue, or are on the way from a primary, are nobody's yet. */
function allCounts(running: Running, site: Site, count: number): Promise<number[]> {
  return eventually('each connection to have a worker', () => {
    const counts = countsOf(running, site)
    return counts.reduce((sum, one) => sum + one, 0) >= count ? counts : undefined
  })
}

/** Connections of each worker, as the kernel knows them. */
function countsOf(running: Running, { port }: Site): number[] {
  const [first] = workersOf(running)
  const open = connectionsTo(port, first?.[0] ?? 0)
  return workersOf(running).map(([pid]) => socketsOf(pid).filter((inode) => open.has(inode)).length)
}

function mostOf(running: Running, site: Site): number {
  return Math.max(...countsOf(running, site))
}

/**
 * proc_pid_net(5): local address in column 2, state 01 = ESTABLISHED in column 4, inode in column
 * 10.
 */
function connectionsTo(port: number, pid: number): ReadonlySet<string> {
  const lines = readFileSync(`/proc/${pid}/net/tcp`, 'latin1').split('\n')
  const columns = lines.map((line) => line.trim().split(/\s+/))
  const end = `:${port.toString(16).toUpperCase().padStart(4, '0')}`
  return new Set(
    columns.flatMap(([, local, , state, , , , , , inode = '']) =>
      local?.endsWith(end) && state === '01' ? [inode] : [],
    ),
  )
}

function socketsOf(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
      const inode = /^socket:\[(\d+)\]$/.exec(linkOf(`/proc/${pid}/fd/${fd}`))?.[1]
      return inode === undefined ? [] : [inode]
    })
  } catch {
    // It has ended since it was found.
    return []
  }
}

function linkOf(path: string): string {
  try {
    return readlinkSync(path)
  } catch {
    // Closed meanwhile.
    return ''
  }
}
