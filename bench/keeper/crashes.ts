/**
 * What clients lose when the process that serves is killed, and how soon the next one answers,
 * beside what else starts a process again.
 */

import { once } from 'node:events'
import { isAlive, system as os } from '../../src/node/system.ts'
import { freePort } from '../../test/support/free-port.ts'
import { connectionClients } from '../../test/support/load/connection-clients.ts'
import { keepAliveClients } from '../../test/support/load/keep-alive-clients.ts'
import type { FailureKind } from '../../test/support/load/kinds.ts'
import type { Load } from '../../test/support/load/load.ts'
import { smallOnly } from '../../test/support/load/requests.ts'
import { eventually, within } from '../../test/support/waiting.ts'
import { pause } from '../measure-tail.ts'
import type { Row } from '../rows.ts'
import { ratio, summarize } from '../statistics.ts'
import { cookDaemon, withCommand } from '../versus/ours.ts'
import { pm2 } from '../versus/pm2.ts'
import { programPath, Site, sitesAreOver } from '../versus/site.ts'
import type { System } from '../versus/system.ts'
import { again, type Sizes } from './service.ts'

/** Milliseconds after which a worker has served long enough to be started again at once. */
const proven = 10_500
/** Milliseconds without an answer: it hangs. */
const deadline = 10_000
/** Milliseconds for all clients to begin, and to end: their deadline, and a busy machine. */
const patience = 60_000
const boots = 3

type Kept = Pick<System, 'look' | 'start'> & {
  readonly title: string
  /** Its plain boot is what it is compared with. */
  readonly program: string
  /** Held to the goals. */
  readonly isOurs: boolean
}

const systems: readonly Kept[] = [
  {
    title: 'kept, with serve()',
    program: 'with-serve',
    isOurs: true,
    look: withCommand(1).look,
    async start(site) {
      await cookDaemon(site, ['start', programPath('with-serve'), '--name', 'app'])
      return { upgrade() {}, end: () => cookDaemon(site, ['stop', 'app']) }
    },
  },
  { ...withCommand(1), title: 'kept, unmodified program', program: 'unmodified', isOurs: true },
  {
    title: 'started again at once by a loop',
    program: 'unmodified',
    isOurs: false,
    look: withCommand(1).look,
    start(site) {
      const loop = site.spawn(process.execPath, [again, programPath('unmodified')])
      return { upgrade() {}, end: () => void loop.kill('SIGTERM') }
    },
  },
  { ...pm2(1), title: 'PM2, cluster mode', program: 'unmodified', isOurs: false },
]

export async function* measureCrashes({ rounds }: Sizes): AsyncGenerator<Row> {
  const found = systems.map((one) => ({ one, crashes: [] as Crash[] }))
  for (let round = 0; round < rounds; round++) {
    // Who comes first is nobody's advantage.
    for (const at of systems.keys()) {
      const next = found[(at + round) % found.length]
      if (next === undefined || 'missing' in (await next.one.look())) continue
      try {
        next.crashes.push(await crash(next.one))
      } catch (error) {
        if (next.one.isOurs || sitesAreOver()) throw error
        // The others have their numbers all the same.
        console.log(`${next.one.title} failed:`, error)
      }
    }
  }
  for (const { one, crashes } of found) {
    if (crashes.length === 0) continue
    const goal = (value: number) => (one.isOurs ? { goal: value } : {})
    const ratios = crashes.map(({ back, busyBoot }) => ratio(back, busyBoot))
    const all = (kinds: readonly FailureKind[]) =>
      summarize(crashes.map(({ lost }) => lost.filter((kind) => kinds.includes(kind)).length))
    yield { what: `${one.title}: next answer / boot among clients`, unit: 'x', ...goal(1.1), ...summarize(ratios) }
    yield { what: '  next answer on a new connection', unit: 'ms', ...summarize(crashes.map(({ back }) => back)) }
    yield { what: '  boot among the same clients', unit: 'ms', ...summarize(crashes.map(({ busyBoot }) => busyBoot)) }
    yield { what: '  boot without any client', unit: 'ms', ...summarize(crashes.map(({ boot }) => boot)) }
    yield { what: '  refused', unit: '', ...goal(0), ...all(['refused']) }
    yield { what: '  hung', unit: '', ...goal(0), ...all(['late']) }
    yield { what: '  lost while they were answered', unit: '', ...all(['reset', 'closed', 'half']) }
    yield { what: '  anything else', unit: '', ...goal(0), ...summarize(crashes.map(({ other }) => other)) }
  }
}

