/**
 * Plays a world: first in any order, then fairly until nothing happens any more, with the claims of
 * the contract held at each step.
 */
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { stepNew } from '../../../src/contract/new-side.ts'
import { stepOld } from '../../../src/contract/old-side.ts'
import { type Action, type Contract, type Evil, evils, type Rules, World } from './world.ts'

export const trueContract: Contract = { stepOld, stepNew }

type Course = Omit<Rules, 'contract' | 'keepsSpare' | 'chains'>

const course: fc.Arbitrary<Course> = fc.record({
  overlap: fc.constantFrom(0, 1),
  isHeld: fc.boolean(),
  answers: fc.array(fc.constantFrom('yes', 'yes', 'yes', 'no', 'never'), { minLength: 1, maxLength: 4 }),
  evil: fc.subarray<Evil>([...evils]),
})

/**
 * Which of the actions that are possible comes next, again and again. Without a size fast-check
 * makes no more than ten of them.
 */
const choices = fc.array(fc.nat(10_000), { maxLength: 80, size: 'max' })

/**
 * How often a run is longer than this by itself is never: each step of a fair world brings an end
 * nearer.
 */
const mostFair = 500

/** One run: what happened, in order, and what of it is broken. */
function play(
  rules: Rules,
  order: readonly number[],
  thaws: boolean,
): { readonly trace: readonly string[]; readonly fault?: string } {
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
    return { trace }
  } catch (error) {
    return { trace, fault: error instanceof Error ? error.message : String(error) }
  }
}

/**
 * Mostly what leads on; a deadline passes, or the world interferes, at every eighth step at most:
 * else nothing ever comes about.
 */
function choose(actions: readonly Action[], choice: number): Action | undefined {
  const likely = actions.filter(({ kind }) => kind === 'usual' || (kind === 'late' && choice % 8 === 1))
  const from = choice % 8 === 0 || likely.length === 0 ? actions : likely
  return from[Math.floor(choice / 8) % from.length]
}

/**
 * Timers and deadlines come when there is nothing else to do; upgrades that nobody began by then
 * are not begun.
 */
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
  // The heir of one that was slain may not have come to listen; it holds the listeners open, so
  // that whoever connects waits.
  if (world.wasStopped || world.heirs !== undefined) return
  assert.ok(
    world.living.some((one) => world.holdsListeners(one)),
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

/**
 * An owner was slain, and nobody was there who could have served on, or they were slain too or
 * stand still for ever.
 */
function isExcused({ heirs, slain, living }: World): boolean {
  // One that stands still for ever takes the service back, or the offer, when it goes on.
  const isHeld = living.some(({ isFrozen, drain, old }) => isFrozen && (drain !== undefined || old?.at === 'offered'))
  return isHeld || heirs?.every((one) => slain.has(one) || one.isFrozen) === true
}

/** What the two versions, and the world around them, do in these runs. */
type Given = Omit<Rules, keyof Course> & Partial<Course>

const run = fc.tuple(course, choices, fc.boolean())

/** Plays so many worlds; the shortest way to a fault, if there is one, step by step. */
export function searchFault(given: Given, numRuns: number, fixed?: { readonly seed: number }): string | undefined {
  const property = fc.property(run, ([rules, order, thaws]) => {
    return play({ ...rules, ...given }, order, thaws).fault === undefined
  })
  const { counterexample, seed } = fc.check(property, { numRuns, ...fixed })
  if (counterexample === null) return undefined
  const [[rules, order, thaws]] = counterexample
  const { trace, fault } = play({ ...rules, ...given }, order, thaws)
  return [`${JSON.stringify(rules)}, seed ${seed}`, ...trace, `=> ${fault}`].join('\n')
}

/** Everything that happened in so many worlds, by name. */
export function everythingPlayed(given: Given, numRuns: number, fixed: { readonly seed: number }): ReadonlySet<string> {
  return new Set(
    fc
      .sample(run, { numRuns, ...fixed })
      .flatMap(([rules, order, thaws]) => play({ ...rules, ...given }, order, thaws).trace),
  )
}
