/** docs/benchmarks.md and the part of the README that has numbers, from the results. */

import { fitCurve } from '../scaling/curve.ts'
import type { Link, Point } from '../scaling/measure.ts'
import type { Scaling } from '../scaling.ts'
import type { Measured, Result, SystemResult } from '../versus/result.ts'
import { whereOthersAreBetter } from './better.ts'
import { drawBars, drawGrowth, drawTimeline, numeral, type Panel } from './pictures.ts'
import { table } from './table.ts'
import { list, middle, spread } from './words.ts'

/** What is not drawn beside ours, if it was measured. */
const peers = ['pm2', 'by-hand', 'cluster'] as const

/** By the path in docs/. */
export function picturesOf(result: Result, scaling: Scaling): Record<string, string> {
  const all = measuredOf(result)
  const shown = shownOf(all)
  const bars = all.map(({ title, failed }) => ({ label: title, ...failed }))
  const points = scaling.connections.map(({ size, handOver }) => ({ size, label: numeral(size), ...handOver }))
  return {
    'benchmarks/timeline.svg': drawTimeline(shown.map(panelOf), shown[0]?.timeline.step ?? 1, timelineWords(result)),
    'benchmarks/failures.svg': drawBars(
      'Failed requests per upgrade',
      bars,
      bars.map(({ label, median }) => `${label}: ${numeral(median)}`).join('; '),
    ),
    'benchmarks/handover.svg': drawGrowth(
      'Time to hand over open connections',
      'connections',
      points,
      points.map(({ label, median }) => `${label} connections: ${numeral(median)} ms`).join('; '),
    ),
  }
}

/** What stands between the marks in README.md. */
export function readmePart(result: Result): string {
  const { plan, machine } = result
  return `![Answers by version through ${plan.upgrades} upgrades: ${timelineWords(result)}](docs/benchmarks/timeline.svg)

${plan.upgrades} upgrades under ${plan.keepAlive} keep-alive clients that never retry, ${plan.single} that connect for each request, and ${plan.webSockets} WebSockets: \`${result.command}\`, ${machineWords(machine)}; ${runsWords(plan.runs)}. [How others compare, where another is better, and all other numbers](docs/benchmarks.md).
`
}

export function benchmarksPage(result: Result, scaling: Scaling): string {
  return `# Benchmarks

<!-- Generated from docs/benchmarks/results.json and scaling.json by \`npm run docs\`, up to the single measurements; the words are in bench/report/. -->

cook-daemon and other ways to upgrade, under the same load, and how an upgrade scales. Every number before the [single measurements](#single-measurements) comes from two commands; a third makes the page and its pictures from their results:

\`\`\`sh
npm run bench              # this project and others: writes docs/benchmarks/results.json
npm run bench:scaling      # how an upgrade scales: writes docs/benchmarks/scaling.json
npm run docs               # makes this page, the pictures and the README's part from both
\`\`\`

${comparison(result)}
${growth(scaling)}`
}

