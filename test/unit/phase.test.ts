/** The life of a daemon. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { nextPhase, type Phase, type Step } from '../../src/contract/phase.ts'

const phases: readonly Phase[] = ['starting', 'ready', 'upgrading', 'overlapping', 'lame', 'draining', 'gone']
const steps: readonly Step[] = ['serve', 'upgrade', 'overlap', 'roll back', 'commit', 'go lame', 'stop', 'end']

test('a daemon lives through these phases, and a failed upgrade leaves it as it was', () => {
  const life: readonly [Step, Phase][] = [
    ['serve', 'ready'],
    ['upgrade', 'upgrading'],
    ['roll back', 'ready'],
    ['upgrade', 'upgrading'],
    ['overlap', 'overlapping'],
    ['roll back', 'ready'],
    ['upgrade', 'upgrading'],
    ['commit', 'draining'],
    ['end', 'gone'],
  ]
  let phase: Phase = 'starting'
  for (const [step, next] of life) {
    phase = nextPhase(phase, step)
    assert.equal(phase, next)
  }
})

test('a daemon that has handed over never serves again, and one that is gone does nothing', () => {
  const later = reachableFrom('draining')
  assert.deepEqual([...later].sort(), ['gone'])
  assert.deepEqual([...reachableFrom('gone')], [])
})

test('every phase can be reached from the start, and from every phase the end', () => {
  for (const phase of phases) {
    if (phase !== 'starting') assert.ok(reachableFrom('starting').has(phase), phase)
    if (phase !== 'gone') assert.ok(reachableFrom(phase).has('gone'), phase)
  }
})

test('a lame duck serves, and does nothing any more but drain', () => {
  assert.equal(nextPhase('ready', 'go lame'), 'lame')
  assert.throws(() => nextPhase('lame', 'upgrade'), /a daemon that is lame cannot upgrade/)
  assert.equal(nextPhase('lame', 'stop'), 'draining')
})

test('a step that cannot be taken throws, and says which', () => {
  assert.throws(() => nextPhase('draining', 'upgrade'), /a daemon that is draining cannot upgrade/)
  assert.throws(() => nextPhase('starting', 'upgrade'), /a daemon that is starting cannot upgrade/)
  assert.throws(() => nextPhase('upgrading', 'upgrade'), /a daemon that is upgrading cannot upgrade/)
})

function reachableFrom(start: Phase): Set<Phase> {
  const found = new Set<Phase>()
  const visit = (phase: Phase): void => {
    for (const step of steps) {
      const next = follow(phase, step)
      if (next === undefined || found.has(next)) continue
      found.add(next)
      visit(next)
    }
  }
  visit(start)
  return found
}

function follow(phase: Phase, step: Step): Phase | undefined {
  try {
    return nextPhase(phase, step)
  } catch {
    // Not in the table.
    return undefined
  }
}
