/** What a program finds on a TLS connection: the face of a TLSSocket, without OpenSSL behind it. */
import { X509Certificate } from 'node:crypto'
import type { AddressInfo, Socket } from 'node:net'
import { Duplex } from 'node:stream'
import { CookError } from '../errors.ts'
import type { TlsState } from './state.ts'

/** What is fixed for the life of a connection. */
const fixed = [
  'suite',
  'servername',
  'alpnProtocol',
  'authorized',
  'authorizationError',
  'peerCertificate',
  'isSessionReused',
  'movedAt',
] as const
export type Known = Pick<TlsState, (typeof fixed)[number]>

type WithTypeOfService = Socket & {
  setTypeOfService?(type: number): unknown
  getTypeOfService?(): number
}

export abstract class TlsFace extends Duplex {
  readonly encrypted = true
  readonly authorized: boolean
  readonly authorizationError: string | null
  readonly servername: string | false
  readonly alpnProtocol: string | false
  readonly #socket: Socket
  readonly #known: Known

  constructor(socket: Socket, state: TlsState) {
    super({ allowHalfOpen: socket.allowHalfOpen })
    this.#socket = socket
    // Without the secrets: util.inspect shows what a getter gives.
    const known = Object.fromEntries(fixed.map((name) => [name, state[name]])) as Known
    this.#known = known
    this.authorized = known.authorized
    this.authorizationError = known.authorizationError ?? null
    this.servername = known.servername
    this.alpnProtocol = known.alpnProtocol
  }

  /** The connection below. Node's own TLS sockets call it so, and what looks for a server does. */
  get _parent(): Socket {
    return this.#socket
  }

  /** When it left OpenSSL, in milliseconds since 1970. */
  get movedAt(): number {
    return this.#known.movedAt
  }

  protected known(): Known {
    return this.#known
  }

  get remoteAddress(): string | undefined {
    return this.#socket.remoteAddress
  }

  get remotePort(): number | undefined {
    return this.#socket.remotePort
  }

  get remoteFamily(): string | undefined {
    return this.#socket.remoteFamily
  }

  get localAddress(): string | undefined {
    return this.#socket.localAddress
  }

  get localPort(): number | undefined {
    return this.#socket.localPort
  }

  get localFamily(): string | undefined {
    return this.#socket.localFamily
  }

  get connecting(): boolean {
    return false
  }

  get secureConnecting(): boolean {
    return false
  }

  get pending(): boolean {
    return this.destroyed
  }

  get readyState(): 'open' | 'readOnly' | 'writeOnly' | 'closed' {
    if (this.readable) return this.writable ? 'open' : 'readOnly'
    return this.writable ? 'writeOnly' : 'closed'
  }

  /** Milliseconds without a byte after which `timeout` is emitted; 0: never. */
  get timeout(): number | undefined {
    return this.#socket.timeout
  }

  address(): AddressInfo | object {
    return this.#socket.address()
  }

  setTimeout(timeout: number, callback?: () => void): this {
    this.#socket.setTimeout(timeout)
    if (callback === undefined) return this
    if (timeout === 0) return this.removeListener('timeout', callback)
    return this.once('timeout', callback)
  }

  setNoDelay(isOn?: boolean): this {
    this.#socket.setNoDelay(isOn)
    return this
  }

  setKeepAlive(isOn?: boolean, initialDelay?: number): this {
    this.#socket.setKeepAlive(isOn, initialDelay)
    return this
  }

  // From Node 24 on.
  setTypeOfService(type: number): this {
    ;(this.#socket as WithTypeOfService).setTypeOfService?.(type)
    return this
  }

  getTypeOfService(): number {
    return (this.#socket as WithTypeOfService).getTypeOfService?.() ?? 0
  }

  ref(): this {
    this.#socket.ref()
    return this
  }

  unref(): this {
    this.#socket.unref()
    return this
  }

  /** Ends it, and lets go of it when everything is written. */
  destroySoon(): void {
    if (this.writable) this.end()
    if (this.writableFinished) this.destroy()
    else this.once('finish', () => this.destroy())
  }

  resetAndDestroy(): this {
    this.#socket.resetAndDestroy()
    return this.destroy()
  }

  getProtocol(): string {
    return 'TLSv1.3'
  }

  getCipher(): { readonly name: string; readonly standardName: string; readonly version: string } {
    const { suite } = this.#known
    return { name: suite, standardName: suite, version: 'TLSv1.3' }
  }

  isSessionReused(): boolean {
    return this.#known.isSessionReused
  }

  getPeerX509Certificate(): X509Certificate | undefined {
    const { peerCertificate } = this.#known
    return peerCertificate && new X509Certificate(peerCertificate)
  }

  /** Without those that have signed it: they do not move. */
  getPeerCertificate(_detailed?: boolean): object {
    return this.getPeerX509Certificate()?.toLegacyObject() ?? {}
  }

  // Ours was shown to the client in another process, and may be another one by now.
  getCertificate(): object {
    return {}
  }

  getX509Certificate(): undefined {}

  // All of them are of the handshake, which was somewhere else.
  getEphemeralKeyInfo(): null {
    return null
  }

  getFinished(): undefined {}

  getPeerFinished(): undefined {}

  getSession(): undefined {}

  getTLSTicket(): undefined {}

  getSharedSigalgs(): string[] {
    return []
  }

  disableRenegotiation(): void {}

  enableTrace(): void {}

  exportKeyingMaterial(): Buffer {
    const why = 'its secret is from the handshake, and does not move'
    throw new CookError('ERR_COOK_TLS', { what: 'exportKeyingMaterial()', why })
  }

  /** False, as Node's where it cannot. */
  renegotiate(_options: object, callback?: (error: Error) => void): false {
    const error = new CookError('ERR_COOK_TLS', { what: 'renegotiate()', why: 'TLS 1.3 has no renegotiation' })
    if (callback !== undefined) process.nextTick(callback, error)
    return false
  }
}
