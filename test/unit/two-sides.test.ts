/**
 * The contract of the original Go API, with a process between the two: every interleaving, delay and
 * death. The direct way is in model.test.ts.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Identity } from '../../src/contract/environment.ts'
import type { Downward, Upward } from '../../src/contract/messages.ts'
import { type NewEvent, type NewSide, newSide, stepNew } from '../../src/contract/new-side.ts'
import { type OldEvent, type OldSide, oldSide, stepOld } from '../../src/contract/old-side.ts'

const nonce = 'the nonce'
const young: Identity = [3, 'young']

/** What the program of the new version does. */
type Answer = 'yes' | 'no' | 'never'

type Course = {
  readonly overlap: number
  readonly answer: Answer
  /** Who may die by itself. */
  readonly mortal: readonly ('old' | 'between' | 'young')[]
  /** Whether the caller of upgrade() may stop it. */
  readonly canStop: boolean
  /** One of several workers; `areOthersReady`: what the keeper answers when it waits for them. */
  readonly isHeld: boolean
  readonly areOthersReady: boolean
}

/** One upgrade: two sides, a third process between them, and a lossless ordered channel. */
class World {
  readonly course: Course
  old: OldSide
  new: NewSide
  /** On their way. */
  readonly up: Upward[] = []
  readonly down: Downward[] = []
  isOldAlive = true
  isBetweenAlive = true
  isYoungAlive = false
  hasStarted = false
  /** SIGKILL is on its way to it. */
  readonly doomed = new Set<'between' | 'young'>()
  // Ends of the channel that are open.
  doesOldHold = true
  doesBetweenHold = true
  doesYoungHold = false
  hasTimer = true
  hasStopped = false
  hasHeardExit = false
  hasHeardClosed = false
  /** upgrade() is about to reject; it waits for the known ones to be gone. */
  isFailing = false
  hasReported: 'committed' | 'failed' | undefined
  wasOffered = false
  wasRefused = false
  isReleased = false
  hasAnswered = false
  hasSeenEnd = false
  looks = 0
  /** Questions to the keeper without an answer. */
  holds = 0
  asks = 0
  isLeaving = false
  didYoungCommit = false
  didYoungDieByItself = false

  constructor(course: Course) {
    this.course = course
    const { overlap, isHeld } = course
    this.old = oldSide({ stage: 'parent', nonce, living: [], readyTimeout: 60_000, overlap, isHeld })
    this.new = newSide(nonce, young, { isHeld })
  }

  get youngOwns(): boolean {
    return this.isYoungAlive && this.didYoungCommit
  }

  /** Alive, and the service is neither given away nor on offer. */
  get oldOwns(): boolean {
    return this.isOldAlive && this.old.at !== 'committed' && this.old.at !== 'offered'
  }

  /**
   * Everything that can happen next. Deaths and timers stand apart: a fair world does without the
   * ones and waits with the others.
   */
  actions(): { readonly usual: (() => void)[]; readonly late: (() => void)[]; readonly bad: (() => void)[] } {
    const usual: (() => void)[] = []
    const late: (() => void)[] = []
    const bad: (() => void)[] = []
    if (this.isOldAlive) this.#oldActions(usual, late, bad)
    if (this.isBetweenAlive) this.#betweenActions(usual, bad)
    if (this.isYoungAlive) this.#youngActions(usual, bad)
    return { usual, late, bad }
  }

  #oldActions(usual: (() => void)[], late: (() => void)[], bad: (() => void)[]): void {
    const { course } = this
    const [message] = this.up
    const isEnd = !this.doesBetweenHold && !this.doesYoungHold
    if (this.doesOldHold && message !== undefined) {
      usual.push(() => {
        this.up.shift()
        this.#stepOld({ type: 'message', message })
      })
    }
    if (this.doesOldHold && message === undefined && isEnd && !this.hasHeardClosed) {
      usual.push(() => {
        this.hasHeardClosed = true
        this.#stepOld({ type: 'closed' })
      })
    }
    if (this.holds > 0) {
      usual.push(() => {
        this.holds--
        this.#stepOld({ type: 'release', mayGo: course.areOthersReady })
      })
    }
    if (!this.isBetweenAlive && !this.hasHeardExit) {
      usual.push(() => {
        this.hasHeardExit = true
        this.#stepOld({ type: 'exit', exit: { code: 0, signal: null } })
      })
    }
    // SIGKILL ends a process within its grace: that much is assumed of the kernel.
    const isKilling =
      this.old.killed &&
      ((this.isYoungAlive && this.doomed.has('young')) || (this.isBetweenAlive && this.doomed.has('between')))
    if (this.hasTimer && !isKilling) late.push(() => this.#stepOld({ type: 'timer' }))
    if (this.isFailing) {
      const isKnownLeft = this.isYoungAlive && this.#isYoungKnown
      if (isKnownLeft) late.push(() => void this.doomed.add('young'))
      else {
        usual.push(() => {
          this.isFailing = false
          this.hasReported = 'failed'
        })
      }
    }
    if (this.#isDraining) {
      usual.push(() => {
        this.#isDraining = false
        this.down.push({ type: 'bye' })
        this.doesOldHold = false
      })
    }
    if (course.canStop && !this.hasStopped) {
      bad.push(() => {
        this.hasStopped = true
        this.#stepOld({ type: 'stop' })
      })
    }
    if (course.mortal.includes('old')) {
      bad.push(() => {
        this.isOldAlive = false
        this.doesOldHold = false
        this.up.length = 0
      })
    }
  }

