/** A service of several workers under an operator's hands: its programs, and what its slots do. */
import assert from 'node:assert/strict'
import { readdirSync, writeFileSync } from 'node:fs'
import type { Identity } from '../../src/contract/environment.ts'
import type { Status, WorkerStatus } from '../../src/control/status.ts'
import { isGone, system } from '../../src/node/system.ts'
import type { Operator } from './command.ts'
import { portOf } from './command.ts'
import { processesOf } from './faults/left.ts'
import type { Lab } from './lab.ts'
import { connectionClients } from './load/connection-clients.ts'
import { keepAliveClients } from './load/keep-alive-clients.ts'
import type { LoadResult } from './load/tally.ts'
import { eventually } from './waiting.ts'
import { Witnesses } from './witnesses.ts'

const handler = new URL('../fixtures/load-server-handler.js', import.meta.url).href

export type ProgramText = {
  /** It calls `serve()`; else it knows nothing of the library. */
  readonly isServing?: boolean
  /** Lines before it listens; `slot` is the number of the worker, as text. */
  readonly before?: string
  /** Where it listens. */
  readonly where?: string
  /** Lines behind that. */
  readonly behind?: string
}

/**
 * Writes a program that answers the load of test/support/load, and everything else with its
 * version, slot and pid.
 */
export function writeWorker(
  lab: Lab,
  operator: Operator,
  version: string,
  { isServing = false, before = '', where = '{ host: "127.0.0.1", port: 0 }', behind = '' }: ProgramText = {},
  file = 'app.mjs',
): void {
  writeFileSync(
    lab.path(file),
    `import { createServer } from 'node:http'
import { loadHandler } from '${handler}'
${isServing ? `import { serve } from '${operator.library}'` : ''}
const slot = process.env.NODE_APP_INSTANCE
const load = loadHandler('${version}')
const server = createServer({ keepAliveTimeout: 120_000 }, (request, response) => {
  if (request.url.startsWith('/load')) load(request, response)
  else response.end('${version} ' + slot + ' ' + process.pid)
})
const where = ${where}
${before}
${isServing ? 'const daemon = await serve(server, where)' : 'server.listen(where)'}
${behind}
`,
  )
}

/** What each worker of a service is and does, by slot. */
export function slotsOf({ workers = [] }: Status): ReadonlyMap<number, WorkerStatus> {
  return new Map(workers.map((one) => [one.slot, one]))
}

export function pidsOf({ workers = [] }: Status): readonly number[] {
  return workers.map(({ pid = 0 }) => pid)
}

/** Of the worker in a slot, never of nobody. */
export function identityIn(status: Status, slot: number): Identity {
  const pid = slotsOf(status).get(slot)?.pid ?? 0
  const startTime = pid > 1 ? system.startTime(pid) : undefined
  assert.ok(startTime !== undefined && pid !== status.keeper?.pid, `nobody serves in slot ${slot}`)
  return [pid, startTime]
}

export function keeperOf({ keeper }: Status): Identity {
  assert.ok(keeper !== undefined && keeper.pid > 1, 'no keeper')
  return [keeper.pid, keeper.startTime]
}

/** Until so many serve, and nothing else of the service runs but its keeper. */
export async function untilSettled(
  lab: Lab,
  operator: Operator,
  count: number,
  isIt: (status: Status) => boolean = () => true,
  ms?: number,
): Promise<Status> {
  let last: Status | undefined
  return eventually(
    () =>
      `${count} workers and nothing else: ${JSON.stringify(last?.workers)} ${last?.warnings?.map(({ text }) => text)} ${processesOf(
        lab.folder,
      ).map(({ words }) => `\n${words}`)}\n${logsOf(lab)}`,
    async () => {
      const status = await operator.status('app').catch(() => undefined)
      last = status ?? last
      if (status?.keeper === undefined || isGone(keeperOf(status)) || !isIt(status)) return undefined
      const { workers = [] } = status
      const serving = workers.filter(({ state, phase }) => state === 'serving' && phase === 'ready')
      if (serving.length !== count || workers.length !== count) return undefined
      const wanted = [status.keeper.pid, ...pidsOf(status)].sort()
      const found = processesOf(lab.folder).filter(
        ({ pid, words }) => !words.includes('cook-daemon.js') || pid === status.keeper?.pid,
      )
      return String(found.map(({ pid }) => pid).sort()) === String(wanted) ? status : undefined
    },
    ms,
  )
}

