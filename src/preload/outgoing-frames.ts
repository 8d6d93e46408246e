/** Follows what a program writes into an upgraded socket, so that a close frame finds its place. */
import type { Duplex } from 'node:stream'

/** `other`: not a WebSocket, or one that the program has closed. `closed`: we have closed it. */
type At = 'handshake' | 'frames' | 'other' | 'closed'
type Write = (chunk: unknown, encoding?: unknown, done?: unknown) => boolean

/** No answer to a handshake is longer, in bytes. */
const longestAnswer = 65_536
const endOfAnswer = '\r\n\r\n'
const closeOpcode = 8
const nothing = Buffer.alloc(0)

/**
 * What a program sends over one WebSocket, whoever makes the frames: a library, or a peer behind a
 * proxy, whose large messages come in pieces. Of a frame only its head is looked at. To be made
 * before the handshake is answered.
 */
export class OutgoingFrames {
  readonly #socket: Duplex
  readonly #send: Write
  #at: At = 'handshake'
  /** What has gone out of the answer to the handshake. */
  #answer = ''
  /** Of the frame that goes out: what has been seen of its head, and what that says. */
  #headBytes = 0
  #lengthBytes = 0
  #opcode = 0
  #isLast = true
  /** Bytes behind its head that are still to come. */
  #left = 0
  #isWithinMessage = false
  /** Asked for the close frame when there is a place for it. */
  #closeFrame: (() => Buffer | undefined) | undefined

  constructor(socket: Duplex) {
    this.#socket = socket
    this.#send = socket.write.bind(socket) as Write
    socket.write = ((chunk, encoding, done) => this.#write(chunk, encoding, done)) as Write as Duplex['write']
  }

  /**
   * Closes it between two messages: now, or behind the one that is going out. The frame is asked
   * for then; without one it stays open.
   */
  close(frame: () => Buffer | undefined): void {
    this.#closeFrame = frame
    if (!this.#isBetween || !this.#socket.writable) return
    const closeFrame = this.#takeCloseFrame()
    if (closeFrame !== undefined) this.#send(closeFrame)
  }

  /** A close that still waits is not wanted any more. */
  keepOpen(): void {
    this.#closeFrame = undefined
  }

  #takeCloseFrame(): Buffer | undefined {
    const frame = this.#closeFrame?.()
    this.#closeFrame = undefined
    if (frame !== undefined) this.#at = 'closed'
    return frame
  }

  #write(chunk: unknown, encoding: unknown, done: unknown): boolean {
    if (this.#at === 'other') return this.#send(chunk, encoding, done)
    // Behind a close frame nothing may follow. Libraries answer that of the client, and wait until
    // it is written.
    if (this.#at === 'closed') return this.#send(nothing, encoding, done)
    const bytes = bytesOf(chunk, encoding)
    for (let place = 0; place < bytes.length; ) {
      place = this.#follow(bytes, place)
      const closeFrame = this.#isBetween ? this.#takeCloseFrame() : undefined
      if (closeFrame === undefined) continue
      this.#send(bytes.subarray(0, place))
      return this.#send(closeFrame, typeof encoding === 'function' ? encoding : done)
    }
    return this.#send(chunk, encoding, done)
  }

  get #isBetween(): boolean {
    return this.#at === 'frames' && this.#headBytes === 0 && !this.#isWithinMessage
  }

  /** Up to the end of a frame or of the answer, or of the bytes; returns where that is. */
  #follow(bytes: Buffer, from: number): number {
    if (this.#at === 'handshake') return this.#followAnswer(bytes, from)
    return this.#at === 'frames' ? this.#followFrame(bytes, from) : bytes.length
  }

  #followAnswer(bytes: Buffer, from: number): number {
    const before = this.#answer.length
    this.#answer += bytes.toString('latin1', from)
    const end = this.#answer.indexOf(endOfAnswer)
    if (end < 0 && this.#answer.length <= longestAnswer) return bytes.length
    this.#at = opensWebSocket(this.#answer.slice(0, end)) ? 'frames' : 'other'
    this.#answer = ''
    return from + end + endOfAnswer.length - before
  }

  #followFrame(bytes: Buffer, from: number): number {
    let place = from
    while (place < bytes.length && !this.#hasHead) this.#followHead(bytes[place++] ?? 0)
    if (!this.#hasHead) return place
    const payload = Math.min(this.#left, bytes.length - place)
    this.#left -= payload
    if (this.#left === 0) {
      this.#headBytes = 0
      // Ping and pong may stand within a message.
      if (this.#opcode < closeOpcode) this.#isWithinMessage = !this.#isLast
    }
    return place + payload
  }

  get #hasHead(): boolean {
    return this.#headBytes === 2 && this.#lengthBytes === 0
  }

  #followHead(byte: number): void {
    if (this.#headBytes === 0) {
      this.#opcode = byte & 0x0f
      this.#isLast = byte >= 0x80
      this.#headBytes = 1
    } else if (this.#headBytes === 1) {
      this.#headBytes = 2
      this.#lengthBytes = byte === 127 ? 8 : byte === 126 ? 2 : 0
      this.#left = byte < 126 ? byte : 0
      // No server masks.
      if (byte >= 0x80 || this.#opcode === closeOpcode || (this.#opcode & 7) > 2) this.#at = 'other'
    } else {
      this.#left = this.#left * 256 + byte
      this.#lengthBytes--
    }
  }
}

/** What is no chunk is refused by the socket itself. */
function bytesOf(chunk: unknown, encoding: unknown): Buffer {
  if (typeof chunk === 'string')
    return Buffer.from(chunk, (typeof encoding === 'string' ? encoding : undefined) as BufferEncoding)
  if (Buffer.isBuffer(chunk)) return chunk
  return ArrayBuffer.isView(chunk) ? Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength) : nothing
}

/**
 * Without the second header it is an older protocol, or one of somebody's own, with other frames.
 */
function opensWebSocket(answer: string): boolean {
  return /^HTTP\/1\.1 101 /.test(answer) && /\r\nsec-websocket-accept *:/i.test(answer)
}
