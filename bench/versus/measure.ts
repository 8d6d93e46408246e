/**
 * One run of one system: at rest, under load, through upgrades, and how fast it serves beside the
 * same program alone.
 */

import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import autocannon from 'autocannon'
import type { Identity } from '../../src/contract/environment.ts'
import { isAlive } from '../../src/node/system.ts'
import { freePort } from '../../test/support/free-port.ts'
import { eventually } from '../../test/support/waiting.ts'
import type { Felt, LoadPlan, LoadQuestion } from '../programs/versus/load.ts'
import { monotonic } from './clock.ts'
import { programPath, Site } from './site.ts'
import { number, type Service, type System } from './system.ts'

export type Plan = Omit<LoadPlan, 'port'> & {
  /** Processes of the service. */
  readonly workers: number
  readonly runs: number
  readonly upgrades: number
  /** Milliseconds under load before the first upgrade. */
  readonly steady: number
  /** Milliseconds from one upgrade to the next; longer if the system takes longer. */
  readonly every: number
  /** Rounds of requests by turns for the throughput, and how many requests each. */
  readonly rounds: number
  readonly requests: number
}

/** One run; times in milliseconds, memory in megabytes. */
export type Run = {
  readonly felt: Felt
  /** For each upgrade, from its trigger on; null: not before the load ended. */
  readonly firstAnswers: readonly (number | null)[]
  readonly gone: readonly (number | null)[]
  readonly memory: number
  readonly memoryAfter: number
  /** Requests a second, those of the program alone, or of node:cluster, being 1. */
  readonly throughput: readonly number[]
  /** Milliseconds from the begin of the timeline to each trigger. */
  readonly triggers: readonly number[]
}

/** Milliseconds of a step of the timeline, and before the first upgrade. */
export const step = 100
const before = 1_000
/** Milliseconds of rest before the memory of a system is looked at. */
const rest = 1_000

export async function measureOnce(system: System, plan: Plan): Promise<Run> {
  await using site = await Site.open()
  site.deploy('1')
  const service = await system.start(site)
  let current: readonly Identity[] = await untilServing(site, '1', plan.workers)
  await sleep(rest)
  const memory = memoryOf(site.processes())
  const load = await startLoad(site, plan)
  const from = monotonic()
  await sleep(plan.steady)
  const to = monotonic()

  const upgrades: Upgrade[] = []
  for (let done = 0; done < plan.upgrades; done++) {
    const upgrade = await upgradeOnce(site, service, current, `${done + 2}`, plan)
    upgrades.push(upgrade)
    current = upgrade.young
  }
  const end = monotonic()
  await untilGone(upgrades.at(-1))
  // What the old ones have sent is read by then.
  const moved = monotonic() + rest / 2
  await sleep(rest)
  const memoryAfter = memoryOf(site.processes(load.process))
  const gone = upgrades.map(({ at, watch }) => watch.gone && watch.gone - at)
  for (const { watch } of upgrades) watch.end()
  const triggers = upgrades.map(({ at }) => at)
  const begin = (triggers[0] ?? end) - before
  const felt = await load.end({
    steady: { from, to },
    upgrades: { from: begin, to: end },
    afterwards: { from: moved, to: monotonic() },
    versions: Array.from({ length: plan.upgrades + 1 }, (_, at) => String(at + 1)),
    step,
  })
  const throughput = await measureThroughput(site, plan)
  await service.end(current)
  return {
    felt,
    firstAnswers: triggers.map((at, index) => sinceIfAny(felt.firstAnswers[index + 1], at)),
    gone,
    memory,
    memoryAfter,
    throughput,
    triggers: triggers.map((at) => at - begin),
  }
}

type Upgrade = {
  readonly at: number
  /** When the operator had done it. */
  readonly done: number
  readonly watch: Watch
  readonly young: readonly Identity[]
}

async function upgradeOnce(
  site: Site,
  service: Service,
  old: readonly Identity[],
  version: string,
  { every, workers }: Plan,
): Promise<Upgrade> {
  site.deploy(version)
  const at = monotonic()
  const watch = watchEnd(old)
  const pause = sleep(every)
  await service.upgrade(old)
  const done = monotonic()
  await pause
  return { at, done, watch, young: await untilServing(site, version, workers) }
}

