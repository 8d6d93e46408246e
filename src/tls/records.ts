/** One direction of a connection: its secret and keys, and records that are sealed and opened. */
import { type CipherGCMTypes, createCipheriv, createDecipheriv, type KeyObject } from 'node:crypto'
import { ivLength, nextSecret, type Suite, trafficIv, trafficKey } from './suites.ts'

/** RFC 8446, 5.1 and 5.2. Inside and outside of a record: every one looks like data. */
export const contentType = { alert: 21, handshake: 22, data: 23 } as const
export const headerLength = 5
const tagLength = 16
/** What a record adds to its content: header, type, tag. */
const overhead = headerLength + 1 + tagLength

const aead = { authTagLength: tagLength }

export class Direction {
  readonly #suite: Suite
  readonly #nonce = Buffer.alloc(ivLength)
  #secret: Buffer
  #key: KeyObject | undefined
  #iv: Buffer
  /** Of the next record. A number that was used once must never be used again with its key. */
  #number: number

  /** The secret belongs to the direction from now on: it wipes it. */
  constructor(suite: Suite, secret: Buffer, number: number) {
    this.#suite = suite
    this.#secret = secret
    this.#number = number
    this.#key = trafficKey(suite, secret)
    this.#iv = trafficIv(suite, secret)
  }

  get number(): number {
    return this.#number
  }

  /** A copy, for another process. */
  copySecret(): Buffer {
    const copy = Buffer.alloc(this.#secret.length)
    this.#secret.copy(copy)
    return copy
  }

  /** A KeyUpdate (RFC 8446, 7.2): the keys of before are gone. */
  update(): void {
    const secret = nextSecret(this.#suite, this.#secret)
    this.wipe()
    this.#secret = secret
    this.#number = 0
    this.#key = trafficKey(this.#suite, secret)
    this.#iv = trafficIv(this.#suite, secret)
  }

  /** Nothing is sealed or opened any more. */
  wipe(): void {
    this.#secret.fill(0)
    this.#iv.fill(0)
    this.#nonce.fill(0)
    // Node's own copy is overwritten when it is collected.
    this.#key = undefined
  }

  /** As records of at most so many bytes each, in one piece. */
  seal(type: number, buffers: readonly Buffer[], longest: number): Buffer {
    const chunks = new Chunks(buffers)
    return this.sealNext(type, chunks, chunks.length, longest)
  }

  /** The next `length` bytes of what is to be sent. */
  sealNext(type: number, chunks: Chunks, length: number, longest: number): Buffer {
    const count = Math.ceil(length / longest)
    const sealed = Buffer.allocUnsafe(length + count * overhead)
    let at = 0
    for (let left = length; left > 0; left -= longest) {
      const size = Math.min(left, longest)
      const content = at + headerLength
      chunks.copyTo(sealed, content, size)
      sealed[content + size] = type
      this.#sealOne(sealed.subarray(at, at + size + overhead))
      at += size + overhead
    }
    return sealed
  }

  /** The content of a record with its type and padding; undefined: it does not open. */
  open(record: Buffer, number = this.#number): Buffer | undefined {
    const end = record.length - tagLength
    // There is a type at least.
    if (this.#key === undefined || end <= headerLength) return undefined
    // The types have one overload for each kind of cipher; the calls are the same.
    const cipher = this.#suite.cipher as CipherGCMTypes
    const decipher = createDecipheriv(cipher, this.#key, this.#nonceOf(number), aead)
    decipher.setAAD(record.subarray(0, headerLength))
    decipher.setAuthTag(record.subarray(end))
    const inside = decipher.update(record.subarray(headerLength, end))
    try {
      decipher.final()
    } catch {
      return undefined
    }
    this.#number = number + 1
    return inside
  }

  /** Content and type are where they belong, and are overwritten. */
  #sealOne(record: Buffer): void {
    if (this.#key === undefined) throw new Error('the keys of this direction are wiped')
    const end = record.length - tagLength
    record[0] = contentType.data
    record.writeUInt16BE(0x0303, 1)
    record.writeUInt16BE(record.length - headerLength, 3)
    const number = this.#number
    // Before anything can fail: no number twice.
    this.#number++
    const cipher = createCipheriv(this.#suite.cipher as CipherGCMTypes, this.#key, this.#nonceOf(number), aead)
    cipher.setAAD(record.subarray(0, headerLength))
    cipher.update(record.subarray(headerLength, end)).copy(record, headerLength)
    cipher.final()
    cipher.getAuthTag().copy(record, end)
  }

  /** RFC 8446, 5.3. */
  #nonceOf(number: number): Buffer {
    const nonce = this.#nonce
    this.#iv.copy(nonce)
    const low = number >>> 0
    const high = Math.floor(number / 2 ** 32)
    nonce.writeUInt32BE((nonce.readUInt32BE(8) ^ low) >>> 0, 8)
    nonce.writeUInt32BE((nonce.readUInt32BE(4) ^ high) >>> 0, 4)
    return nonce
  }
}

/** Pieces of what is to be sent, read from the front. */
export class Chunks {
  readonly length: number
  readonly #chunks: readonly Buffer[]
  #first = 0
  #at = 0

  constructor(chunks: readonly Buffer[]) {
    this.#chunks = chunks
    this.length = chunks.reduce((sum, chunk) => sum + chunk.length, 0)
  }

  copyTo(target: Buffer, start: number, size: number): void {
    for (let done = 0; done < size; ) {
      const chunk = this.#chunks[this.#first]
      if (chunk === undefined) throw new RangeError('there are no more bytes to send')
      const copied = chunk.copy(target, start + done, this.#at, this.#at + size - done)
      done += copied
      this.#at += copied
      if (this.#at < chunk.length) continue
      this.#first++
      this.#at = 0
    }
  }
}
