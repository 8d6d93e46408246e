/**
 * What a long row of upgrades leaves behind: descriptors, environment and memory of the last
 * generation beside the second.
 */
import { type Belongings, belongingsOf } from './belongings.ts'
import { type Generation, startFirst, upgradeOnce } from './control.ts'
import type { Bench } from './measure-upgrade.ts'
import { programFile } from './processes.ts'
import type { Row } from './rows.ts'
import { summarize } from './statistics.ts'

export async function* measureChain({ control, upgrades }: Bench): AsyncGenerator<Row> {
  let current = await startFirst(control, programFile('upgradable', 'ES module'), 'daemon')
  const times: number[] = []
  let second: Belongings | undefined
  for (let done = 1; done <= upgrades; done++) {
    const { phases, next } = await upgradeOnce(control, current, 'daemon')
    current = next
    times.push(phases.spawn + phases.boot + phases.ready + phases.commit)
    if (done === 1) second = await belongingsAtRest(current)
  }
  const last = await belongingsAtRest(current)
  await current.end()
  if (second === undefined) throw new Error('there was no upgrade')
  for (const [key, goal] of [
    ['descriptors', 1],
    ['environment', 1.05],
    ['memory', 1.05],
  ] as const) {
    const what = `${key}: generation ${upgrades + 1} / generation 2`
    yield { what, unit: 'x', goal, ...summarize([last[key] / second[key]]) }
    yield { what: '  generation 2', unit: key === 'memory' ? 'MB' : '', ...summarize([second[key]]) }
  }
  yield { what: 'upgrade until commit, the first quarter', unit: 'ms', ...summarize(times.slice(0, upgrades / 4)) }
  yield { what: 'upgrade until commit, the last quarter', unit: 'ms', ...summarize(times.slice(-upgrades / 4)) }
}

/** Everything is collected first: what is measured is what stays. */
async function belongingsAtRest(generation: Generation): Promise<Belongings> {
  await generation.ask({ do: 'rest' })
  return belongingsOf(generation.pid)
}
