/** A TLS connection that comes from another process: a stream with the face of a TLSSocket. */
import type { Socket } from 'node:net'
import { CookError } from '../errors.ts'
import { readRaw, startReading, stopReading, takeUnread } from '../node/connections.ts'
import { alert, alertError, type Fault, faultError } from './alerts.ts'
import { type AdoptedHooks, Claim } from './claim.ts'
import { TlsFace } from './face.ts'
import { type Arrived, Incoming } from './incoming.ts'
import { Chunks, contentType, Direction } from './records.ts'
import { mostUnread, type TlsState } from './state.ts'
import { suites, whyUnavailable } from './suites.ts'

/**
 * How long the first record may be half here, in milliseconds: then it is given back, since it may
 * be the end of one that began in the other process.
 */
const proofTimeout = 100

/**
 * Records with one key: after that the client gets new ones. GCM is good for 2^24.5 (RFC 8446,
 * 5.5); ChaCha20 for all that can be counted, and has no reason to be another case.
 */
const mostRecords = 2 ** 24

/** Records that are sealed at once: a large write takes no second one of its size in memory. */
const mostSealed = 64

/** A KeyUpdate that does not ask for one of the client's. */
const updateKeys = [24, 0, 0, 1, 0] as const

export class AdoptedTls extends TlsFace {
  readonly #socket: Socket
  readonly #claim: Claim
  readonly #incoming: Incoming
  readonly #receiving: Direction
  readonly #sending: Direction
  readonly #longestRecord: number
  /** The program may want them shorter. */
  #longestSent: number
  /** It is on its way to another process, or there. */
  #isHeld = false
  #isReading = false
  #hasEnded = false
  #proofTimer: NodeJS.Timeout | undefined
  #bytesRead = 0
  #bytesWritten = 0