function comparison(result: Result): string {
  const { plan, machine, systems } = result
  const all = measuredOf(result)
  const missing = systems.filter((system) => 'missing' in system)
  return `## Upgrades under the same load

${plan.upgrades} upgrades, ${plan.every / 1_000} s apart, under ${plan.keepAlive} clients on keep-alive connections, ${plan.single} clients that open a connection for each request, and ${plan.webSockets} WebSockets that
echo. The clients wait 10 to 40 ms between two requests (WebSockets 50 to 150 ms), never retry, check every byte, and open a new connection when they have lost one, so that the load stays the same. Six of a hundred
requests make a drain wait: answers in pieces, bodies of up to 1 MiB, and answers that take up to 300 ms. The service is the same program in all systems, in one process; the
clients run in another process. Numbers are ${runsWords(plan.runs)}, with minimum and maximum in parentheses.

\`${result.command}\`, ${machineWords(machine)}. ${busyWords(machine)}

![Failed requests per upgrade, by system: ${all.map(({ title, failed }) => `${title} ${middle(failed)}`).join(', ')}](benchmarks/failures.svg)

### What clients lose

A request has failed if its connection was refused, reset or closed before the whole answer had arrived, or if there was no answer within 10 s. When a connection is closed between two requests, the client needs
a new one, but loses no request, unless it was sending at that moment. ${overloadWords(all)}

${table(
  [
    '',
    'failed requests per upgrade',
    'of which',
    'connections kept',
    'reconnects per upgrade',
    'WebSockets kept',
    'messages lost per upgrade',
  ],
  all.map((system) => [
    system.title,
    spread(system.failed),
    kindsOf(system),
    `${spread(system.kept)} of ${plan.keepAlive}`,
    spread(system.reconnects),
    `${spread(system.webSocketsKept)} of ${plan.webSockets}${isLeftBehind(system) ? ', by the old version' : ''}`,
    spread(system.lostMessages),
  ]),
)}

${missingWords(missing)}![Answers by version through ${plan.upgrades} upgrades: ${timelineWords(result)}](benchmarks/timeline.svg)

### How long it takes

In milliseconds. An upgrade begins with the operator's signal or command (its start included). The first two columns are the times until the first answer of the new version and until the
old process has exited. The longest gap is the longest time in which no keep-alive client got an answer. Gap and percentiles are those of small requests on keep-alive connections, without upgrades and from the first upgrade to the last.

${table(
  ['', 'first answer of the new version', 'old version gone', 'longest gap: steady, upgrades', 'p50', 'p99', 'p99.9'],
  all.map((system) => [
    system.title,
    spread(system.firstAnswer),
    goneOf(system, spread),
    pair(system, 'gap'),
    pair(system, 'p50'),
    pair(system, 'p99'),
    pair(system, 'p999'),
  ]),
)}

### What it costs

Memory of all processes together, in MB, as proportional set size (shared memory counts in parts): at rest before any load, and under load after the last upgrade, including old versions that have not exited.
Throughput is that of 10 connections without pauses, relative to the same program alone, measured alternately: 1 is as fast.

${table(
  ['', 'memory at rest', 'after the upgrades', 'throughput'],
  all.map((system) => [system.title, spread(system.memory), spread(system.memoryAfter), spread(system.throughput)]),
)}

### Where another is better

${betterWords(all)}

All systems serve with one process here; for several workers and crashes see [below](#several-workers). The numbers do not show that nginx and HAProxy terminate TLS, balance load over machines, and keep
connections of clients through an upgrade of the program behind them if their configuration does not change (a fixed list of backends with health checks: not measured). Their reload is measured because a change of
their own configuration needs it.

### How each was set up

${systems.map(setupOf).join('\n')}
`
}

function growth(scaling: Scaling): string {
  return `## How an upgrade scales

One parameter grows, the others stay small: no connection, one listener, no state. Each number is ${scaling.rounds === 1 ? 'that of one upgrade' : `the median of ${scaling.rounds} upgrades`}. Times are in milliseconds: until the new version owns the service, and from then on until the old one has nothing left.
Memory is resident, in MB: the growth of the old process during the upgrade, and the size of the new one afterwards. The last line has the curve: the exponent is the slope of the logarithms above the smallest number; 1 is linear.

\`${scaling.command}\`, ${machineWords(scaling.machine)}. ${busyWords(scaling.machine)}

### Connections

![Time to hand over open connections](benchmarks/handover.svg)

${pointTable('connections', scaling.connections, numeral)}

### Listeners

${pointTable('listeners', scaling.listeners, numeral)}

### State

What \`saveState\` gives is one buffer of this size.

${pointTable('state', scaling.state, bytes)}

### Upgrades before it

One chain of upgrades, with two clients that request continuously: none of their requests failed, and none reconnected. Each line is the median of the last upgrades before it, at most ten, until the old process was gone.

${table(
  ['upgrades', 'time of an upgrade', 'memory of the last', 'its descriptors'],
  [
    ...scaling.chain.map((link) => [
      numeral(link.size),
      spread(link.upgrade),
      numeral(link.memory),
      numeral(link.descriptors),
    ]),
    [
      'curve',
      curve(scaling.chain, ({ upgrade }) => upgrade.median),
      curve(scaling.chain, ({ memory }) => memory),
      curve(scaling.chain, ({ descriptors }) => descriptors),
    ],
  ],
)}
`
}

function pointTable(what: string, points: readonly Point[], size: (value: number) => string): string {
  const keys = ['commit', 'handOver', 'growth', 'memory'] as const
  return table(
    [what, 'until the commit', 'handing over', 'growth of the old', 'memory of the new'],
    [
      ...points.map((point) => [size(point.size), ...keys.map((key) => spread(point[key]))]),
      ['curve', ...keys.map((key) => curve(points, (point) => point[key].median))],
    ],
  )
}

function curve<Of extends Point | Link>(points: readonly Of[], value: (point: Of) => number): string {
  const { exponent, words } = fitCurve(points.map((point) => ({ size: point.size, value: value(point) })))
  return exponent === 0 ? words : `${words} (${exponent.toFixed(2)})`
}

function measuredOf({ systems }: Result): Measured[] {
  return systems.filter((system): system is Measured => !('missing' in system))
}

