/** What the old process does at each event of an upgrade. Pure: see upgrade/predecessor.ts. */
import type { Identity } from './environment.ts'
import type { Downward, Message, MessageOf } from './messages.ts'
import { protocolVersion, tooOld } from './protocol.ts'

/** Why an upgrade failed, before it is put into words. */
export type Failure =
  | { readonly why: 'exited' }
  | { readonly why: 'said-no'; readonly reason: string }
  | { readonly why: 'timeout'; readonly step: string; readonly ms: number }
  | { readonly why: 'broken'; readonly detail: string }
  | { readonly why: 'protocol'; readonly reason: string }
  /** It waits for what will not come: the last `waits` says for what. */
  | { readonly why: 'idle' }
  | { readonly why: 'stopped' }
  /** Another worker of the service could not be replaced. */
  | { readonly why: 'others' }

export type Exit = { readonly code: number | null; readonly signal: string | null }

/** How long a successor that said no, or that was killed, may take to be gone, in milliseconds. */
export const endGrace = 2_000

/** The predecessor's end of one upgrade. */
export type OldSide = {
  readonly at: 'waiting' | 'greeted' | 'held' | 'overlapping' | 'offered' | 'committed' | 'ending' | 'failed'
  readonly stage: 'parent' | 'daemon'
  readonly nonce: string
  readonly living: readonly Identity[]
  readonly tickets: Readonly<Record<string, string>>
  readonly readyTimeout: number
  readonly overlap: number
  /** One of several workers: it goes on when all others are as far, before and after an overlap. */
  readonly isHeld: boolean
  /** Both have accepted for as long as they were to. */
  readonly hasOverlapped?: boolean
  /** Undefined in the original API, whose programs drain themselves. */
  readonly drainTimeout?: number
  /** Who said hello. */
  readonly successor?: Identity
  /**
   * Processes of the new version that the link told of: the one that we started may not be among
   * them.
   */
  readonly known: readonly Identity[]
  /** Why it ends, in its own words. */
  readonly dying?: string
  /** What it still waits for. */
  readonly waits?: MessageOf<'waits'>
  /** It takes TLS connections, sealed for this key. */
  readonly tlsKey?: string
  /** Names of listeners that stay here. */
  readonly left?: readonly string[]
  /** The end of the process that we started ourselves. */
  readonly exit?: Exit
  /** End-of-file: no process holds the other end any more. */
  readonly closed: boolean
  readonly killed: boolean
  readonly failure?: Failure
}

export type OldEvent =
  | { readonly type: 'message'; readonly message: Message | 'unknown' | 'broken' }
  | { readonly type: 'exit'; readonly exit: Exit }
  | { readonly type: 'closed' }
  | { readonly type: 'broken'; readonly detail: string }
  | { readonly type: 'timer' }
  | { readonly type: 'stop' }
  /** The answer to the effect `hold`: whether all others are as far. */
  | { readonly type: 'release'; readonly mayGo: boolean }

export type OldEffect =
  | { readonly do: 'send'; readonly message: Downward }
  /** Sets the one timer; it takes the place of the one before. */
  | { readonly do: 'timer'; readonly ms: number }
  /** SIGKILL for every process of the new version that we know. */
  | { readonly do: 'kill' }
  /** Ask the saveState hook and send what it gives. */
  | { readonly do: 'save'; readonly name: string }
  /** Find out when the other workers are as far, or that one of them has failed. */
  | { readonly do: 'hold'; readonly overlaps: boolean }
  /** Both accept for a while. */
  | { readonly do: 'overlap' }
  | { readonly do: 'commit' }
  | { readonly do: 'fail' }

type Step = readonly [OldSide, readonly OldEffect[]]

/** The state after the spawn, with its first timer: {@link OldSide.readyTimeout}. */
export function oldSide(
  settings: Pick<OldSide, 'stage' | 'nonce' | 'living' | 'readyTimeout' | 'overlap'> &
    Partial<Pick<OldSide, 'tickets' | 'drainTimeout' | 'isHeld'>>,
): OldSide {
  return { tickets: {}, isHeld: false, ...settings, at: 'waiting', known: [], closed: false, killed: false }
}

