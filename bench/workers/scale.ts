/** Fewer and more workers under clients: what those lose, and how long it takes. */
import type { Row } from '../rows.ts'
import { ratio, summarize } from '../statistics.ts'
import type { Site } from '../versus/site.ts'
import { type Felt, underClients } from './clients.ts'
import { ours, pm2Cluster, type Running, type Sizes, withGroup, withOther } from './group.ts'

/** One round. */
const counts = [4, 2, 1, 8, 3] as const

export async function* measureScale(sizes: Sizes): AsyncGenerator<Row> {
  const { rounds } = sizes
  const mine = await withGroup(ours, counts[0], (running, site) => scaleSome(running, site, rounds, false))
  yield { what: 'cook-daemon: failed', unit: '', goal: 0, ...summarize([mine.felt.lost.length]) }
  yield { what: '  connections lost', unit: '', goal: 0, ...summarize([mine.felt.ended]) }
  yield { what: '  answers', unit: '', ...summarize([mine.felt.answers]) }
  for (const [step, times] of mine.steps) yield { what: `  ${step}`, unit: 'ms', ...summarize(times) }
  const other = await withOther(pm2Cluster, sizes, counts[0], (running, site) => scaleSome(running, site, 1, true))
  if (other === undefined) return
  yield { what: `${pm2Cluster.title}: failed in one round`, unit: '', ...summarize([other.felt.lost.length]) }
  yield { what: '  connections lost', unit: '', ...summarize([other.felt.ended]) }
  for (const [step, times] of other.steps) {
    yield { what: `  ${step}`, unit: 'ms', ...summarize(times) }
    const ratios = (mine.steps.get(step) ?? []).map((one) => ratio(one, times[0] ?? 0))
    yield { what: '    cook-daemon / this', unit: 'x', ...summarize(ratios) }
  }
}

type Scaled = { readonly felt: Felt; readonly steps: ReadonlyMap<string, readonly number[]> }

async function scaleSome(running: Running, site: Site, rounds: number, goOn: boolean): Promise<Scaled> {
  const steps = new Map<string, number[]>()
  const felt = await underClients(site.port, { goOn }, async () => {
    for (let round = 0; round < rounds; round++) {
      if (round > 0) await running.scale?.(counts[0])
      for (const [at, to] of counts.slice(1).entries()) {
        const begin = performance.now()
        await running.scale?.(to)
        const step = `${counts[at]} -> ${to}`
        steps.set(step, [...(steps.get(step) ?? []), performance.now() - begin])
      }
    }
  })
  return { felt, steps }
}
