/** What clients lose when one of several workers is killed. */
import { system as os } from '../../src/node/system.ts'
import type { FailureKind } from '../../test/support/load/kinds.ts'
import { eventually } from '../../test/support/waiting.ts'
import { pause } from '../measure-tail.ts'
import type { Row } from '../rows.ts'
import { summarize } from '../statistics.ts'
import type { Site } from '../versus/site.ts'
import { type Clients, deadline, underClients } from './clients.ts'
import {
  cluster,
  type Group,
  ours,
  pm2Cluster,
  type Running,
  type Sizes,
  withGroup,
  withOther,
  workersOf,
} from './group.ts'

const workers = 4
/** Milliseconds after which a worker has served long enough to be started again at once. */
const proven = 10_500

export async function* measureKills(sizes: Sizes): AsyncGenerator<Row> {
  const { rounds } = sizes
  yield* rowsOf(ours, await withGroup(ours, workers, (running, site) => killSome(running, site, rounds)))
  for (const group of [cluster, pm2Cluster]) {
    const kills = await withOther(group, sizes, workers, (running, site) => killSome(running, site, rounds))
    if (kills !== undefined) yield* rowsOf(group, kills)
  }
}

type Kill = {
  readonly lost: readonly FailureKind[]
  readonly ended: number
  readonly back: number
}

const answering: readonly FailureKind[] = ['reset', 'closed', 'half']

function* rowsOf(group: Group, kills: readonly Kill[]): Generator<Row> {
  const goal = group === ours ? { goal: 0 } : {}
  const count = (isCounted: (kind: FailureKind) => boolean) =>
    summarize(kills.map(({ lost }) => lost.filter(isCounted).length))
  yield { what: `${group.title}: refused`, unit: '', ...goal, ...count((kind) => kind === 'refused') }
  yield { what: '  hung', unit: '', ...goal, ...count((kind) => kind === 'late') }
  yield { what: '  lost while they were answered', unit: '', ...count((kind) => answering.includes(kind)) }
  const isOther = (kind: FailureKind) => !['refused', 'late', ...answering].includes(kind)
  yield { what: '  anything else', unit: '', ...goal, ...count(isOther) }
  yield { what: '  connections lost', unit: '', ...summarize(kills.map(({ ended }) => ended)) }
  yield { what: '  another process in its place', unit: 'ms', ...summarize(kills.map(({ back }) => back)) }
}

/** One after the other, always the oldest. */
async function killSome(running: Running, site: Site, count: number): Promise<Kill[]> {
  const kills: Kill[] = []
  await underClients(site.port, { goOn: true }, async (clients) => {
    await pause(proven)
    for (let done = 0; done < count; done++) kills.push(await killOne(running, clients))
  })
  return kills
}

async function killOne(running: Running, clients: Clients): Promise<Kill> {
  const [before, all] = [clients.felt(), workersOf(running)]
  const [victim] = all.toSorted(([, one], [, other]) => Number(one) - Number(other))
  if (victim === undefined) throw new Error('there is no worker')
  const begin = performance.now()
  os.kill(victim, 'SIGKILL')
  await eventually('another worker', () => {
    const now = workersOf(running)
    return (now.length >= all.length && !now.some(([pid]) => pid === victim[0])) || undefined
  })
  const back = performance.now() - begin
  // What hangs is known then.
  await pause(deadline + 1_000)
  const after = clients.felt()
  const lost = after.lost.filter(({ at }) => at >= begin).map(({ kind }) => kind)
  return { lost, ended: after.ended - before.ended, back }
}
