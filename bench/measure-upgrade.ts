/**
 * The time of an upgrade, from the trigger to the new version's yes, beside plain starts of the
 * program from the same process.
 */
import type { UpgradePhases } from 'cook-daemon'
import { type Control, type Generation, startFirst, upgradeOnce } from './control.ts'
import { type Format, formats, programFile } from './processes.ts'
import type { Row } from './rows.ts'
import { compare, compareFastest, ratio, summarize } from './statistics.ts'

/** What each measurement is given. */
export type Bench = { readonly control: Control; readonly pairs: number; readonly upgrades: number }

const ways = [
  { stage: 'daemon', name: 'direct', goal: 1.15 },
  { stage: 'parent', name: 'the way of the original Go API', goal: 2.2 },
] as const

export async function* measureUpgrade({ control, pairs }: Bench): AsyncGenerator<Row> {
  for (const { stage, name, goal } of ways) {
    for (const format of formats) {
      const rounds = await upgradeBesideStarts(control, pairs, stage, format)
      const done = rounds.map(({ phases }) => phases.spawn + phases.boot + phases.ready)
      const same = rounds.map(({ starts }) => starts.same)
      const without = rounds.map(({ starts }) => starts.without)
      yield { what: `${name}, ${format}`, unit: 'x', goal, ...compare(done, same, ratio) }
      yield { what: '  the fastest of each', unit: 'x', ...compareFastest(done, same, ratio) }
      yield { what: '  beside the program without the library', unit: 'x', ...compare(done, without, ratio) }
      yield { what: '  plain start without the library', unit: 'ms', ...summarize(without) }
      yield { what: '  plain start', unit: 'ms', ...summarize(same) }
      yield { what: '  upgrade until done', unit: 'ms', ...summarize(done) }
      for (const phase of ['spawn', 'boot', 'ready', 'commit'] as const) {
        yield { what: `    ${phase}`, unit: 'ms', ...summarize(rounds.map(({ phases }) => phases[phase])) }
      }
    }
  }
}

type Starts = { readonly same: number; readonly without: number }
type Round = { readonly phases: UpgradePhases; readonly starts: Starts }

async function upgradeBesideStarts(
  control: Control,
  pairs: number,
  stage: 'daemon' | 'parent',
  format: Format,
): Promise<Round[]> {
  let current = await startFirst(control, programFile('upgradable', format), stage)
  const rounds: Round[] = []
  // The first rounds warm the disk cache and the old process; they are not counted.
  for (let round = -2; round < pairs; round++) {
    // By turns in either order: an old process that leaves, or a second start, favours neither
    // side.
    const before = round % 2 === 0 ? await startBoth(current, format) : undefined
    const { phases, next } = await upgradeOnce(control, current, stage)
    current = next
    const starts = before ?? (await startBoth(current, format))
    if (round >= 0) rounds.push({ phases, starts })
  }
  await current.end()
  return rounds
}

async function startBoth(from: Generation, format: Format): Promise<Starts> {
  const same = await from.ask({ do: 'start', file: programFile('upgradable', format) })
  const without = await from.ask({ do: 'start', file: programFile('plain', format) })
  return { same, without }
}
