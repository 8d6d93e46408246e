/** What happens once, for all who look or wait: an AbortSignal without its DOMException and its events, whose first one costs a process a millisecond (measured). */
import { throwLater } from './errors.ts'

export class Latch {
  #isSet = false
  readonly #listeners = new Set<() => void>()

  get isSet(): boolean {
    return this.#isSet
  }

  set(): void {
    if (this.#isSet) return
    this.#isSet = true
    const listeners = [...this.#listeners]
    this.#listeners.clear()
    for (const listener of listeners) {
      try {
        listener()
      } catch (error) {
        // What one throws, as a close of the program's own may, keeps nothing from the others.
        throwLater(error)
      }
    }
  }

  /** When it is set from now on. */
  onSet(listener: () => void): void {
    this.#listeners.add(listener)
  }

  offSet(listener: () => void): void {
    this.#listeners.delete(listener)
  }

  /** Resolves when it is set, or at once. */
  wait(): Promise<void>
  wait<Word>(word: Word): Promise<Word>
  wait(word?: unknown): Promise<unknown> {
    return new Promise((settle) => {
      if (this.#isSet) settle(word)
      else this.onSet(() => settle(word))
    })
  }
}
