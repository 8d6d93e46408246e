/** The time around one upgrade, in bins: who answered, and what failed. */
import type { Measured } from './prove-rounds.ts'
import { add, cellTime, type Tape } from './prove-tape.ts'

export type Bin = {
  readonly old: number
  readonly new: number
  /** Of a version that was not to serve. */
  readonly bad: number
  readonly pings: number
  readonly failures: ReadonlyMap<string, number>
}

export type Mark = { readonly what: 'begin' | 'commit' | 'refused' | 'end' | 'failed'; readonly at: number }

/** All times in milliseconds since the begin of the upgrade. */
export type Timeline = {
  readonly from: number
  readonly to: number
  readonly binTime: number
  readonly bins: readonly Bin[]
  readonly marks: readonly Mark[]
  /** Answers that do not say from which version they come: they are counted by their time. */
  readonly unmarked: number
  /** Never so long was nobody answered. */
  readonly gap: number
}

/** As many fit side by side on a phone. */
const mostBins = 64
/** What is shown before the begin and behind the end: a part of what lies between, but not more. */
const margin = { part: 0.3, least: 150, most: 280 }

export function timelineOf({ span, round: { kind, isRight } }: Measured, tape: Tape): Timeline {
  const { begin, end, commit, version } = span
  const room = Math.min(margin.most, Math.max(margin.least, (end - begin) * margin.part))
  const first = Math.floor((begin - room) / cellTime)
  const last = Math.ceil((Math.max(end, firstAnswer(tape, version, commit) ?? 0) + room) / cellTime)
  const size = Math.ceil((last - first) / mostBins)
  const bins = Array.from({ length: Math.ceil((last - first) / size) }, () => {
    return { old: 0, new: 0, bad: 0, pings: 0, failures: new Map<string, number>() }
  })
  let unmarked = 0
  let gap = 0
  let answered = first
  for (let at = first; at < first + bins.length * size; at++) {
    const cell = tape.cells.get(at)
    const bin = bins[Math.floor((at - first) / size)]
    if (cell === undefined || bin === undefined) continue
    const isLate = commit !== undefined && at * cellTime >= commit
    for (const [own, count] of cell.answers) {
      if (own === undefined) unmarked += count
      const isNew = own === undefined ? isLate : own === version
      bin[isNew ? (kind === 'good' ? 'new' : 'bad') : 'old'] += count
    }
    bin.pings += cell.pings
    for (const [why, count] of cell.failures) add(bin.failures, why, count)
    if (cell.answers.size === 0) continue
    gap = Math.max(gap, at - answered + 1)
    answered = at
  }
  gap = Math.max(gap, first + bins.length * size - answered)
  const from = first * cellTime - begin
  return {
    from,
    to: from + bins.length * size * cellTime,
    binTime: size * cellTime,
    ...{ bins, unmarked, gap: gap * cellTime },
    marks: [
      { what: 'begin', at: 0 },
      ...(commit === undefined ? [] : [{ what: 'commit', at: commit - begin } as const]),
      { what: commit === undefined ? 'refused' : isRight ? 'end' : 'failed', at: end - begin },
    ],
  }
}

/** How long after the commit it is looked for, in cells. */
const longestWait = 2_000

/** Of the new version: on a busy machine the old one may be gone by then. */
function firstAnswer(tape: Tape, version: number, commit: number | undefined): number | undefined {
  if (commit === undefined) return undefined
  const from = Math.floor(commit / cellTime)
  for (let at = from; at < from + longestWait; at++) {
    if (tape.cells.get(at)?.answers.has(version)) return (at + 1) * cellTime
  }
  return undefined
}

type Count = 'old' | 'new' | 'bad' | 'pings'

export function sumOf({ bins }: Timeline, what: Count): number {
  return bins.reduce((sum, bin) => sum + bin[what], 0)
}

export function failuresOf({ bins }: Timeline): ReadonlyMap<string, number> {
  const all = new Map<string, number>()
  for (const { failures } of bins) for (const [why, count] of failures) add(all, why, count)
  return all
}

/** Answers a second, at most. */
export function peakOf({ bins, binTime }: Timeline): number {
  return Math.max(0, ...bins.map((bin) => ((bin.old + bin.new + bin.bad) * 1_000) / binTime))
}

/** From the first to the last bin in which it is seen; undefined: it is not seen. */
export function extentOf({ bins, from, binTime }: Timeline, isSeen: (bin: Bin) => boolean) {
  const first = bins.findIndex(isSeen)
  if (first < 0) return undefined
  const last = bins.findLastIndex(isSeen)
  return { from: from + first * binTime, to: from + (last + 1) * binTime }
}
