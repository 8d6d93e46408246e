/** What the old process keeps of each TLS connection while its handshake runs: keys and weights. */
import type { Server } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { beforeFirstWrite, usesSharedKeys, wasAskedForCertificate, weigh } from '../node/tls-sockets.ts'

/** Why a connection does not move, in a word for reports. */
export type Why =
  | 'protocol'
  | 'http2'
  | 'sharedKeys'
  | 'earlyData'
  | 'keyUpdate'
  | 'clientCertificate'
  | 'handshake'
  | 'numbers'
  | 'busy'
  | 'unwanted'

/** Of one connection; what is sealed and clear, and why both are weighed, says export.ts. */
export type Kept = {
  /** That of the client, and behind it that of the server. */
  readonly secrets: Buffer
  has: number
  /** Sealed bytes read when the server had answered the first flight of the client. */
  readonly hello: number
  /** Sealed bytes both ways when the client's Finished had been read. */
  read: number
  sent: number
  /** Bytes of tickets, which follow that; undefined: not known yet. */
  tickets: number | undefined
  /** Sealed bytes that another process has read, and that came back: no handle counts them. */
  returned: number
  /** Clear bytes read when it came back: until there are more, half a record is here. */
  returnedAt: number
  /** Sealed bytes read beyond the clear ones, when the turn of the handshake was over. */
  begin: number
  /** Nothing had come behind the handshake by then. */
  isBare: boolean
}

/**
 * A line of the key log is a label, the client's random number and the secret. Only the label is
 * ever a string: the rest would stay in the heap until it is swept.
 */
const labels = { client: 'CLIENT_TRAFFIC_SECRET_', server: 'SERVER_TRAFFIC_SECRET_' } as const
const space = 0x20
const newline = 0x0a

export class Watch {
  readonly #kept = new WeakMap<TLSSocket, Kept | Why>()
  readonly #servers = new WeakSet<Server>()
  readonly #mayHaveCertificate: boolean
  /** A private part of Node is not as expected: called once. */
  readonly #onStrange: () => void
  #isStrange = false

  constructor(mayHaveCertificate: boolean, onStrange: () => void) {
    this.#mayHaveCertificate = mayHaveCertificate
    this.#onStrange = onStrange
  }

  /** From before its first connection. */
  add(server: Server): void {
    // Some listen again.
    if (this.#servers.has(server)) return
    this.#servers.add(server)
    const hear = (line: Buffer, socket: TLSSocket) => {
      this.#hear(line, socket)
      // It is Node's, and nobody else reads it.
      if (server.listenerCount('keylog') === 1 && socket.listenerCount('keylog') === 1) line.fill(0)
    }
    server.on('keylog', hear)
  }

  /** What is known of a connection, or why it will not move. */
  of(socket: TLSSocket): Kept | Why {
    const known = this.#kept.get(socket)
    if (known !== undefined) return known
    // The socket of an HTTP/2 session is another object.
    if (socket.alpnProtocol === 'h2') return 'http2'
    return socket.getProtocol() === 'TLSv1.3' ? 'handshake' : 'protocol'
  }

  /** It will not move, whatever comes. */
  refuse(socket: TLSSocket, why: Why): void {
    const kept = this.#kept.get(socket)
    if (typeof kept === 'object') kept.secrets.fill(0)
    this.#kept.set(socket, why)
  }

  #hear(line: Buffer, socket: TLSSocket): void {
    if (this.#isStrange) return
    const label = line.toString('latin1', 0, line.indexOf(space))
    const kept = this.#kept.get(socket)
    if (label === 'SERVER_HANDSHAKE_TRAFFIC_SECRET') this.#begin(line, socket)
    else if (label === 'CLIENT_EARLY_TRAFFIC_SECRET') this.refuse(socket, 'earlyData')
    else if (typeof kept !== 'object') return
    else if (label === `${labels.server}0`) takeSecret(line, kept, kept.secrets.length / 2)
    else if (label === `${labels.client}0`) this.#onFinished(line, socket, kept)
    // OpenSSL tells of new keys as well: the numbers begin again, unseen by any counter.
    else if (label.startsWith(labels.client) || label.startsWith(labels.server)) this.refuse(socket, 'keyUpdate')
  }

  #begin(line: Buffer, socket: TLSSocket): void {
    const weights = weigh(socket)
    const isKnown = weights !== undefined && Object.values(weights).every((one) => typeof one === 'number')
    if (!isKnown) {
      this.#isStrange = true
      this.#onStrange()
      return
    }
    // A connection whose early data was refused begins as any other.
    if (this.#kept.has(socket)) return
    const { sealedIn } = weights
    const secrets = Buffer.alloc(2 * secretLength(line))
    this.#kept.set(socket, {
      ...{ secrets, has: 0, hello: sealedIn, read: 0, sent: 0 },
      ...{ tickets: undefined, returned: 0, returnedAt: -1, begin: 0, isBare: false },
    })
    socket.once('close', () => this.#forget(socket))
  }

  /**
   * The server's flight is out, and no ticket yet, which OpenSSL writes when this returns. What
   * those weigh is seen at the first write of the connection, or when the turn is over.
   */
  #onFinished(line: Buffer, socket: TLSSocket, kept: Kept): void {
    takeSecret(line, kept, 0)
    const before = weigh(socket)
    if (before === undefined) return
    kept.sent = before.sealedOut
    kept.read = before.sealedIn
    const end = beforeFirstWrite(socket, () => {
      const now = weigh(socket)
      // What is on its way counts among what is queued too, until its end is told.
      if (now !== undefined) {
        kept.tickets = now.sealedOut > kept.sent ? now.sealedOut - kept.sent : now.queued - before.queued
      }
    })
    setImmediate(() => {
      const now = weigh(socket)
      if (now === undefined || typeof this.#kept.get(socket) !== 'object') return
      if (kept.tickets === undefined) {
        end()
        kept.tickets = now.sealedOut - kept.sent
      }
      kept.begin = now.sealedIn - now.clearIn
      kept.isBare = now.clearIn === 0 && now.sealedIn === kept.read
      const why = this.#reasonAgainst(socket)
      if (why !== undefined) this.refuse(socket, why)
    })
  }

  /** The handshake is over: what it was like is known. */
  #reasonAgainst(socket: TLSSocket): Why | undefined {
    if (socket.alpnProtocol === 'h2') return 'http2'
    if (usesSharedKeys(socket)) return 'sharedKeys'
    return wasAskedForCertificate(socket) && !this.#mayHaveCertificate ? 'clientCertificate' : undefined
  }

  #forget(socket: TLSSocket): void {
    const kept = this.#kept.get(socket)
    if (typeof kept === 'object') kept.secrets.fill(0)
    this.#kept.delete(socket)
  }
}

function secretStart(line: Buffer): number {
  return line.lastIndexOf(space) + 1
}

function secretLength(line: Buffer): number {
  const end = line[line.length - 1] === newline ? line.length - 1 : line.length
  return (end - secretStart(line)) / 2
}

function takeSecret(line: Buffer, kept: Kept, at: number): void {
  const from = secretStart(line)
  const length = secretLength(line)
  if (length !== kept.secrets.length / 2) return
  for (let byte = 0; byte < length; byte++) {
    kept.secrets[at + byte] = (digit(line[from + 2 * byte]) << 4) | digit(line[from + 2 * byte + 1])
  }
  kept.has++
}

/** Of a hexadecimal number, in either case. */
function digit(character = 0): number {
  return character <= 0x39 ? character - 0x30 : (character & 0x0f) + 9
}