/** One event on the predecessor's side. */
export function stepOld(side: OldSide, event: OldEvent): Step {
  if (side.at === 'committed' || side.at === 'failed') return stay(side)
  switch (event.type) {
    case 'message':
      return side.at === 'ending' ? onLastWord(side, event.message) : onMessage(side, event.message)
    case 'exit':
      return onExit({ ...side, exit: event.exit })
    case 'closed':
      return fail({ ...side, closed: true }, { why: 'exited' })
    case 'broken':
      return fail(side, { why: 'broken', detail: event.detail })
    case 'stop':
      // Once offered, the service may be taken already: the answer is a moment away and decides.
      return side.at === 'offered' ? stay(side) : fail(side, { why: 'stopped' })
    case 'timer':
      return onTimer(side)
    case 'release':
      if (side.at !== 'held') return stay(side)
      return event.mayGo ? proceed(side) : fail(side, { why: 'others' })
  }
}

function onMessage(side: OldSide, message: Message | 'unknown' | 'broken'): Step {
  if (message === 'unknown') return stay(side)
  if (message === 'broken') return fail(side, { why: 'broken', detail: 'an invalid message' })
  switch (message.type) {
    case 'spawned':
      return stay(know(side, message))
    case 'dying':
      return stay({ ...side, dying: message.reason })
    case 'waits':
      return onWaits({ ...side, waits: message }, message)
    case 'takesTls':
      return stay({ ...side, tlsKey: message.key })
    case 'hello':
      return side.at === 'waiting' ? onHello(side, message) : outOfPlace(side, message)
    case 'ask':
      return side.at === 'greeted' ? stay(side, { do: 'save', name: message.name }) : outOfPlace(side, message)
    case 'done':
      return side.at === 'greeted' ? onDone(side, message) : outOfPlace(side, message)
    case 'confirmed':
      return side.at === 'offered' ? to(side, 'committed', { do: 'commit' }) : outOfPlace(side, message)
    default:
      return outOfPlace(side, message)
  }
}

function onWaits(side: OldSide, { isIdle = false }: MessageOf<'waits'>): Step {
  return isIdle && side.at === 'greeted' ? fail(side, { why: 'idle' }) : stay(side)
}

function onHello(side: OldSide, message: MessageOf<'hello'>): Step {
  const { nonce, pid, startTime, protocol } = message
  if (nonce !== side.nonce) return fail(side, { why: 'broken', detail: 'a hello with a wrong nonce' })
  const known = know(side, message)
  const reason = tooOld('new', protocol)
  if (reason !== undefined) return fail(known, { why: 'protocol', reason })
  return to({ ...known, successor: [pid, startTime] }, 'greeted', send(welcome(side)))
}

function welcome({ living, tickets, overlap }: OldSide): Downward {
  return { type: 'welcome', protocol: protocolVersion, living, tickets, ...(overlap > 0 && { overlap }) }
}

function onDone(before: OldSide, { ok, reason, left }: MessageOf<'done'>): Step {
  if (!ok) return fail(before, { why: 'said-no', reason })
  return hold(left === undefined ? before : { ...before, left })
}

/** Nobody meets the new version, or no others than before, until all workers have got so far. */
function hold(side: OldSide): Step {
  if (!side.isHeld) return proceed(side)
  return to(side, 'held', { do: 'hold', overlaps: overlapsNext(side) }, { do: 'timer', ms: side.readyTimeout })
}

function overlapsNext({ overlap, hasOverlapped = false }: OldSide): boolean {
  return overlap > 0 && !hasOverlapped
}

function proceed(side: OldSide): Step {
  if (!overlapsNext(side)) return offer(side)
  return to(side, 'overlapping', { do: 'overlap' }, { do: 'timer', ms: side.overlap })
}

/**
 * The commit waits for the answer to this, so that a successor which dies after its `done` costs
 * nothing.
 */
function offer(side: OldSide): Step {
  const { drainTimeout, readyTimeout } = side
  const accepted = { type: 'accepted', ...(drainTimeout !== undefined && { drainTimeout }) } as const
  return to(side, 'offered', send(accepted), { do: 'timer', ms: readyTimeout })
}

