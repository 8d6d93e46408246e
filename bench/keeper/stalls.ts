/** How long a process with much memory stands still while it is replaced. */
import type { Row } from '../rows.ts'
import { ratio, summarize } from '../statistics.ts'
import { byTurns, heavy, type Sizes, type Way, ways, withService } from './service.ts'

/** MB of numbers in each process. */
const heap = 500
/** Of one service in a row. */
const upgrades = 4

export async function* measureStalls({ rounds }: Sizes): AsyncGenerator<Row> {
  const results = await byTurns(rounds, stallsOf)
  const [kept, alone] = ways.map((way) =>
    results[way].map((one) => summarize(one.map(({ longest }) => longest)).median),
  )
  const ratios = (kept ?? []).map((one, at) => ratio(one, alone?.[at] ?? 0))
  yield { what: 'stands still: kept / alone (medians of a round)', unit: 'x', goal: 1, ...summarize(ratios) }
  for (const way of ways) {
    const all = results[way].flat()
    yield { what: `  longest at an upgrade, ${way}`, unit: 'ms', ...summarize(all.map(({ longest }) => longest)) }
    yield { what: '    in half a second before it', unit: 'ms', ...summarize(all.map(({ quiet }) => quiet)) }
    yield { what: '    memory', unit: 'MB', ...summarize(all.map(({ resident }) => resident / 1e6)) }
  }
}

type Stood = { readonly longest: number; readonly quiet: number; readonly resident: number }

function stallsOf(way: Way): Promise<Stood[]> {
  return withService(way, { program: heavy, env: { BENCH_HEAP: String(heap) } }, async ({ lab, worker }) => {
    const found: Stood[] = []
    for (let done = 0; done < upgrades; done++) {
      const { resident } = (await worker.event('heavy')) as { readonly resident: number }
      // Two of its windows.
      await new Promise((later) => setTimeout(later, 1_100))
      worker.kill('SIGUSR2')
      const young = await lab.next()
      found.push({ ...((await worker.event('stood')) as Omit<Stood, 'resident'>), resident })
      await worker.gone
      worker = young
    }
    return found
  })
}