  /** After the commit the link stays open for what is handed over, until bye. */
  #isDraining = false

  get #isYoungKnown(): boolean {
    return this.old.known.some(([pid]) => pid === young[0])
  }

  #betweenActions(usual: (() => void)[], bad: (() => void)[]): void {
    const die = () => {
      this.isBetweenAlive = false
      this.doesBetweenHold = false
      // Its end of the pipe to the daemon is closed with it.
      this.isReleased = true
    }
    if (this.doomed.has('between')) usual.push(die)
    if (this.course.mortal.includes('between')) bad.push(die)
    if (!this.hasStarted) {
      usual.push(() => {
        this.hasStarted = true
        this.isYoungAlive = true
        this.doesYoungHold = true
        bad.length = 0
      })
      return
    }
    if (this.doesBetweenHold && !this.#hasTold) {
      usual.push(() => {
        this.#hasTold = true
        this.#say({ type: 'spawned', pid: young[0], startTime: young[1] })
      })
      return
    }
    // Until it lets go of the link, it takes what comes down: nobody may say anything there before
    // hello.
    if (this.doesBetweenHold && this.down.length > 0) usual.push(() => void this.down.shift())
    if (this.doesBetweenHold) {
      usual.push(() => {
        this.doesBetweenHold = false
      })
    } else usual.push(die)
  }
  #hasTold = false

  #youngActions(usual: (() => void)[], bad: (() => void)[]): void {
    const die = () => {
      this.isYoungAlive = false
      this.doesYoungHold = false
    }
    if (this.doomed.has('young') || this.isLeaving) usual.push(die)
    if (this.course.mortal.includes('young')) {
      bad.push(() => {
        this.didYoungDieByItself = true
        die()
      })
    }
    if (!this.isReleased) {
      // Node reads the channel from its boot on, before anybody of ours listens.
      if (this.down.length > 0) usual.push(() => void this.down.shift())
      return
    }
    if (this.new.at === 'silent') usual.push(() => this.#stepNew({ type: 'go' }))
    if (!this.hasAnswered && this.course.answer !== 'never') {
      usual.push(() => {
        this.hasAnswered = true
        this.#stepNew({ type: 'notify', ok: this.course.answer === 'yes', reason: '' })
      })
    }
    const [message] = this.down
    if (this.doesYoungHold && message !== undefined) {
      usual.push(() => {
        this.down.shift()
        this.#stepNew({ type: 'message', message })
      })
    }
    if (this.doesYoungHold && message === undefined && !this.doesOldHold && !this.hasSeenEnd) {
      usual.push(() => {
        this.hasSeenEnd = true
        this.#stepNew({ type: 'closed' })
      })
    }
    if (this.looks > 0) {
      usual.push(() => {
        this.looks--
        this.#stepNew({ type: 'looked', predecessorLives: this.isOldAlive })
      })
    }
    if (this.asks > 0) {
      usual.push(() => {
        this.asks--
        this.#stepNew({ type: 'release', mayGo: this.course.areOthersReady })
      })
    }
    // It said no, and nobody is there to hear it.
    if (this.course.answer === 'no' && this.didYoungCommit) this.isLeaving = true
  }

  #say(message: Upward): void {
    if (this.doesOldHold) this.up.push(message)
  }

  #stepOld(event: OldEvent): void {
    if (event.type === 'timer') this.hasTimer = false
    const [next, effects] = stepOld(this.old, event)
    this.old = next
    for (const effect of effects) {
      if (effect.do === 'send') {
        if (effect.message.type === 'accepted') this.wasOffered = true
        if (effect.message.type === 'refused') this.wasRefused = true
        if (this.doesOldHold) this.down.push(effect.message)
      }
      if (effect.do === 'timer') this.hasTimer = true
      if (effect.do === 'hold') this.holds++
      if (effect.do === 'kill') {
        this.doomed.add('between')
        if (this.#isYoungKnown) this.doomed.add('young')
      }
      if (effect.do === 'commit') {
        this.hasTimer = false
        this.hasReported = 'committed'
        this.#isDraining = true
      }
      if (effect.do === 'fail') {
        this.hasTimer = false
        this.doesOldHold = false
        this.isFailing = true
      }
    }
  }

  #stepNew(event: NewEvent): void {
    const [next, effects] = stepNew(this.new, event)
    this.new = next
    for (const effect of effects) {
      if (effect.do === 'send') this.#say(effect.message)
      if (effect.do === 'commit') this.#takeOver()
      // notifyUpgradeDone() rejects or, if nobody called it, the process throws: it must end.
      if (effect.do === 'refuse') this.isLeaving = true
      if (effect.do === 'look') this.looks++
      if (effect.do === 'askKeeper') this.asks++
      if (effect.do === 'close') this.doesYoungHold = false
    }
  }

  #takeOver(): void {
    this.didYoungCommit = true
    // The heart of the contract: what it takes was offered to it, or left behind.
    assert.ok(this.wasOffered || !this.isOldAlive, 'the new one took what nobody offered')
  }
}

