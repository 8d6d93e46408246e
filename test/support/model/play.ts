/** Plays a world: first in any order, then fairly until nothing happens any more, with the claims of the contract held at each step. */
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { stepNew, stepOld } from '../../../src/core/protocol.ts'
import { type Action, type Contract, type Evil, evils, type Rules, World } from './world.ts'

export const trueContract: Contract = { stepOld, stepNew }

export type Course = Omit<Rules, 'contract' | 'keepsSpare' | 'isPatient'>

export const course: fc.Arbitrary<Course> = fc.record({
  overlap: fc.constantFrom(0, 1),
  answers: fc.array(fc.constantFrom('yes', 'yes', 'yes', 'no', 'never'), { minLength: 1, maxLength: 4 }),
  evil: fc.subarray<Evil>([...evils]),
})

/** Which of the actions that are possible comes next, again and again. */
export const choices = fc.array(fc.nat(1_000), { maxLength: 80 })

/** How often a run is longer than this by itself is never: each step of a fair world brings an end nearer. */
const mostFair = 500

/** What is broken in this run, with all that led to it; undefined: nothing. */
export function faultOf(rules: Rules, order: readonly number[], thaws: boolean): string | undefined {
  const world = new World(rules)
  const trace: string[] = []
  const take = (action: Action) => {
    trace.push(action.name)
    action.act()
    checkAlways(world)
  }
  try {
    for (const choice of order) {
      const action = choose(world.actions(), choice)
      if (action === undefined) break
      take(action)
    }
    trace.push('--- from here on nobody is disturbed any more')
    for (let turn = 0; ; turn++) {
      assert.ok(turn < mostFair, 'it never ends')
      const action = nextFair(world, thaws)
      if (action === undefined) break
      take(action)
    }
    checkEnd(world)
    return undefined
  } catch (error) {
    return [...trace, `=> ${error instanceof Error ? error.message : error}`].join('\n')
  }
}

/** The world interferes at every fourth step at most: where it always does, nothing ever comes about. */
function choose(actions: readonly Action[], choice: number): Action | undefined {
  const own = actions.filter(({ kind }) => kind !== 'evil')
  const from = choice % 4 === 0 || own.length === 0 ? actions : own
  return from[Math.floor(choice / 4) % from.length]
}

/** Timers and deadlines come when there is nothing else to do; upgrades that nobody began by then are not begun. */
function nextFair(world: World, thaws: boolean): Action | undefined {
  const actions = world.actions().filter(({ name }) => !name.includes(' starts generation '))
  return (
    actions.find(({ name }) => thaws && name.endsWith(' thaws')) ??
    actions.find(({ kind }) => kind === 'usual') ??
    actions.find(({ kind }) => kind === 'late')
  )
}

function checkAlways(world: World): void {
  const { owners } = world
  // The offer is being taken back, which only SIGKILL does; upgrade() has not rejected yet.
  const isTakingBack = owners.some(({ old, successor }) => old?.at === 'ending' || successor?.isDoomed)
  if (!isTakingBack) assert.ok(owners.length <= 1, `${owners.map(({ name }) => name).join(' and ')} own the service`)
  for (const { name, phase, old, isFailing, successor } of world.living) {
    const hasFailed = phase === 'ready' && old === undefined && !isFailing && successor?.isAlive === true
    assert.ok(!hasFailed, `${name} is rid of ${successor?.name}, which lives`)
  }
  // The heir of one that was slain may not have come to listen; it holds the listeners open, so that whoever connects waits.
  if (world.wasStopped || world.heirs !== undefined) return
  assert.ok(
    world.living.some(({ accepts }) => accepts),
    'nobody accepts',
  )
}

function checkEnd(world: World): void {
  if (world.wasStopped) return
  const { owners, pidFile } = world
  const names = owners.map(({ name }) => name).join(' and ') || 'nobody'
  if (owners.length === 0 && isExcused(world)) return
  assert.ok(owners.length === 1, `in the end ${names} serves`)
  const [owner] = owners
  assert.ok(owner?.accepts, `in the end ${names} serves and does not accept`)
  // One that stands still for ever may have come no further.
  const isNamed = pidFile === owner || owner.isFrozen
  assert.ok(isNamed, `in the end ${names} serves, and the pid file names ${pidFile.name}`)
}

/** An owner was slain, and nobody was there who could have served on, or they were slain too. */
function isExcused({ heirs, slain }: World): boolean {
  return heirs?.every((one) => slain.has(one) || one.isFrozen) === true
}

/** Plays so many worlds; the shortest way to a fault, if there is one, step by step. */
export function searchFault(
  given: Pick<Rules, 'contract' | 'keepsSpare' | 'isPatient'> & Partial<Course>,
  numRuns: number,
): string | undefined {
  const property = fc.property(course, choices, fc.boolean(), (rules, order, thaws) => {
    return faultOf({ ...rules, ...given }, order, thaws) === undefined
  })
  const { counterexample, seed } = fc.check(property, { numRuns })
  if (counterexample === null) return undefined
  const [rules, order, thaws] = counterexample
  return `${JSON.stringify(rules)}, seed ${seed}\n${faultOf({ ...rules, ...given }, order, thaws)}`
}
