/** docs/benchmarks.md and the part of the README that has numbers, from the results. */

import { fitCurve } from '../scaling/curve.ts'
import type { Link, Point } from '../scaling/measure.ts'
import type { Scaling } from '../scaling.ts'
import type { Result } from '../versus/result.ts'
import { withOneProcess, withWorkers } from './comparison.ts'
import { drawBars, drawGrowth, drawTimeline, numeral } from './pictures.ts'
import { measuredOf, panelOf, shownOf, timelineWords } from './shown.ts'
import { table } from './table.ts'
import { busyWords, isBusy, machineWords, middle, runsWords, spread } from './words.ts'

/** By the path in docs/. */
export function picturesOf(result: Result, scaling: Scaling): Record<string, string> {
  const all = measuredOf(result)
  const shown = shownOf(result)
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
export function readmePart(result: Result, ofWorkers: Result): string {
  const { plan, machine } = result
  const failed = shownOf(ofWorkers).map((system) => `${system.title} ${middle(system.failed)}`)
  // The numbers of a busy machine, which the page calls so, are not for a page that does not.
  const several = isBusy(ofWorkers.machine)
    ? ''
    : ` Failed requests per upgrade [with ${ofWorkers.plan.workers} workers](docs/benchmarks.md#with-several-workers): ${failed.join('; ')}.`
  return `![Answers by version through ${plan.upgrades} upgrades: ${timelineWords(result)}](docs/benchmarks/timeline.svg)

${plan.upgrades} upgrades under ${plan.keepAlive} keep-alive clients that never retry, ${plan.single} that connect for each request, and ${plan.webSockets} WebSockets: \`${result.command}\`, ${machineWords(machine)}; ${runsWords(plan.runs)}.${several} [How others compare, where another is better, and all other numbers](docs/benchmarks.md).
`
}

export function benchmarksPage(result: Result, ofWorkers: Result, scaling: Scaling): string {
  return `# Benchmarks

<!-- Generated from docs/benchmarks/results.json, results-workers.json and scaling.json by \`npm run docs\`, up to the single measurements; the words are in bench/report/. -->

cook-daemon and other ways to upgrade, under the same load, and how an upgrade scales. Every number before the [single measurements](#single-measurements) comes from three commands; a fourth makes the page and its pictures from their results:

\`\`\`sh
npm run bench                     # this project and others: writes docs/benchmarks/results.json
npm run bench -- --workers max    # the same with one process per core: writes docs/benchmarks/results-workers.json
npm run bench:scaling             # how an upgrade scales: writes docs/benchmarks/scaling.json
npm run docs                      # makes this page, the pictures and the README's part from all three
\`\`\`

${withOneProcess(result)}
${withWorkers(ofWorkers)}
${growth(scaling)}`
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

function bytes(size: number): string {
  if (size >= 2 ** 20) return `${Math.round(size / 2 ** 20)} MiB`
  return `${Math.round(size / 2 ** 10)} KiB`
}
