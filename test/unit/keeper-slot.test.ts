/** What a keeper does with a place for a worker, whatever happens in whatever order. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  longEnough,
  mostInRow,
  newSlot,
  type Slot,
  type SlotEffect,
  type SlotEvent,
  stepSlot,
} from '../../src/keeper/slot.ts'
import { takesAll } from '../support/extent.ts'

const runs = takesAll ? 100_000 : 5_000

type Effect = SlotEffect<string>

/** A slot, and the processes that it believes in: what the keeper carries out comes true here. */
class World {
  readonly givesUp: boolean
  slot: Slot<string>
  now = 0
  chance = 0.5
  /** All effects, in order. */
  readonly told: Effect[] = []
  /** The process that is being started by the keeper: undefined until it is there. */
  starting: { readonly release: string; generation?: number } | undefined
  hasTimer = false
  readonly living = new Map<number, string>()
  owner: number | undefined
  /** An old generation that may still take the service back, or a new one that may take over. */
  last = 0
  hasStopped = false
  /** What the other slots know of the release that runs here. */
  elsewhere: { readonly isProven: boolean; readonly early: number } | undefined

  constructor(release = 'v1', givesUp = false) {
    this.givesUp = givesUp
    const [slot, effects] = newSlot(release)
    this.slot = slot
    this.carryOut(effects)
  }

  step(event: SlotEvent<string>): readonly Effect[] {
    const { givesUp, elsewhere } = this
    const rules = { givesUp, chance: () => this.chance, ...(elsewhere && { elsewhere }) }
    const [slot, effects] = stepSlot(this.slot, event, rules, (one, other) => one === other)
    this.slot = slot
    this.carryOut(effects)
    return effects
  }

  carryOut(effects: readonly Effect[]): void {
    this.told.push(...effects)
    for (const effect of effects) {
      if (effect.do === 'start') {
        assert.equal(this.starting, undefined, 'two starts at once')
        assert.equal(this.living.size, 0, 'a start beside what lives')
        assert.equal(this.hasStopped, false, 'a start after the stop')
        this.starting = { release: effect.release }
        this.hasTimer = false
      } else if (effect.do === 'wait') {
        assert.ok(effect.ms >= 80 && effect.ms <= 36_000, `a pause of ${effect.ms} ms`)
        assert.equal(this.starting, undefined, 'a pause beside a start')
        this.hasTimer = true
      }
    }
  }

  get isOver(): boolean {
    return this.told.some((one) => one.do === 'end')
  }

  spawn(): void {
    if (this.starting === undefined || this.starting.generation !== undefined) return
    const generation = ++this.last
    this.starting.generation = generation
    this.living.set(generation, this.starting.release)
    this.step({ type: 'started', generation })
  }

  /** What the keeper starts is there, and serves. */
  up(): void {
    this.spawn()
    const generation = this.starting?.generation
    if (generation === undefined) return
    this.starting = undefined
    this.own(generation)
  }

  own(generation: number): void {
    this.owner = generation
    this.step({ type: 'serves', generation, release: this.living.get(generation) ?? '', now: this.now })
  }

  /** What the keeper starts does not come up. */
  fail(): void {
    if (this.starting === undefined) return
    const { generation } = this.starting
    if (generation !== undefined) this.exit(generation)
    this.starting = undefined
    this.step({ type: 'failed', now: this.now })
  }

  exit(generation: number | undefined): void {
    if (generation === undefined || !this.living.delete(generation)) return
    if (this.owner === generation) this.owner = undefined
    this.step({ type: 'exit', generation, now: this.now })
  }

  /** The one that serves ends unasked. */
  crash(after = 0): void {
    this.now += after
    this.exit(this.owner)
  }

  /** A worker starts its successor; true: it was committed. */
  upgrade(release: string, hasCommitted = true): void {
    if (this.owner === undefined) return
    const generation = ++this.last
    this.living.set(generation, release)
    this.step({ type: 'started', generation })
    if (hasCommitted) this.own(generation)
  }

  stop(): void {
    this.hasStopped = true
    this.step({ type: 'stop' })
  }

  restart(release: string): void {
    this.step({ type: 'restart', release, now: this.now })
  }

  timer(): void {
    if (!this.hasTimer) return
    this.hasTimer = false
    this.step({ type: 'timer' })
  }

  others(): readonly number[] {
    return [...this.living.keys()].filter((one) => one !== this.owner && one !== this.starting?.generation)
  }

  /** Whatever happens next, there is something that makes it happen. */
  check(): void {
    const { at } = this.slot
    if (at === 'starting') assert.ok(this.starting !== undefined, 'it starts, and nothing is being started')
    if (at === 'serving') assert.ok(this.living.size > 0, 'it serves, and nothing lives')
    if (at === 'waiting') assert.ok(this.hasTimer, 'it waits for nothing')
    if (at === 'down') assert.ok(this.isOver, 'it is down, and nobody was told')
  }
}

