/**
 * One WebSocket of a load: numbers what it sends, and finds out what is lost, doubled, overtaken or
 * answered from a wrong state.
 */
import { WebSocket } from 'ws'
import { type ConnectionOwner, kindOfError } from './connection.ts'
import type { FailureKind } from './kinds.ts'
import { connectTo, type Where } from './where.ts'

type Sent = { readonly message: Buffer; readonly at: number; readonly settle: () => void }

type Echo = { readonly count: number; readonly generation: string; readonly message: Buffer }

export type WebSocketTarget = { readonly where: Where; readonly url: string; readonly compress: boolean }

export class NumberedWebSocket {
  isOver = false
  /** Called when it is over, whoever ended it. */
  readonly onOver = new Set<() => void>()
  readonly #owner: ConnectionOwner
  readonly #socket: WebSocket
  /** Messages without an answer, by their number, in order. */
  readonly #sent = new Map<number, Sent>()
  /** Messages that a later one overtook: lost, unless they come after all. */
  readonly #skipped = new Map<number, Sent>()
  #numbers = 0
  /**
   * How far the server's counter is behind our number: what it never saw, less what it saw twice.
   */
  #behind = 0
  #lastCount = 0
  #generation = ''
  #error: Error | undefined
  #closingSince: number | undefined

  /** Undefined, and counted, if there is none to be had. */
  static open(target: WebSocketTarget, owner: ConnectionOwner): Promise<NumberedWebSocket | undefined> {
    return new Promise((opened) => {
      const socket = new WebSocket(`ws://load${target.url}`, {
        perMessageDeflate: target.compress,
        handshakeTimeout: owner.deadline,
        createConnection: () => connectTo(target.where, {}),
      })
      const onError = (error: Error) => {
        owner.tally.request('message')
        owner.tally.fail(owner.client, kindOfOpening(error), `opening: ${error.message}`, true)
        opened(undefined)
      }
      socket.once('error', onError).once('open', () => {
        owner.tally.connections++
        socket.off('error', onError)
        opened(new NumberedWebSocket(socket, owner))
      })
    })
  }

