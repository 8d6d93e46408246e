/** The parts of the page that set this project beside others: with one process, and with several. */
import type { Measured, Result, SystemResult } from '../versus/result.ts'
import { whereOthersAreBetter } from './better.ts'
import { numeral } from './pictures.ts'
import { measuredOf, timelineWords } from './shown.ts'
import { table } from './table.ts'
import { busyWords, isBusy, list, machineWords, middle, runsWords, spread } from './words.ts'

export function withOneProcess(result: Result): string {
  const { plan } = result
  const all = measuredOf(result)
  return `## Upgrades under the same load

${plan.upgrades} upgrades, ${plan.every / 1_000} s apart, under ${plan.keepAlive} clients on keep-alive connections, ${plan.single} clients that open a connection for each request, and ${plan.webSockets} WebSockets that
echo. The clients wait 10 to 40 ms between two requests (WebSockets 50 to 150 ms), never retry, check every byte, and open a new connection when they have lost one, so that the load stays the same. Six of a hundred
requests make a drain wait: answers in pieces, bodies of up to 1 MiB, and answers that take up to 300 ms. The service is the same program in all systems, in one process; the
clients run in another process. Numbers are ${runsWords(plan.runs)}, with minimum and maximum in parentheses.

${conditions(result)}

![Failed requests per upgrade, by system: ${all.map(({ title, failed }) => `${title} ${middle(failed)}`).join(', ')}](benchmarks/failures.svg)

### What clients lose

A request has failed if its connection was refused, reset or closed before the whole answer had arrived, or if there was no answer within 10 s. When a connection is closed between two requests, the client needs
a new one, but loses no request, unless it was sending at that moment. ${overloadWords(all)}

${losses(result)}

![Answers by version through ${plan.upgrades} upgrades: ${timelineWords(result)}](benchmarks/timeline.svg)

### How long it takes

In milliseconds. An upgrade begins with the operator's signal or command (its start included). The first two columns are the times until the first answer of the new version and until the
old process has exited. The longest gap is the longest time in which no keep-alive client got an answer. Gap and percentiles are those of small requests on keep-alive connections, without upgrades and from the first upgrade to the last.

${times(all)}

### What it costs

Memory of all processes together, in MB, as proportional set size (shared memory counts in parts): at rest before any load, and under load after the last upgrade, including old versions that have not exited.
Throughput is that of 10 connections without pauses, relative to the same program alone, measured alternately: 1 is as fast.

${costs(all)}

### Where another is better

${betterWords(all)}

All systems serve with one process here; [several workers](#with-several-workers) and [their crashes](#crashes-and-scaling-of-several-workers) are below. The numbers do not show that nginx and HAProxy terminate TLS and balance load over machines. With one process behind
them, an upgrade needs a reload, as does a change of their own configuration; several processes can be restarted one by one without a reload ([measured](#with-several-workers)).

### How each was set up

${setups(result)}
`
}

/** The same for N processes of each system. */
export function withWorkers(result: Result): string {
  const { plan } = result
  const all = measuredOf(result)
  return `## With several workers

The same program and load, columns and words as [above](#upgrades-under-the-same-load), but ${plan.workers} processes of the program in each system, and ${plan.upgrades} upgrades that replace all of them, at least ${plan.every / 1_000} s apart. An upgrade by hand has one process, so it has no
row. Load: ${plan.keepAlive} keep-alive clients, ${plan.single} that connect for each request, and ${plan.webSockets} WebSockets. Numbers are ${runsWords(plan.runs)}, with minimum and maximum in parentheses.

${conditions(result)} ${overloadWords(all)}

### What clients lose, with several workers

${losses(result)}

### How long it takes, with several workers

The first answer is that of the first new process; the old version is gone when its last process has exited. node:cluster, PM2 and the proxies without a reload replace one process after the other, so both versions answer in the meantime. cook-daemon switches all workers
at once; a reload of a proxy does so for new connections.

${times(all)}

### What it costs, with several workers

Throughput is that of ${10 * plan.workers} connections without pauses, relative to node:cluster with as many workers, measured alternately: 1 is as fast.

${costs(all)}

### Where another is better, with several workers

${betterWords(all)}

### How each was set up, with several workers

${setups(result)}
`
}

function conditions({ command, machine }: Result): string {
  const failures = isBusy(machine) ? ' More requests fail, and connections are lost, than on a quiet machine.' : ''
  return `\`${command}\`, ${machineWords(machine)}. ${busyWords(machine)}${failures}`
}

function losses(result: Result): string {
  const { plan, systems } = result
  const missing = systems.filter((system) => 'missing' in system)
  const rows = table(
    [
      '',
      'failed requests per upgrade',
      'of which',
      'connections kept',
      'reconnects per upgrade',
      'WebSockets kept',
      'messages lost per upgrade',
    ],
    measuredOf(result).map((system) => [
      system.title,
      spread(system.failed),
      kindsOf(system),
      `${spread(system.kept)} of ${plan.keepAlive}`,
      spread(system.reconnects),
      `${spread(system.webSocketsKept)} of ${plan.webSockets}${isLeftBehind(system) ? ', by the old version' : ''}`,
      spread(system.lostMessages),
    ]),
  )
  return [rows, ...missing.map(({ title, missing: why }) => `${title} is not there: ${why}.`)].join('\n\n')
}

function times(all: readonly Measured[]): string {
  return table(
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
  )
}

function costs(all: readonly Measured[]): string {
  return table(
    ['', 'memory at rest', 'after the upgrades', 'throughput'],
    all.map((system) => [system.title, spread(system.memory), spread(system.memoryAfter), spread(system.throughput)]),
  )
}

function setups({ systems }: Result): string {
  return systems.map(setupOf).join('\n')
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