type Crash = {
  readonly back: number
  /** Without a client, and with as many as at the crash, who try until they are answered. */
  readonly boot: number
  readonly busyBoot: number
  /** Requests without an answer since the kill. */
  readonly lost: readonly FailureKind[]
  /** Before the kill, or of other kinds. */
  readonly other: number
}

const known: readonly FailureKind[] = ['refused', 'late', 'reset', 'closed', 'half']

/** Clients go on after a failure, so that each try is counted. */
async function crash(system: Kept): Promise<Crash> {
  await using site = await Site.open()
  site.deploy('1')
  const { end } = await system.start(site)
  const { identity } = await site.serving()
  const served = performance.now()
  const [keepAlive, single] = clientsOf(site.port)
  await using _ = keepAlive
  await using __ = single
  await within('the connections of the clients', Promise.all([keepAlive.ready, single.ready]), patience)
  await pause(proven - (performance.now() - served))
  const from = performance.now()
  os.kill(identity, 'SIGKILL')
  await answerOfAnother(site, identity)
  const back = performance.now() - from
  await pause(1_000)
  const ends = Promise.all([keepAlive.stop(), single.stop()])
  const lost = (await within('the last answers of the clients', ends, patience)).flatMap((result) => result.lost)
  const kinds = lost.filter(({ at }) => at >= from).map(({ kind }) => kind)
  // Its pid file is free then.
  await end([])
  const boot = await plainBoot(site, system.program)
  const busyBoot = await plainBoot(site, system.program, clientsOf)
  return {
    back,
    boot,
    busyBoot,
    lost: kinds,
    other: lost.filter(({ at, kind }) => at < from || !known.includes(kind)).length,
  }
}

function clientsOf(port: number): readonly [Load, Load] {
  const where = { host: '127.0.0.1', port }
  const common = { pause: [10, 40], deadline } as const
  return [
    keepAliveClients(where, { count: 100, weights: smallOnly, reconnect: true, ...common }),
    connectionClients(where, { count: 20, goOn: true, asksForEnd: true, ...common }),
  ]
}

/** Two ask side by side: the one whose connection a primary has passed to the dead worker waits. */
async function answerOfAnother(site: Site, [old]: readonly [number, string]): Promise<void> {
  const ask = () =>
    eventually('an answer of another process', async () => {
      const { identity } = await site.serving()
      return identity[0] === old ? undefined : true
    })
  await Promise.any([ask(), ask()])
}

/** From the start of a process to its first answer, the median of some. */
async function plainBoot(
  site: Site,
  program: string,
  clients: (port: number) => readonly Load[] = () => [],
): Promise<number> {
  const times: number[] = []
  for (let boot = 0; boot < boots; boot++) {
    const port = await freePort()
    const loads = clients(port)
    const from = performance.now()
    const child = site.spawn(process.execPath, [programPath(program)], { PORT: String(port) })
    const { identity } = await site.serving(port)
    times.push(performance.now() - from)
    await Promise.all(loads.map((load) => load[Symbol.asyncDispose]()))
    const gone = once(child, 'exit')
    os.kill(identity, 'SIGKILL')
    await gone
    await eventually('its end', () => !isAlive(identity) || undefined)
  }
  return summarize(times).median
}
