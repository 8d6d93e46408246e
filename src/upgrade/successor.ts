/** The new process's end of an upgrade, until the commit. Then: handover/receive.ts. */
import { longestDuration } from '../check.ts'
import { envLink, firstHandleFd, type Identity, type LinkRecord, linkFd } from '../contract/environment.ts'
import { type Message, type MessageOf, takeoverName } from '../contract/messages.ts'
import { type NewEffect, type NewEvent, newSide, stepNew } from '../contract/new-side.ts'
import { CookError } from '../errors.ts'
import { adoptChannel, channelDescriptor } from '../node/channel.ts'
import { livesOn } from '../node/processes.ts'
import { identify, isAlive } from '../node/system.ts'
import { writeToLog } from '../process/log.ts'
import type { Service } from '../service.ts'
import type { Predecessor, Value } from '../service-parts.ts'
import { type Deferred, deferred } from '../waiting.ts'
import { Assembly } from './cloned-values.ts'
import { type Link, type LinkEvent, openLink, takeLink } from './link.ts'

/** The link to the predecessor, for what follows the commit; undefined: the predecessor is gone. */
export type Succession = { readonly link: Link | undefined; hear(listener: (event: LinkEvent) => void): void }

/**
 * Takes up the link to the predecessor that the environment names, and registers it on the service.
 * Throws `ERR_COOK_ENVIRONMENT` if descriptor 3 is no link although the predecessor lives.
 */
export function succeed(service: Service, record: LinkRecord): Succession {
  const { state } = service
  const { predecessor, nonce } = record
  const { protocol, keeper } = record
  let side = newSide(nonce, identify(), { protocol, isHeld: (keeper?.workers ?? 1) > 1 })
  let living: readonly Identity[] = [predecessor]
  let isCommitted = false
  let wasAsked = false
  let isReady = false
  let hasOverlap = false
  let listener = (_: LinkEvent) => {}
  const decided = deferred<CookError | undefined>()
  const accepting = deferred<boolean>()
  const tickets = deferred<Readonly<Record<string, string>>>()
  const questions = new Questions((name) => link?.send({ type: 'ask', name }))

  const link = openPredecessor(record, onLink)
  if (link === undefined && isAlive(predecessor)) {
    const why = `descriptor ${linkFd} is not the link to the process ${predecessor[0]} that it names`
    throw new CookError('ERR_COOK_ENVIRONMENT', { variable: envLink, why })
  }

  function onLink(event: LinkEvent): void {
    // Garbage from the predecessor: the upgrade cannot end well, and it is its task to say so.
    step(event.type === 'broken' ? { type: 'message', message: 'broken' } : event)
    // Before the commit it is still open whether the predecessor is gone or has refused us.
    if (event.type === 'closed' && isCommitted) endQuestions(undefined)
    if (event.type === 'message' && typeof event.message === 'object') onMessage(event.message)
    listener(event)
  }

  function onMessage(message: Message): void {
    if (message.type === 'welcome') {
      living = message.living
      hasOverlap = (message.overlap ?? 0) > 0
      overlapIfReady()
      tickets.resolve(message.tickets ?? {})
    } else if (message.type === 'value' && message.name !== takeoverName) {
      questions.answer(message)
    } else if (message.type === 'closed') {
      service.claims.drop(message.name)
      service.preload?.look()
    }
  }

  function step(event: NewEvent): void {
    const [next, effects] = stepNew(side, event)
    side = next
    for (const effect of effects) carryOut(effect)
  }

  function carryOut(effect: NewEffect): void {
    switch (effect.do) {
      case 'send':
        link?.send(effect.message)
        return
      case 'commit':
        isCommitted = true
        service.takeStep('serve')
        accepting.resolve(true)
        decided.resolve(undefined)
        if (link?.isOpen !== true) endQuestions(undefined)
        return
      case 'refuse':
        accepting.resolve(false)
        decided.resolve(refused(effect))
        endQuestions(refused(effect))
        if (!wasAsked) leave(refused(effect))
        return
      case 'look':
        void livesOn(predecessor).then((predecessorLives) => step({ type: 'looked', predecessorLives }))
        return
      case 'askKeeper':
        void held(service.keeper?.among.hold(false) ?? Promise.resolve(true)).then((mayGo) =>
          step({ type: 'release', mayGo }),
        )
        return
      case 'close':
        link?.close()
        return
    }
  }

  function refused({ reason, isTooOld }: Extract<NewEffect, { do: 'refuse' }>): CookError {
    const [pid] = predecessor
    if (isTooOld === true) return new CookError('ERR_COOK_PROTOCOL', { why: reason, pid })
    const isKeeper = keeper?.pid === pid
    const who = `the ${isKeeper ? 'keeper' : 'old process'} (pid ${pid})`
    const serves = isKeeper ? 'This process' : 'The old process still serves; this one'
    return new CookError('ERR_COOK_REFUSED', { who, reason, serves })
  }

  /** Nobody has accepted it, and it does not even ask: it must not live on beside the other one. */
  function leave({ message, code }: CookError): void {
    setImmediate(() => {
      writeToLog(`${message} (${code})`)
      process.exit(1)
    })
  }

  function overlapIfReady(): void {
    if (isReady && hasOverlap) accepting.resolve(true)
  }

  function endQuestions(refusal: CookError | undefined): void {
    tickets.resolve({})
    questions.end(refusal)
  }

  /**
   * A wait for the predecessor keeps this process alive, which the link alone does not; where that
   * has died, so does a wait for the keeper.
   */
  async function held<Answer>(answer: Promise<Answer>): Promise<Answer> {
    const alone = link?.isOpen === true ? undefined : setInterval(() => {}, longestDuration)
    link?.hold(true)
    try {
      return await answer
    } finally {
      link?.hold(false)
      clearInterval(alone)
    }
  }

  state.tellPredecessor = (reason) => {
    if (!isCommitted) link?.send({ type: 'dying', reason })
  }
  service.predecessor = {
    identity: predecessor,
    get living() {
      return living
    },
    get isCommitted() {
      return isCommitted
    },
    async notify(ok, reason) {
      wasAsked = true
      isReady = ok
      const { left } = service.claims
      const tlsKey = service.tls?.publicKey
      step({ type: 'notify', ok, reason, ...(left.length > 0 && { left }), ...(tlsKey !== undefined && { tlsKey }) })
      overlapIfReady()
      const refusal = await held(decided.promise)
      if (ok && refusal !== undefined) throw refusal
    },
    mayAccept: (over) => held(Promise.race([accepting.promise, over])),
    tickets: () => held(tickets.promise),
    ask: (name) => held(tickets.promise.then(() => questions.ask(name))),
    tellWaiting(waits) {
      if (!isCommitted) link?.send({ type: 'waits', ...waits })
    },
    holdForAnswers: (isOn) => link?.allowHold(isOn),
  } satisfies Predecessor

  // The predecessor was gone before we looked; nothing will tell us again.
  if (link === undefined) onLink({ type: 'closed' })
  // With a process between, the link is ours alone when that has let go.
  else if (state.entered.launch === undefined) step({ type: 'go' })
  else void state.entered.launch.released.then(() => step({ type: 'go' }))
  return {
    link,
    hear(given) {
      listener = given
    },
  }
}

