/** The same program in several processes: by this project, by node:cluster, and by PM2. */
import { readFileSync } from 'node:fs'
import type { Identity } from '../../src/contract/environment.ts'
import { isAlive, system as os } from '../../src/node/system.ts'
import { statusOf } from '../../test/support/control.ts'
import { eventually, within } from '../../test/support/waiting.ts'
import { messageFrom } from '../processes.ts'
import { cookDaemon } from '../versus/ours.ts'
import { pm2, runPm2, startPm2 } from '../versus/pm2.ts'
import { programPath, Site, sitesAreOver } from '../versus/site.ts'
import type { Availability } from '../versus/system.ts'

export type Sizes = {
  /** Of all workers of this project, one after the other. */
  readonly upgrades: number
  /** Of each other system. */
  readonly reloads: number
  readonly rounds: number
  /** Of a measurement of throughput. */
  readonly requests: number
  readonly connections: number
  /** Other systems, by name. */
  readonly beside: readonly string[]
}

export type Running = {
  /** Of whom the workers are children. */
  readonly parent: number
  /** What the operator does to replace all workers, until they are told that it is done. */
  upgrade(): Promise<unknown>
  scale?(workers: number): Promise<unknown>
  end(): Promise<unknown> | unknown
}

export const others = ['cluster', 'pm2'] as const

export type Group = {
  readonly name: 'ours' | (typeof others)[number]
  readonly title: string
  look(): Promise<Availability> | Availability
  start(site: Site, workers: number): Promise<Running>
}

/** Milliseconds for what a primary reports. */
const patience = 120_000

export const ours: Group = {
  name: 'ours',
  title: 'cook-daemon',
  look: () => ({ version: process.version }),
  async start(site, workers) {
    const options = ['--name', 'app', '--wait-ready', '--workers', String(workers)]
    await cookDaemon(site, ['start', programPath('unmodified'), ...options])
    const { keeper } = await statusOf(site.path('run', 'app.sock'))
    if (keeper === undefined) throw new Error('the service has no keeper')
    return {
      parent: keeper.pid,
      upgrade: () => cookDaemon(site, ['upgrade', 'app']),
      scale: (count) => cookDaemon(site, ['scale', 'app', String(count)]),
      end: () => cookDaemon(site, ['stop', 'app']),
    }
  },
}

export const clusterClose = clusterGroup('node:cluster, server.close()', 'close')
export const clusterSoft = clusterGroup('node:cluster, Connection: close', 'soft')

export const pm2Cluster: Group = {
  name: 'pm2',
  title: 'PM2, cluster mode',
  look: pm2.look,
  async start(site, workers) {
    await startPm2(site, workers)
    return {
      parent: Number(readFileSync(site.path('pm2', 'pm2.pid'), 'utf8')),
      upgrade: () => runPm2(site, ['reload', 'app']),
      scale: (count) => runPm2(site, ['scale', 'app', String(count)]),
      end: () => runPm2(site, ['kill']),
    }
  },
}

function clusterGroup(title: string, drain: 'close' | 'soft'): Group {
  return {
    name: 'cluster',
    title,
    look: () => ({ version: process.version }),
    async start(site, workers) {
      const env = { BENCH_DRAIN: drain, BENCH_WORKERS: String(workers) }
      const primary = site.spawn(process.execPath, [programPath('cluster')], env, 'ipc')
      await within('the workers to listen', messageFrom(primary), patience)
      return {
        parent: primary.pid ?? 0,
        async upgrade() {
          const reloaded = messageFrom(primary)
          primary.kill('SIGUSR2')
          await within('the end of the reload', reloaded, patience)
        },
        // The workers of a primary that has ended end by themselves.
        end: () => primary.kill('SIGTERM'),
      }
    },
  }
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
  await running.end()
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
