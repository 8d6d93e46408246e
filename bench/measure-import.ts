/** What the import of the library adds to the start of a program, in time and in memory. */
import { setTimeout as sleep } from 'node:timers/promises'
import { belongingsOf } from './belongings.ts'
import type { Bench } from './measure-upgrade.ts'
import { end, type Format, formats, messageFrom, programFile, startNode } from './processes.ts'
import type { Row } from './rows.ts'
import { compare, compareFastest, difference, ratio, summarize } from './statistics.ts'

export async function* measureImport({ pairs }: Bench): AsyncGenerator<Row> {
  for (const format of formats) {
    const [withIt, without]: [Start[], Start[]] = [[], []]
    for (let round = -1; round < pairs; round++) {
      // By turns in either order, as in measure-upgrade.ts.
      const names = round % 2 === 0 ? (['importing', 'plain'] as const) : (['plain', 'importing'] as const)
      for (const name of names) {
        const start = await measureStart(name, format)
        if (round >= 0) (name === 'importing' ? withIt : without).push(start)
      }
    }
    const [timeWith, timeWithout] = [withIt.map(({ time }) => time), without.map(({ time }) => time)]
    const memory = [withIt.map(({ memory }) => memory), without.map(({ memory }) => memory)] as const
    const processor = [withIt.map(({ processor }) => processor), without.map(({ processor }) => processor)] as const
    yield { what: `import, ${format}`, unit: 'ms', goal: 7, ...compare(timeWith, timeWithout, difference) }
    yield { what: '  the fastest of each', unit: 'ms', ...compareFastest(timeWith, timeWithout, difference) }
    yield { what: '  in processor time', unit: 'ms', ...compare(...processor, difference) }
    yield { what: '  start with / without', unit: 'x', ...compare(timeWith, timeWithout, ratio) }
    yield { what: '  start without', unit: 'ms', ...summarize(timeWithout) }
    yield { what: `import, ${format}`, unit: 'MB', goal: 2, ...compare(...memory, difference) }
    yield { what: '  memory without', unit: 'MB', ...summarize(memory[1]) }
  }
}

type Start = { readonly time: number; readonly memory: number; readonly processor: number }

async function measureStart(name: 'importing' | 'plain', format: Format): Promise<Start> {
  const before = performance.now()
  const child = startNode(programFile(name, format))
  await messageFrom(child)
  const time = performance.now() - before
  await sleep(30)
  const { memory, processor } = belongingsOf(child.pid)
  await end(child)
  return { time, memory, processor }
}