/**
 * On a machine that has much else to do it may take longer. An old one may answer now and then
 * until it stops to accept.
 */
function untilServing(site: Site, version: string, workers: number): Promise<Identity[]> {
  const words = `version ${version} to serve in ${number(workers, 'process')}`
  return eventually(
    () => `${words} (log: ${site.log()})`,
    async () => {
      const one = await site.serving()
      const running = site.running(version)
      return one.version === version && running.length === workers ? running : undefined
    },
  )
}

/**
 * The last one too has its time to end: the longest deadline that a system here sets, and some
 * more.
 */
async function untilGone(last: Upgrade | undefined): Promise<void> {
  while (last?.watch.gone === null && monotonic() - last.done < 7_000) await sleep(20)
}

type Watch = { gone: number | null; end(): void }

/**
 * Notes when the last of some processes is gone: a look every few milliseconds, since they are no
 * children of ours.
 */
function watchEnd(identities: readonly Identity[]): Watch {
  const looking = setInterval(() => {
    if (identities.some((one) => isAlive(one))) return
    watch.gone = monotonic()
    watch.end()
  }, 3)
  const watch: Watch = { gone: null, end: () => clearInterval(looking) }
  return watch
}

async function startLoad(
  site: Site,
  { keepAlive, single, webSockets }: Plan,
): Promise<{ readonly process: ChildProcess; end(question: LoadQuestion): Promise<Felt> }> {
  const plan: LoadPlan = { port: site.port, keepAlive, single, webSockets }
  const load = site.spawnWithChannel(programPath('load'), [JSON.stringify(plan)])
  await message(load)
  return {
    process: load,
    async end(question) {
      load.send(question)
      const felt = (await message(load)) as Felt
      if (load.exitCode === null) await once(load, 'exit')
      return felt
    },
  }
}

async function message(child: ChildProcess): Promise<unknown> {
  const ended = once(child, 'exit').then(() => Promise.reject(new Error('the load ended by itself')))
  // Later, it may.
  ended.catch(() => {})
  const [value] = await Promise.race([once(child, 'message'), ended])
  return value
}

/**
 * By turns, so that what slows one down slows the other too. Node alone has several processes by
 * node:cluster.
 */
async function measureThroughput(site: Site, { workers, rounds, requests }: Plan): Promise<number[]> {
  const port = await freePort()
  const program = programPath(workers === 1 ? 'unmodified' : 'cluster')
  const env = { PORT: String(port), BENCH_WORKERS: String(workers) }
  const alone = site.spawn(process.execPath, [program], env)
  await site.serving(port)
  const ratios: number[] = []
  // The first round lets V8 compile what is hot.
  for (let round = -1; round < rounds; round++) {
    const speeds = [0, 0]
    for (const at of round % 2 === 0 ? [0, 1] : [1, 0])
      speeds[at] = await perSecond([site.port, port][at] ?? 0, requests, 10 * workers)
    if (round >= 0) ratios.push((speeds[0] ?? 0) / (speeds[1] ?? 0))
  }
  alone.kill('SIGKILL')
  await once(alone, 'exit')
  return ratios
}

async function perSecond(port: number, requests: number, connections: number): Promise<number> {
  const begin = performance.now()
  const url = `http://127.0.0.1:${port}/load?id=1&size=100&place=0`
  const { errors, non2xx } = await autocannon({ url, connections, amount: requests, sampleInt: 100 })
  if (errors + non2xx > 0) throw new Error(`${errors + non2xx} of ${requests} requests failed`)
  return requests / (performance.now() - begin)
}

/**
 * What all processes hold together, in megabytes: the kernel divides what they share among those
 * that share it.
 */
function memoryOf(pids: readonly number[]): number {
  const kilobytes = pids.map((pid) => {
    try {
      return Number(/^Pss:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1'))?.[1] ?? 0)
    } catch {
      // It has ended since it was found.
      return 0
    }
  })
  return (kilobytes.reduce((sum, one) => sum + one, 0) * 1024) / 1e6
}

function sinceIfAny(time: number | null | undefined, from: number): number | null {
  return typeof time === 'number' ? time - from : null
}
