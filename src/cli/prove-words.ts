/** What the page of a proof says in words: of each upgrade, and of all. */
import type { Kind } from './prove-faults.ts'
import type { Round } from './prove-rounds.ts'
import { extentOf, failuresOf, peakOf, sumOf, type Timeline } from './prove-timeline.ts'
import type { Proof } from './prove-verdict.ts'

export function countText(count: number): string {
  return Math.round(count).toLocaleString('en-US')
}

export function manyText(count: number, one: string, many = `${one}s`): string {
  return `${countText(count)} ${count === 1 ? one : many}`
}

export function secondsText(ms: number, digits = 1): string {
  const text = (ms / 1_000).toFixed(digits)
  return `${/^-0\.?0*$/.test(text) ? text.slice(1) : text} s`
}

export const kindTexts: Readonly<Record<Kind, string>> = {
  good: 'the same program once more',
  exits: 'a version that exits',
  hangs: 'a version that hangs',
  crashes: 'a version that crashes',
}

export function verdictText({ isProved, counts, rounds, upgrades }: Proof): string {
  const wrong = rounds.filter(({ round }) => !round.isRight).length
  const bad = rounds.filter(({ round }) => round.kind !== 'good').length
  const course = `${manyText(upgrades, 'upgrade')}${bad === 0 ? '' : `, ${countText(bad)} of them to versions that fail`}`
  const asked = countText(counts.answered + counts.failed)
  if (isProved) return `Nothing was lost in ${course}: all ${asked} requests were answered.`
  const faults = [
    ...(counts.failed === 0 ? [] : [`${countText(counts.failed)} of ${asked} requests failed`]),
    ...(wrong === 0 ? [] : [`${countText(wrong)} of ${manyText(upgrades, 'upgrade')} had a wrong result`]),
    ...(rounds.length === upgrades ? [] : [`${countText(upgrades - rounds.length)} were not tried`]),
    ...(counts.answered === 0 ? ['nothing was answered'] : []),
  ]
  return `${faults.join(', and ') || 'No WebSocket answered'}.`
}

/** Above the picture. */
export function roundText({ isRight, seconds, said }: Round, timeline: Timeline): string {
  const commit = timeline.marks.find(({ what }) => what === 'commit')
  const end = `${seconds.toFixed(2)} s`
  const took = commit && `The new version took over after ${secondsText(commit.at, 2)}`
  const became = isRight
    ? took
      ? `${took}, and the old one was gone after ${end}.`
      : `It was refused after ${end}; the old version continued to serve.`
    : `${took ? `${took}. ` : ''}Wrong result after ${end}: ${said}.`
  return [became, answersText(timeline), failuresText(timeline)].join(' ')
}

function answersText(timeline: Timeline): string {
  const [old, next, bad] = [sumOf(timeline, 'old'), sumOf(timeline, 'new'), sumOf(timeline, 'bad')]
  const parts = [
    `${countText(old)} by the old version`,
    ...(next === 0 ? [] : [`${countText(next)} by the new one`]),
    ...(bad === 0 ? [] : [`${countText(bad)} by the one that should not serve`]),
  ]
  return `Answers shown: ${parts.join(', ')}.`
}

function failuresText(timeline: Timeline): string {
  const failures = [...failuresOf(timeline)].map(([why, count]) => `${countText(count)} × ${why}`)
  return failures.length === 0 ? 'None failed.' : `Failed: ${failures.join(', ')}.`
}

/** For those who do not see the picture. */
export function pictureText(timeline: Timeline): string {
  const when = (of: { readonly from: number; readonly to: number }) =>
    `from ${secondsText(of.from, 2)} to ${secondsText(of.to, 2)}`
  const who = (what: 'old' | 'new' | 'bad', text: string) => {
    const extent = extentOf(timeline, (bin) => bin[what] > 0)
    return extent === undefined ? [] : [`${text} answers ${when(extent)}.`]
  }
  const failed = [...failuresOf(timeline)].map(([why, count]) => {
    const extent = extentOf(timeline, (bin) => bin.failures.has(why))
    return `${countText(count)} failed with ${why}, ${extent === undefined ? '' : when(extent)}.`
  })
  return [
    `Answers by version, ${when(timeline)}; the upgrade begins at 0 s.`,
    ...timeline.marks.flatMap(({ what, at }) =>
      what === 'begin'
        ? []
        : [
            `${{ commit: 'Commit', refused: 'Refused', end: 'The old version is gone', failed: 'Failed' }[what]} at ${secondsText(at, 2)}.`,
          ],
    ),
    ...who('old', 'The old version'),
    ...who('new', 'The new version'),
    ...who('bad', 'The version that should not serve'),
    `At most ${countText(peakOf(timeline))} answers a second; never ${secondsText(timeline.gap, 3)} without one.`,
    ...(failed.length === 0 ? ['No failure.'] : failed),
    ...(timeline.unmarked === 0
      ? []
      : [`${countText(timeline.unmarked)} answers do not show which version sent them; they are drawn by their time.`]),
  ].join(' ')
}
