/** What a TLS connection needs to go on in another process, as an object and as bytes. */
import { isSuiteName, type SuiteName, suites } from './suites.ts'

export type TlsState = {
  readonly suite: SuiteName
  /**
   * The traffic secrets: bytes of their own, which whoever holds the state wipes. Never a string:
   * that stays in the heap, and is in each snapshot of it.
   */
  readonly clientSecret: Buffer
  readonly serverSecret: Buffer
  /** Number of the next record that is sent. Exact, or the connection does not move. */
  readonly sendNumber: number
  /** What the next record that comes may have: the first that opens it is right. */
  readonly receiveNumbers: readonly number[]
  /** A record was opened since the first move, or something was sent: there is no way back. */
  readonly isProven: boolean
  /** Bytes that one record may hold, both ways: less if they agreed on max_fragment_length. */
  readonly longestRecord: number
  /** What was read of the connection, and is not decrypted yet. */
  readonly unread: Buffer
  /** In a row, as OpenSSL counts: records with nothing in them, and warnings. */
  readonly emptyRecords: number
  readonly warnings: number
  /** The client has asked for new keys of ours, and does not have them yet. */
  readonly owesKeyUpdate: boolean
  /** False: the client has named none. */
  readonly servername: string | false
  readonly alpnProtocol: string | false
  readonly authorized: boolean
  readonly authorizationError: string | undefined
  /** The client's certificate as DER. */
  readonly peerCertificate: Buffer | undefined
  readonly isSessionReused: boolean
  /** When it left OpenSSL, in milliseconds since 1970. */
  readonly movedAt: number
}

/** In bytes: what a socket reads at once, and the record that it may cut. */
export const mostUnread = 2 ** 17

/** In bytes, but for the numbers. */
const most = {
  receiveNumbers: 64,
  text: 255,
  /** OpenSSL takes no chain of more than 100 KiB. */
  certificate: 2 ** 17,
  encoded: 2 ** 19,
} as const

/** RFC 8446, 5.1. The least is RFC 8449's; OpenSSL agrees on 512 and more. */
const recordLengths = { least: 64, most: 16_384 } as const

/** The first byte: what is encoded otherwise is not read. */
const format = 1

const flags = {
  isProven: 1,
  owesKeyUpdate: 2,
  authorized: 4,
  isSessionReused: 8,
  servername: 16,
  alpnProtocol: 32,
  authorizationError: 64,
  peerCertificate: 128,
} as const

/** For the link. The bytes hold secrets: wipe them when they are sent. */
export function encodeTlsState(state: TlsState): Buffer {
  const parts = [
    state.clientSecret,
    state.serverSecret,
    state.unread,
    Buffer.from(state.servername || ''),
    Buffer.from(state.alpnProtocol || ''),
    Buffer.from(state.authorizationError ?? ''),
    state.peerCertificate ?? Buffer.alloc(0),
  ]
  const { receiveNumbers } = state
  const length =
    4 + 8 + 8 + 2 + 2 + 1 + 8 * receiveNumbers.length + parts.reduce((sum, part) => sum + 4 + part.length, 0)
  // Not of the pool: it is wiped, and nobody else sees into it.
  const bytes = Buffer.alloc(length)
  let at = bytes.writeUInt8(format)
  at = bytes.writeUInt8(suites[state.suite].id, at)
  at = bytes.writeUInt16BE(flagsOf(state), at)
  at = bytes.writeBigUInt64BE(BigInt(state.sendNumber), at)
  at = bytes.writeBigUInt64BE(BigInt(state.movedAt), at)
  at = bytes.writeUInt16BE(state.longestRecord, at)
  at = bytes.writeUInt8(state.emptyRecords, at)
  at = bytes.writeUInt8(state.warnings, at)
  at = bytes.writeUInt8(receiveNumbers.length, at)
  for (const number of receiveNumbers) at = bytes.writeBigUInt64BE(BigInt(number), at)
  for (const part of parts) {
    at = bytes.writeUInt32BE(part.length, at)
    at += part.copy(bytes, at)
  }
  return bytes
}

