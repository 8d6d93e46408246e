/**
 * Upgrade after upgrade under load, every third version a bad one; and whether the last generation
 * has more on it than an early one.
 */
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { type AddressInfo, createServer, type Server } from 'node:net'
import { isDeepStrictEqual } from 'node:util'
import { belongingsOf } from '../../bench/belongings.ts'
import { type BadVersion, badVersions } from './bad-versions.ts'
import { drained, type Program } from './daemons.ts'
import { type Descriptors, keptDescriptors } from './descriptors.ts'
import { fixturePath, Lab, type Puppet } from './lab.ts'
import { connectionClients } from './load/connection-clients.ts'
import { keepAliveClients } from './load/keep-alive-clients.ts'
import type { Load } from './load/load.ts'
import { webSocketClients } from './load/web-socket-clients.ts'

export type SoakPlan = {
  /** Good ones; to each two comes one to a version that fails. */
  readonly upgrades: number
  /** After each upgrade. */
  onUpgrade?(progress: SoakProgress): void
  /** Ends it early; what has happened until then is the result. */
  readonly signal?: AbortSignal
}

export type SoakProgress = {
  readonly upgrades: number
  readonly answers: number
  /** So far, in words. */
  readonly faults: readonly string[]
}

export type SoakResult = {
  readonly upgrades: number
  /** By what they did. */
  readonly badVersions: Readonly<Record<string, number>>
  readonly connections: {
    readonly handedOver: number
    readonly served: number
    readonly closed: number
    readonly cut: number
  }
  readonly requests: number
  readonly answers: number
  readonly failedRequests: number
  readonly reconnects: number
  /** Generation 10, or the middle of a shorter run, and the last. */
  readonly early: Generation
  readonly late: Generation
  /**
   * Resident after a full collection, in megabytes, of every generation at the same moment of its
   * life; of each the median of ten.
   */
  readonly memory: { readonly early: number; readonly late: number; readonly growth: number }
  /** What is not as it should be, in words. */
  readonly faults: readonly string[]
}

export type Generation = {
  readonly generation: number
  readonly descriptors: Descriptors
  readonly environment: Environment
}

/** As it was started, without what differs by its nature; and as the program sees it. */
type Environment = { readonly start: readonly string[]; readonly now: readonly string[] }

/** What two cores stand beside the upgrades. */
const clients = { keepAlive: 30, unix: 10, single: 8, ws: 20 }
/**
 * The early generation, and how many from there on, and of the last ones, are weighed for a median.
 */
const earlyGeneration = 10
const weighed = 10
/** The most that memory may grow from the early generations to the last. */
const mostGrowth = 0.05

export async function soak({ upgrades, onUpgrade, signal }: SoakPlan): Promise<SoakResult> {
  await using lab = await Lab.open()
  await using taken = await takePort()
  const bad = badVersions(taken.port)
  // A collection when we ask for it: what lies about until the next one is no measure.
  let server = await lab.start('soak-server', { execArgv: ['--expose-gc'] })
  const { port } = (await server.event('serving')) as { port: number }
  const tcp = { host: '127.0.0.1', port }
  // They pause, so that on two cores there is time for upgrades, which is what there must be many
  // of: what is sent, and when, is as ugly as ever.
  await using keepAlive = keepAliveClients(tcp, { count: clients.keepAlive, pause: [0, 300] })
  await using unix = keepAliveClients({ path: lab.path('socket') }, { count: clients.unix, pause: [0, 300], seed: 2 })
  await using single = connectionClients(tcp, { count: clients.single, pause: [0, 100] })
  await using webSockets = webSocketClients(tcp, { count: clients.ws, pause: [0, 300] })
  const loads = { 'keep-alive': keepAlive, 'Unix path': unix, 'one connection each': single, WebSocket: webSockets }
  await Promise.all(Object.values(loads).map(({ ready }) => ready))

  const faults: string[] = []
  const badCounts: Record<string, number> = {}
  const connections = { handedOver: 0, served: 0, closed: 0, cut: 0 }
  const memory: number[] = [await weigh(server)]
  let early: Generation | undefined
  let done = 0
  while (done < upgrades && signal?.aborted !== true) {
    const isThird = done > 0 && done % 2 === 0
    if (isThird) await upgradeToBad(lab, server, bad[(done / 2 - 1) % bad.length] ?? bad[0], badCounts, faults)
    const { young, report } = await upgradeToGood(lab, server)
    for (const key of ['handedOver', 'served', 'closed', 'cut'] as const) connections[key] += report[key]
    server = young
    done++
    if (lab.read('pid') !== `${server.pid}\n`)
      faults.push(`the pid file of generation ${done + 1} says ${lab.read('pid')}`)
    memory.push(await weigh(server))
    if (done + 1 === Math.min(earlyGeneration, Math.ceil(upgrades / 2))) early = await look(server, done + 1)
    const results = Object.values(loads).map((load) => load.result())
    const answers = results.reduce((sum, one) => sum + one.answers, 0)
    const failures = results.flatMap((one) => one.faults.map(({ kind, words }) => `${kind}: ${words}`))
    onUpgrade?.({ upgrades: done, answers, faults: [...faults, ...failures] })
  }
  const late = await lookUntilSame(server, done + 1, early)
  early ??= late
  const grown = growth(memory)
  for (const [name, load] of Object.entries(loads)) faults.push(...(await faultsOf(name, load)))
  if (connections.cut > 0) faults.push(`${connections.cut} connections were cut`)
  if (!isDeepStrictEqual(late.descriptors, early.descriptors)) faults.push('the last generation has other descriptors')
  if (!isDeepStrictEqual(late.environment, early.environment))
    faults.push('the last generation has another environment')
  if (grown.growth > mostGrowth) faults.push(`memory has grown by ${(grown.growth * 100).toFixed(1)} %`)
  const results = Object.values(loads).map((load) => load.result())
  const sum = (key: 'requests' | 'answers' | 'failedRequests' | 'reconnects') =>
    results.reduce((total, result) => total + result[key], 0)
  return {
    upgrades: done,
    badVersions: badCounts,
    connections,
    requests: sum('requests'),
    answers: sum('answers'),
    failedRequests: sum('failedRequests'),
    reconnects: sum('reconnects'),
    early,
    late,
    memory: grown,
    faults,
  }
}

