/**
 * TLS 1.3 connections of a real client whose server end is OpenSSL's until the handshake is over,
 * and ours from then on: a relay between the two stops at the client's Finished.
 */
import { createCipheriv, createDecipheriv, createHmac, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import net from 'node:net'
import { Duplex } from 'node:stream'
import tls from 'node:tls'
import { AdoptedTls } from '../../src/tls/adopted.ts'
import type { TlsState } from '../../src/tls/state.ts'
import { isSuiteName, type SuiteName, suites } from '../../src/tls/suites.ts'
import { certificateFiles } from './certificate.ts'
import { within } from './waiting.ts'

export const certificate = { key: readFileSync(certificateFiles.key), cert: readFileSync(certificateFiles.cert) }

export type Adopted = {
  readonly socket: AdoptedTls
  /** Of the moment of the move; its secrets are the connection's own. */
  readonly state: TlsState
  /** What the hooks were told, in order. */
  readonly told: ('proven' | Buffer)[]
  readonly raw: net.Socket
}

type RelayOptions = {
  readonly server?: tls.SecureContextOptions
  readonly alpn?: readonly string[]
  /** What the other process believes may differ from what is. */
  readonly change?: (state: TlsState) => TlsState
}

export class TlsRelay implements AsyncDisposable {
  readonly #server = net.createServer((socket) => void this.#accept(socket))
  readonly #options: RelayOptions
  readonly #onAdopted: (adopted: Adopted) => void
  readonly #sockets = new Set<net.Socket>()

  /** The listener runs in the turn in which the connection becomes ours. */
  constructor(onAdopted: (adopted: Adopted) => void, options: RelayOptions = {}) {
    this.#onAdopted = onAdopted
    this.#options = options
  }

  async listen(): Promise<number> {
    await once(this.#server.listen(0, '127.0.0.1'), 'listening')
    return (this.#server.address() as net.AddressInfo).port
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    await new Promise((closed) => this.#server.close(closed))
  }

  async #accept(raw: net.Socket): Promise<void> {
    this.#sockets.add(raw)
    raw.on('close', () => this.#sockets.delete(raw))
    raw.on('error', () => {})
    const { server, alpn, change = (state) => state } = this.#options
    let tickets: Buffer | undefined
    const wire = new Duplex({
      read() {},
      write: (bytes: Buffer, _encoding, done) => {
        if (tickets !== undefined) tickets = Buffer.concat([tickets, bytes])
        raw.write(bytes, () => done())
      },
    })
    const native = new tls.TLSSocket(wire, {
      isServer: true,
      secureContext: tls.createSecureContext({ ...certificate, ...server }),
      ...(alpn && { ALPNProtocols: [...alpn] }),
    })
    const secrets = keyLog(native, (label) => {
      // The flight is out, and the client has answered it: what is written now are tickets.
      if (label === 'CLIENT_TRAFFIC_SECRET_0') tickets = Buffer.alloc(0)
    })
    native.on('error', () => raw.destroy())
    let read = Buffer.alloc(0)
    const unread = await new Promise<Buffer>((over) => {
      const onData = (bytes: Buffer) => {
        read = Buffer.concat([read, bytes])
        const { passed, isFinished } = untilFinished(read)
        wire.push(read.subarray(0, passed))
        read = read.subarray(passed)
        if (!isFinished) return
        raw.off('data', onData)
        raw.pause()
        over(read)
      }
      raw.on('data', onData)
    })
    if (native.getCipher()?.standardName === undefined || secrets.clientSecret === undefined)
      await once(native, 'secure')
    for (let turn = 0; turn < 4; turn++) await new Promise((next) => setImmediate(next))
    const state = change(
      stateOf(suiteOf(native), {
        clientSecret: Buffer.from(secrets.clientSecret ?? ''),
        serverSecret: Buffer.from(secrets.serverSecret ?? ''),
        sendNumber: countRecords(tickets ?? Buffer.alloc(0)),
        receiveNumbers: [0],
        unread: Buffer.from(unread),
        servername: native.servername ?? false,
        alpnProtocol: native.alpnProtocol ?? false,
        isSessionReused: native.isSessionReused(),
        movedAt: Date.now(),
      }),
    )
    this.#onAdopted(adopt(raw, state))
  }
}

/** Of a connection that never was, whose client is a Sealer. */
export function stateOf(suite: SuiteName, parts: Partial<TlsState> = {}): TlsState {
  const { secretLength } = suites[suite]
  return {
    suite,
    clientSecret: randomBytes(secretLength),
    serverSecret: randomBytes(secretLength),
    sendNumber: 2,
    receiveNumbers: [5, 6],
    isProven: false,
    longestRecord: 16_384,
    unread: Buffer.alloc(0),
    emptyRecords: 0,
    warnings: 0,
    owesKeyUpdate: false,
    servername: false,
    alpnProtocol: false,
    authorized: false,
    authorizationError: undefined,
    peerCertificate: undefined,
    isSessionReused: false,
    movedAt: 0,
    ...parts,
  }
}

/** As a new process does with what it gets. */
export function adopt(raw: net.Socket, state: TlsState): Adopted {
  const told: Adopted['told'] = []
  const socket = new AdoptedTls(raw, state, {
    proven(hasTold) {
      told.push('proven')
      process.nextTick(hasTold)
    },
    passing: process.nextTick,
    returned: (bytes) => told.push(Buffer.from(bytes)),
    mayReturn: () => true,
  })
  return { socket, state, told, raw }
}

type Secrets = { clientSecret?: Buffer; serverSecret?: Buffer }

function keyLog(socket: tls.TLSSocket, onLine: (label: string) => void = () => {}): Secrets {
  const secrets: Secrets = {}
  socket.on('keylog', (line: Buffer) => {
    const [label = '', , secret = ''] = line.toString().trim().split(' ')
    if (label.startsWith('CLIENT_TRAFFIC')) secrets.clientSecret = Buffer.from(secret, 'hex')
    if (label.startsWith('SERVER_TRAFFIC')) secrets.serverSecret = Buffer.from(secret, 'hex')
    onLine(label)
  })
  return secrets
}

function suiteOf(socket: tls.TLSSocket): SuiteName {
  const name = socket.getCipher().standardName
  if (!isSuiteName(name)) throw new Error(`unknown suite ${name}`)
  return name
}

/** How far the handshake of a client without a certificate goes: up to its first sealed record. */
function untilFinished(bytes: Buffer): { passed: number; isFinished: boolean } {
  let at = 0
  while (bytes.length - at >= 5) {
    const end = at + 5 + bytes.readUInt16BE(at + 3)
    if (end > bytes.length) break
    if (bytes[at] === 23) return { passed: end, isFinished: true }
    at = end
  }
  return { passed: at, isFinished: false }
}

export function countRecords(bytes: Buffer): number {
  let count = 0
  for (let at = 0; at < bytes.length; at += 5 + bytes.readUInt16BE(at + 3)) count++
  return count
}

/** OpenSSL's client, and the wire below it, on which a test may write what OpenSSL never would. */
export class TlsClient {
  readonly socket: tls.TLSSocket
  readonly #raw: net.Socket
  readonly #secrets: Secrets
  #seal: Sealer | undefined

  private constructor(raw: net.Socket, options: tls.ConnectionOptions) {
    this.#raw = raw
    this.socket = tls.connect({ ...options, socket: raw, rejectUnauthorized: false })
    this.#secrets = keyLog(this.socket)
    this.socket.on('error', () => {})
  }

  static async connect(port: number, options: tls.ConnectionOptions = {}): Promise<TlsClient> {
    const raw = net.connect(port, '127.0.0.1')
    raw.on('error', () => {})
    await once(raw, 'connect')
    const client = new TlsClient(raw, options)
    await within('the handshake', once(client.socket, 'secureConnect'))
    // Its Finished goes out behind the event.
    await new Promise((next) => setImmediate(next))
    return client
  }

  /** Records by our own hand, from then on: OpenSSL must not have sent any. */
  seal(type: number | undefined, content: Buffer | number[], padding = 0): Buffer {
    this.#seal ??= new Sealer(suiteOf(this.socket), this.#secrets.clientSecret ?? Buffer.alloc(0))
    return this.#seal.seal(type, Buffer.from(content), padding)
  }

  /** What is sealed from now on is behind a KeyUpdate. */
  updated(): void {
    this.#seal?.update()
  }

  write(...bytes: Buffer[]): void {
    this.#raw.write(Buffer.concat(bytes))
  }

  end(): void {
    this.#raw.end()
  }

  [Symbol.dispose](): void {
    this.socket.destroy()
    this.#raw.destroy()
  }
}

/** RFC 8446 once more, by another hand: what the product seals must open here, and the reverse. */
export class Sealer {
  readonly #suite: SuiteName
  #secret: Buffer
  #number: number
  #made: { readonly key: Buffer; readonly iv: Buffer } | undefined

  constructor(suite: SuiteName, secret: Buffer, number = 0) {
    this.#suite = suite
    this.#secret = Buffer.from(secret)
    this.#number = number
  }

  seal(type: number | undefined, content: Buffer, padding = 0): Buffer {
    const inside = Buffer.concat([content, Buffer.from(type === undefined ? [] : [type]), Buffer.alloc(padding)])
    const header = Buffer.from([23, 3, 3, (inside.length + 16) >> 8, (inside.length + 16) & 255])
    const cipher = createCipheriv(suites[this.#suite].cipher as 'aes-128-gcm', this.#keys().key, this.#nonce(), tag)
    cipher.setAAD(header)
    return Buffer.concat([header, cipher.update(inside), cipher.final(), cipher.getAuthTag()])
  }

  /** Throws for what was sealed with another number. */
  open(record: Buffer): { readonly type: number; readonly content: Buffer } {
    const cipher = createDecipheriv(suites[this.#suite].cipher as 'aes-128-gcm', this.#keys().key, this.#nonce(), tag)
    cipher.setAAD(record.subarray(0, 5))
    cipher.setAuthTag(record.subarray(-16))
    const inside = Buffer.concat([cipher.update(record.subarray(5, -16)), cipher.final()])
    return { type: inside.at(-1) ?? 0, content: inside.subarray(0, -1) }
  }

  update(): void {
    this.#secret = this.#expand('traffic upd', suites[this.#suite].secretLength)
    this.#number = 0
    this.#made = undefined
  }

  #keys(): { readonly key: Buffer; readonly iv: Buffer } {
    this.#made ??= { key: this.#expand('key', suites[this.#suite].keyLength), iv: this.#expand('iv', 12) }
    return this.#made
  }

  #nonce(): Buffer {
    const number = Buffer.alloc(12)
    number.writeBigUInt64BE(BigInt(this.#number++), 4)
    return Buffer.from(this.#keys().iv.map((byte, at) => byte ^ (number[at] ?? 0)))
  }

  #expand(label: string, length: number): Buffer {
    const info = Buffer.concat([
      Buffer.from([0, length, label.length + 6]),
      Buffer.from(`tls13 ${label}`),
      Buffer.from([0, 1]),
    ])
    return createHmac(suites[this.#suite].hash, this.#secret).update(info).digest().subarray(0, length)
  }
}

const tag = { authTagLength: 16 }
