/** What one waits for: a deferred promise, a latch, a timer for another process. */
import { throwLater } from './errors.ts'

export type Deferred<Value> = {
  readonly promise: Promise<Value>
  /** Once; with a promise as that ends. */
  resolve(value: Value | Promise<Value>): void
}

/** Promise.withResolvers, which Node 20 lacks. */
export function deferred<Value = void>(): Deferred<Value> {
  let resolve: Deferred<Value>['resolve'] = () => {}
  const promise = new Promise<Value>((settle) => {
    resolve = settle
  })
  return { promise, resolve }
}

/** What must not be done at the same time: one after the other. */
export class Turns {
  #last: Promise<unknown> | undefined

  get isFree(): boolean {
    return this.#last === undefined
  }

  /** Behind all that was asked for before. */
  async take<Result>(work: () => Promise<Result>): Promise<Result> {
    const before = this.#last
    const own = (async () => {
      await before
      return work()
    })()
    const ended = own.then(
      () => {},
      () => {},
    )
    this.#last = ended
    try {
      return await own
    } finally {
      if (this.#last === ended) this.#last = undefined
    }
  }
}

/** What happens once, for all who look, listen or wait. */
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

  /** Resolves to the word when it is set, or at once. */
  wait<Word = void>(word?: Word): Promise<Word> {
    return new Promise((settle) => {
      if (this.#isSet) settle(word as Word)
      else this.onSet(() => settle(word as Word))
    })
  }
}

/** How much of a deadline passes at most while this process is stopped, in milliseconds. */
const longestSlice = 250

/**
 * Runs `late` after so many milliseconds, unless the returned function is called before. Counted in
 * slices, so that time in which this process was stopped or blocked does not count against the
 * other one, and with a turn of the loop before the verdict, in which what has arrived is heard.
 */
export function patientTimer(ms: number, late: () => void): () => void {
  let timer: NodeJS.Timeout | undefined
  function begin(left: number): void {
    const slice = Math.min(left, longestSlice)
    timer = setTimeout(() => {
      const due = timer
      setImmediate(() => {
        if (due !== timer) return
        if (left > slice) begin(left - slice)
        else late()
      })
    }, slice)
  }
  begin(ms)
  return () => {
    clearTimeout(timer)
    // A slice that has just passed looks at this before it begins the next.
    timer = undefined
  }
}
