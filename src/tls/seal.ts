/** Seals what crosses the link for the process at its end, so that no key is ever a string. */
import {
  createCipheriv,
  createDecipheriv,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  hkdfSync,
  type KeyObject,
  randomBytes,
} from 'node:crypto'

const cipher = 'aes-256-gcm'
const tagLength = 16
const ivLength = 12
const der = { type: 'spki', format: 'der' } as const

/** One for each process: its public key goes to the predecessor, whose own comes with each seal. */
export class Seal {
  readonly #own: { readonly privateKey: KeyObject; readonly publicKey: KeyObject }
  readonly #ownDer: Buffer
  /** By the key of the other side. */
  readonly #shared = new Map<string, Buffer>()

  constructor() {
    this.#own = generateKeyPairSync('x25519')
    this.#ownDer = this.#own.publicKey.export(der)
  }

  get publicKey(): string {
    return this.#ownDer.toString('base64')
  }

  /** The sender's key, a random number, what is sealed, and a tag. `clear` is wiped. */
  close(clear: Buffer, receiver: string): string {
    const iv = randomBytes(ivLength)
    const sealing = createCipheriv(cipher, this.#keyWith(receiver), iv)
    const sealed = [sealing.update(clear), sealing.final(), sealing.getAuthTag()]
    clear.fill(0)
    return Buffer.concat([this.#ownDer, iv, ...sealed]).toString('base64')
  }

  /** Undefined: it is not for this process, or broken. */
  open(text: string): Buffer | undefined {
    const bytes = Buffer.from(text, 'base64')
    const from = this.#ownDer.length
    if (bytes.length < from + ivLength + tagLength) return undefined
    try {
      const key = this.#keyWith(bytes.toString('base64', 0, from))
      const opening = createDecipheriv(cipher, key, bytes.subarray(from, from + ivLength))
      opening.setAuthTag(bytes.subarray(-tagLength))
      return Buffer.concat([opening.update(bytes.subarray(from + ivLength, -tagLength)), opening.final()])
    } catch {
      return undefined
    }
  }

  #keyWith(other: string): Buffer {
    const known = this.#shared.get(other)
    if (known !== undefined) return known
    const publicKey = createPublicKey({ key: Buffer.from(other, 'base64'), ...der })
    const secret = diffieHellman({ privateKey: this.#own.privateKey, publicKey })
    const key = Buffer.from(hkdfSync('sha256', secret, '', 'cook-daemon tls', 32))
    secret.fill(0)
    this.#shared.set(other, key)
    return key
  }
}
