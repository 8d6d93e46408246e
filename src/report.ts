/** Reports in one line, for people: what an upgrade took, and what became of the connections. */
import type { DrainCounts, DrainReport, DrainTimes, TlsCounts, UpgradeResult } from './options.ts'

/** Not an enumerable property: it is neither cloned nor compared nor printed. */
export function withText<Report extends object>(report: Report, text: (report: Report) => string): Report {
  return Object.defineProperty(report, 'toString', { value: () => text(report) })
}

/** `generation 3 (pid 4242) serves after 97 ms: spawn 3, boot 84, ready 9, commit 1` */
export function upgradeText({ pid, generation, phases }: UpgradeResult): string {
  const all = Object.entries(phases)
  const total = all.reduce((sum, [, ms]) => sum + ms, 0)
  const each = all.map(([name, ms]) => `${name} ${ms.toFixed()}`).join(', ')
  return `generation ${generation} (pid ${pid}) serves after ${total.toFixed()} ms: ${each}`
}

const words: readonly (readonly [count: keyof DrainCounts, word: string])[] = [
  ['handedOver', 'handed over'],
  ['served', 'served to the end'],
  ['closed', 'closed idle'],
  ['cut', 'cut'],
]

/**
 * `connections: 121 handed over, 3 served to their end; admin: 1 handed over; web: ...; what was
 * left was told to end after 20.0 s`
 */
export function drainText({ listeners, times, tls, ...total }: DrainReport): string {
  const each = Object.entries(listeners).map(([name, counts]) => `${name}: ${countsText(counts)}`)
  const all = each.length === 1 ? each : [`connections: ${countsText(total)}`, ...each]
  return [...all, ...tlsText(tls), ...timesText(times)].join('; ')
}

/** `TLS: 12 moved, 1 came back, 3 stayed (2 protocol, 1 http2)` */
function tlsText({ moved, returned, stayed }: TlsCounts = { moved: 0, proven: 0, returned: 0, stayed: {} }): string[] {
  const reasons = Object.entries(stayed).filter(([, count]) => count > 0)
  const left = reasons.reduce((sum, [, count]) => sum + count, 0)
  const why = reasons.map(([reason, count]) => `${count} ${reason}`).join(', ')
  const some = [
    ...(moved > 0 ? [`${moved} moved`] : []),
    ...(returned > 0 ? [`${returned} came back`] : []),
    ...(left > 0 ? [`${left} stayed (${why})`] : []),
  ]
  return some.length === 0 ? [] : [`TLS: ${some.join(', ')}`]
}

/** As they come from another process, where one that is absent may be undefined. */
type Times = { readonly [Name in keyof DrainTimes]?: number | undefined }

/** What of the plan was needed beyond its usual course. */
export function timesText({ toldToEnd, cut }: Times): string[] {
  const after = (ms: number) => `after ${(ms / 1000).toFixed(1)} s`
  return [
    ...(toldToEnd === undefined ? [] : [`what was left was asked to close ${after(toldToEnd)}`]),
    ...(cut === undefined ? [] : [`the rest was closed ${after(cut)}`]),
  ]
}

function countsText(counts: DrainCounts): string {
  const some = words.filter(([name]) => counts[name] > 0).map(([name, word]) => `${counts[name]} ${word}`)
  return some.join(', ') || 'none'
}