  /**
   * The state belongs to the connection from now on: it wipes the secrets when it closes. Whether a
   * half-closed one stays open is taken from the socket, as Node's TLSSocket does.
   */
  constructor(socket: Socket, state: TlsState, hooks: AdoptedHooks) {
    const why = whyUnavailable()
    if (why !== undefined) throw new CookError('ERR_COOK_TLS', { what: 'to start', why })
    super(socket, state)
    const suite = suites[state.suite]
    this.#socket = socket
    this.#claim = new Claim(hooks, state.isProven)
    this.#receiving = new Direction(suite, state.clientSecret, state.receiveNumbers[0] ?? 0)
    this.#sending = new Direction(suite, state.serverSecret, state.sendNumber)
    this.#incoming = new Incoming(this.#receiving, state)
    this.#longestRecord = state.longestRecord
    this.#longestSent = state.longestRecord
    readRaw(socket, (bytes) => {
      this.#incoming.add(bytes)
      try {
        this.#read()
      } finally {
        this.#incoming.keep()
      }
    })
    socket.on('end', () => this.#onEnd())
    socket.on('error', (error) => this.destroy(error))
    socket.on('close', () => this.destroy())
    socket.on('timeout', () => this.emit('timeout'))
    // It has failed already, and says so to nobody any more.
    if (socket.destroyed) process.nextTick(() => this.destroy())
    // Node reads a connection before anybody listens too: its end is seen.
    socket.resume()
    // Whoever adopts it listens first.
    if (this.#incoming.waiting > 0) process.nextTick(() => this.#read())
  }

  /** Of the program, without what TLS adds. */
  get bytesRead(): number {
    return this.#bytesRead
  }

  get bytesWritten(): number {
    return this.#bytesWritten + this.writableLength
  }

  /** False for a size that TLS does not have, as Node's. */
  setMaxSendFragment(size: number): boolean {
    if (!(size >= 512 && size <= 16_384)) return false
    this.#longestSent = Math.min(Math.floor(size), this.#longestRecord)
    return true
  }

  /**
   * For the next process, with copies of the secrets, or undefined: something is on its way.
   * Nothing is read or sent from then on: destroy() ends what is left here, without a word to the
   * client, and takeBack() goes on.
   */
  exportState(): TlsState | undefined {
    if (this.destroyed || this.#isHeld || !this.#claim.mayLeave) return undefined
    // First of all, and in one turn with the look: what came in between would be lost.
    stopReading(this.#socket)
    if (!this.isIdle) {
      startReading(this.#socket)
      return undefined
    }
    this.#isHeld = true
    clearTimeout(this.#proofTimer)
    this.#proofTimer = undefined
    this.#socket.pause()
    // It stays here too, for the case that it comes back.
    this.#incoming.add(takeUnread(this.#socket) ?? Buffer.alloc(0))
    const unread = this.#incoming.take()
    this.#incoming.add(unread)
    return {
      ...this.known(),
      ...this.#incoming.standing(),
      clientSecret: this.#receiving.copySecret(),
      serverSecret: this.#sending.copySecret(),
      sendNumber: this.#sending.number,
      isProven: this.#claim.isSettled,
      longestRecord: this.#longestRecord,
      unread,
    }
  }

  /**
   * Goes on as if it had not left: `bytes` is all that the other process has read, without having
   * sent anything. Undefined: it has read nothing.
   */
  takeBack(bytes?: Buffer): void {
    if (!this.#isHeld || this.destroyed) return
    this.#isHeld = false
    if (bytes !== undefined) {
      this.#incoming.take()
      this.#incoming.add(bytes)
    }
    this.#read()
    if (this.destroyed) return
    this.#socket.resume()
    startReading(this.#socket)
  }

  override _read(): void {
    if (!this.#isHeld) this.#socket.resume()
  }

  override _write(chunk: Buffer, _encoding: unknown, done: (error?: Error | null) => void): void {
    this.#claim.whenOurs(() => this.#send(new Chunks([chunk]), done), done)
  }

  /** What http has corked, head and body, becomes one record. */
  override _writev(chunks: { readonly chunk: Buffer }[], done: (error?: Error | null) => void): void {
    this.#claim.whenOurs(() => this.#send(new Chunks(chunks.map(({ chunk }) => chunk)), done), done)
  }

  override _final(done: (error?: Error | null) => void): void {
    const end = () => {
      if (!this.#isHeld && this.#socket.writable) {
        this.#socket.end(this.#sealMessage(contentType.alert, 1, alert.closeNotify))
      }
      done()
    }
    this.#claim.whenOurs(end, done)
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    clearTimeout(this.#proofTimer)
    this.#claim.end(error)
    this.#sending.wipe()
    this.#receiving.wipe()
    // An alert that the kernel has already is not to be lost by a reset.
    if (this.#socket.writableEnded && this.#socket.writableLength === 0) this.#socket.destroySoon()
    else this.#socket.destroy()
    done(error)
  }

  /** Whether exportState() would give it. */
  get mayLeave(): boolean {
    return this.#claim.mayLeave && this.isIdle
  }

  /** Resolves when that is said which must be before it leaves; undefined: it was. */
  untilAnnounced(): Promise<void> | undefined {
    return this.#claim.untilAnnounced()
  }

  /** Nothing is on its way, in either direction. */
  get isIdle(): boolean {
    const { readableLength, writableLength, writableEnded } = this
    const isBetween = readableLength + writableLength + this.#socket.writableLength === 0
    if (!isBetween || writableEnded || this.#hasEnded || !this.#socket.readable) return false
    return !this.#incoming.isInMessage && this.#incoming.waiting + this.#socket.readableLength <= mostUnread
  }

  #read(): void {
    // A listener that takes data at once may come back here.
    if (this.#isReading) return
    this.#isReading = true
    let isDone = false
    try {
      while (!this.#isHeld && !this.#hasEnded && !this.destroyed) {
        const arrived = this.#incoming.next()
        if (arrived === undefined) break
        this.#onArrived(arrived)
      }
      isDone = true
    } finally {
      this.#isReading = false
      // What a listener throws is the program's business: the connection goes on, as Node's does.
      if (!isDone) process.nextTick(() => this.#read())
    }
    if (this.#hasEnded) this.#incoming.take()
    if (this.#claim.isSettled || this.#isHeld || this.destroyed || this.#incoming.waiting === 0) return
    this.#proofTimer ??= setTimeout(() => this.#claim.mayGiveBack && this.#giveBack(), proofTimeout)
  }

  #onArrived(arrived: Arrived): void {
    if (this.#incoming.hasOpened) this.#claim.settle()
    switch (arrived.type) {
      case 'data':
        this.#bytesRead += arrived.bytes.length
        if (!this.push(arrived.bytes)) this.#socket.pause()
        return
      case 'nothing':
        return
      case 'closed':
        this.#endReading()
        return
      case 'alert':
        this.destroy(alertError(arrived.number))
        return
      case 'fault':
        if (this.#claim.mayGiveBack) this.#giveBack()
        else this.#fail(arrived.fault)
        return
    }
  }

  /** The client says why, and is closed. */
  #fail(fault: Fault): void {
    this.#hasEnded = true
    this.#claim.settle()
    const fail = () => {
      if (this.#socket.writable) this.#socket.end(this.#sealMessage(contentType.alert, 2, fault.alert))
      this.destroy(faultError(fault))
    }
    this.#claim.whenOurs(fail, () => {})
  }

  #giveBack(): void {
    if (this.#claim.isSettled || this.destroyed) return
    this.#isHeld = true
    stopReading(this.#socket)
    this.#incoming.add(takeUnread(this.#socket) ?? Buffer.alloc(0))
    this.#claim.giveBack(this.#incoming.take())
    this.destroy()
  }

  #onEnd(): void {
    // Set by whoever makes it a server's own: the end of what is sent comes behind a close_notify.
    this.#socket.allowHalfOpen = true
    if (this.#claim.mayGiveBack && this.#incoming.waiting > 0) this.#giveBack()
    // Without a close_notify, or in the middle of a record: Node asks OpenSSL to overlook it.
    else this.#endReading()
  }

  #endReading(): void {
    if (this.#hasEnded) return
    this.#hasEnded = true
    this.push(null)
    // What comes behind it is read and thrown away, so that the end of the connection is seen.
    this.#socket.resume()
  }

  #send(chunks: Chunks, done: (error?: Error | null) => void): void {
    let left = chunks.length
    const sendNext = (error?: Error | null): void => {
      if (error != null || left === 0) {
        if (error == null) this.#bytesWritten += chunks.length
        done(error)
        return
      }
      const length = Math.min(left, mostSealed * this.#longestSent)
      left -= length
      this.#sendPart(chunks, length, sendNext)
    }
    sendNext()
  }

  #sendPart(chunks: Chunks, length: number, done: (error?: Error | null) => void): void {
    if (this.#isHeld || this.destroyed) {
      done(hasMoved())
      return
    }
    if (this.#incoming.owesKeyUpdate || this.#sending.number >= mostRecords) {
      this.#socket.write(this.#sealMessage(contentType.handshake, ...updateKeys))
      this.#sending.update()
      this.#incoming.keysUpdated()
    }
    this.#socket.write(this.#seal(contentType.data, chunks, length), done)
  }

  #sealMessage(type: number, ...bytes: number[]): Buffer {
    return this.#seal(type, new Chunks([Buffer.from(bytes)]), bytes.length)
  }

  #seal(type: number, chunks: Chunks, length: number): Buffer {
    // The one thing that must never happen: two records of one number, from two processes.
    if (this.#isHeld || !this.#claim.isOurs) throw hasMoved()
    return this.#sending.sealNext(type, chunks, length, this.#longestSent)
  }
}

function hasMoved(): CookError {
  const why = 'it has moved to another process, which now numbers the records'
  return new CookError('ERR_COOK_TLS', { what: 'to send', why })
}