/** Everything that can happen to a service. */
const happening = fc.oneof(
  fc.constantFrom(
    (world: World) => world.spawn(),
    (world: World) => world.up(),
    (world: World) => world.fail(),
    (world: World) => world.crash(),
    (world: World) => world.crash(1_500),
    (world: World) => world.crash(longEnough),
    (world: World) => world.upgrade('v1', false),
    (world: World) => world.timer(),
    (world: World) => world.exit(world.others()[0]),
    // A predecessor takes the service back, or a successor takes over, when the owner is gone or
    // hands over.
    (world: World) => {
      const [other] = world.others()
      if (other !== undefined && world.owner === undefined) world.own(other)
    },
    (world: World) => {
      const other = world.others().at(-1)
      if (other !== undefined && world.slot.at === 'serving') world.own(other)
    },
    (world: World) => void world.step({ type: 'overdue' }),
    (world: World) => {
      world.now += longEnough
    },
  ),
  fc.constantFrom('v1', 'v2', 'v3').map((release) => (world: World) => world.upgrade(release)),
  fc.constantFrom('v1', 'v2', 'v3').map((release) => (world: World) => world.restart(release)),
  fc.record({ isProven: fc.boolean(), early: fc.nat(3) }).map((elsewhere) => (world: World) => {
    world.elsewhere = elsewhere
  }),
  // Late, stray and impossible words.
  fc.nat(9).map((generation) => (world: World) => {
    if (!world.living.has(generation)) world.step({ type: 'exit', generation, now: world.now })
  }),
  fc.nat(9).map((generation) => (world: World) => {
    if (!world.living.has(generation)) world.step({ type: 'serves', generation, release: 'v9', now: world.now })
  }),
)

function everyWorld(check: (world: World) => void): void {
  fc.assert(
    fc.property(
      fc.array(happening, { maxLength: 40 }),
      fc.boolean(),
      fc.double({ min: 0, max: 1, noNaN: true }),
      (all, givesUp, chance) => {
        const world = new World('v1', givesUp)
        world.chance = chance
        for (const happen of all) {
          happen(world)
          world.check()
        }
        check(world)
      },
    ),
    { numRuns: runs },
  )
}

test('whatever happens in whatever order, never two are started at once, none beside one that lives, and something always comes next', () => {
  everyWorld(() => {})
})

test('a stop always ends, whenever it comes, and nothing is started after it', () => {
  everyWorld((world) => {
    world.stop()
    world.check()
    // What starts comes up, and is told to end then.
    if (world.starting !== undefined) {
      world.up()
      assert.ok(world.isOver || world.told.at(-1)?.do === 'replace', 'one that came up after the stop was told nothing')
    }
    for (const generation of [...world.living.keys()]) world.exit(generation)
    assert.ok(world.isOver)
    assert.equal(world.told.filter((one) => one.do === 'end').length, 1)
  })
})

test('the release that a restart asked for last is the one that runs, whatever was going on', () => {
  everyWorld((world) => {
    if (world.isOver || world.slot.isFirst) return
    world.restart('asked')
    for (let turns = 0; world.slot.release !== 'asked' || world.slot.at !== 'serving'; turns++) {
      assert.ok(turns < 9, `${world.slot.at} ${world.slot.release}`)
      world.up()
      if (world.slot.next !== undefined) for (const generation of [...world.living.keys()]) world.exit(generation)
    }
    assert.equal(world.slot.next, undefined)
  })
})

test('pauses between crashes double from 100 ms to 30 s, 20 % more or less, and begin again after 10 s of service', () => {
  for (const [chance, factor] of [
    [0, 0.8],
    [0.5, 1],
    [1, 1.2],
  ] as const) {
    const world = new World()
    world.chance = chance
    const pauses: number[] = []
    for (let crashes = 0; crashes < 14; crashes++) {
      world.up()
      world.crash(1)
      pauses.push(world.told.flatMap((one) => (one.do === 'wait' ? [one.ms] : [])).at(-1) ?? 0)
      world.timer()
    }
    const doubling = [100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000, 30_000, 30_000, 30_000]
    assert.deepEqual(
      pauses.map(Math.round),
      doubling.map((ms) => Math.round(ms * factor)),
    )
    world.up()
    world.crash(longEnough)
    // At once.
    assert.equal(world.told.at(-1)?.do, 'start')
    world.up()
    world.crash(1)
    assert.deepEqual(world.told.at(-1), { do: 'wait', ms: 200 * factor })
  }
})

test('run gives up after ten crashes in a row; start never does, and says failed until one has served for 10 s', () => {
  const run = new World('v1', true)
  const start = new World('v1', false)
  for (let crashes = 1; crashes <= 30; crashes++) {
    for (const world of [run, start]) {
      world.up()
      world.crash(1)
      world.timer()
    }
    assert.equal(run.isOver, crashes >= mostInRow, `${crashes}`)
    assert.equal(start.isOver, false)
    assert.equal(start.slot.hasFailed, crashes >= mostInRow)
  }
  assert.deepEqual(run.told.at(-1), { do: 'end', why: 'crashes' })
  start.up()
  start.crash(longEnough)
  assert.equal(start.slot.hasFailed, false)
})