/** A keeper gives it a descriptor of its own, since 3 is its own channel. */
function openPredecessor({ keeper, handles }: LinkRecord, onLink: (event: LinkEvent) => void): Link | undefined {
  if (keeper !== undefined && keeper.isBeside !== true)
    return openLink(adoptChannel(firstHandleFd + handles.length), onLink)
  return channelDescriptor() === linkFd ? takeLink(onLink) : undefined
}

/** What this process asks of its predecessor's saveState hook. */
class Questions {
  readonly #send: (name: string) => void
  readonly #assembly = new Assembly()
  readonly #open = new Map<string, Deferred<Value | CookError | undefined>>()
  /** Nobody answers any more; with the predecessor's refusal if it lives on. */
  #over: { readonly refusal: CookError | undefined } | undefined

  constructor(send: (name: string) => void) {
    this.#send = send
  }

  async ask(name: string): Promise<Value | undefined> {
    if (this.#over?.refusal !== undefined) throw this.#over.refusal
    if (this.#over !== undefined) return undefined
    const question = this.#open.get(name) ?? deferred<Value | CookError | undefined>()
    // Two answers of one name would come in pieces of both.
    if (!this.#open.has(name)) this.#send(name)
    this.#open.set(name, question)
    const answer = await question.promise
    if (answer instanceof CookError) throw answer
    return answer
  }

  answer(message: MessageOf<'value'>): void {
    let answer: Value | CookError | undefined
    try {
      const { name, names } = message
      if (names !== undefined) throw new CookError('ERR_COOK_STATE_NAME', { name, names: names.join(', ') || 'none' })
      if (message.fault !== undefined) throw new CookError('ERR_COOK_STATE', { name, why: message.fault })
      answer = this.#assembly.add(message)
    } catch (error) {
      answer = error as CookError
    }
    if (answer === undefined) return
    this.#open.get(message.name)?.resolve(answer)
    this.#open.delete(message.name)
  }

  end(refusal: CookError | undefined): void {
    this.#over = { refusal }
    for (const question of this.#open.values()) question.resolve(refusal)
  }
}