/** Undefined for bytes that are not one whole state, whatever they are. */
export function decodeTlsState(bytes: Buffer): TlsState | undefined {
  if (bytes.length > most.encoded) return undefined
  try {
    return read(new Reader(bytes))
  } catch (error) {
    // Beyond the end of the bytes, or not what was promised.
    if (error instanceof RangeError) return undefined
    throw error
  }
}

/** Its secrets are gone, and it with them. */
export function wipe({ clientSecret, serverSecret }: Pick<TlsState, 'clientSecret' | 'serverSecret'>): void {
  clientSecret.fill(0)
  serverSecret.fill(0)
}

function flagsOf(state: TlsState): number {
  return Object.entries(flags).reduce((sum, [name, flag]) => {
    const value = state[name as keyof typeof flags]
    return value === undefined || value === false ? sum : sum | flag
  }, 0)
}

function read(from: Reader): TlsState {
  from.check(from.number(1) === format)
  const id = from.number(1)
  const suite = Object.keys(suites).find((name) => isSuiteName(name) && suites[name].id === id)
  if (!isSuiteName(suite)) throw new RangeError()
  const set = from.number(2)
  const has = (name: keyof typeof flags) => (set & flags[name]) !== 0
  from.check(set <= 255)
  const sendNumber = from.long()
  const movedAt = from.long()
  const longestRecord = from.number(2)
  from.check(longestRecord >= recordLengths.least && longestRecord <= recordLengths.most)
  const emptyRecords = from.number(1)
  const warnings = from.number(1)
  const count = from.number(1)
  from.check(count > 0 && count <= most.receiveNumbers)
  const receiveNumbers = Array.from({ length: count }, () => from.long())
  const { secretLength } = suites[suite]
  // Secrets are the last thing to be copied: what is refused leaves none behind.
  const client = from.bytes(secretLength, secretLength)
  const server = from.bytes(secretLength, secretLength)
  const unread = from.bytes(0, mostUnread)
  const servername = from.text(has('servername'))
  const alpnProtocol = from.text(has('alpnProtocol'))
  const authorizationError = from.text(has('authorizationError'))
  const certificate = from.bytes(has('peerCertificate') ? 1 : 0, has('peerCertificate') ? most.certificate : 0)
  from.check(from.isAtEnd)
  return {
    suite,
    clientSecret: copyOf(client),
    serverSecret: copyOf(server),
    sendNumber,
    receiveNumbers,
    isProven: has('isProven'),
    longestRecord,
    unread: copyOf(unread),
    emptyRecords,
    warnings,
    owesKeyUpdate: has('owesKeyUpdate'),
    servername: servername ?? false,
    alpnProtocol: alpnProtocol ?? false,
    authorized: has('authorized'),
    authorizationError,
    peerCertificate: has('peerCertificate') ? copyOf(certificate) : undefined,
    isSessionReused: has('isSessionReused'),
    movedAt,
  }
}

/** Reads from the front; a RangeError says that the bytes are not what they should be. */
class Reader {
  readonly #bytes: Buffer
  #at = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  get isAtEnd(): boolean {
    return this.#at === this.#bytes.length
  }

  check(isRight: boolean): void {
    if (!isRight) throw new RangeError()
  }

  number(size: 1 | 2 | 4): number {
    const number = this.#bytes.readUIntBE(this.#at, size)
    this.#at += size
    return number
  }

  long(): number {
    const number = Number(this.#bytes.readBigUInt64BE(this.#at))
    this.check(Number.isSafeInteger(number))
    this.#at += 8
    return number
  }

  /** Not a copy. */
  bytes(least: number, longest: number): Buffer {
    const length = this.number(4)
    this.check(length >= least && length <= longest && length <= this.#bytes.length - this.#at)
    this.#at += length
    return this.#bytes.subarray(this.#at - length, this.#at)
  }

  text(isThere: boolean): string | undefined {
    const text = this.bytes(0, isThere ? most.text : 0).toString()
    return isThere ? text : undefined
  }
}

function copyOf(bytes: Buffer): Buffer {
  const copy = Buffer.alloc(bytes.length)
  bytes.copy(copy)
  return copy
}
