/** What the new process does at each event of an upgrade. Pure: see upgrade/successor.ts. */
import type { Identity } from './environment.ts'
import { cutReason, type Message, type Upward } from './messages.ts'
import { protocolVersion, tooOld } from './protocol.ts'

/** The successor's end of the upgrade that started it. */
export type NewSide = {
  readonly at: 'silent' | 'greeting' | 'welcomed' | 'answered' | 'alone' | 'accepted' | 'refused' | 'free'
  readonly nonce: string
  readonly self: Identity
  /** That of the predecessor. */
  readonly protocol: number
  /** It is one of several workers, and must not take over before the others can. */
  readonly isHeld: boolean
  /** What the program said, which may be before the predecessor's welcome came. */
  readonly answer?: Answer
}

/** The program's word, and what it leaves to the predecessor. */
type Answer = {
  readonly ok: boolean
  readonly reason: string
  readonly left?: readonly string[]
  /** It takes TLS connections too. */
  readonly tlsKey?: string
}

export type NewEvent =
  /** The process that started us reads the link no more: hello may be said. */
  | { readonly type: 'go' }
  | ({ readonly type: 'notify' } & Answer)
  | { readonly type: 'message'; readonly message: Message | 'unknown' | 'broken' }
  | { readonly type: 'closed' }
  /** The answer to the effect `look`. */
  | { readonly type: 'looked'; readonly predecessorLives: boolean }
  /** The answer to the effect `askKeeper`. */
  | { readonly type: 'release'; readonly mayGo: boolean }

export type NewEffect =
  | { readonly do: 'send'; readonly message: Upward }
  /** We own the service from here on. */
  | { readonly do: 'commit' }
  | { readonly do: 'refuse'; readonly reason: string; readonly isTooOld?: boolean }
  /** Find out whether the predecessor lives: an end-of-file alone does not tell. */
  | { readonly do: 'look' }
  /** The predecessor is gone: whether this process may take over, its keeper knows. */
  | { readonly do: 'askKeeper' }
  | { readonly do: 'close' }

type Step = readonly [NewSide, readonly NewEffect[]]

/** The state before anything was said. */
export function newSide(
  nonce: string,
  self: Identity,
  given: Partial<Pick<NewSide, 'protocol' | 'isHeld'>> = {},
): NewSide {
  const { protocol = protocolVersion, isHeld = false } = given
  return { at: 'silent', nonce, self, protocol, isHeld }
}

/** One event on the successor's side. */
export function stepNew(side: NewSide, event: NewEvent): Step {
  switch (event.type) {
    case 'go':
      return side.at === 'silent' ? greet(side) : stay(side)
    case 'notify': {
      const { type: _, ...answer } = event
      const answered = { ...side, answer: { ...answer, reason: cutReason(answer.reason) } }
      if (side.at === 'alone') return answer.ok ? stay(answered, { do: 'askKeeper' }) : refuse(answered, answer.reason)
      return side.at === 'welcomed' ? sendDone(answered) : stay(answered)
    }
    case 'message':
      return isOver(side) ? stay(side) : onMessage(side, event.message)
    case 'closed':
      if (side.at === 'accepted') return to(side, 'free', { do: 'close' })
      return isOver(side) ? stay(side) : stay(side, { do: 'look' })
    case 'looked':
      if (side.at === 'accepted' || isOver(side)) return stay(side)
      if (event.predecessorLives) return refuse(side, 'it closed the link without giving a reason')
      return side.isHeld ? alone(side) : to(side, 'free', { do: 'commit' }, { do: 'close' })
    case 'release':
      // Nothing was asked for before the program's yes.
      if (side.at !== 'alone' || side.answer?.ok !== true) return stay(side)
      if (!event.mayGo) return refuse(side, 'another worker of the service could not be replaced')
      return to(side, 'free', { do: 'commit' }, { do: 'close' })
  }
}

/** Before this process is up there is nothing to ask for, and nothing if it has said no. */
function alone(side: NewSide): Step {
  const { answer } = side
  if (answer === undefined) return to(side, 'alone')
  return answer.ok ? to(side, 'alone', { do: 'askKeeper' }) : refuse(side, answer.reason)
}

function greet(side: NewSide): Step {
  const { nonce, self, protocol } = side
  const hello = { type: 'hello', protocol: protocolVersion, nonce, pid: self[0], startTime: self[1] } as const
  const reason = tooOld('old', protocol)
  if (reason === undefined) return to(side, 'greeting', send(hello))
  // A predecessor that is too old understands these two messages, and closes the link itself.
  const no = { type: 'done', ok: false, reason } as const
  return to(side, 'refused', send(hello), send(no), { do: 'refuse', reason, isTooOld: true })
}

function onMessage(side: NewSide, message: Message | 'unknown' | 'broken'): Step {
  if (message === 'unknown') return stay(side)
  if (message === 'broken') return side.at === 'accepted' ? stay(side) : refuse(side, 'it sent an invalid message')
  switch (message.type) {
    case 'welcome':
      if (side.at !== 'greeting') return stay(side)
      return side.answer === undefined ? to(side, 'welcomed') : sendDone(side)
    case 'accepted':
      if (side.at !== 'answered') return stay(side)
      return to(side, 'accepted', send({ type: 'confirmed' }), { do: 'commit' })
    case 'refused':
      return side.at === 'accepted' ? stay(side) : refuse(side, message.reason)
    case 'bye':
      return side.at === 'accepted' ? to(side, 'free', { do: 'close' }) : stay(side)
    default:
      return stay(side)
  }
}

function sendDone(side: NewSide): Step {
  const { tlsKey, ...answer } = side.answer ?? { ok: true, reason: '' }
  // Known at the commit, from which on connections move.
  const takes = tlsKey === undefined ? [] : [send({ type: 'takesTls', key: tlsKey })]
  return to(side, 'answered', ...takes, send({ type: 'done', ...answer }))
}

function refuse(side: NewSide, reason: string): Step {
  return to(side, 'refused', { do: 'refuse', reason }, { do: 'close' })
}

function isOver({ at }: NewSide): boolean {
  return at === 'refused' || at === 'free'
}

function to(side: NewSide, at: NewSide['at'], ...effects: readonly NewEffect[]): Step {
  return [{ ...side, at }, effects]
}

function stay(side: NewSide, ...effects: readonly NewEffect[]): Step {
  return [side, effects]
}

function send(message: Upward): NewEffect {
  return { do: 'send', message }
}
