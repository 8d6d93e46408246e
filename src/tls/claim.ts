/** Whose a connection is that came from another process: until it is ours alone nothing is sent. */
import { CookError } from '../errors.ts'

export type AdoptedHooks = {
  /**
   * The connection is this process's for good: a record has opened, something is about to be sent,
   * or it ends here. Called once, unless it was so already; `told` is to be called when the other
   * process will hear of it, whatever becomes of this one. Nothing is sent before that.
   */
  proven(told: () => void): void
  /** It is about to leave for a third process, which may send on it first; `told` as above. */
  passing(told: () => void): void
  /**
   * What has come does not fit: it is the end of a record whose begin the other process has. Called
   * instead, with every byte since the move; nothing was sent, and the stream is destroyed.
   */
  returned(bytes: Buffer): void
  /** False when there is nobody any more who could take it back: it is made the best of here. */
  mayReturn(): boolean
}

/**
 * How long what the program writes waits for a first record, in milliseconds: the rest of one that
 * began in the other process may be on its way, and what was sent cannot go back. A segment that
 * was lost is sent again after 200 ms and a round trip (Linux).
 */
const holdTime = 300

type Held = { go(): void; fail(error: Error): void }

export class Claim {
  readonly #hooks: AdoptedHooks
  /** One of the hooks was called that has the last word, or it was ours from the start. */
  #isSettled: boolean
  /** The other process hears of it in any case. */
  #isOurs: boolean
  /** It may leave with its way back. */
  #isPassing = false
  #isAnnouncing = false
  #isOver = false
  /** What is to be sent: one write, or the end. */
  readonly #held: Held[] = []
  readonly #announced: (() => void)[] = []
  #timer: NodeJS.Timeout | undefined

  constructor(hooks: AdoptedHooks, isProven: boolean) {
    this.#hooks = hooks
    this.#isSettled = isProven
    this.#isOurs = isProven
  }

  get isSettled(): boolean {
    return this.#isSettled
  }

  get isOurs(): boolean {
    return this.#isOurs
  }

  get mayGiveBack(): boolean {
    return !this.#isSettled && this.#hooks.mayReturn()
  }

  /** It can leave: everything is said that must be before. */
  get mayLeave(): boolean {
    return this.#isOurs || this.#isPassing
  }

  settle(): void {
    if (this.#isSettled) return
    const { mayGiveBack } = this
    this.#isSettled = true
    clearTimeout(this.#timer)
    if (mayGiveBack) this.#hooks.proven(() => this.#becomeOurs())
    else this.#becomeOurs()
  }

  giveBack(bytes: Buffer): void {
    this.#isSettled = true
    this.#hooks.returned(bytes)
  }

  whenOurs(go: () => void, fail: (error: Error) => void): void {
    if (this.#isOurs) {
      go()
      return
    }
    this.#held.push({ go, fail })
    if (this.mayGiveBack) this.#timer ??= setTimeout(() => this.settle(), holdTime)
    else this.settle()
  }

  /** Resolves when it can leave, or has ended; undefined: so it is. */
  untilAnnounced(): Promise<void> | undefined {
    if (!this.mayGiveBack) this.settle()
    if (this.mayLeave || this.#isOver) return undefined
    return new Promise<void>((done) => {
      this.#announced.push(done)
      this.#announce()
    })
  }

  /** It ends here, or has gone back: nothing more is sent. */
  end(error: Error | null): void {
    this.settle()
    clearTimeout(this.#timer)
    this.#isOver = true
    const why = 'it has ended, or gone back to the process that it came from'
    for (const { fail } of this.#held.splice(0)) fail(error ?? new CookError('ERR_COOK_TLS', { what: 'to send', why }))
    this.#tellAnnounced()
  }

  /**
   * Who has the way back is told that a third process may send on it, before it does: when this one
   * dies, the connection does not come back by itself.
   */
  #announce(): void {
    if (this.#isSettled || this.#isAnnouncing) return
    this.#isAnnouncing = true
    this.#hooks.passing(() => {
      this.#isPassing = true
      this.#tellAnnounced()
    })
  }

  #becomeOurs(): void {
    this.#isOurs = true
    this.#tellAnnounced()
    for (const { go } of this.#held.splice(0)) go()
  }

  #tellAnnounced(): void {
    for (const done of this.#announced.splice(0)) done()
  }
}
