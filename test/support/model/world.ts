/**
 * A service in a world that is played: up to four generations, ordered links with any delay, and
 * everything that can happen next as a list of named actions. What processes do is contract/; what
 * the drain does is in drain.ts, since only its rules are pure.
 */

import type { Downward, Upward } from '../../../src/contract/messages.ts'
import { type NewEvent, type NewSide, newSide, type stepNew } from '../../../src/contract/new-side.ts'
import { type OldEvent, type OldSide, oldSide, type stepOld } from '../../../src/contract/old-side.ts'
import { nextPhase, type Phase, type Step } from '../../../src/contract/phase.ts'
import { beginDrain, type Drain, drainActions, hearDrain } from './drain.ts'

/** The contract under test: the true one, or one with a fault in it. */
export type Contract = { readonly stepOld: typeof stepOld; readonly stepNew: typeof stepNew }

export type Rules = {
  readonly contract: Contract
  readonly overlap: number
  /** Each is one of several workers: the others get as far, or one of them fails. */
  readonly isHeld: boolean
  /** What the program of each version says, generation 2 first; the last goes on. */
  readonly answers: readonly ('yes' | 'no' | 'never')[]
  /** What the world may do to processes. */
  readonly evil: readonly Evil[]
  /** The old one keeps a spare of its listeners until the new one has answered its bye. */
  readonly keepsSpare: boolean
  /**
   * What a process does about a predecessor that still drains when it starts its own successor:
   * nothing; it waits for its end; or, once it has heard that its confirmation has arrived, it
   * tells it, with the answer to the bye that is still to come, that it need not come back.
   */
  readonly chains: 'at once' | 'wait' | 'release'
}

export const evils = ['die', 'freeze', 'garbage', 'close', 'stop'] as const
/**
 * The last is none that a process can be defended against by the contract alone: its program closes
 * a descriptor that is not its own, when it serves already.
 */
export type Evil = (typeof evils)[number] | 'close late'

export type Action = { readonly name: string; readonly kind: 'usual' | 'late' | 'evil'; act(): void }

export type Link = {
  readonly up: (Upward | 'broken' | 'bye')[]
  readonly down: (Downward | 'broken')[]
  isOldOpen: boolean
  isNewOpen: boolean
  hasOldSeenEnd: boolean
  hasNewSeenEnd: boolean
}

export type Process = {
  readonly generation: number
  /** Which of its generation: a failed upgrade is followed by another. */
  readonly name: string
  isAlive: boolean
  isFrozen: boolean
  /** SIGKILL is on its way. */
  isDoomed: boolean
  /** It is about to exit. */
  isLeaving: boolean
  phase: Phase
  accepts: boolean
  /** After the commit, until the pid file is written. */
  writesPid: boolean
  // As the new one.
  readonly predecessor: Process | undefined
  readonly link: Link | undefined
  readonly answer: Rules['answers'][number]
  new: NewSide | undefined
  hasAnswered: boolean
  looks: number
  /** It asks its keeper whether it may take over. */
  isAsking: boolean
  /** It waits for the others. */
  isHolding: boolean
  // As the old one.
  old: OldSide | undefined
  successor: Process | undefined
  hasTimer: boolean
  hasHeardExit: boolean
  isFailing: boolean
  attempts: number
  drain: Drain | undefined
  isStopping: boolean
}

const mostGenerations = 4
const mostAttempts = 2

export class World {
  readonly rules: Rules
  readonly processes: Process[] = []
  /** Whom the pid file names. */
  pidFile: Process
  /** Somebody asked the service to end. */
  wasStopped = false
  /** Processes that the world itself has ended. */
  readonly slain = new Set<Process>()
  /** Those that could serve on when an owner was slain, the last time. */
  heirs: readonly Process[] | undefined

  constructor(rules: Rules) {
    this.rules = rules
    const first = this.#make(undefined)
    first.accepts = true
    first.phase = 'ready'
    this.pidFile = first
  }

  get living(): readonly Process[] {
    return this.processes.filter(({ isAlive }) => isAlive)
  }

  /**
   * Those that hold themselves for the owner, and have not offered the service to another that
   * lives.
   */
  get owners(): readonly Process[] {
    return this.living.filter((one) => isServing(one) && !(one.old?.at === 'offered' && one.successor?.isAlive))
  }