  private constructor(socket: WebSocket, owner: ConnectionOwner) {
    this.#socket = socket
    this.#owner = owner
    socket
      .on('message', (data: Buffer) => this.#onEcho(data))
      .on('close', (code) => this.#onClose(code))
      .on('error', (error) => {
        // The close that follows is what counts.
        this.#error = error
      })
  }

  /** Sends a message; resolves when it is answered, skipped, or the connection over. */
  async ask(payload: Buffer): Promise<void> {
    if (this.isOver) return
    const number = ++this.#numbers
    const message = Buffer.allocUnsafe(4 + payload.length)
    message.writeUInt32LE(number)
    payload.copy(message, 4)
    this.#owner.tally.request('message')
    await new Promise<void>((settle) => {
      this.#sent.set(number, { message, at: performance.now(), settle })
      this.#socket.send(message)
    })
  }

  /** Closes, and waits for the server to close too. */
  async close(): Promise<void> {
    if (this.isOver) return
    this.#closingSince = performance.now()
    const closed = new Promise<void>((over) => this.onOver.add(over))
    this.#socket.close(1000)
    await closed
  }

  /** Called now and then. */
  checkDeadline(now: number): void {
    const [oldest] = this.#sent.values()
    const since = oldest?.at ?? this.#closingSince
    if (this.isOver || since === undefined || now - since <= this.#owner.deadline) return
    if (oldest === undefined) this.#fail('late', 'not closed after it was asked to', false)
    for (const number of this.#sent.keys()) this.#fail('late', `no answer to ${number}`, true)
    this.destroy()
  }

  /** Ends it without a word and without counting. */
  destroy(): void {
    if (this.isOver) return
    this.isOver = true
    this.#socket.terminate()
    for (const { settle } of this.#sent.values()) settle()
    for (const over of this.onOver) over()
  }

  #onEcho(data: Buffer): void {
    if (this.isOver) return
    const echo = readEcho(data)
    const number = echo?.message.readUInt32LE() ?? 0
    if (echo === undefined || number === 0) this.#fail('wrongBytes', `no echo: ${data.length} bytes`, false)
    else if (this.#sent.has(number)) this.#onAnswer(number, echo)
    else if (this.#skipped.has(number)) this.#onOvertaken(number, echo)
    else if (number > this.#numbers) this.#fail('unasked', `answer to ${number} of ${this.#numbers}`, false)
    else this.#onDoubled(number, echo)
    if (echo !== undefined) this.#lastCount = Math.max(this.#lastCount, echo.count)
  }

  #onAnswer(number: number, echo: Echo): void {
    const skipped = this.#skipUpTo(number)
    this.#checkState(number, echo.count, skipped)
    const sent = this.#sent.get(number)
    this.#sent.delete(number)
    if (sent !== undefined) this.#countAnswer(number, sent, echo)
  }

  #onOvertaken(number: number, echo: Echo): void {
    const sent = this.#skipped.get(number)
    this.#skipped.delete(number)
    this.#owner.tally.foundAgain()
    this.#fail('wrongOrder', `answer to ${number} after a later one`, false)
    if (sent !== undefined) this.#countAnswer(number, sent, echo)
  }

  #onDoubled(number: number, { count }: Echo): void {
    // With a count of its own the message was not only answered but also taken twice.
    if (count === this.#lastCount + 1) this.#behind--
    this.#fail('doubled', `another answer to ${number}`, false)
  }

  /** Everything sent before this one should have been answered before it. */
  #skipUpTo(number: number): number {
    let skipped = 0
    for (const [earlier, sent] of this.#sent) {
      if (earlier >= number) break
      this.#sent.delete(earlier)
      this.#skipped.set(earlier, sent)
      this.#fail('lost', `${number} was answered before ${earlier}`, true)
      sent.settle()
      skipped++
    }
    return skipped
  }

  /** A message that the server never saw is missing in its count; nothing else may be. */
  #checkState(number: number, count: number, skipped: number): void {
    const missing = number - this.#behind - count
    this.#behind += missing
    if (missing < 0 || missing > skipped) this.#fail('wrongState', `count ${count} for message ${number}`, false)
  }

  #countAnswer(number: number, { message, at, settle }: Sent, echo: Echo): void {
    const { tally } = this.#owner
    const now = performance.now()
    this.#generation = echo.generation
    if (message.equals(echo.message)) tally.answer('message', now - at, now, echo.generation)
    else this.#fail('wrongBytes', `the echo of ${number} is another message`, true)
    settle()
  }

  #onClose(code: number): void {
    if (this.isOver) return
    if (this.#closingSince === undefined || code !== 1000) {
      const { message = 'closed' } = this.#error ?? {}
      this.#owner.tally.closed(code)
      this.#fail(this.#error === undefined ? 'closed' : kindOfOpening(this.#error), `${code}: ${message}`, false)
      for (const number of this.#sent.keys())
        this.#fail('lost', `closed with ${code} before ${number} was answered`, true)
    }
    this.destroy()
  }

  #fail(kind: FailureKind, why: string, losesMessage: boolean): void {
    const { tally, client } = this.#owner
    const words = `${why}, after ${this.#numbers} messages, the last answered by generation '${this.#generation}'`
    tally.fail(client, kind, words, losesMessage)
  }
}

/** The count (4 bytes), the generation (its length in 1 byte), the message. */
function readEcho(data: Buffer): Echo | undefined {
  const start = 5 + (data[4] ?? 0)
  if (data.length < start + 4) return undefined
  return { count: data.readUInt32LE(), generation: data.toString('utf8', 5, start), message: data.subarray(start) }
}

/** ws tells an answer that is no 101 in words only. */
function kindOfOpening(error: NodeJS.ErrnoException): FailureKind {
  if (error.message.startsWith('Unexpected server response')) return 'wrongStatus'
  if (error.message === 'Opening handshake has timed out') return 'late'
  if (error.code?.startsWith('WS_ERR') === true) return 'wrongBytes'
  return kindOfError(error)
}
