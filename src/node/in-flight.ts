/** Handles on their way over a channel: several at once. Private parts of Node. */
import { privateProperty } from './private.ts'

/** What becomes of a handle that was sent. */
export type Fate = {
  /** The other process has its descriptor. */
  arrived(): void
  /** The other process had none left for it: it is here, and open. */
  refused(handle: object): void
}

/**
 * lib/internal/child_process.js, setupChannel: behind a handle `send` keeps everything back in
 * `_handleQueue` until the other side has acknowledged it, and closes `_pendingMessage` then. It
 * writes at once as long as both are null.
 */
type Sender = { _handleQueue: unknown[] | null; _pendingMessage: { readonly handle: OpenHandle } | null }
type OpenHandle = { close(): void }

/**
 * Bytes that may be on their way with several handles. Node gives a message the descriptor that
 * came with the read in which it ends, and Linux ends a read behind each: they are told apart if
 * every message is one piece to the kernel (48 KiB), and all together fit in one read (64 KiB).
 */
const mostBytes = 16 * 1024

/** Node's own queue: one is on its way, the next is there when that has arrived. */
const mostQueued = 2

type Sent = {
  readonly fate?: Fate | undefined
  readonly end: number
  /** Node knows nothing of it: it is closed here. */
  readonly handle?: OpenHandle
  /** What stays open on this side, whoever knows of it. */
  readonly kept?: object | undefined
  /** Node waits for no answer to it. */
  readonly isUnknown?: true
}

export class InFlight {
  readonly #target: Sender
  readonly #channel: { readonly bytesWritten?: number } | undefined
  /** In order, as they are acknowledged; one with a handle is unknown to Node, and closed here. */
  readonly #sent: Sent[] = []
  /** Of the bytes written, those that the other side has read for certain. */
  #bytesRead = 0
  /** False: anything was not as expected, and Node's own queue does it. */
  #isOurs: boolean

  constructor(target: object) {
    this.#target = target as Sender
    this.#channel = privateProperty(target, 'kChannelHandle')
    const { _handleQueue: queue, _pendingMessage: pending } = this.#target
    const isKnown = queue === null && pending === null && typeof this.#channel?.bytesWritten === 'number'
    // Other systems part messages in other ways; none was measured.
    this.#isOurs = isKnown && process.platform === 'linux'
  }

  /** Whether one more, with a message of so many bytes, may be on its way, of `most`. */
  hasRoom(most: number, bytes: () => number): boolean {
    const { length } = this.#sent
    if (!this.#isOurs) return length < mostQueued
    return length === 0 || (length < most && this.#bytesWritten - this.#bytesRead + bytes() <= mostBytes)
  }

  get #bytesWritten(): number {
    return this.#channel?.bytesWritten ?? 0
  }

  /**
   * Runs what sends a handle, and takes that from Node if its fate is asked for. `kept` is one that
   * stays open here.
   */
  send(call: () => void, fate?: Fate, kept?: object): void {
    const wasFree = this.#target._handleQueue === null
    call()
    const { _handleQueue: queue, _pendingMessage: pending } = this.#target
    // The channel has ended, or its client had closed the connection: the message goes alone.
    if (!queue) return
    const end = this.#bytesWritten
    if (!this.#isOurs || !wasFree || fate === undefined) {
      this.#sent.push({ fate, end, kept })
    } else if (queue.length === 0 && kept !== undefined && pending === null) {
      this.#sent.push({ fate, end, kept, isUnknown: true })
      this.#target._handleQueue = null
    } else if (queue.length === 0 && typeof pending?.handle?.close === 'function') {
      this.#sent.push({ fate, end, handle: pending.handle, isUnknown: true })
      this.#target._handleQueue = null
      this.#target._pendingMessage = null
    } else {
      this.#sent.push({ fate, end, kept })
      this.#isOurs = false
    }
  }

  /**
   * Hears what became of the oldest. `pass` has Node's own code hear it, where that knows of it.
   */
  answered(isArrived: boolean, pass: () => void): void {
    const oldest = this.#sent.shift()
    const { fate, handle, kept, end = this.#bytesRead } = oldest ?? {}
    this.#bytesRead = end
    // One that was refused, or an answer to nothing: from now on carefully.
    if (!isArrived || oldest === undefined) this.#isOurs = false
    const refused = isArrived ? undefined : (kept ?? handle ?? this.#takePending())
    if (oldest?.isUnknown !== true) pass()
    else if (isArrived) handle?.close()
    if (isArrived) fate?.arrived()
    else if (refused !== undefined) fate?.refused(refused)
  }

  /**
   * Node would send it three times more, at once, and close it then; each time packed in once more,
   * so that the other side acknowledges it twice.
   */
  #takePending(): OpenHandle | undefined {
    const handle = this.#target._pendingMessage?.handle
    this.#target._pendingMessage = null
    return handle
  }

  /** The channel has ended: what is not acknowledged would keep its client waiting for ever. */
  end(): void {
    this.#target._pendingMessage?.handle.close()
    for (const { handle } of this.#sent.splice(0)) handle?.close()
  }
}