  /** Everything that can happen next. */
  actions(): readonly Action[] {
    return this.living.flatMap((one) => [...this.#worldActions(one), ...(one.isFrozen ? [] : this.#ownActions(one))])
  }

  #make(predecessor: Process | undefined): Process {
    const generation = (predecessor?.generation ?? 0) + 1
    const twins = this.processes.filter((one) => one.generation === generation).length
    const { answers } = this.rules
    const made: Process = {
      generation,
      name: `${generation}${'abcdef'[twins] ?? twins}`,
      isAlive: true,
      isFrozen: false,
      isDoomed: false,
      isLeaving: false,
      phase: 'starting',
      accepts: false,
      writesPid: false,
      predecessor,
      link: predecessor && {
        up: [],
        down: [],
        isOldOpen: true,
        isNewOpen: true,
        hasOldSeenEnd: false,
        hasNewSeenEnd: false,
      },
      answer: answers[Math.min(this.processes.length, answers.length) - 1] ?? 'yes',
      new: predecessor && newSide(nonce, [this.processes.length + 1, 'start'], { isHeld: this.rules.isHeld }),
      hasAnswered: false,
      looks: 0,
      isAsking: false,
      isHolding: false,
      old: undefined,
      successor: undefined,
      hasTimer: false,
      hasHeardExit: false,
      isFailing: false,
      attempts: 0,
      drain: undefined,
      isStopping: false,
    }
    this.processes.push(made)
    return made
  }

  // -------------------------------------------------------------------------------------- what the world does to it

  #worldActions(one: Process): Action[] {
    const evil = (which: Evil, what: string, can: boolean, act: () => void): Action[] =>
      can && this.rules.evil.includes(which) ? [{ name: `${one.name} ${what}`, kind: 'evil', act }] : []
    const link = one.link
    return [
      ...(one.isDoomed ? [usual(`${one.name} is ended by the kernel`, () => this.end(one))] : []),
      ...evil('die', 'dies', true, () => this.#slay(one)),
      ...evil('freeze', 'freezes', !one.isFrozen, () => {
        one.isFrozen = true
      }),
      ...evil('freeze', 'thaws', one.isFrozen && !one.isDoomed, () => {
        one.isFrozen = false
      }),
      ...evil('garbage', 'writes garbage to its predecessor', link?.isNewOpen === true && !isCommitted(one), () => {
        link?.up.push('broken')
      }),
      ...evil('garbage', 'gets garbage from its predecessor', link?.isOldOpen === true && !isCommitted(one), () => {
        link?.down.push('broken')
      }),
      ...evil(isCommitted(one) ? 'close late' : 'close', 'closes the link', link?.isNewOpen === true, () => {
        if (link !== undefined) link.isNewOpen = false
      }),
      ...evil('stop', 'is told to stop', !one.isStopping && !one.isFrozen, () => this.#stop(one)),
    ]
  }

  #slay(one: Process): void {
    this.slain.add(one)
    this.end(one)
    const wasToReturn = one.drain !== undefined && one.successor?.isDoomed === true
    if (isServing(one) || isCommitted(one) || wasToReturn)
      this.heirs = this.living.filter((other) => this.#canSucceed(other, one))
  }

  /** Whether it is there for the case that the other dies. */
  #canSucceed(other: Process, slain: Process): boolean {
    if (other.isDoomed || other.isLeaving || other.isFrozen) return false
    if (other.predecessor === slain) {
      const isWilling = other.answer === 'yes' && !other.isStopping && other.new?.at !== 'refused'
      const { link } = other
      const isRefused = link?.down.some((message) => message === 'broken' || message.type === 'refused') === true
      return isWilling && !isRefused && link?.isNewOpen === true
    }
    const hasLeft = other.drain?.wasAnswered === true || slain.link?.up.includes('bye') === true
    // Without a spare it may just stop accepting, and has nothing to take back then.
    return this.rules.keepsSpare && other.successor === slain && other.drain !== undefined && !hasLeft
  }

  /** Whoever connects is served, if not at once: the queue is open. */
  holdsListeners({ accepts, drain }: Process): boolean {
    return accepts || (drain?.wasAnswered === false && this.rules.keepsSpare)
  }

  #stop(one: Process): void {
    this.wasStopped = true
    one.isStopping = true
    // serve() ends a process that does not serve yet; else an upgrade is given up first.
    if (one.phase === 'starting') one.isLeaving = true
    else if (one.phase === 'upgrading' || one.phase === 'overlapping') this.stepOld(one, { type: 'stop' })
    else if (one.phase === 'ready') this.#leave(one)
  }

