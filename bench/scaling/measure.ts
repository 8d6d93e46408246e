/** Upgrades of growing size: more connections, more listeners, more state, and a longer chain. */

import { basename } from 'node:path'
import { fileURLToPath } from 'node:url'
import { removeLeftovers } from '../../scripts/leftovers.ts'
import { Lab, type Puppet } from '../../test/support/lab.ts'
import { keepAliveClients } from '../../test/support/load/keep-alive-clients.ts'
import { smallOnly } from '../../test/support/load/requests.ts'
import { eventually } from '../../test/support/waiting.ts'
import { belongingsOf } from '../belongings.ts'
import { openIdle } from '../measure-handover.ts'
import { type Summary, summarize } from '../statistics.ts'

/** Times in milliseconds, memory in megabytes. */
export type Point = {
  readonly size: number
  /** From the trigger until the new version owns the service. */
  readonly commit: Summary
  /** From then on until the old one has nothing left. */
  readonly handOver: Summary
  /** The old process: the most while it upgrades, less what it had before. */
  readonly growth: Summary
  /** The new process, afterwards. */
  readonly memory: Summary
}

export type Link = {
  readonly size: number
  /** The upgrades that led there, at most ten of them, until the old process was gone. */
  readonly upgrade: Summary
  readonly memory: number
  readonly descriptors: number
}

export type Load = { readonly connections: number; readonly listeners: number; readonly state: number }
type Once = Readonly<Record<'commit' | 'handOver' | 'growth' | 'memory', number>>

/**
 * Milliseconds for each step: on a machine that has much else to do, each connection waits for its
 * turn twice.
 */
const patience = 600_000

const program = fileURLToPath(new URL('../programs/scaling.js', import.meta.url))

let open: Promise<Lab> | undefined
let isOver = false

/** Ends everything, for a bench that is interrupted. */
export async function endOpenLab(): Promise<void> {
  isOver = true
  const lab = await open
  // By its folder's name: a new version that still boots has not reported to the lab.
  if (lab !== undefined) await removeLeftovers(basename(lab.folder), lab.folder, { grace: 0 })
}

export async function measurePoint(size: number, load: Load, rounds: number): Promise<Point> {
  const all: Once[] = []
  for (let round = 0; round < rounds; round++) all.push(await upgradeOnce(load))
  const each = (key: keyof Once) => summarize(all.map((one) => one[key]))
  return { size, commit: each('commit'), handOver: each('handOver'), growth: each('growth'), memory: each('memory') }
}

async function upgradeOnce({ connections, listeners, state }: Load): Promise<Once> {
  await using lab = await openLab()
  const old = await start(lab, { SCALING_LISTENERS: `${listeners}`, SCALING_STATE: `${state}` })
  const sockets = await openIdle(old.port, connections)
  const before = memoryOf(old.puppet)
  let most = before
  const watch = setInterval(() => {
    most = Math.max(most, memoryOf(old.puppet))
  }, 10)
  old.puppet.kill('SIGUSR2')
  const young = await lab.next()
  await told(young, 'serving')
  const [begun, done] = [await told(old.puppet, 'upgrade'), await told(old.puppet, 'upgraded')]
  const drained = await told(old.puppet, 'drained')
  const handedOver = drained.report?.handedOver
  clearInterval(watch)
  if (handedOver !== connections) throw new Error(`${handedOver} of ${connections} connections moved`)
  const memory = memoryOf(young)
  for (const socket of sockets) socket.destroy()
  return { commit: done.at - begun.at, handOver: drained.at - done.at, growth: most - before, memory }
}

/**
 * One chain, looked at when it has each of these lengths; two clients ask all the time and must not
 * notice.
 */
export async function* measureChain(lengths: readonly number[]): AsyncGenerator<Link> {
  await using lab = await openLab()
  let { puppet, port } = await start(lab, { SCALING_LISTENERS: '1', SCALING_STATE: '0' })
  await using clients = keepAliveClients({ host: '127.0.0.1', port }, { count: 2, weights: smallOnly, pause: [5, 25] })
  await clients.ready
  const times: number[] = []
  for (const size of lengths) {
    while (times.length < size) {
      const before = performance.now()
      puppet.kill('SIGUSR2')
      const young = await lab.next()
      await young.event('serving')
      await puppet.gone
      times.push(performance.now() - before)
      puppet = young
    }
    const { memory, descriptors } = belongingsOf(puppet.pid)
    yield { size, upgrade: summarize(times.slice(-10)), memory, descriptors }
  }
  const { failures, reconnects } = await clients.stop()
  if (Object.keys(failures).length + reconnects > 0) throw new Error(`failures: ${JSON.stringify(failures)}`)
}

function openLab(): Promise<Lab> {
  if (isOver) throw new Error('the bench is over')
  open = Lab.open()
  return open
}

async function start(
  lab: Lab,
  env: Readonly<Record<string, string>>,
): Promise<{ readonly puppet: Puppet; readonly port: number }> {
  if (isOver) throw new Error('the bench is over')
  const puppet = await lab.start(program, { env })
  return { puppet, port: (await puppet.event('serving')) as number }
}

type Told = { readonly at: number; readonly report?: { readonly handedOver: number } }

async function told(puppet: Puppet, name: string): Promise<Told> {
  const look = () => puppet.events.find(({ event }) => event === name)
  return (await eventually(`the event ${name} of process ${puppet.pid}`, look, patience)).value as Told
}

function memoryOf({ pid }: Puppet): number {
  try {
    return belongingsOf(pid).memory
  } catch {
    // It has ended since the last look.
    return 0
  }
}