/** Ours, and one of the others. */
function shownOf(all: readonly Measured[]): Measured[] {
  const peer = peers.flatMap((name) => all.filter((system) => system.name === name))[0]
  return [all[0], peer].filter((system) => system !== undefined)
}

function timelineWords(result: Result): string {
  const shown = shownOf(measuredOf(result))
  return shown.map((system) => `${system.title}: ${panelOf(system).verdict}`).join('; ')
}

function panelOf({ title, timeline }: Measured): Panel {
  const failed = timeline.lost.reduce((sum, count) => sum + count, 0)
  const verdict = failed === 0 ? 'no request failed' : `${numeral(failed)} requests failed`
  const triggers = timeline.triggers.map((at) => at / timeline.step)
  return {
    title,
    verdict: `${triggers.length} upgrades: ${verdict}`,
    answers: timeline.answers,
    lost: timeline.lost,
    triggers,
  }
}

function goneOf({ gone, stayed }: Measured, words: typeof middle): string {
  if (gone === null) return 'never, as long as a WebSocket is open'
  return `${words(gone)} ms${stayed > 0 ? ` (${stayed} stayed)` : ''}`
}

/** WebSockets that lasted, but in old versions. */
function isLeftBehind({ webSocketsKept, webSocketsOnNewest }: Measured): boolean {
  return webSocketsKept.median > 0 && webSocketsOnNewest.median < 0.5
}

function kindsOf({ failedByKind }: Measured): string {
  const kinds = Object.entries(failedByKind).toSorted(([, one], [, other]) => other - one)
  return kinds.map(([kind, count]) => `${numeral(count)} ${kindWords[kind] ?? kind}`).join(', ') || '-'
}

const kindWords: Readonly<Record<string, string>> = {
  half: 'half answered',
  wrongStatus: 'wrong status',
  wrongBytes: 'wrong bytes',
  late: 'without an answer',
}

function pair({ steady, upgrades }: Measured, key: 'gap' | 'p50' | 'p99' | 'p999'): string {
  return `${middle(steady[key])}, ${middle(upgrades[key])}`
}

/**
 * A load that a machine cannot carry fails without any upgrade, and tells nothing of upgrades:
 * whoever reads must know.
 */
function overloadWords(all: readonly Measured[]): string {
  const failing = all.filter(({ failedBefore }) => failedBefore > 0)
  if (failing.length === 0) return 'Before the first upgrade no request failed.'
  const words = failing.map(({ title, failedBefore }) => `${title} ${failedBefore}`)
  return `**Requests failed before the first upgrade too (${list(words)}): the load was more than this machine could carry, and the numbers of these systems are not those of upgrades alone.**`
}

function missingWords(missing: readonly (SystemResult & { readonly missing: string })[]): string {
  return missing.map(({ title, missing: why }) => `${title} is not there: ${why}.\n\n`).join('')
}

function betterWords(all: readonly Measured[]): string {
  const ours = all.filter(({ name }) => name === 'serve' || name === 'command')
  const others = all.filter((system) => !ours.includes(system))
  const parts = ours.map((one) => {
    const lines = whereOthersAreBetter(one, others).map((line) => `- ${line}`)
    return lines.length === 0 ? `${one.title}: nowhere.` : `${one.title}:\n\n${lines.join('\n')}`
  })
  return `Only differences beyond the spread: the worst run of the other is at least 5 % better than our best.\n\n${parts.join('\n\n')}`
}

function setupOf(system: SystemResult): string {
  const version = 'missing' in system ? 'not measured' : system.version
  return `- **${system.title}** (\`${system.name}\`, ${version}). ${system.setup} Followed: ${system.documentation}.`
}

function runsWords(runs: number): string {
  return runs === 1 ? 'one run' : `medians of ${runs} runs`
}

/** What else ran when the benchmark began, which nobody who reads its numbers can see otherwise. */
function busyWords({ busy }: Result['machine']): string {
  const isBusy = Number.parseFloat(busy) > 25
  return `Before it began, ${busy} of the processors' time went to other work.${isBusy ? ' Times are long and uneven, and say something beside each other only.' : ''}`
}

function machineWords({ cores, kernel, memory, node }: Result['machine']): string {
  return list([`${cores}, ${memory}`, kernel.replace(/-\S+/, ''), `Node ${node.slice(1)}`]).replace(' and ', ', ')
}

function bytes(size: number): string {
  if (size >= 2 ** 20) return `${Math.round(size / 2 ** 20)} MiB`
  return `${Math.round(size / 2 ** 10)} KiB`
}
