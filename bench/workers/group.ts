/** The same program in several processes: by this project, by node:cluster, and by PM2. */
import { readFileSync } from 'node:fs'
import type { Identity } from '../../src/contract/environment.ts'
import { isAlive, system as os } from '../../src/node/system.ts'
import { statusOf } from '../../test/support/control.ts'
import { eventually } from '../../test/support/waiting.ts'
import { startCluster } from '../versus/node-alone.ts'
import { cookDaemon, startCommand } from '../versus/ours.ts'
import { pm2, runPm2, startPm2 } from '../versus/pm2.ts'
import { Site, sitesAreOver } from '../versus/site.ts'
import type { Availability, Service } from '../versus/system.ts'

export type Sizes = {
  /** Of all workers of this project, one after the other. */
  readonly upgrades: number
  readonly rounds: number
  /** Of a measurement of throughput. */
  readonly requests: number
  readonly connections: number
  /** Other systems, by name. */
  readonly beside: readonly string[]
}

export type Running = Service & {
  /** Of whom the workers are children. */
  readonly parent: number
  scale?(workers: number): Promise<unknown>
}

export const others = ['cluster', 'pm2'] as const

export type Group = {
  readonly name: 'ours' | (typeof others)[number]
  readonly title: string
  look(): Promise<Availability> | Availability
  start(site: Site, workers: number): Promise<Running>
}

export const ours: Group = {
  name: 'ours',
  title: 'cook-daemon',
  look: () => ({ version: process.version }),
  async start(site, workers) {
    const service = await startCommand(site, 'unmodified', ['--workers', String(workers), '--wait-ready'])
    const { keeper } = await statusOf(site.path('run', 'app.sock'))
    if (keeper === undefined) throw new Error('the service has no keeper')
    return { ...service, parent: keeper.pid, scale: (count) => cookDaemon(site, ['scale', 'app', String(count)]) }
  },
}

export const cluster: Group = {
  name: 'cluster',
  title: 'node:cluster',
  look: () => ({ version: process.version }),
  async start(site, workers) {
    const { primary, ...service } = await startCluster(site, 'close', workers)
    return { ...service, parent: primary.pid ?? 0 }
  },
}

export const pm2Cluster: Group = {
  name: 'pm2',
  title: 'PM2, cluster mode',
  look: () => pm2(1).look(),
  async start(site, workers) {
    const service = await startPm2(site, workers)
    const parent = Number(readFileSync(site.path('pm2', 'pm2.pid'), 'utf8'))
    return { ...service, parent, scale: (count) => runPm2(site, ['scale', 'app', String(count)]) }
  },
}

/** What was started does not outlive `work`. */
export async function withGroup<Value>(
  group: Group,
  workers: number,
  work: (running: Running, site: Site) => Promise<Value>,
): Promise<Value> {
  await using site = await Site.open()
  site.deploy('1')
  const running = await group.start(site, workers)
  await site.serving()
  const value = await work(running, site)
  await running.end(workersOf(running))
  return value
}

/**
 * The same of a system beside ours. Undefined if it is not wanted, and, said, if it is not there or
 * fails: ours has its numbers all the same.
 */
export async function withOther<Value>(
  group: Group,
  { beside }: Sizes,
  workers: number,
  work: (running: Running, site: Site) => Promise<Value>,
): Promise<Value | undefined> {
  if (!beside.includes(group.name)) return undefined
  const found = await group.look()
  if ('missing' in found) {
    console.log(`${group.title}: not measured: ${found.missing}`)
    return undefined
  }
  try {
    return await withGroup(group, workers, work)
  } catch (error) {
    if (sitesAreOver()) throw error
    console.log(`${group.title} failed:`, error)
    return undefined
  }
}

/** The processes that serve, and those that they have replaced and that are not gone. */
export function workersOf({ parent }: Running): Identity[] {
  const children = readFileSync(`/proc/${parent}/task/${parent}/children`, 'latin1').trim().split(' ')
  return children.flatMap((text) => {
    const startTime = text === '' ? undefined : os.startTime(Number(text))
    return startTime === undefined ? [] : [[Number(text), startTime] as const]
  })
}

export async function untilGone(processes: readonly Identity[]): Promise<void> {
  await eventually('the end of the old workers', () => !processes.some((one) => isAlive(one)) || undefined)
}
