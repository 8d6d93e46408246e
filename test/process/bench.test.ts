/** `npm run bench` in its smallest form: what it writes is what the pages are made of. */
import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { benchmarksPage, picturesOf, readmePart } from '../../bench/report/page.ts'
import type { Scaling } from '../../bench/scaling.ts'
import type { Measured, Result } from '../../bench/versus/result.ts'
import { findMarked } from '../../scripts/leftovers.ts'
import { onlyInMatrix } from '../support/extent.ts'
import { Lab } from '../support/lab.ts'
import { eventually, within } from '../support/waiting.ts'

/** Milliseconds for a bench on a machine that has much else to do; reached only by a fault. */
const patience = 300_000

// It repeats at length what the tests of upgrades claim.
test(
  'the benchmark runs this project beside another, no request of ours fails, and the pages can be made of what it writes',
  onlyInMatrix,
  async () => {
    await using lab = await Lab.open()
    const file = lab.path('results.json')
    const bench = start(lab, 'versus', '--quick', '--systems', 'serve,command,by-hand-soft', '--output', file)
    assert.deepEqual(await within('the end of the bench', once(bench, 'close'), patience), [0, null], lab.output)
    assert.deepEqual(left(lab), [])
    assert.doesNotMatch(lab.output, /ended: /)

    const result = JSON.parse(readFileSync(file, 'utf8')) as Result
    assert.deepEqual(
      result.systems.map(({ name }) => name),
      ['serve', 'command', 'by-hand-soft'],
    )
    const [serve, command, byHand] = result.systems as readonly [Measured, Measured, Measured]
    const { plan } = result
    for (const ours of [serve, command]) {
      assert.deepEqual([ours.failed.max, ours.failedByKind, ours.failedBefore], [0, {}, 0])
      assert.equal(ours.kept.min, plan.keepAlive)
      assert.equal(ours.reconnects.max, 0)
    }
    assert.deepEqual([serve.webSocketsKept.min, serve.webSocketsOnNewest.min], [plan.webSockets, 1])
    assert.equal(byHand.webSocketsKept.max, 0)
    assert.ok(byHand.reconnects.min > 0)
    for (const { firstAnswer, memory, memoryAfter, throughput, steady, upgrades, timeline } of [
      serve,
      command,
      byHand,
    ]) {
      const summaries = [
        firstAnswer,
        memory,
        memoryAfter,
        throughput,
        ...Object.values(steady),
        ...Object.values(upgrades),
      ]
      for (const { min, median, max, n } of summaries) assert.ok(0 < min && min <= median && median <= max && n >= 1)
      assert.equal(timeline.triggers.length, plan.upgrades)
      assert.equal(timeline.answers.length, plan.upgrades + 1)
    }

    const scaling = JSON.parse(
      readFileSync(new URL('../../../docs/benchmarks/scaling.json', import.meta.url), 'utf8'),
    ) as Scaling
    for (const text of [
      benchmarksPage(result, scaling),
      readmePart(result),
      ...Object.values(picturesOf(result, scaling)),
    ]) {
      assert.doesNotMatch(text, /NaN|undefined|Infinity/)
    }
  },
)

for (const [name, ...args] of [
  ['versus', '--quick', '--systems', 'cluster'],
  ['scaling', '--quick'],
  ['workers', '--beside', 'cluster'],
] as const) {
  test(`the benchmark ${name} that is stopped with ^C leaves nothing behind`, {
    skip: name !== 'scaling' && onlyInMatrix.skip,
  }, async () => {
    await using lab = await Lab.open()
    const file = lab.path('results.json')
    const bench = start(lab, name, ...args, ...(name === 'workers' ? [] : ['--output', file]))
    await eventually('a process and a file of it', () => left(lab).length >= 2 || undefined)
    bench.kill('SIGINT')
    assert.deepEqual(await within('the end of the bench', once(bench, 'close'), patience), [130, null], lab.output)
    assert.deepEqual(left(lab), [])
    assert.equal(existsSync(file), false)
  })
}

test('the benchmark of growth has each size in what it writes', onlyInMatrix, async () => {
  await using lab = await Lab.open()
  const file = lab.path('scaling.json')
  const bench = start(lab, 'scaling', '--quick', '--output', file)
  assert.deepEqual(await within('the end of the bench', once(bench, 'close'), patience), [0, null], lab.output)
  const { connections, listeners, state, chain } = JSON.parse(readFileSync(file, 'utf8')) as Scaling
  const sizes = [connections, listeners, state, chain].map((points) => points.map(({ size }) => size))
  assert.deepEqual(sizes, [
    [10, 100],
    [1, 10],
    [1_024, 1_048_576],
    [1, 3],
  ])
})

test(
  'several workers lose nothing in the benchmark of them in small, and node:cluster is beside them',
  onlyInMatrix,
  async () => {
    await using lab = await Lab.open()
    const sizes = ['--upgrades', '1', '--reloads', '1', '--rounds', '1']
    const bench = start(lab, 'workers', '--beside', 'cluster', '--only', 'upgrades,scale', ...sizes)
    assert.deepEqual(await within('the end of the bench', once(bench, 'close'), patience), [0, null], lab.output)
    assert.deepEqual(left(lab), [])
    assert.match(lab.output, /node:cluster, server\.close\(\): failed per reload +\d/)
    assert.doesNotMatch(lab.output, /✗|failed:|ended: /)
  },
)

function start(lab: Lab, name: string, ...args: readonly string[]): ChildProcess {
  const script = fileURLToPath(new URL(`../../bench/${name}.js`, import.meta.url))
  mkdirSync(lab.path('tmp'))
  return lab.spawn(script, { args, env: { TMPDIR: lab.path('tmp'), COOK_TEST_TMP: lab.path('tmp') } })
}

/** What the bench has started, and files of it. */
function left(lab: Lab): string[] {
  const files = readdirSync(lab.path('tmp'))
  return [...files, ...files.flatMap((mark) => findMarked(mark).map(({ words }) => words))]
}
