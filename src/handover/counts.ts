/** What becomes of the connections of one listener, while it is counted. */
import type { DrainReport, DrainTimes, TlsCounts } from '../options.ts'
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
export function toReport(
  listeners: readonly { readonly name: string; readonly counts: Counting }[],
  others: Counting,
  times: DrainTimes,
  tls?: TlsCounts,
): DrainReport {
  const byName = new Map<string, Counting>()
  // A server that was closed and another of its address may have one name.
  for (const { name, counts } of listeners) byName.set(name, sum([byName.get(name) ?? noCounts(), counts]))
  const total = sum([...byName.values(), others])
  const whole = { ...total, listeners: Object.fromEntries(byName), times, ...(tls && { tls }) }
  return withText(whole, drainText)
}

function sum(all: readonly Counting[]): Counting {
  const of = (name: keyof Counting) => all.reduce((total, one) => total + one[name], 0)
  return { handedOver: of('handedOver'), served: of('served'), closed: of('closed'), cut: of('cut') }
}
