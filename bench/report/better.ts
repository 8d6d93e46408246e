/**
 * Where another system is better than this project, said from the numbers, so that it cannot be
 * forgotten.
 */
import type { Summary } from '../statistics.ts'
import type { Measured } from '../versus/result.ts'
import { numeral } from './pictures.ts'
import { list } from './words.ts'

type Metric = {
  readonly what: string
  readonly unit: string
  readonly better: 'less' | 'more'
  /** Undefined: there is nothing to compare. */
  of(system: Measured): Summary | undefined
}

const metrics: readonly Metric[] = [
  { what: 'Failed requests per upgrade', unit: '', better: 'less', of: ({ failed }) => failed },
  { what: 'Keep-alive connections that last', unit: '', better: 'more', of: ({ kept }) => kept },
  { what: 'WebSockets that last', unit: '', better: 'more', of: ({ webSocketsKept }) => webSocketsKept },
  {
    what: 'From the trigger to the first answer of the new version',
    unit: ' ms',
    better: 'less',
    of: (one) => one.firstAnswer,
  },
  {
    what: 'From the trigger to the end of the old version',
    unit: ' ms',
    better: 'less',
    of: ({ gone, stayed }) => (stayed > 0 || gone === null ? undefined : gone),
  },
  { what: 'Longest gap during upgrades', unit: ' ms', better: 'less', of: ({ upgrades }) => upgrades.gap },
  { what: 'p50 during upgrades', unit: ' ms', better: 'less', of: ({ upgrades }) => upgrades.p50 },
  { what: 'p99 during upgrades', unit: ' ms', better: 'less', of: ({ upgrades }) => upgrades.p99 },
  { what: 'p99.9 during upgrades', unit: ' ms', better: 'less', of: ({ upgrades }) => upgrades.p999 },
  { what: 'Memory at rest', unit: ' MB', better: 'less', of: ({ memory }) => memory },
  { what: 'Throughput', unit: ' of what Node alone serves', better: 'more', of: ({ throughput }) => throughput },
]

/** Less than this is no difference, however small the spread is: a few runs do not show it all. */
const noise = 0.05

/**
 * One line for each metric in which another is better by more than the spread of both and the
 * noise; `ours` is what it is compared with.
 */
export function whereOthersAreBetter(ours: Measured, others: readonly Measured[]): string[] {
  return metrics.flatMap(({ what, unit, better, of }) => {
    const own = of(ours)
    const ahead = others.filter((other) => isAhead(of(other), own, better))
    if (own === undefined || ahead.length === 0) return []
    const words = ahead.map((other) => `${other.title} (${numeral(of(other)?.median ?? 0)})`)
    return [`**${what}**: ${numeral(own.median)}${unit} here; better: ${list(words)}.`]
  })
}

function isAhead(other: Summary | undefined, own: Summary | undefined, better: 'less' | 'more'): boolean {
  if (other === undefined || own === undefined) return false
  return better === 'less' ? other.max < own.min * (1 - noise) : other.min > own.max * (1 + noise)
}