  #leave(one: Process): void {
    this.step(one, 'stop')
    one.accepts = false
    one.isLeaving = true
    this.tellOlder(one)
  }

  /** A service that stops ends the generations before it too. */
  tellOlder({ link }: Process): void {
    if (link?.isOldOpen && link.isNewOpen) link.up.push({ type: 'stop' })
  }

  end(one: Process): void {
    one.isAlive = false
    one.accepts = false
    if (one.link !== undefined) one.link.isNewOpen = false
    for (const { predecessor, link } of this.processes) {
      if (predecessor === one && link !== undefined) link.isOldOpen = false
    }
  }

  // -------------------------------------------------------------------------------------- what it does itself

  #ownActions(one: Process): Action[] {
    if (one.isLeaving) return [usual(`${one.name} exits`, () => this.end(one))]
    return [
      ...this.#newActions(one),
      ...this.#oldActions(one),
      ...(one.drain ? drainActions(this, one, one.drain) : []),
    ]
  }

  #newActions(one: Process): Action[] {
    const { link, name } = one
    if (link === undefined || one.new === undefined) return []
    const actions: Action[] = []
    const add = (what: string, act: () => void) => actions.push(usual(`${name} ${what}`, act))
    if (one.new.at === 'silent') add('says hello', () => this.stepNew(one, { type: 'go' }))
    if (!one.accepts && !one.hasAnswered) {
      add('listens', () => {
        one.accepts = true
      })
    }
    if (!one.hasAnswered && one.answer !== 'never' && (one.accepts || one.answer === 'no')) {
      add(`says ${one.answer}`, () => {
        one.hasAnswered = true
        this.stepNew(one, { type: 'notify', ok: one.answer === 'yes', reason: '' })
      })
    }
    const [message] = link.down
    if (link.isNewOpen && message !== undefined) {
      add(`reads ${message === 'broken' ? message : message.type}`, () => {
        link.down.shift()
        if (message !== 'broken' && message.type === 'bye' && this.rules.keepsSpare) link.up.push('bye')
        this.stepNew(one, { type: 'message', message })
      })
    }
    // An end of its own making it sees too.
    const isEnd = message === undefined ? !link.isOldOpen || !link.isNewOpen : !link.isNewOpen
    if (isEnd && !link.hasNewSeenEnd) {
      add('sees the end of the link', () => {
        link.hasNewSeenEnd = true
        this.stepNew(one, { type: 'closed' })
      })
    }
    if (one.looks > 0) {
      add('looks for its predecessor', () => {
        one.looks--
        this.stepNew(one, { type: 'looked', predecessorLives: one.predecessor?.isAlive === true })
      })
    }
    if (one.isAsking) {
      add('is let take over', () => {
        one.isAsking = false
        this.stepNew(one, { type: 'release', mayGo: true })
      })
    }
    if (one.writesPid) {
      add('writes the pid file', () => {
        one.writesPid = false
        // As process/pid-file.ts does it: never over a living process that is not one of those
        // before it.
        if (!this.pidFile.isAlive || this.pidFile.generation < one.generation) this.pidFile = one
      })
    }
    const { predecessor } = one
    // Long after its drain deadline; a kill of its own has come by then.
    const isOverstaying = one.new.at === 'accepted' && predecessor?.isAlive === true && predecessor.isFrozen
    if (this.rules.keepsSpare && isOverstaying && !one.isDoomed) {
      actions.push(late(`${name} waits for ${predecessor.name} no more, and kills it`, () => doom(predecessor)))
    }
    return actions
  }

  #oldActions(one: Process): Action[] {
    const { name } = one
    const actions: Action[] = []
    if (this.#canUpgrade(one))
      actions.push(usual(`${name} starts generation ${one.generation + 1}`, () => this.#start(one)))
    const { old, successor } = one
    const link = successor?.link
    if (old === undefined || successor === undefined || link === undefined) return actions
    const add = (what: string, act: () => void) => actions.push(usual(`${name} ${what}`, act))
    const [message] = link.up
    if (link.isOldOpen && message !== undefined) {
      add(`reads ${typeof message === 'string' ? message : message.type} of ${successor.name}`, () => {
        link.up.shift()
        if (one.drain !== undefined) hearDrain(one, one.drain, message)
        else if (message !== 'bye') this.stepOld(one, { type: 'message', message })
      })
    }
    if (link.isOldOpen && message === undefined && !link.isNewOpen && !link.hasOldSeenEnd) {
      add(`sees the end of the link to ${successor.name}`, () => {
        link.hasOldSeenEnd = true
        if (one.drain !== undefined) hearDrain(one, one.drain, 'end')
        else this.stepOld(one, { type: 'closed' })
      })
    }
    if (one.isHolding) {
      for (const mayGo of [true, false]) {
        add(mayGo ? 'goes on with the others' : 'hears that another worker has failed', () => {
          one.isHolding = false
          this.stepOld(one, { type: 'release', mayGo })
        })
      }
    }
    if (!successor.isAlive && !one.hasHeardExit) {
      add(`reaps ${successor.name}`, () => {
        one.hasHeardExit = true
        this.stepOld(one, { type: 'exit', exit: { code: 0, signal: null } })
      })
    }
    // SIGKILL ends a process within its grace: that much is assumed of the kernel.
    if (one.hasTimer && !(old.killed && successor.isAlive && successor.isDoomed)) {
      actions.push(late(`the timer of ${name} fires`, () => this.stepOld(one, { type: 'timer' })))
    }
    if (one.isFailing && successor.isAlive && !successor.isDoomed) {
      actions.push(late(`${name} kills ${successor.name}`, () => doom(successor)))
    }
    if (one.isFailing && !successor.isAlive) add('has failed to upgrade', () => this.#rollBack(one))
    return actions
  }

  #canUpgrade(one: Process): boolean {
    const isAlone = one.predecessor === undefined || !one.predecessor.isAlive || one.new?.at === 'free'
    // What onRelease returned, or nothing of that: it comes after the commit only.
    const isConfirmed = one.predecessor?.drain !== undefined
    const mayChain = { wait: false, 'at once': true, release: isConfirmed }[this.rules.chains]
    return (
      one.phase === 'ready' &&
      !one.isStopping &&
      one.generation < mostGenerations &&
      one.attempts < mostAttempts &&
      (isAlone || mayChain)
    )
  }

  #start(one: Process): void {
    this.step(one, 'upgrade')
    if (this.rules.chains === 'release' && one.link?.isOldOpen && one.link.isNewOpen) one.link.up.push('bye')
    one.attempts++
    one.hasHeardExit = false
    one.successor = this.#make(one)
    const { overlap, isHeld } = this.rules
    one.old = oldSide({ stage: 'daemon', nonce, living: [], readyTimeout: 1, overlap, isHeld })
    one.hasTimer = true
    one.isHolding = false
  }

  #rollBack(one: Process): void {
    one.isFailing = false
    one.old = undefined
    this.step(one, 'roll back')
    this.reclaimPidFile(one)
    if (one.isStopping) this.#leave(one)
  }

  /** Never over another living process. */
  reclaimPidFile(one: Process): void {
    if (!this.pidFile.isAlive) this.pidFile = one
  }

  // -------------------------------------------------------------------------------------- the contract

  step(one: Process, step: Step): void {
    one.phase = nextPhase(one.phase, step)
  }

  stepOld(one: Process, event: OldEvent): void {
    if (one.old === undefined || one.successor?.link === undefined) return
    const { successor } = one
    const { link } = successor as Process & { readonly link: Link }
    if (event.type === 'timer') one.hasTimer = false
    const [next, effects] = this.rules.contract.stepOld(one.old, event)
    one.old = next
    for (const effect of effects) {
      if (effect.do === 'send' && link.isOldOpen) link.down.push(effect.message)
      if (effect.do === 'timer') one.hasTimer = true
      if (effect.do === 'kill' && successor.isAlive) successor.isDoomed = true
      if (effect.do === 'hold') one.isHolding = true
      if (effect.do === 'overlap') this.step(one, 'overlap')
      if (effect.do === 'commit') {
        one.hasTimer = false
        this.step(one, 'commit')
        one.drain = beginDrain()
      }
      if (effect.do === 'fail') {
        one.hasTimer = false
        link.isOldOpen = false
        one.isFailing = true
      }
    }
  }

  stepNew(one: Process, event: NewEvent): void {
    if (one.new === undefined || one.link === undefined) return
    const [next, effects] = this.rules.contract.stepNew(one.new, event)
    one.new = next
    for (const effect of effects) {
      if (effect.do === 'send' && one.link.isOldOpen && one.link.isNewOpen) one.link.up.push(effect.message)
      if (effect.do === 'commit') {
        // A program that said no, or never says yes, and finds nobody to hear it: it is its own
        // affair.
        if (one.answer !== 'yes') one.isLeaving = true
        this.step(one, 'serve')
        one.accepts = true
        one.writesPid = true
      }
      if (effect.do === 'refuse') one.isLeaving = true
      if (effect.do === 'look') one.looks++
      if (effect.do === 'askKeeper') one.isAsking = true
      if (effect.do === 'close') one.link.isNewOpen = false
    }
  }
}

const nonce = 'the nonce'

function isCommitted({ new: side }: Process): boolean {
  return side?.at === 'accepted' || side?.at === 'free'
}

function isServing({ phase }: Process): boolean {
  return phase === 'ready' || phase === 'upgrading' || phase === 'overlapping'
}

export function usual(name: string, act: () => void): Action {
  return { name, kind: 'usual', act }
}

export function late(name: string, act: () => void): Action {
  return { name, kind: 'late', act }
}

export function doom(one: Process): void {
  one.isDoomed = true
}