async function takePort(): Promise<AsyncDisposable & { readonly port: number }> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      server.close()
      await once(server, 'close')
    },
  }
}

async function upgradeToGood(lab: Lab, old: Puppet) {
  const upgrading = old.run(async ({ kept }) => void (await kept.daemon?.upgrade()))
  const [young] = await Promise.all([lab.next(), upgrading])
  await young.event('serving')
  const report = await drained(old)
  await old.gone
  return { young, report }
}

/** It must fail as expected, and the old one must be as before. */
async function upgradeToBad(
  lab: Lab,
  old: Puppet,
  { what, code, args, options }: BadVersion,
  counts: Record<string, number>,
  faults: string[],
): Promise<void> {
  counts[what] = (counts[what] ?? 0) + 1
  const script = args && { script: fixturePath('bad-version'), args }
  const upgrading = old.run(
    ({ kept }, given) =>
      kept.daemon?.upgrade(given).then(
        () => 'no error',
        ({ code: told }) => String(told),
      ),
    { ...options, ...script },
  )
  if (args === undefined) {
    const young = await lab.next()
    await old.event('overlapping')
    // A request that it has in hand dies with it, and no predecessor can know of that one: so it
    // dies between two.
    young.run(dieBetweenRequests).catch(() => {})
  }
  const told = await upgrading
  if (told !== code) faults.push(`a version that ${what}: ${told}, not ${code}`)
  const phase = await old.run(({ kept }) => kept.daemon?.phase)
  if (phase !== 'ready') faults.push(`after a version that ${what} the old one is ${phase}`)
}

/**
 * After its first one, and when none of its connections is open: what still waits in the queue is
 * also its predecessor's.
 */
const dieBetweenRequests: Program = ({ kept }) => {
  const server = kept.server as unknown as { readonly _connections: number } & Pick<Server, 'once'>
  const die = () => {
    if (server._connections === 0) process.kill(process.pid, 'SIGKILL')
    setImmediate(die)
  }
  server.once('request', die)
}

/** In megabytes, resident, after a full collection. */
async function weigh(puppet: Puppet): Promise<number> {
  await puppet.run(() => {
    const { gc } = globalThis as unknown as { readonly gc: () => void }
    gc()
    gc()
  })
  return belongingsOf(puppet.pid).memory
}

async function look(puppet: Puppet, generation: number): Promise<Generation> {
  const now = await puppet.run(() => Object.entries(process.env).map(([name, value]) => `${name}=${value}`))
  const start = readFileSync(`/proc/${puppet.pid}/environ`, 'utf8').split('\0').map(withoutItsOwn)
  const environment = { start: start.sort(), now: now.sort() }
  return { generation, descriptors: await keptDescriptors(puppet.pid), environment }
}

/** What the link record says of this one upgrade is another in each. */
function withoutItsOwn(variable: string): string {
  const [, text] = /^COOK_DAEMON_LINK=(.*)$/.exec(variable) ?? []
  if (text === undefined) return variable
  const { nonce: _, generation: _generation, predecessor: _predecessor, ...same } = JSON.parse(text)
  return `COOK_DAEMON_LINK=${JSON.stringify(same)}`
}

/** A client may just have been connecting at every look: once more, then. */
async function lookUntilSame(puppet: Puppet, generation: number, early?: Generation): Promise<Generation> {
  let last = await look(puppet, generation)
  for (let again = 0; again < 5 && early && !isDeepStrictEqual(last.descriptors, early.descriptors); again++) {
    last = await look(puppet, generation)
  }
  return last
}

function growth(memory: readonly number[]): SoakResult['memory'] {
  const from = Math.min(earlyGeneration, Math.ceil(memory.length / 2)) - 1
  const early = median(memory.slice(from, from + weighed))
  const late = median(memory.slice(-weighed))
  return { early, late, growth: late / early - 1 }
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((one, other) => one - other)
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
}

async function faultsOf(name: string, load: Load): Promise<string[]> {
  const { failures, closes, faults, reconnects } = await load.stop()
  const counts = {
    ...failures,
    ...(Object.keys(closes).length > 0 && { closes }),
    ...(reconnects > 0 && { reconnects }),
  }
  if (Object.keys(counts).length === 0) return []
  return [
    `${name} clients: ${JSON.stringify(counts)} ${faults
      .slice(0, 3)
      .map(({ words }) => words)
      .join('; ')}`,
  ]
}
