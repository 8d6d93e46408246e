/**
 * What an old process does after the commit, as far as others can see it: the rules of
 * src/handover/leave.ts. With `keepsSpare` it holds a spare of each listener until the new one has
 * answered its bye, and takes the service back if that one is lost; without, it is one whose
 * successor sends none.
 */
import { type Action, doom, type Link, late, type Process, usual, type World } from './world.ts'

export type Drain = {
  at: 'moving' | 'finishing' | 'leaving'
  /** The new one is gone without a word. */
  isLost: boolean
  /** The new one said that the service ends. */
  wasStopped: boolean
  wasAnswered: boolean
  /** The new one was killed: whatever it still said counts no more, and the service comes back. */
  hasKilled: boolean
}

export function beginDrain(): Drain {
  return { at: 'moving', isLost: false, wasStopped: false, wasAnswered: false, hasKilled: false }
}

export function hearDrain(_one: Process, drain: Drain, what: Link['up'][number] | 'end'): void {
  if (what === 'end') drain.isLost = !drain.wasStopped && !drain.wasAnswered
  else if (what === 'bye') drain.wasAnswered = !drain.hasKilled
  else if (what !== 'broken' && what.type === 'stop') drain.wasStopped = true
}

export function drainActions(world: World, one: Process, drain: Drain): Action[] {
  const { successor, name } = one
  if (successor?.link === undefined) return []
  const { link } = successor
  const { keepsSpare } = world.rules
  const actions: Action[] = []
  const add = (what: string, act: () => void) => actions.push(usual(`${name} ${what}`, act))
  if (drain.isLost && (drain.at === 'moving' || keepsSpare)) {
    // The end of the link is no death: its program may have closed it.
    if (keepsSpare && successor.isAlive) {
      if (!successor.isDoomed) add(`kills ${successor.name}, whose link has ended`, () => doom(successor))
      return actions
    }
    add('takes the service back', () => {
      one.drain = undefined
      one.old = undefined
      link.isOldOpen = false
      one.accepts = true
      world.step(one, 'return')
      world.reclaimPidFile(one)
    })
    return actions
  }
  if (drain.at === 'moving') {
    add('has moved what was idle, and accepts no more', () => {
      drain.at = 'finishing'
      one.accepts = false
    })
  } else if (drain.at === 'finishing') {
    const isOldest = one.predecessor === undefined || one.new?.at === 'free' || one.link?.hasNewSeenEnd === true
    const say = () => {
      if (link.isOldOpen) link.down.push({ type: 'bye' })
      if (keepsSpare && !drain.wasStopped) drain.at = 'leaving'
      else leave()
    }
    if (isOldest) add('has drained', say)
    else actions.push(late(`the drain of ${name} is at its deadline`, say))
  } else if (drain.wasAnswered || drain.wasStopped) {
    add('leaves', leave)
  } else if (successor.isAlive && successor.isFrozen && !successor.isDoomed && !link.up.includes('bye')) {
    // What has arrived is heard before the verdict. Its end closes the link, and that is a loss.
    const kill = () => {
      drain.hasKilled = true
      doom(successor)
    }
    actions.push(late(`${name} waits for ${successor.name} no more, and kills it`, kill))
  }
  return actions

  function leave(): void {
    world.step(one, 'end')
    world.end(one)
  }
}
