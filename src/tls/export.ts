/** With which keys and numbers a native TLS connection goes on, from what was kept of it. */
import type { TLSSocket } from 'node:tls'
import { type Weights, wasAskedForCertificate, weigh } from '../node/tls-sockets.ts'
import type { TlsState } from './state.ts'
import { isSuiteName, suites } from './suites.ts'
import type { Kept, Why } from './watch.ts'

/** Around each record of TLS 1.3 without padding: its header, the type inside, the tag. */
const overhead = 5 + 1 + 16
/** Of a message of the handshake. */
const header = 4
/** A record that changes nothing, for old machines on the way; a client may send one. */
const changeCipherSpec = 6
/** Records that a client sends in one go with its certificate, at most. */
const certificateRange = 40

/**
 * A ticket of OpenSSL's, as a record: 79 bytes of one whose session stays with the server, else 111
 * and the session in blocks of 16. Two in a full handshake, one or none in a resumed one: anything
 * else, as with padding, is not counted but refused.
 */
const ticket = { stateful: 79, least: 111, block: 16 } as const

/**
 * Exact where it counts: `busy` may be another time, anything else stays so. The number of records
 * sent is what the sealed bytes are longer than the clear ones, by 22 bytes a record; for those
 * received that need only be a guess, which the first record proves. Half a record that OpenSSL has
 * read already makes a number that is none in 21 of 22 cases; in the last one the connection comes
 * back.
 */
export function exportState(socket: TLSSocket, kept: Kept): TlsState | Why {
  const weights = weigh(socket)
  const suite = socket.getCipher()?.standardName
  if (weights === undefined || kept.has !== 2) return 'handshake'
  if (!isSuiteName(suite) || suites[suite].secretLength !== kept.secrets.length / 2) return 'handshake'
  if (socket.writableLength > 0 || weights.queued > 0 || kept.tickets === undefined) return 'busy'
  if (weights.clearIn === kept.returnedAt) return 'busy'
  const sendNumber = numberSent(kept.sent, kept.tickets, weights, socket.isSessionReused())
  if (sendNumber === undefined) return 'numbers'
  const receiveNumbers = numbersReceived(kept, weights, socket)
  if (receiveNumbers.length === 0) return 'busy'
  const { secretLength } = suites[suite]
  return {
    suite,
    clientSecret: Buffer.from(kept.secrets.subarray(0, secretLength)),
    serverSecret: Buffer.from(kept.secrets.subarray(secretLength)),
    sendNumber,
    receiveNumbers,
    isProven: false,
    longestRecord: longestRecord(socket),
    unread: Buffer.alloc(0),
    emptyRecords: 0,
    warnings: 0,
    owesKeyUpdate: false,
    servername: (socket as { readonly servername?: string | false }).servername || false,
    alpnProtocol: socket.alpnProtocol || false,
    authorized: socket.authorized,
    authorizationError: socket.authorizationError ? String(socket.authorizationError) : undefined,
    peerCertificate: wasAskedForCertificate(socket) ? socket.getPeerCertificate(false)?.raw : undefined,
    isSessionReused: socket.isSessionReused(),
    movedAt: Date.now(),
  }
}

function numberSent(
  flight: number,
  tickets: number,
  { sealedOut, clearOut }: Weights,
  isReused: boolean,
): number | undefined {
  const count = ticketsIn(tickets, isReused)
  const records = (sealedOut - clearOut - flight - tickets) / overhead
  return count !== undefined && Number.isInteger(records) && records >= 0 ? count + records : undefined
}

function ticketsIn(bytes: number, isReused: boolean): number | undefined {
  if (bytes === 0) return 0
  const count = isReused ? 1 : 2
  const each = bytes / count
  const isTicket = each === ticket.stateful || (each > ticket.least && (each - ticket.least) % ticket.block === 0)
  return isTicket ? count : undefined
}

function numbersReceived(kept: Kept, { sealedIn, clearIn }: Weights, socket: TLSSocket): number[] {
  const over = sealedIn + kept.returned - clearIn
  const since = wholeNumbers([(over - kept.begin) / overhead])
  if (kept.isBare) return since
  if (wasAskedForCertificate(socket)) {
    // With its certificate, whose size is not known, it may have sent some records more.
    return since.flatMap((least) => Array.from({ length: certificateRange }, (_, more) => least + more))
  }
  const finished = overhead + header + kept.secrets.length / 2
  return wholeNumbers([changeCipherSpec, 0].map((more) => (over - kept.hello - finished - more) / overhead))
}

function wholeNumbers(numbers: readonly number[]): number[] {
  return numbers.filter((one) => Number.isInteger(one) && one >= 0)
}

/**
 * A client may have agreed on shorter records (RFC 6066, max_fragment_length), which nothing tells
 * but the session: tag 17 of its DER (OpenSSL, ssl/ssl_asn1.c).
 */
function longestRecord(socket: TLSSocket): number {
  const session = socket.getSession()
  if (session === undefined) return longest
  try {
    return recordLengthIn(session)
  } finally {
    // It has a secret in it.
    session.fill(0)
  }
}

/** Of a session as DER: elements of a tag, a length and so many bytes, all in one. */
function recordLengthIn(session: Buffer): number {
  const lengthAt = (at: number): readonly [length: number, from: number] => {
    const first = session[at] ?? 0
    const more = first < 0x80 ? 0 : first & 0x7f
    return [more === 0 ? first : session.readUIntBE(at + 1, more), at + 1 + more]
  }
  let [, at] = lengthAt(1)
  while (at < session.length) {
    const tag = session[at]
    const [length, from] = lengthAt(at + 1)
    if (tag === maxFragmentLength) return 256 << (session[from + length - 1] ?? 0)
    at = from + length
  }
  return longest
}

/** Of the context, constructed, 17. */
const maxFragmentLength = 0xb1
const longest = 16_384
