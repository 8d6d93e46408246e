/** The new process's end of an upgrade. */
import type { Socket } from 'node:net'
import {
  envLink,
  type Identity,
  type LinkRecord,
  linkFd,
  type Message,
  type NewEffect,
  type NewEvent,
  type News,
  newSide,
  stepNew,
  takeoverName,
} from '../contract/messages.ts'
import { deadline } from '../deadline.ts'
import { CookError, throwLater } from '../errors.ts'
import { livesOn } from '../node/processes.ts'
import { channelDescriptor, type ListenerHandle } from '../node/sockets.ts'
import { identify, isAlive, type System, system } from '../node/system.ts'
import { Assembly, type Value, type ValueMessage } from './cloned-values.ts'
import { type Link, type LinkEvent, takeLink } from './link.ts'

export type Succession = {
  readonly predecessor: Identity
  /** Generations that lived when the predecessor welcomed us, itself among them. */
  readonly living: readonly Identity[]
  readonly isCommitted: boolean
  /** Tells the predecessor; resolves at commit, or after a no when that was heard. Rejects with `ERR_COOK_REFUSED`. */
  notify(ok: boolean, reason: string): Promise<void>
  /**
   * True as soon as this process may accept on the listeners of the predecessor: at the commit, or if there is an overlap when it is ready. False if the predecessor has refused it, or if `over` comes first.
   */
  mayAccept(over: Promise<false>): Promise<boolean>
  /** TLS ticket keys of the predecessor by handle name, once it has welcomed us; none if it is gone or has refused us. */
  tickets(): Promise<Readonly<Record<string, string>>>
  /** A value of the predecessor's saveState hook; undefined if it is gone. Rejects with `ERR_COOK_REFUSED`, and with what kept the value from coming. */
  ask(name: string): Promise<Value | undefined>
  /** Tells the predecessor, if it is still there, that the service ends. */
  stop(): void
  /** Sends the predecessor second handles of its listeners, by its names of them: should this process die while it drains, it takes the service back. */
  sendSpares(listeners: ReadonlyMap<string, ListenerHandle>): void
  /** Tells the predecessor whether a successor of our own is about to take the service: it will not come back then. */
  tellReplacing(isOn: boolean): void
  /** Resolves when the predecessor needs us no more: it said bye, or is gone. */
  readonly bye: Promise<void>
  /** Resolves when it has left or was killed because it had not, long after the end of its drain; at once if it does not say how long that may take. */
  readonly left: Promise<void>
  /** Why this process is about to die. */
  tellDying(reason: string): void
  /** What the program still has to do before this process is up: told in the error if it never does. Empty: nothing any more. */
  tellWaiting(reason: string): void
}

/** Where a connection of the predecessor goes to. */
export type Destination = {
  /** Name of a listener, or of a protocol of the program's own. */
  readonly to: string
  /** In the second case the listener that accepted it. */
  readonly listener?: string | undefined
}

/** With what goes along. */
export type Arrival = Destination & { readonly state?: string | undefined }

export type SuccessionPlan = {
  /** Resolves when nobody else reads the link any more; undefined: nobody else does. */
  readonly released: Promise<void> | undefined
  onCommit(): void
  /** A live connection of the predecessor; returns whether it is kept. */
  onConnection(arrival: Arrival, socket: Socket): boolean
  /** What onRelease of the predecessor returned. */
  onTakeover(value: unknown): void
  /** What the predecessor tells of itself and of those before it. */
  onNews(news: News): void
  /** It stood still in its drain, and was killed. */
  onOverdue(predecessor: Identity): void
}

/** How long after the end of its drain a predecessor that has not left is killed, in milliseconds: it waits for our own answers meanwhile, but not that long. */
const overdueAfter = 10_000

