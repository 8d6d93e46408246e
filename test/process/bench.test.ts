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
  'the benchmark runs this project beside another, with one process and with several, no request of ours fails, and the pages can be made of what it writes',
  onlyInMatrix,
  async () => {
    await using lab = await Lab.open()
    const result = await measure(lab, ['serve', 'command', 'by-hand-soft'])
    const ofWorkers = await measure(lab, ['serve', 'cluster-soft'], '--workers', '2')
    const [serve, command, byHand] = result.systems as readonly [Measured, Measured, Measured]
    const [workers, cluster] = ofWorkers.systems as readonly [Measured, Measured]
    assert.deepEqual([result.plan.workers, ofWorkers.plan.workers], [1, 2])
    const { plan } = result
    for (const ours of [serve, command, workers]) {
      assert.deepEqual([ours.failed.max, ours.failedByKind, ours.failedBefore], [0, {}, 0])
      assert.equal(ours.kept.min, plan.keepAlive)
      assert.equal(ours.reconnects.max, 0)
    }
    for (const ours of [serve, workers]) {
      assert.deepEqual([ours.webSocketsKept.min, ours.webSocketsOnNewest.min], [plan.webSockets, 1])
    }
    for (const other of [byHand, cluster]) {
      assert.equal(other.webSocketsKept.max, 0)
      assert.ok(other.reconnects.min > 0)
    }
    for (const one of [serve, command, byHand, workers, cluster]) {
      const { firstAnswer, memory, memoryAfter, throughput, steady, upgrades, timeline } = one
      const felt = [...Object.values(steady), ...Object.values(upgrades)]
      for (const { min, median, max, n } of [firstAnswer, memory, memoryAfter, throughput, ...felt]) {
        assert.ok(0 < min && min <= median && median <= max && n >= 1)
      }
      assert.equal(timeline.triggers.length, plan.upgrades)
      assert.equal(timeline.answers.length, plan.upgrades + 1)
    }

    const scaling = JSON.parse(
      readFileSync(new URL('../../../docs/benchmarks/scaling.json', import.meta.url), 'utf8'),
    ) as Scaling
    for (const text of [
      benchmarksPage(result, ofWorkers, scaling),
      readmePart(result, ofWorkers),
      ...Object.values(picturesOf(result, scaling)),
    ]) {
      assert.doesNotMatch(text, /NaN|undefined|Infinity/)
    }
  },
)

async function measure(lab: Lab, systems: readonly string[], ...args: readonly string[]): Promise<Result> {
  const file = lab.path('results.json')
  const bench = start(lab, 'versus', '--quick', '--systems', systems.join(','), ...args, '--output', file)
  assert.deepEqual(await within('the end of the bench', once(bench, 'close'), patience), [0, null], lab.output)
  assert.deepEqual(left(lab), [])
  assert.doesNotMatch(lab.output, /ended: /)
  const result = JSON.parse(readFileSync(file, 'utf8')) as Result
  assert.deepEqual(
    result.systems.map(({ name }) => name),
    systems,
  )
  return result
}

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

test('several workers lose nothing in the benchmark of them in small', onlyInMatrix, async () => {
  await using lab = await Lab.open()
  const sizes = ['--upgrades', '1', '--rounds', '1']
  const bench = start(lab, 'workers', '--beside', 'cluster', '--only', 'upgrades,scale', ...sizes)
  assert.deepEqual(await within('the end of the bench', once(bench, 'close'), patience), [0, null], lab.output)
  assert.deepEqual(left(lab), [])
  assert.match(lab.output, /cook-daemon: failed in 1 upgrades +0/)
  assert.doesNotMatch(lab.output, /✗|failed:|ended: /)
})

function start(lab: Lab, name: string, ...args: readonly string[]): ChildProcess {
  const script = fileURLToPath(new URL(`../../bench/${name}.js`, import.meta.url))
  mkdirSync(lab.path('tmp'), { recursive: true })
  return lab.spawn(script, { args, env: { TMPDIR: lab.path('tmp'), COOK_TEST_TMP: lab.path('tmp') } })
}

/** What the bench has started, and files of it. */
function left(lab: Lab): string[] {
  const files = readdirSync(lab.path('tmp'))
  return [...files, ...files.flatMap((mark) => findMarked(mark).map(({ words }) => words))]
}