/** Until each of so many workers has its share: 1.25 times the mean and 8 at most. */
export async function untilEven(
  operator: Operator,
  wanted: { readonly connections: number; readonly workers: number },
): Promise<void> {
  await eventually('connections that are even', async () => {
    const { workers = [] } = await operator.status('app')
    const counts = workers.map(({ connections }) => connections)
    const sum = counts.reduce((all, one) => all + one, 0)
    const most = (1.25 * sum) / wanted.workers + 8
    return (sum === wanted.connections && counts.every((one) => one <= most)) || undefined
  })
}

/** What each worker says of itself, by slot. */
export async function bodiesOf(status: Status): Promise<readonly string[]> {
  await using clients = new Witnesses(portOf(status), 8)
  const pids = pidsOf(status).map(String)
  const found = await eventually('an answer of each worker', () => {
    const bodies = [...clients.bodies.keys()].filter((body) => pids.includes(body.split(' ')[2] ?? ''))
    return bodies.length === pids.length ? bodies : undefined
  })
  return found.map((body) => body.split(' ').slice(0, 2).join(' ')).sort()
}

/** All that keeper and workers have written. */
export function logsOf(lab: Lab): string {
  const names = readdirSync(lab.path('run')).filter((name) => name.endsWith('.log'))
  return names.map((name) => `${name}:\n${lab.read(`run/${name}`)}`).join('\n')
}

/** Until no process of the test runs any more. */
export async function untilNobody(lab: Lab): Promise<void> {
  await eventually(
    () => `the end of all: ${processesOf(lab.folder).map(({ words }) => words)}`,
    () => processesOf(lab.folder).length === 0 || undefined,
  )
}

/** Clients that never retry, half with one connection for all, half with one for each request. */
export class Loads {
  readonly #all

  constructor(where: Status | string, count = 10) {
    const to = typeof where === 'string' ? { path: where } : { port: portOf(where), host: '127.0.0.1' }
    this.#all = [
      keepAliveClients(to, { count, pause: [0, 5], silence: { every: 5, most: 300 } }),
      connectionClients(to, { count: Math.ceil(count / 4), pause: [0, 5] }),
    ]
  }

  get results(): readonly LoadResult[] {
    return this.#all.map((one) => one.result())
  }

  get faults() {
    return this.results.flatMap(({ faults }) => faults)
  }

  /** Until each kind of client has had more answers, and of this version if it is given. */
  async untilMore(version?: string): Promise<void> {
    const countsOf = () =>
      this.results.map(({ answers, generations }) => (version === undefined ? answers : (generations[version] ?? 0)))
    const before = countsOf()
    await eventually(
      () =>
        `more answers of ${version}: ${JSON.stringify(this.results.map(({ generations, faults }) => [generations, faults.slice(0, 3)]))}`,
      () => countsOf().every((count, index) => count > (before[index] ?? 0) + 20) || undefined,
    )
  }

  /** Ends them, and holds that nothing was lost and nobody had to connect again. */
  async assertNothingLost(why: () => string = () => ''): Promise<void> {
    const [kept, single] = await Promise.all(this.#all.map((one) => one.stop()))
    for (const result of [kept, single]) {
      assert.deepEqual(result?.faults, [], why())
      assert.deepEqual([result?.failures, result?.failedRequests, result?.reconnects], [{}, 0, 0], why())
    }
    assert.equal(kept?.connections, kept?.clients)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const one of this.#all) await one[Symbol.asyncDispose]()
  }
}