test('a first start that fails is told, and not tried again; any later one is', () => {
  const world = new World()
  world.fail()
  assert.deepEqual(world.told.at(-1), { do: 'end', why: 'first' })
  const later = new World()
  later.up()
  later.crash(1)
  later.timer()
  later.fail()
  assert.equal(later.told.at(-1)?.do, 'wait')
})

/** It has served for long, and a new release came in its place. */
function upgraded(): World {
  const world = new World('good')
  world.up()
  world.now += longEnough
  world.upgrade('bad')
  world.exit(1)
  return world
}

test('a release that crashes twice in its first 10 s gives its place to the one before it; one that has served for 10 s keeps it', () => {
  const world = upgraded()
  world.crash(1_500)
  assert.equal(world.slot.release, 'bad')
  world.timer()
  world.up()
  world.crash(1_500)
  assert.deepEqual(
    world.told.slice(-3).map((one) => one.do),
    ['crashed', 'back', 'start'],
  )
  assert.equal(world.starting?.release, 'good')
  // There it stays, however often that crashes: there is nothing before it any more.
  for (let crashes = 0; crashes < 5; crashes++) {
    world.up()
    world.crash(1)
    world.timer()
  }
  assert.equal(world.starting?.release, 'good')

  const proven = upgraded()
  proven.crash(longEnough)
  for (let crashes = 0; crashes < 5; crashes++) {
    proven.up()
    proven.crash(1)
    proven.timer()
  }
  assert.equal(proven.starting?.release, 'bad')
})

test('of several slots with one release, a crash in each of two is as bad as two in one; that it is in order in another one keeps it', () => {
  const one = upgraded()
  one.elsewhere = { isProven: false, early: 1 }
  one.crash(1_500)
  assert.equal(one.starting?.release, 'good')
  const other = upgraded()
  other.elsewhere = { isProven: true, early: 3 }
  for (let crashes = 0; crashes < 5; crashes++) {
    other.crash(1)
    other.timer()
    other.up()
  }
  assert.equal(other.slot.release, 'bad')
  // Crashes elsewhere alone are no crash here, and where there is nothing before it, it stays.
  const first = new World('v1')
  first.up()
  first.elsewhere = { isProven: false, early: 3 }
  first.crash(1)
  first.timer()
  assert.equal(first.starting?.release, 'v1')
})

test('nobody goes back to a release that was never in order: two bad ones in a row go back to the good one before both', () => {
  const world = upgraded()
  world.upgrade('worse')
  world.exit(2)
  for (let crashes = 0; crashes < 2; crashes++) {
    world.crash(1)
    world.timer()
    world.up()
  }
  assert.equal(world.slot.release, 'good')
})

test('a restart to a release that does not come up goes back to what ran, and to no other later', () => {
  const world = upgraded()
  world.restart('broken')
  assert.equal(world.told.at(-1)?.do, 'replace')
  world.exit(world.owner)
  assert.equal(world.starting?.release, 'broken')
  world.fail()
  assert.deepEqual(
    world.told.slice(-2).map((one) => one.do),
    ['back', 'start'],
  )
  assert.equal(world.starting?.release, 'bad')
  // Of which it is known as before what came before it.
  for (let crashes = 0; crashes < 2; crashes++) {
    world.up()
    world.crash(1)
    world.timer()
  }
  assert.equal(world.starting?.release, 'good')
})

test('a second restart does not cut what the first one lets be answered, and the last word counts', () => {
  const world = upgraded()
  world.restart('one')
  world.restart('two')
  assert.equal(world.told.filter((one) => one.do === 'replace').length, 1)
  world.exit(world.owner)
  assert.equal(world.starting?.release, 'two')
  // One that comes while it starts waits until it is up.
  world.restart('three')
  world.up()
  assert.equal(world.told.at(-1)?.do, 'replace')
  world.exit(world.owner)
  assert.equal(world.starting?.release, 'three')
})

test('when the one that serves is gone and nobody takes over in time, what lives is killed, and the last release starts', () => {
  const world = upgraded()
  world.upgrade('held', false)
  world.crash(1)
  assert.equal(world.told.at(-1)?.do, 'watch')
  world.step({ type: 'overdue' })
  assert.equal(world.told.at(-1)?.do, 'kill')
  for (const generation of [...world.living.keys()]) world.exit(generation)
  world.timer()
  assert.equal(world.starting?.release, 'bad')
  // One that has taken over is left alone.
  const taken = upgraded()
  taken.upgrade('next', false)
  taken.crash(1)
  taken.own(3)
  taken.step({ type: 'overdue' })
  assert.notEqual(taken.told.at(-1)?.do, 'kill')
})
