/** The plan of a drain: whatever its time is, its points come in their order. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Clock, drainPlan } from '../../src/handover/plan.ts'

test('however long a drain is, it stops accepting, tells to end, has its last turn, and cuts, in this order', () => {
  for (const time of [0, 1, 50, 700, 1_500, 30_000, 600_000, 2_147_483_647]) {
    const { stopAccepting, tellToEnd, lastTurn, cut } = drainPlan
    const points = [0, stopAccepting(time), tellToEnd(time), lastTurn(time), cut(time)]
    assert.deepEqual(
      points.toSorted((one, other) => one - other),
      points,
    )
    assert.ok(stopAccepting(time) <= time / 3, 'what was accepted last has two thirds of the time')
    assert.ok(drainPlan.stopWaitingForSpares(time) <= time / 2)
    assert.equal(cut(time), time)
  }
})

test('the page about drains has the plan as it is', () => {
  const page = fileURLToPath(new URL('../../../docs/drain-and-deadlines.md', import.meta.url))
  const rows = readFileSync(page, 'utf8').match(/^\| (?:all idle ones moved, or )?[\d/]+[^|]*\| +[\d.]+ s +\|/gm) ?? []
  const seconds = rows.map((row) => Number(row.split('|')[2]?.replace(' s', '')))
  const { stopAccepting, tellToEnd, lastTurn, cut } = drainPlan
  const points = [() => 0, stopAccepting, tellToEnd, lastTurn, cut].map((point) => point(30_000) / 1_000)
  assert.deepEqual(seconds, points)
})

test('closes are spread over no more than half of the drain, and none is left for its last sixth', (context) => {
  const clock = new Clock(30_000)
  context.after(() => clock.stop())
  assert.equal(clock.spread(5_000), 5_000)
  assert.equal(clock.spread(60_000), 15_000)
  const over = new Clock(0)
  context.after(() => over.stop())
  assert.deepEqual([over.spread(5_000), over.grace(1_000)], [0, 0])
})