const course: fc.Arbitrary<Course> = fc.record({
  overlap: fc.constantFrom(0, 1_000),
  answer: fc.constantFrom<Answer>('yes', 'yes', 'no', 'never'),
  mortal: fc.subarray(['old', 'between', 'young'] as const),
  canStop: fc.boolean(),
  isHeld: fc.boolean(),
  areOthersReady: fc.boolean(),
})

// Without a size fast-check makes no more than ten of them.
const choices = fc.array(fc.nat(1_000), { maxLength: 40, size: 'max' })

/**
 * Any order first, in which everything may happen at any time; then a fair world in which nobody
 * dies any more by itself.
 */
function play(given: Course, order: readonly number[], look: (world: World) => void): World {
  const world = new World(given)
  for (const choice of order) {
    const { usual, late, bad } = world.actions()
    const all = [...usual, ...late, ...bad]
    if (all.length === 0) break
    all[choice % all.length]?.()
    look(world)
  }
  for (let turn = 0; ; turn++) {
    assert.ok(turn < 200, 'it never ends')
    const { usual, late } = world.actions()
    const [next] = usual.length > 0 ? usual : late
    if (next === undefined) return world
    next()
    look(world)
  }
}

function forAnyCourse(check: (world: World) => void, look: (world: World) => void = () => {}): void {
  fc.assert(
    fc.property(course, choices, (given, order) => check(play(given, order, look))),
    { numRuns: 5_000 },
  )
}

test('an undisturbed upgrade ends with the new process as the owner', () => {
  for (const isHeld of [false, true]) {
    const given = { overlap: 0, answer: 'yes', mortal: [], canStop: false, isHeld, areOthersReady: true } as const
    const world = play(given, [], () => {})
    assert.equal(world.hasReported, 'committed')
    assert.equal(world.youngOwns, true)
  }
})

test('both sides never own the service, but for the moment in which a process that was accepted and did not confirm is being killed', () => {
  forAnyCourse(
    () => {},
    (world) => {
      if (!(world.oldOwns && world.youngOwns)) return
      // The offer is being taken back, which only SIGKILL does; upgrade() has not rejected yet.
      assert.ok(world.wasOffered && (world.old.at === 'ending' || world.isFailing))
    },
  )
})

test('when upgrade() has rejected, no process of the new version owns anything, nor ever will', () => {
  forAnyCourse(
    (world) => {
      if (world.hasReported === 'failed' && world.isOldAlive) assert.equal(world.isYoungAlive, false)
    },
    (world) => {
      if (world.hasReported === 'failed' && world.isOldAlive) assert.equal(world.youngOwns, false)
    },
  )
})

test('when upgrade() has resolved, the new process has taken over', () => {
  forAnyCourse(
    () => {},
    (world) => {
      if (world.hasReported === 'committed') assert.equal(world.didYoungCommit, true)
    },
  )
})

test('one of several workers whose others are not ready never takes over, and its successor ends', () => {
  fc.assert(
    fc.property(course, choices, (given, order) => {
      const world = play({ ...given, isHeld: true, areOthersReady: false }, order, () => {})
      assert.equal(world.didYoungCommit, false)
      if (given.answer !== 'never' || world.isOldAlive) assert.equal(world.isYoungAlive, false)
    }),
    { numRuns: 5_000 },
  )
})

test('every upgrade ends, and as long as the old process lives it says how', () => {
  forAnyCourse((world) => {
    if (world.isOldAlive) assert.notEqual(world.hasReported, undefined)
  })
})

test('in the end exactly one living process owns the service, unless the owner itself died', () => {
  forAnyCourse((world) => {
    const owners = [world.oldOwns, world.youngOwns].filter(Boolean).length
    if (world.isOldAlive && world.hasReported === 'failed') return assert.equal(owners, 1)
    if (world.isOldAlive) return assert.equal(owners, world.didYoungDieByItself ? 0 : 1)
    // The old one died: what counts is whether the new one was there, up, and not sent away before.
    const { answer, isHeld, areOthersReady } = world.course
    const mayServe = answer === 'yes' && (!isHeld || areOthersReady)
    if (world.hasStarted && mayServe && !world.wasRefused && !world.didYoungDieByItself) assert.equal(owners, 1)
    else assert.ok(owners <= 1)
  })
})

test('if the old process dies before it has refused, a new one that says yes ends as the owner', () => {
  fc.assert(
    fc.property(course, choices, (given, order) => {
      const world = play(
        { ...given, answer: 'yes', canStop: false, mortal: ['old'], areOthersReady: true },
        order,
        () => {},
      )
      if (!world.isOldAlive && world.hasStarted && !world.wasRefused) assert.equal(world.youngOwns, true)
    }),
    { numRuns: 5_000 },
  )
})