/** Takes up the link to the predecessor. Throws `ERR_COOK_ENVIRONMENT` if descriptor 3 is no link although the predecessor lives. */
export function succeed(record: LinkRecord, plan: SuccessionPlan, os: System = system): Succession {
  const { predecessor, nonce } = record
  let side = newSide(nonce, identify(os), record.protocol)
  let living: readonly Identity[] = [predecessor]
  let isCommitted = false
  let wasAsked = false
  /** The predecessor would take the service back: not so with the verbs, nor in earlier versions. */
  let returns = false
  const decided = deferred<CookError | undefined>()
  const accepting = deferred<boolean>()
  let hasOverlap = false
  let isReady = false
  const tickets = deferred<Readonly<Record<string, string>>>()
  const bye = deferred<void>()
  const left = deferred<void>()
  const assembly = new Assembly()
  /** Nobody answers any more; with the predecessor's refusal if it lives on. */
  let over: { readonly refusal: CookError | undefined } | undefined
  const answers = new Answers((message) => link?.send(message))
  const questions = new Map<string, ReturnType<typeof deferred<Value | CookError | undefined>>>()

  const link = channelDescriptor() === linkFd ? takeLink(onLink) : undefined
  if (link === undefined && isAlive(predecessor, os)) {
    const why = `descriptor ${linkFd} is not the link to the process ${predecessor[0]} that it names`
    throw new CookError('ERR_COOK_ENVIRONMENT', { variable: envLink, why })
  }

  function onLink(event: LinkEvent): void {
    // Garbage from the predecessor: the upgrade cannot end well, and it is its task to say so.
    step(event.type === 'broken' ? { type: 'message', message: 'broken' } : event)
    if (event.type === 'closed') {
      bye.resolve()
      // One that lives on without a word is still to be watched.
      if (!isAlive(predecessor, os)) left.resolve()
      // Before the commit it is still open whether the predecessor is gone or has refused us.
      if (isCommitted) endQuestions(undefined)
    }
    if (event.type === 'message' && typeof event.message === 'object')
      onMessage(event.message, event.handle as Socket | undefined)
  }

  function onMessage(message: Message, socket: Socket | undefined): void {
    if (message.type === 'welcome') {
      living = message.living
      hasOverlap = (message.overlap ?? 0) > 0
      overlapIfReady()
      tickets.resolve(message.tickets ?? {})
    } else if (message.type === 'value') {
      onValue(message)
    } else if (message.type === 'connection') {
      // Number and unread bytes belong to this link: a connection that is sent on has others there.
      const { type: _, id, unread, ...arrival } = message
      if (unread !== undefined) socket?.unshift(Buffer.from(unread, 'base64'))
      const isKept = socket !== undefined && receive(arrival, socket)
      if (!isKept) socket?.destroy()
      answers.add(id, isKept)
    } else if (message.type === 'news') {
      plan.onNews(message)
    } else if (message.type === 'accepted') {
      watch(message.drainTimeout)
    } else if (message.type === 'bye') {
      bye.resolve()
      left.resolve()
    }
  }

  function overlapIfReady(): void {
    if (isReady && hasOverlap) accepting.resolve(true)
  }

  /** An old process whose loop stands still keeps its memory and its connections for ever. Before the commit it would be the owner, and is left alone. */
  function watch(drainTimeout: number | undefined): void {
    if (drainTimeout === undefined) {
      left.resolve()
      return
    }
    returns = true
    const stop = deadline(drainTimeout + overdueAfter, () => {
      if (!isAlive(predecessor, os)) return left.resolve()
      os.kill(predecessor, 'SIGKILL')
      plan.onOverdue(predecessor)
      left.resolve()
    })
    void left.promise.then(stop)
  }

  /** What the program throws is an uncaught exception of its own, as at a connection that it accepts; the predecessor waits for an answer all the same. */
  function receive(arrival: Arrival, socket: Socket): boolean {
    try {
      return plan.onConnection(arrival, socket)
    } catch (error) {
      throwLater(error)
      return false
    }
  }

  function onValue(message: ValueMessage): void {
    let answer: Value | CookError | undefined
    try {
      const { name, names } = message
      if (names !== undefined) throw new CookError('ERR_COOK_STATE_NAME', { name, names: names.join(', ') || 'none' })
      if (message.fault !== undefined) throw new CookError('ERR_COOK_STATE', { name: message.name, why: message.fault })
      answer = assembly.add(message)
    } catch (error) {
      answer = error as CookError
    }
    if (answer === undefined) return
    if (message.name === takeoverName) {
      if (!(answer instanceof CookError)) plan.onTakeover(answer.value)
      return
    }
    questions.get(message.name)?.resolve(answer)
    questions.delete(message.name)
  }

  function endQuestions(refusal: CookError | undefined): void {
    over = { refusal }
    tickets.resolve({})
    for (const question of questions.values()) question.resolve(refusal)
  }

  /** A wait for the predecessor keeps this process alive, which the link alone does not. */
  async function held<Answer>(answer: Promise<Answer>): Promise<Answer> {
    link?.hold(true)
    try {
      return await answer
    } finally {
      link?.hold(false)
    }
  }

  async function ask(name: string): Promise<Value | undefined> {
    await tickets.promise
    if (over?.refusal !== undefined) throw over.refusal
    if (over !== undefined) return undefined
    const question = questions.get(name) ?? deferred<Value | CookError | undefined>()
    // Two answers of one name would come in pieces of both.
    if (!questions.has(name)) link?.send({ type: 'ask', name })
    questions.set(name, question)
    const answer = await question.promise
    if (answer instanceof CookError) throw answer
    return answer
  }

  function refused({ reason, isTooOld }: Extract<NewEffect, { do: 'refuse' }>): CookError {
    const [pid] = predecessor
    if (isTooOld === true) return new CookError('ERR_COOK_PROTOCOL', { why: reason, pid })
    return new CookError('ERR_COOK_REFUSED', { predecessor: pid, reason })
  }

  function step(event: NewEvent): void {
    const [next, effects] = stepNew(side, event)
    side = next
    for (const effect of effects) carryOut(effect, link)
  }

  function carryOut(effect: NewEffect, on: Link | undefined): void {
    switch (effect.do) {
      case 'send':
        on?.send(effect.message)
        return
      case 'commit':
        isCommitted = true
        plan.onCommit()
        accepting.resolve(true)
        decided.resolve(undefined)
        if (link?.isOpen === true) return
        endQuestions(undefined)
        left.resolve()
        return
      case 'refuse':
        accepting.resolve(false)
        decided.resolve(refused(effect))
        endQuestions(refused(effect))
        // A process that nobody accepted and that does not even ask must not live on beside the predecessor.
        if (!wasAsked) throwLater(refused(effect))
        return
      case 'look':
        void livesOn(predecessor).then((predecessorLives) => step({ type: 'looked', predecessorLives }))
        return
      case 'close':
        on?.close()
        return
    }
  }

  // The predecessor was gone before we looked; nothing will tell us again.
  if (link === undefined) onLink({ type: 'closed' })
  // In this turn: a program under the preload may not leave it before its modules are loaded.
  else if (plan.released === undefined) step({ type: 'go' })
  else void plan.released.then(() => step({ type: 'go' }))

  return {
    predecessor,
    get living() {
      return living
    },
    get isCommitted() {
      return isCommitted
    },
    async notify(ok, reason) {
      wasAsked = true
      isReady = ok
      step({ type: 'notify', ok, reason })
      overlapIfReady()
      const refusal = await held(decided.promise)
      if (ok && refusal !== undefined) throw refusal
    },
    mayAccept: (over) => held(Promise.race([accepting.promise, over])),
    tickets: () => held(tickets.promise),
    bye: bye.promise,
    ask: (name) => held(ask(name)),
    stop() {
      if (isCommitted) link?.send({ type: 'stop' })
    },
    sendSpares(listeners) {
      if (!returns || link?.isOpen !== true) return
      link.send({ type: 'spares', names: [...listeners.keys()] })
      for (const [name, listener] of listeners) link.sendListener({ type: 'spare', name }, listener)
    },
    tellReplacing(isOn) {
      if (isCommitted) link?.send({ type: 'replacing', isOn })
    },
    left: left.promise,
    tellDying(reason) {
      if (!isCommitted) link?.send({ type: 'dying', reason })
    },
    tellWaiting(reason) {
      if (!isCommitted) link?.send({ type: 'waits', reason })
    },
  }
}

/** How many connections one `taken` answers for at most, and how many milliseconds it waits for more of them. */
const answered = { most: 16, wait: 5 }

/** Answers for connections that arrive one behind the other with one message for many: each is a write here and a read there. */
class Answers {
  readonly #send: (message: Message) => void
  #kept: number | undefined
  #count = 0
  #timer: NodeJS.Timeout | undefined

  constructor(send: (message: Message) => void) {
    this.#send = send
  }

  add(id: number, isKept: boolean): void {
    if (!isKept) {
      this.#flush()
      this.#send({ type: 'taken', id, isKept })
      return
    }
    this.#kept = id
    this.#timer ??= setTimeout(() => this.#flush(), answered.wait)
    if (++this.#count === answered.most) this.#flush()
  }

  #flush(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#count = 0
    if (this.#kept !== undefined) this.#send({ type: 'taken', id: this.#kept, isKept: true })
    this.#kept = undefined
  }
}

/** Promise.withResolvers, which Node 20 lacks. */
function deferred<Value>() {
  let resolve: (value: Value) => void = () => {}
  const promise = new Promise<Value>((settle) => {
    resolve = settle
  })
  return { promise, resolve }
}
