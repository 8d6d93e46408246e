/** An upgrade of several workers, whatever happens in whatever order: all new, or all old. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { nextMove } from '../../src/keeper/evening.ts'
import { type GroupEffect, type GroupEvent, newGroup, stepGroup } from '../../src/keeper/group-upgrade.ts'
import { takesAll } from '../support/extent.ts'

const runs = takesAll ? 100_000 : 5_000

type Life = 'idle' | 'booting' | 'holding' | 'committing' | 'new' | 'old'

/** Workers that believe their keeper: what it says comes true here. */
class World {
  readonly lives = new Map<number, Life>()
  readonly isRolling: boolean
  readonly told: GroupEffect[] = []
  /** How often each still waits for the others: before its overlap, and before its commit. */
  #left = new Map<number, number>()
  /** Those whose predecessor has died: they ask in its place, and overlap with nobody. */
  readonly #alone = new Set<number>()
  #group

  constructor(slots: number, overlaps: readonly boolean[], isRolling: boolean) {
    this.isRolling = isRolling
    const numbers = Array.from({ length: slots }, (_, slot) => slot)
    for (const slot of numbers) {
      this.lives.set(slot, 'idle')
      this.#left.set(slot, overlaps[slot] === true ? 2 : 1)
    }
    const [group, effects] = newGroup(numbers, isRolling)
    this.#group = group
    this.#carryOut(effects)
  }

  step(event: GroupEvent): void {
    const [group, effects] = stepGroup(this.#group, event)
    this.#group = group
    this.#carryOut(effects)
  }

  #carryOut(effects: readonly GroupEffect[]): void {
    this.told.push(...effects)
    for (const effect of effects) {
      if (effect.do === 'ask') {
        assert.equal(this.lives.get(effect.slot), 'idle', 'asked twice')
        this.lives.set(effect.slot, 'booting')
      } else if (effect.do === 'release') {
        this.#release(effect.slot, effect.mayGo)
      }
    }
  }

  #release(slot: number, mayGo: boolean): void {
    const life = this.lives.get(slot)
    if (!mayGo) {
      assert.ok(life === 'booting' || life === 'holding' || life === 'old', `no to one that is ${life}`)
      this.lives.set(slot, 'old')
      return
    }
    assert.equal(life, 'holding', 'go to one that waits for nothing')
    const left = (this.#left.get(slot) ?? 0) - 1
    this.#left.set(slot, left)
    this.lives.set(slot, left === 0 ? 'committing' : 'booting')
  }

  /** What one of them does next; `luck`: whether it comes as far. */
  act(slot: number, hasLuck: boolean): void {
    switch (this.lives.get(slot)) {
      case 'booting':
        if (hasLuck) this.lives.set(slot, 'holding')
        else this.lives.set(slot, 'old')
        this.#hold(slot, hasLuck)
        return
      case 'holding':
        if (hasLuck) return
        this.lives.set(slot, 'old')
        this.step({ type: 'failed', slot })
        return
      case 'committing':
        this.lives.set(slot, hasLuck ? 'new' : 'old')
        this.step({ type: hasLuck ? 'served' : 'failed', slot })
        if (hasLuck) this.step({ type: 'left', slot })
        return
      case 'old':
        // Its answer to a refusal.
        this.step({ type: 'failed', slot })
        return
    }
  }

  #hold(slot: number, hasLuck: boolean): void {
    if (!hasLuck) this.step({ type: 'failed', slot })
    else this.step({ type: 'held', slot, overlaps: (this.#left.get(slot) ?? 0) > 1 })
  }

  /** The old one dies, and its successor waits for the others, or goes on, in its place. */
  loseOld(slot: number): void {
    const life = this.lives.get(slot)
    if (this.#alone.has(slot) || !['booting', 'holding', 'committing'].includes(life ?? '')) return
    this.#alone.add(slot)
    this.#left.set(slot, 1)
    if (life === 'booting') return
    this.lives.set(slot, 'holding')
    this.#hold(slot, true)
  }

  get end() {
    return this.told.find((one) => one.do === 'end')
  }
}

const acts = fc.array(fc.record({ slot: fc.nat(7), hasLuck: fc.boolean(), stops: fc.nat(40), losesOld: fc.nat(20) }), {
  maxLength: 80,
})
/** Some overlap, where the program says so itself. */
const overlapping = fc.array(fc.boolean(), { minLength: 8, maxLength: 8 })

test('several workers end all with the new version or all with the old one, in whatever order they come and fail before all are ready', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 8 }), overlapping, acts, (slots, overlaps, all) => {
      const world = new World(slots, overlaps, false)
      let decided = false
      for (const { slot, hasLuck, stops, losesOld } of all) {
        if (stops === 0) world.step({ type: 'stop' })
        if (losesOld === 0) world.loseOld(slot)
        decided ||= [...world.lives.values()].includes('committing')
        // Behind the decision all come as far: what does not is the next test's.
        if (slot < slots) world.act(slot, hasLuck || decided)
      }
      for (let more = 0; more < 4; more++) for (const slot of world.lives.keys()) world.act(slot, true)
      const lives = new Set(world.lives.values())
      assert.equal(lives.size, 1, `mixed: ${[...world.lives.values()]}`)
      const { outcome } = world.end ?? assert.fail('no end')
      assert.equal(outcome, lives.has('new') ? 'served' : 'failed')
      assert.equal(world.told.filter((one) => one.do === 'end').length, 1)
    }),
    { numRuns: runs },
  )
})