const timedOut: Readonly<Partial<Record<OldSide['at'], string>>> = {
  waiting: 'last step: started',
  greeted: 'last step: booted',
  held: 'last step: ready, but the other workers were not',
  offered: 'last step: ready, not confirmed',
}

function onTimer(side: OldSide): Step {
  if (side.at === 'overlapping') return hold({ ...side, hasOverlapped: true })
  if (side.at !== 'ending') {
    return fail(side, { why: 'timeout', step: timedOut[side.at] ?? side.at, ms: side.readyTimeout })
  }
  if (side.killed) return to(side, 'failed', { do: 'fail' })
  return stay({ ...side, killed: true }, { do: 'kill' }, { do: 'timer', ms: endGrace })
}

/** The end of a `parent` stage says nothing: it exits in a good upgrade too. */
function onExit(side: OldSide): Step {
  return side.stage === 'daemon' ? fail(side, { why: 'exited' }) : ifGone(side)
}

/** The upgrade has failed: tell the other side, see that it ends, and only then report. */
function fail(side: OldSide, failure: Failure): Step {
  if (side.at === 'ending') return ifGone(side)
  // Who refused, or is refused, may still write its log and go; who closed the link is most likely
  // dying.
  const killed = failure.why !== 'said-no' && failure.why !== 'exited' && failure.why !== 'protocol'
  const ending: OldSide = { ...side, at: 'ending', failure, killed }
  if (isGone(ending)) return ifGone(ending)
  const refused = { type: 'refused', reason: reasonOf(failure) } as const
  return stay(ending, send(refused), ...(killed ? [{ do: 'kill' } as const] : []), { do: 'timer', ms: endGrace })
}

function reasonOf(failure: Failure): string {
  const reasons = {
    exited: 'it exited',
    'said-no': 'it refused to start',
    timeout: 'it timed out',
    broken: 'the link broke',
    idle: 'it has not opened all listeners, and has nothing left to do',
    stopped: 'the upgrade was stopped',
    others: 'another worker of the service could not be replaced',
  }
  return failure.why === 'protocol' ? failure.reason : reasons[failure.why]
}

/** What still comes from a new version that has failed. */
function onLastWord(side: OldSide, message: Message | 'unknown' | 'broken'): Step {
  if (typeof message === 'string') return stay(side)
  // Started in the moment in which we killed the others; it can have read no `refused`.
  if (message.type === 'spawned' || (message.type === 'hello' && message.nonce === side.nonce)) {
    return side.killed ? stay(know(side, message), { do: 'kill' }) : stay(know(side, message))
  }
  // The exit of a process is often seen before what it wrote last, which says better why it ended.
  if (side.failure?.why !== 'exited') return stay(side)
  if (message.type === 'dying') return stay({ ...side, dying: message.reason })
  if (message.type !== 'done' || message.ok) return stay(side)
  return stay({ ...side, failure: { why: 'said-no', reason: message.reason } })
}

/** A failed upgrade ends once the process that we started is reaped and nobody holds the link. */
function ifGone(side: OldSide): Step {
  return isGone(side) ? to(side, 'failed', { do: 'fail' }) : stay(side)
}

function isGone({ at, exit, closed }: OldSide): boolean {
  return at === 'ending' && exit !== undefined && closed
}

function outOfPlace(side: OldSide, { type }: Message): Step {
  return fail(side, { why: 'broken', detail: `a message ${type} out of place` })
}

function know(side: OldSide, { pid, startTime }: { readonly pid: number; readonly startTime: string }): OldSide {
  const isKnown = side.known.some(([one, started]) => one === pid && started === startTime)
  return isKnown ? side : { ...side, known: [...side.known, [pid, startTime]] }
}

function to(side: OldSide, at: OldSide['at'], ...effects: readonly OldEffect[]): Step {
  return [{ ...side, at }, effects]
}

function stay(side: OldSide, ...effects: readonly OldEffect[]): Step {
  return [side, effects]
}

function send(message: Downward): OldEffect {
  return { do: 'send', message }
}
