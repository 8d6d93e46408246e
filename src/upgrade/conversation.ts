/** Our side of the contract with a process that is to take over, until that is decided. */
import type { Identity } from '../contract/environment.ts'
import type { MessageOf } from '../contract/messages.ts'
import { type Exit, endGrace, type OldEffect, type OldEvent, type OldSide, stepOld } from '../contract/old-side.ts'
import { untilGone } from '../node/processes.ts'
import { endSession, killSession } from '../node/sessions.ts'
import { servedBy } from '../node/sockets.ts'
import { servedWords } from '../process/launcher.ts'
import { patientTimer } from '../waiting.ts'
import type { Link, LinkEvent } from './link.ts'

/** A process of the new version, whoever started it. */
export type Partner = {
  readonly identity: Identity
  /** Our end of the link to it, once. */
  open(onEvent: (event: LinkEvent) => void): Link
  onExit(hear: (exit: Exit) => void): void
  /** SIGKILL by whoever started it, who may do so where we may not. */
  kill(): void
  /** It is not to keep this process from its end. */
  unref(): void
}

/** How far it is; `waits` comes each time when the new version says what it waits for. */
export type OnStep = (step: 'started' | 'booted' | 'waits' | 'ready', waits?: MessageOf<'waits'>) => void

/** What only the one who speaks with it can do. */
export type Speaker = {
  readonly signal: AbortSignal
  /** Inodes of what it was handed. */
  readonly handed: readonly number[]
  onStep: OnStep
  /** Sends the state of this name. */
  save(name: string, link: Link): void
  /** Both accept from now on. */
  overlap(): void
  /** Resolves when the other workers are as far: to false if one of them is not to be replaced. */
  hold?(overlaps: boolean): Promise<boolean>
  /** What it has printed until now. */
  printed(): string
  /** The link is there. */
  opened(link: Link): void
}

/** When our side of the contract came to each point, by performance.now(). */
export type Times = { greeted?: number; ready?: number; committed?: number }

export type Conversation = {
  readonly end: OldSide
  readonly times: Times
  /** What was seen of a new version that failed, before its end. */
  readonly seen: string
  /** What it has printed; of one that was killed, until then: that it was refused is no news. */
  readonly printed: string
  /** Still open at the commit: whoever has it says `bye` and closes it. */
  readonly link: Link
  /** Takes what comes over the link from now on. */
  hear(listener: (event: LinkEvent) => void): void
}

export function converse(partner: Partner, begin: OldSide, speaker: Speaker): Promise<Conversation> {
  const { signal, onStep } = speaker
  const { identity } = partner
  return new Promise((settle) => {
    let side = begin
    const times: Times = {}
    let seen: string | undefined
    let printed: string | undefined
    let stopTimer = () => {}
    let later: ((event: LinkEvent) => void) | undefined
    /** What came right behind the commit, before anybody listened. */
    const early: LinkEvent[] = []
    const link = partner.open((event) => {
      if (later !== undefined) later(event)
      else if (side.at === 'committed') early.push(event)
      else step(event)
    })
    speaker.opened(link)
    const stop = () => step({ type: 'stop' })

    function step(event: OldEvent): void {
      const [next, effects] = stepOld(side, event)
      const before = side
      side = next
      if (next.at !== before.at) note(next.at)
      if (next.waits !== before.waits) onStep('waits', next.waits)
      // Before it hears that it is refused.
      if (effects.some((effect) => effect.do === 'kill')) printed ??= speaker.printed()
      for (const effect of effects) carryOut(effect)
    }

    function note(at: OldSide['at']): void {
      if (at === 'greeted') {
        times.greeted = performance.now()
        onStep('booted')
      }
      // The overlap is part of the way to the commit: the new version is up when it begins.
      if ((at === 'held' || at === 'overlapping' || at === 'offered') && times.ready === undefined) {
        times.ready = performance.now()
        onStep('ready')
      }
      if (at === 'committed') times.committed = performance.now()
    }

    function carryOut(effect: OldEffect): void {
      switch (effect.do) {
        case 'send':
          link.send(effect.message)
          return
        case 'save':
          speaker.save(effect.name, link)
          return
        case 'overlap':
          speaker.overlap()
          return
        case 'hold':
          void speaker.hold?.(effect.overlaps).then((mayGo) => step({ type: 'release', mayGo }))
          return
        case 'timer':
          stopTimer()
          stopTimer = patientTimer(effect.ms, () => step({ type: 'timer' }))
          return
        case 'kill':
          look()
          partner.kill()
          for (const one of [identity, ...side.known]) killSession(one)
          return
        case 'commit':
          decided()
          return
        case 'fail':
          look()
          link.close()
          void endAll([identity, ...side.known]).then(decided)
          return
      }
    }

    function look(): void {
      seen ??= [identity, ...side.known].map((one) => servedWords(servedBy(one, speaker.handed))).join('')
    }

    function decided(): void {
      stopTimer()
      signal.removeEventListener('abort', stop)
      settle({
        end: side,
        times,
        seen: seen ?? '',
        printed: side.at === 'committed' ? '' : (printed ?? speaker.printed()),
        link,
        hear(listener) {
          later = listener
          for (const event of early.splice(0)) listener(event)
        },
      })
    }

    partner.onExit((exit) => step({ type: 'exit', exit }))
    carryOut({ do: 'timer', ms: begin.readyTimeout })
    if (signal.aborted) stop()
    else signal.addEventListener('abort', stop)
  })
}

/**
 * Nothing of a new version that failed stays, nor of what it has started. A daemon that a `parent`
 * stage started is no child of ours: that its link has ended is no proof that it is gone.
 */
async function endAll(identities: readonly Identity[]): Promise<void> {
  if (!(await untilGone(identities, endGrace))) for (const identity of identities) killSession(identity)
  await Promise.all(identities.map(endSession))
}
