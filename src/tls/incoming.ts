/** What a client sends, record by record: data, its end, or a fault. As strict as OpenSSL is. */
import { alert, type Fault, faults } from './alerts.ts'
import { contentType, type Direction, headerLength } from './records.ts'
import type { TlsState } from './state.ts'

export type Arrived =
  | { readonly type: 'data'; readonly bytes: Buffer }
  /** Nothing for the program: a KeyUpdate, a warning, an empty record. */
  | { readonly type: 'nothing' }
  /** close_notify: the client sends no more. */
  | { readonly type: 'closed' }
  | { readonly type: 'alert'; readonly number: number }
  /** What does not open is still there: take(). */
  | { readonly type: 'fault'; readonly fault: Fault }

/** 16 KiB, and what AEAD and padding may add (RFC 8446, 5.2). */
const longestEncrypted = 16_384 + 256
/** OpenSSL: MAX_EMPTY_RECORDS and MAX_WARN_ALERT_COUNT. */
const most = { emptyRecords: 32, warnings: 4 } as const
const keyUpdate = 24
const messageHeader = 4
const nothing: Arrived = { type: 'nothing' }
const noBytes = Buffer.alloc(0)

export class Incoming {
  readonly #direction: Direction
  readonly #longestRecord: number
  /** What the number of the next record may be, until one has opened. */
  #candidates: readonly number[] | undefined
  #rest: Buffer
  #at = 0
  /** The begin of a handshake message. */
  #message: Buffer = noBytes
  #emptyRecords: number
  #warnings: number
  #owesKeyUpdate: boolean
  #hasOpened = false
  readonly #wasProven: boolean

  constructor(direction: Direction, state: TlsState) {
    this.#direction = direction
    this.#longestRecord = state.longestRecord
    this.#candidates = state.receiveNumbers
    this.#rest = state.unread
    this.#emptyRecords = state.emptyRecords
    this.#warnings = state.warnings
    this.#owesKeyUpdate = state.owesKeyUpdate
    this.#wasProven = state.isProven
  }

  /** A record has opened here: its number was right, and so are all that follow. */
  get hasOpened(): boolean {
    return this.#hasOpened
  }

  /** The client has asked for new keys of ours; answered before the next data (RFC 8446, 4.6.3). */
  get owesKeyUpdate(): boolean {
    return this.#owesKeyUpdate
  }

  get isInMessage(): boolean {
    return this.#message.length > 0
  }

  /** Bytes that are no whole record yet. */
  get waiting(): number {
    return this.#rest.length - this.#at
  }

  add(bytes: Buffer): void {
    this.#rest = this.waiting === 0 ? bytes : Buffer.concat([this.#rest.subarray(this.#at), bytes])
    this.#at = 0
  }

  /** What was added and not opened stays when the bytes that were added are gone. */
  keep(): void {
    if (this.waiting > 0) this.add(Buffer.from(this.take()))
  }

  /** What was added and not opened: for another process. */
  take(): Buffer {
    const rest = this.#rest.subarray(this.#at)
    this.#rest = noBytes
    this.#at = 0
    return rest
  }

  keysUpdated(): void {
    this.#owesKeyUpdate = false
  }

  /** For another process. */
  standing(): Pick<TlsState, 'receiveNumbers' | 'emptyRecords' | 'warnings' | 'owesKeyUpdate'> {
    return {
      receiveNumbers: this.#candidates ?? [this.#direction.number],
      emptyRecords: this.#emptyRecords,
      warnings: this.#warnings,
      owesKeyUpdate: this.#owesKeyUpdate,
    }
  }

  /** Undefined: more bytes are needed. */
  next(): Arrived | undefined {
    const { waiting } = this
    const start = this.#at
    const type = this.#rest[start]
    // What may be the middle of a record is known as such as early as possible.
    const isUncertain = !this.#wasProven && !this.#hasOpened
    if (isUncertain && waiting > 0 && type !== contentType.data) return faulty(faults.badRecordType)
    if (waiting < headerLength) return undefined
    if (type !== contentType.data) return faulty(faults.badRecordType)
    if (this.#rest.readUInt16BE(start + 1) !== 0x0303) return faulty(faults.wrongVersion)
    const length = headerLength + this.#rest.readUInt16BE(start + 3)
    if (length > headerLength + longestEncrypted) return faulty(faults.tooLong)
    if (waiting < length) return undefined
    const inside = this.#open(this.#rest.subarray(start, start + length))
    if (inside === undefined) return faulty(faults.doesNotOpen)
    this.#at += length
    // A whole chunk is not kept for as long as nothing else comes.
    if (this.waiting === 0) this.take()
    return this.#onRecord(inside)
  }

  #open(record: Buffer): Buffer | undefined {
    if (this.#candidates === undefined) return this.#direction.open(record)
    for (const number of this.#candidates) {
      const inside = this.#direction.open(record, number)
      if (inside === undefined) continue
      this.#candidates = undefined
      this.#hasOpened = true
      return inside
    }
    return undefined
  }

  #onRecord(inside: Buffer): Arrived {
    let end = inside.length - 1
    while (end >= 0 && inside[end] === 0) end--
    const type = inside[end]
    const content = inside.subarray(0, Math.max(end, 0))
    if (type !== contentType.data && type !== contentType.alert && type !== contentType.handshake)
      return faulty(faults.badRecordType)
    if (content.length > this.#longestRecord) return faulty(faults.contentTooLong)
    if (content.length === 0 && type !== contentType.data) return faulty(faults.emptyMessage)
    if (content.length === 0 && ++this.#emptyRecords > most.emptyRecords) return faulty(faults.tooManyEmpty)
    if (content.length > 0) this.#emptyRecords = 0
    if (type !== contentType.handshake && this.isInMessage)
      return faulty(this.#message.length < messageHeader ? faults.mixed : faults.unexpectedRecord)
    if (type === contentType.handshake) return this.#onHandshake(content)
    if (type === contentType.alert) return this.#onAlert(content)
    this.#warnings = 0
    return content.length === 0 ? nothing : { type: 'data', bytes: content }
  }

  #onAlert(content: Buffer): Arrived {
    const number = content[1]
    if (content.length !== 2 || number === undefined) return faulty(faults.invalidAlert)
    if (number === alert.closeNotify) return { type: 'closed' }
    // In TLS 1.3 the number alone says how bad it is.
    if (number !== alert.userCanceled) return { type: 'alert', number }
    return ++this.#warnings > most.warnings ? faulty(faults.tooManyWarnings) : nothing
  }

  /** After the handshake there is one message that a client may send. */
  #onHandshake(content: Buffer): Arrived {
    this.#message = Buffer.concat([this.#message, content])
    const message = this.#message
    if (message.length < messageHeader) return nothing
    if (message[0] !== keyUpdate) return faulty(faults.unexpectedMessage)
    const size = message.readUIntBE(1, 3)
    if (size > 1) return faulty(faults.messageTooLong)
    if (message.length < messageHeader + size) return nothing
    // What follows in the record would be of the old keys, and of the new ones.
    if (message.length > messageHeader + size) return faulty(faults.notAtEndOfRecord)
    const asks = message[messageHeader]
    if (asks === undefined) return faulty(faults.emptyKeyUpdate)
    if (asks > 1) return faulty(faults.badKeyUpdate)
    this.#message = noBytes
    this.#direction.update()
    if (asks === 1) this.#owesKeyUpdate = true
    return nothing
  }
}

function faulty(fault: Fault): Arrived {
  return { type: 'fault', fault }
}
