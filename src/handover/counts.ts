/** What becomes of the connections of one listener, while it is counted. */

import type { DrainCounts, DrainReport } from '../options.ts'
import { drainText, withText } from '../report.ts'
import type { Counting, Moved } from '../service-parts.ts'

export function noCounts(): Counting {
  return { handedOver: 0, served: 0, closed: 0, cut: 0 }
}

/** Counts the end of a move; a connection that stays here has another end. */
export function countMove(counts: Counting, moved: Moved): void {
  if (moved === 'moved') counts.handedOver++
  else if (moved === 'unwanted') counts.closed++
  else if (moved === 'lost') counts.cut++
}

/** `others` are connections of no listener, as those that the program opened itself. */
export function toReport(listeners: readonly (readonly [name: string, Counting])[], others: Counting): DrainReport {
  const all = [...listeners.map(([, counts]) => counts), others]
  const sum = (name: keyof DrainCounts) => all.reduce((total, one) => total + one[name], 0)
  const total = { handedOver: sum('handedOver'), served: sum('served'), closed: sum('closed'), cut: sum('cut') }
  return withText({ ...total, listeners: Object.fromEntries(listeners) }, drainText)
}
