/** Whether a program has nothing left to do but to wait for clients. */
import { type Emitter, wrapEmit } from '../node/emitters.ts'

/** A server or a UDP socket. */
export type Listening = { ref(): unknown; unref(): unknown }

/**
 * What is not held by the loop, as a connection that its pool has let go of, may still open a
 * listener: it has this time, in milliseconds.
 */
const grace = 3_000

/**
 * Node itself says that nothing is left: without what listens, its loop is empty. A timer, a
 * connection or a query of the program keeps it from that, so no program is taken for idle that
 * listens once its database answers.
 */
export class IdleWatch {
  readonly #onIdle: () => void
  readonly #letGo = new Set<Listening>()
  #giveBack = () => {}
  #timer: NodeJS.Timeout | undefined
  #isLate = false

  constructor(onIdle: () => void) {
    this.#onIdle = onIdle
  }

  /** From now on, unless more is opened; these are all that listen. */
  begin(listening: Iterable<Listening>): void {
    this.end()
    for (const one of listening) {
      one.unref()
      this.#letGo.add(one)
    }
    // The program itself is not at its end: its listeners do not hear of it.
    this.#giveBack = wrapEmit(process as Emitter, (emit, name, ...args) => {
      if (name !== 'beforeExit') return emit(name, ...args)
      this.#onEmpty()
      return true
    })
  }

  end(): void {
    this.#giveBack()
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#isLate = false
    for (const one of this.#letGo) one.ref()
    this.#letGo.clear()
  }

  #onEmpty(): void {
    if (this.#isLate) {
      this.end()
      this.#onIdle()
    } else {
      this.#timer ??= setTimeout(() => {
        this.#isLate = true
      }, grace)
    }
  }
}