test('one that fails behind the decision is named, and holds up none of the others', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 2, max: 8 }),
      fc.array(fc.boolean(), { minLength: 8, maxLength: 8 }),
      (slots, luck) => {
        const world = new World(slots, [], false)
        for (let slot = 0; slot < slots; slot++) world.act(slot, true)
        for (let slot = 0; slot < slots; slot++) world.act(slot, luck[slot] === true)
        const missing = luck.slice(0, slots).flatMap((one, slot) => (one ? [] : [slot]))
        const outcome = missing.length === 0 ? 'served' : missing.length === slots ? 'failed' : 'mixed'
        assert.deepEqual(world.end, { do: 'end', outcome, missing })
      },
    ),
    { numRuns: runs },
  )
})

test('a successor that asks in the place of its dead predecessor is held as that was, and goes on with the others', () => {
  const [begun] = newGroup([0, 1], false)
  const [one] = stepGroup(begun, { type: 'held', slot: 0 })
  const [again, effects] = stepGroup(one, { type: 'held', slot: 0 })
  assert.deepEqual(effects, [])
  const [decided, released] = stepGroup(again, { type: 'held', slot: 1 })
  assert.deepEqual(
    released.map((effect) => effect.do === 'release' && [effect.slot, effect.mayGo]),
    [
      [0, true],
      [1, true],
    ],
  )
  // Its predecessor had died with the answer.
  const [, late] = stepGroup(decided, { type: 'held', slot: 0 })
  assert.deepEqual(late, [{ do: 'release', slot: 0, mayGo: true }])
})

test('one by one, nobody is asked before the one before has left, and the first that fails ends it', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 8 }), overlapping, acts, (slots, overlaps, all) => {
      const world = new World(slots, overlaps, true)
      const look = () => {
        const busy = [...world.lives.values()].filter((one) => ['booting', 'holding', 'committing'].includes(one))
        assert.ok(busy.length <= 1, 'two at once')
      }
      for (const { slot, hasLuck, stops, losesOld } of all) {
        if (stops === 0) world.step({ type: 'stop' })
        if (losesOld === 0) world.loseOld(slot)
        if (slot < slots) world.act(slot, hasLuck)
        look()
      }
      for (let more = 0; more < 6 * slots; more++) for (const slot of world.lives.keys()) world.act(slot, true)
      const lives = [...world.lives.values()]
      const news = lives.filter((one) => one === 'new').length
      // New ones first, and behind the one that failed nobody was touched.
      assert.ok(lives.every((one, slot) => (one === 'new') === slot < news))
      const { missing } = world.end ?? assert.fail('no end')
      assert.equal(missing.length, slots - news)
    }),
    { numRuns: runs },
  )
})

test('connections even out: nobody gives more than what it has above the mean, and it ends', () => {
  const counts = fc.array(fc.nat(1_000), { minLength: 1, maxLength: 16 })
  fc.assert(
    fc.property(counts, (given) => {
      const open = new Map(given.map((count, slot) => [slot, count]))
      const mean = given.reduce((sum, one) => sum + one, 0) / given.length
      let turns = 0
      for (let move = nextMove(open); move !== undefined; move = nextMove(open)) {
        const [from = 0, to = 0] = [open.get(move.from), open.get(move.to)]
        assert.ok(move.count >= 1 && from - move.count >= mean - 1 && to + move.count <= mean + 1)
        open.set(move.from, from - move.count).set(move.to, to + move.count)
        assert.ok(++turns <= 2 * given.length, 'it goes on for ever')
      }
      for (const count of open.values()) assert.ok(count <= 1.25 * mean + 8, `${count} of ${[...open.values()]}`)
    }),
    { numRuns: runs },
  )
})
