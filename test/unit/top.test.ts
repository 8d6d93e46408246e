/** What `cook-daemon top` makes of answers: those of other users may be anything. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import stringWidth from 'string-width'
import { fit, linesOf } from '../../src/cli/top/layout.ts'
import { Rows } from '../../src/cli/top/rows.ts'
import type { Status } from '../../src/control/status.ts'

const place = { folder: '/run/web', names: ['web'], owner: 65_534, isUnit: true }

function statusWith(changes: object): Status {
  const status = {
    ...{ name: 'web', pid: 4711, startTime: '1', generation: 3, phase: 'ready', uptime: 90 },
    ...{ memory: { resident: 50e6, heapUsed: 1 }, connections: 12, generations: [], warnings: [] },
    ...{ listeners: [{ name: 'web', address: '[::]:8080', connections: 12 }], upgrades: { succeeded: 2, failed: 0 } },
  }
  return { ...status, ...changes } as unknown as Status
}

const rowsOf = (state: Status, cpu = new Map<number, number>()) =>
  new Rows().of({ all: [{ name: 'web', place, state }], cpu })

test('what another user answers cannot steer the terminal of top, widen its lines, or end it', () => {
  const hostile = [
    statusWith({
      phase: 'ready\u001b[2J\u001b]0;owned\u0007\nroot ok',
      warnings: [{ text: '\u001b[31m\u202e\rgone\nmore' }],
    }),
    statusWith({ generation: '字'.repeat(500), listeners: [{ address: '👩‍👩‍👧‍👦\u0000'.repeat(100) }] }),
    statusWith({ workers: 7, phase: 'x'.repeat(300) }),
    statusWith({ phase: 'x'.repeat(300) }),
    statusWith({ generations: [{ pid: '../../etc', connections: {} }, null], lastUpgrade: { at: {}, seconds: 'x' } }),
    { name: 'web' } as Status,
  ]
  for (const state of hostile) {
    const { head, lines } = linesOf(rowsOf(state), 80)
    assert.ok(lines.length > 0)
    for (const line of [head, ...lines]) {
      assert.equal(stringWidth(line), 80, JSON.stringify(line))
      // biome-ignore lint/suspicious/noControlCharactersInRegex: none of them may get through
      assert.doesNotMatch(line, /[\u0000-\u001f\u007f-\u009f\u202e]/)
    }
  }
})

test('in few columns top shows name, state and CPU before all else, and cuts a text where it must', () => {
  const rows = rowsOf(statusWith({}), new Map([[4711, 12.34]]))
  assert.match(
    linesOf(rows, 120).lines[0] ?? '',
    /^web +(?:nobody|65534) +running +3 +4711 +12% +47\.7 MB +12 +- +1 min +\[::\]:8080 *$/,
  )
  assert.match(linesOf(rows, 26).lines[0] ?? '', /^web +running +12% +12 *$/)
  assert.deepEqual([fit('字字字', 4), fit('字', 4), fit('abc', 0)], ['字… ', '字  ', ''])
})

test('top tells an upgrade that it only looks at: its begin, what is left in the old version, and its end', () => {
  const rows = new Rows()
  const lineOf = (changes: object) =>
    rows.of({ all: [{ name: 'web', place, state: statusWith(changes) }], cpu: new Map() }).find(({ line }) => line)
      ?.line
  const self = { generation: 3, pid: 4711, startTime: '1', phase: 'ready', connections: 40, memory: 1 }
  assert.equal(lineOf({ generations: [self], connections: 40 }), undefined)
  assert.match(
    lineOf({ phase: 'upgrading', generations: [self], connections: 40 }) ?? '',
    /^3 → 4 {2}the new version starts/,
  )
  const old = { ...self, phase: 'draining', connections: 15 }
  const next = { ...self, generation: 4, pid: 4712 }
  const drains = lineOf({ generation: 4, pid: 4712, generations: [old, next], connections: 25 })
  assert.equal(drains, '3 → 4  switched; 25 of 40 connections moved')
  const connections = { handedOver: 38, served: 2, closed: 0, cut: 0 }
  const lastUpgrade = { outcome: 'succeeded', generation: 4, at: Date.now(), seconds: 0.84, connections }
  const end = lineOf({ generation: 4, generations: [next], lastUpgrade })
  assert.equal(end, '3 → 4  upgraded in 0.8 s: 38 connections moved, 2 finished, 0 closed, 0 cut')
  const failed = { outcome: 'failed', generation: 5, at: Date.now(), seconds: 0.6, code: 'ERR_COOK_SUCCESSOR_EXITED' }
  assert.match(
    lineOf({ generation: 4, generations: [next], lastUpgrade: failed }) ?? '',
    /^4 → 5 {2}failed after 0\.6 s: ERR_/,
  )
})
