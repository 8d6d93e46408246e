/**
 * One raw connection: sends requests, checks every byte of their answers, and is over at the first
 * fault.
 */
import type { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { type AnswerHead, AnswerReader, NoAnswer } from './answer-reader.ts'
import type { FailureKind } from './kinds.ts'
import type { Batch, Request } from './requests.ts'
import type { Tally } from './tally.ts'
import { connectTo, readyEvent, type Where } from './where.ts'

/** What a connection has to know of its load. */
export type ConnectionOwner = {
  readonly client: number
  readonly tally: Tally
  /**
   * Time for an answer, in milliseconds; then the request counts as late and the connection is
   * given up.
   */
  readonly deadline: number
}

type Asked = Request & { readonly at: number }

/** Pause between two pieces of a request that is sent in pieces, in milliseconds. */
const piecePause = 1

/**
 * All connections read into the same memory: what is not used up at once is copied by the reader.
 */
const inbox = Buffer.allocUnsafeSlow(64 * 1024)

export class Connection {
  isOver = false
  hasFailed = false
  /** Called when the connection is over, whoever ended it. */
  readonly onOver = new Set<() => void>()
  readonly #owner: ConnectionOwner
  readonly #socket: Socket
  readonly #reader: AnswerReader
  /** Requests without a whole answer, in the order in which they were sent. */
  readonly #asked: Asked[] = []
  #head: AnswerHead | undefined
  /** Bytes of the body of the answer that is being read. */
  #read = 0
  #answers = 0
  #generation = ''
  #readPause: number | undefined
  /** When the server was done and had to close. */
  #waitsForEnd: number | undefined
  #settle: () => void = () => {}

  /**
   * Undefined, and counted, if nobody accepts: one request, for which the connection was meant, has
   * failed then.
   */
  static open(where: Where, owner: ConnectionOwner, first: Batch): Promise<Connection | undefined> {
    return new Promise((opened) => {
      let connection: Connection | undefined
      const socket = connectTo(where, {
        onread: {
          buffer: inbox,
          callback: (length: number, buffer: Buffer) => connection?.read(buffer.subarray(0, length)) ?? true,
        },
      })
      const fail = (why: FailureKind, words: string) => {
        const { kind } = first.requests[0]
        owner.tally.request(kind)
        owner.tally.fail(owner.client, why, `connecting: ${words}`, true)
        opened(undefined)
      }
      // A queue that nobody takes from is full at last, and the kernel tries for two minutes.
      const onTimeout = () => {
        socket
          .off('error', onError)
          .on('error', () => {})
          .destroy()
        fail('late', 'not accepted')
      }
      const onError = (error: NodeJS.ErrnoException) => fail(kindOfError(error), error.message)
      socket.setTimeout(owner.deadline, onTimeout)
      socket.once('error', onError).once(readyEvent(where), () => {
        owner.tally.connections++
        socket.off('error', onError).setTimeout(0, onTimeout)
        connection = new Connection(socket, owner)
        opened(connection)
      })
    })
  }

  private constructor(socket: Socket, owner: ConnectionOwner) {
    this.#socket = socket
    this.#owner = owner
    this.#reader = new AnswerReader({
      onHead: (head) => this.#onHead(head),
      onBody: (bytes) => this.#onBody(bytes),
      onEnd: () => this.#onAnswer(),
    })
    socket.once('end', () => this.#onEnd()).on('error', (error) => this.#onError(error))
  }

  /**
   * Sends a batch; resolves when everything in it is answered, or the connection over. The latency
   * counts from `at`.
   */
  async exchange(batch: Batch, at = performance.now()): Promise<void> {
    if (this.isOver) return
    for (const request of batch.requests) {
      this.#owner.tally.request(request.kind)
      this.#asked.push({ ...request, at })
    }
    this.#readPause = batch.readPause
    const answered = new Promise<void>((settle) => {
      this.#settle = settle
    })
    if (batch.piece === undefined) this.#send(batch.requests)
    else void this.#sendInPieces(batch.requests, batch.piece)
    await answered
  }

  /** Called now and then. */
  checkDeadline(now: number): void {
    const since = this.#asked[0]?.at ?? this.#waitsForEnd
    if (since === undefined || now - since <= this.#owner.deadline) return
    this.#fail('late', this.#asked.length > 0 ? 'no answer' : 'not closed after the last answer')
  }

  /** Ends it without a word and without counting. */
  destroy(): void {
    this.isOver = true
    this.#socket.destroy()
    this.#settle()
    for (const over of this.onOver) over()
  }

  /** False stops the reading. */
  read(bytes: Buffer): boolean {
    if (this.isOver) return false
    try {
      this.#reader.read(bytes)
    } catch (error) {
      if (error instanceof Fault) this.#fail(error.kind, error.message)
      else if (error instanceof NoAnswer) this.#fail('wrongBytes', error.message)
      else throw error
    }
    if (this.isOver) return false
    if (this.#readPause === undefined) return true
    setTimeout(() => this.#socket.resume(), this.#readPause)
    return false
  }

  #send(requests: readonly Request[]): void {
    this.#socket.cork()
    for (const { head, body } of requests) {
      this.#socket.write(head, 'latin1')
      if (body !== undefined) this.#socket.write(body)
    }
    this.#socket.uncork()
  }

  async #sendInPieces(requests: readonly Request[], piece: number): Promise<void> {
    const bytes = Buffer.concat(requests.flatMap(({ head, body }) => [Buffer.from(head), body ?? Buffer.alloc(0)]))
    for (let offset = 0; offset < bytes.length && !this.isOver; offset += piece) {
      this.#socket.write(bytes.subarray(offset, offset + piece))
      await sleep(piecePause)
    }
  }

  #onHead(head: AnswerHead): void {
    const [asked] = this.#asked
    this.#head = head
    this.#read = 0
    if (asked === undefined) throw new Fault('unasked', `status ${head.status}`)
    if (head.status !== 200) throw new Fault('wrongStatus', `${head.status}`)
    const id = head.headers.get('x-id')
    if (id === asked.id) return
    const isOfAnother = this.#asked.some((other) => other.id === id)
    throw new Fault(isOfAnother ? 'wrongOrder' : 'wrongBytes', `answer ${id} to request ${asked.id}`)
  }

  #onBody(bytes: Buffer): void {
    const expected = this.#asked[0]?.expected
    if (expected === undefined || !isPart(bytes, expected, this.#read)) {
      throw new Fault('wrongBytes', `between ${this.#read} and ${this.#read + bytes.length} of the body`)
    }
    this.#read += bytes.length
  }

  #onAnswer(): void {
    const asked = this.#asked[0]
    if (asked === undefined) return
    if (this.#read < asked.expected.length) throw new Fault('wrongBytes', `only ${this.#read} of the body`)
    this.#asked.shift()
    this.#answers++
    const { tally } = this.#owner
    const now = performance.now()
    this.#generation = this.#head?.headers.get('x-generation') ?? ''
    tally.answer(asked.kind, now - asked.at, now, this.#generation)
    const saysClose = this.#head?.headers.get('connection')?.toLowerCase() === 'close'
    if (asked.closes) this.#waitsForEnd = now
    else if (saysClose) this.#fail(this.#asked.length > 0 ? 'closed' : 'toldToClose', 'connection: close')
    else if (this.#asked.length === 0) this.#settle()
  }

  #onEnd(): void {
    if (this.isOver) return
    if (this.#waitsForEnd !== undefined && this.#asked.length === 0) this.destroy()
    else if (this.#asked.length === 0) this.#fail('closedIdle', 'end')
    else this.#fail(this.#reader.isInAnswer ? 'half' : 'closed', 'end')
  }

  #onError(error: NodeJS.ErrnoException): void {
    if (this.isOver) return
    // After the last answer there is nothing that a reset could take away.
    if (this.#waitsForEnd !== undefined && this.#asked.length === 0) this.destroy()
    else this.#fail(kindOfError(error), error.message)
  }

  /** Every open request is lost; those behind the first never got a byte. */
  #fail(kind: FailureKind, why: string): void {
    if (this.isOver) return
    const { tally, client } = this.#owner
    const words = `${why}, after ${this.#answers} answers, the last by generation '${this.#generation}'`
    const [first, ...others] = this.#asked
    if (first === undefined) tally.fail(client, kind, words, false)
    else tally.fail(client, kind, `${first.kind} ${first.id}: ${words}`, true)
    this.hasFailed = true
    const kindOfOthers = kind === 'reset' || kind === 'late' ? kind : 'closed'
    for (const other of others) tally.fail(client, kindOfOthers, `${other.kind} ${other.id}: ${words}`, true)
    this.destroy()
  }
}

class Fault extends Error {
  readonly kind: FailureKind

  constructor(kind: FailureKind, why: string) {
    super(why)
    this.kind = kind
  }
}

function isPart(bytes: Buffer, whole: Buffer, offset: number): boolean {
  return offset + bytes.length <= whole.length && bytes.compare(whole, offset, offset + bytes.length) === 0
}

export function kindOfError({ code }: NodeJS.ErrnoException): FailureKind {
  // EAGAIN: the queue of a Unix listener is full; ENOENT: its path is gone.
  if (code === 'ECONNREFUSED' || code === 'ENOENT' || code === 'EAGAIN') return 'refused'
  if (code === 'ECONNRESET' || code === 'EPIPE') return 'reset'
  return 'other'
}
