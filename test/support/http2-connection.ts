/**
 * One HTTP/2 connection, frame by frame: it sends what it is told to, whatever the server has
 * announced.
 */
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { eventually, within } from './waiting.ts'

/** RFC 9113, 6. */
const frames = { data: 0, headers: 1, reset: 3, settings: 4, ping: 6, goaway: 7 } as const
const endStream = 1
const acknowledged = 1
const endHeaders = 4

export class Http2Connection {
  readonly #socket: Socket
  readonly #scheme: number
  #unread = Buffer.alloc(0)
  #goaways: number[] = []
  readonly #bodies = new Map<number, string>()
  readonly #waiting = new Map<number, () => void>()
  /** Whole answers by stream; of one that was refused: how. */
  readonly answers = new Map<number, string>()
  hasGoaway = false
  lastStream = -1
  readonly closed: Promise<unknown>

  /** A socket that connects. */
  static async open(socket: Socket): Promise<Http2Connection> {
    const isSecure = 'encrypted' in socket
    await within('a connection', once(socket, isSecure ? 'secureConnect' : 'connect'))
    return new Http2Connection(socket, isSecure)
  }

  private constructor(socket: Socket, isSecure: boolean) {
    this.#socket = socket
    // :scheme in the static table of HPACK (RFC 7541).
    this.#scheme = isSecure ? 0x87 : 0x86
    socket.on('error', () => {}).on('data', (data: Buffer) => this.#read(data))
    this.closed = new Promise((closed) => socket.once('close', closed))
    socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')
    this.#send(frames.settings, 0, 0)
  }

  /** Opens a stream; gives its number. */
  request(path: string): number {
    this.lastStream += 2
    // :method GET and :scheme by number, :authority and :path as literals.
    const fields = [Buffer.from([0x82, this.#scheme]), literal(0x01, 'test'), literal(0x04, path)]
    this.#send(frames.headers, endStream | endHeaders, this.lastStream, Buffer.concat(fields))
    return this.lastStream
  }

  /** Streams that are open. */
  get unanswered(): number {
    return (this.lastStream + 1) / 2 - this.answers.size
  }

  /** Resolves with the answer on a stream, or how it was refused. */
  async answer(stream: number): Promise<string> {
    if (!this.answers.has(stream)) await new Promise<void>((come) => this.#waiting.set(stream, come))
    return this.answers.get(stream) ?? ''
  }

  /** Rejects unless every stream got this answer, up to the last one or that which is named. */
  async allAnswered(text: string, last: number = this.lastStream): Promise<void> {
    for (let stream = 1; stream <= last; stream += 2) {
      const answer = await within(`the answer on stream ${stream}`, this.answer(stream))
      if (answer !== text) throw new Error(`stream ${stream} of ${this.lastStream} got ${answer}`)
    }
  }

  /** The last stream that the next GOAWAY names. */
  goaway(): Promise<number> {
    return eventually('GOAWAY', () => this.#goaways.shift())
  }

  #send(type: number, flags: number, stream: number, payload: Buffer = Buffer.alloc(0)): void {
    const head = Buffer.alloc(9)
    head.writeUIntBE(payload.length, 0, 3)
    head.writeUInt8(type, 3)
    head.writeUInt8(flags, 4)
    head.writeUInt32BE(stream, 5)
    if (!this.#socket.destroyed) this.#socket.write(Buffer.concat([head, payload]))
  }

  #read(data: Buffer): void {
    this.#unread = Buffer.concat([this.#unread, data])
    while (this.#unread.length >= 9) {
      const end = 9 + this.#unread.readUIntBE(0, 3)
      if (this.#unread.length < end) return
      const frame = this.#unread.subarray(0, end)
      this.#unread = this.#unread.subarray(end)
      this.#onFrame(frame.readUInt8(3), frame.readUInt8(4), frame.readUInt32BE(5), frame.subarray(9))
    }
  }

  #onFrame(type: number, flags: number, stream: number, payload: Buffer): void {
    if (type === frames.settings && flags !== acknowledged) this.#send(type, acknowledged, 0)
    if (type === frames.ping && flags !== acknowledged) this.#send(type, acknowledged, 0, payload)
    if (type === frames.goaway) this.#onGoaway(payload.readUInt32BE(0))
    if (type === frames.reset) this.#settle(stream, `RST_STREAM ${payload.readUInt32BE(0)}`)
    if (type === frames.data) this.#bodies.set(stream, (this.#bodies.get(stream) ?? '') + payload)
    if ((type === frames.data || type === frames.headers) && (flags & endStream) !== 0) {
      this.#settle(stream, this.#bodies.get(stream) ?? '')
    }
  }

  #onGoaway(last: number): void {
    this.hasGoaway = true
    this.#goaways.push(last)
    for (const stream of this.#waiting.keys()) if (stream > last) this.#settle(stream, `GOAWAY up to ${last}`)
  }

  #settle(stream: number, answer: string): void {
    this.answers.set(stream, answer)
    this.#waiting.get(stream)?.()
    this.#waiting.delete(stream)
  }
}

function literal(name: number, value: string): Buffer {
  return Buffer.concat([Buffer.from([name, value.length]), Buffer.from(value)])
}
