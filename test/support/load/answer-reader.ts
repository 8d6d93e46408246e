/**
 * Reads HTTP/1.1 answers from the bytes of one connection: as strict as a client may be, so that a
 * server cannot get away with anything.
 */

export type AnswerHead = { readonly status: number; readonly headers: ReadonlyMap<string, string> }

export type AnswerSink = {
  onHead(head: AnswerHead): void
  onBody(bytes: Buffer): void
  onEnd(): void
}

/** What comes is no HTTP. */
export class NoAnswer extends Error {}

type State = 'head' | 'body' | 'chunkSize' | 'chunk' | 'chunkEnd' | 'trailer'

const headEnd = '\r\n\r\n'
const lineEnd = '\r\n'
/** No head or line of ours is longer, in bytes. */
const mostHead = 16 * 1024
const nothing = Buffer.alloc(0)

export class AnswerReader {
  readonly #sink: AnswerSink
  #state: State = 'head'
  /** What came of a head or a line that is not there as a whole. */
  #begun = nothing
  /** Bytes of the body or the chunk that are still to come. */
  #missing = 0

  constructor(sink: AnswerSink) {
    this.#sink = sink
  }

  /** Whether an answer has begun and not ended. */
  get isInAnswer(): boolean {
    return this.#state !== 'head' || this.#begun.length > 0
  }

  /** Keeps no part of `bytes`. The sink may throw: then nothing more may be read. */
  read(bytes: Buffer): void {
    let rest = bytes
    while (rest.length > 0) rest = this.#step(rest)
  }

  #step(bytes: Buffer): Buffer {
    switch (this.#state) {
      case 'head':
        return this.#upTo(headEnd, bytes, (text) => this.#onHead(text))
      case 'body':
        return this.#onBody(bytes, () => this.#end())
      case 'chunkSize':
        return this.#upTo(lineEnd, bytes, (text) => this.#onChunkSize(text))
      case 'chunk':
        return this.#onBody(bytes, () => this.#go('chunkEnd'))
      case 'chunkEnd':
        return this.#upTo(lineEnd, bytes, (text) => {
          if (text !== '') throw new NoAnswer(`a chunk is longer than it said: ${JSON.stringify(text)}`)
          this.#go('chunkSize')
        })
      case 'trailer':
        return this.#upTo(lineEnd, bytes, (text) => {
          if (text === '') this.#end()
        })
    }
  }

  /** Gives what comes behind the delimiter, or keeps everything until that has come. */
  #upTo(delimiter: string, bytes: Buffer, use: (text: string) => void): Buffer {
    const all = this.#begun.length === 0 ? bytes : Buffer.concat([this.#begun, bytes])
    const end = all.indexOf(delimiter, Math.max(0, this.#begun.length - delimiter.length), 'latin1')
    if (end < 0) {
      if (all.length > mostHead) throw new NoAnswer(`${all.length} bytes without the end of a head`)
      this.#begun = Buffer.from(all)
      return nothing
    }
    this.#begun = nothing
    use(all.toString('latin1', 0, end))
    return all.subarray(end + delimiter.length)
  }

  #onHead(text: string): void {
    const head = parseHead(text)
    this.#sink.onHead(head)
    if (head.headers.get('transfer-encoding') === 'chunked') {
      this.#go('chunkSize')
      return
    }
    // An answer that only the end of the connection ends is no answer to a client that wants to
    // keep it.
    this.#expect('body', head.headers.get('content-length') ?? '', 10)
    if (this.#missing === 0) this.#end()
  }

  #onChunkSize(text: string): void {
    this.#expect('chunk', text, 16)
    if (this.#missing === 0) this.#go('trailer')
  }

  #onBody(bytes: Buffer, end: () => void): Buffer {
    const part = bytes.length > this.#missing ? bytes.subarray(0, this.#missing) : bytes
    this.#missing -= part.length
    this.#sink.onBody(part)
    if (this.#missing === 0) end()
    return bytes.subarray(part.length)
  }

  #expect(state: State, length: string, radix: 10 | 16): void {
    if (!/^[\da-f]+$/i.test(length)) throw new NoAnswer(`a length that is no number: ${JSON.stringify(length)}`)
    this.#missing = Number.parseInt(length, radix)
    this.#go(state)
  }

  #go(state: State): void {
    this.#state = state
  }

  #end(): void {
    this.#go('head')
    this.#sink.onEnd()
  }
}

function parseHead(text: string): AnswerHead {
  const [first = '', ...lines] = text.split(lineEnd)
  const [, status] = /^HTTP\/1\.1 (\d{3})(?: |$)/.exec(first) ?? []
  if (status === undefined) throw new NoAnswer(`no HTTP/1.1: ${JSON.stringify(first.slice(0, 100))}`)
  const headers = new Map<string, string>()
  for (const line of lines) {
    const colon = line.indexOf(':')
    if (colon < 1) throw new NoAnswer(`no header: ${JSON.stringify(line.slice(0, 100))}`)
    headers.set(line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim())
  }
  return { status: Number(status), headers }
}
