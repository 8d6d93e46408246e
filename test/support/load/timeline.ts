/**
 * When each answer came and how long it took: percentiles and gaps, for the whole run or any part
 * of it.
 */
import { type RequestKind, requestKinds } from './kinds.ts'

/** A part of the run: from and to on the clock of `performance.now()`, in milliseconds. */
export type Window = { readonly from?: number; readonly to?: number }

/** In milliseconds; NaN when there was no answer. */
export type Latency = {
  readonly answers: number
  readonly p50: number
  readonly p99: number
  readonly p999: number
  readonly max: number
}

/** Answers of one generation: in how many steps of the window, by step. */
export type AnswersOf = { readonly generation: string; readonly counts: readonly number[] }

export class Timeline {
  readonly #generations: string[] = []
  #generation = new Uint16Array(1024)
  #at = new Float64Array(1024)
  #took = new Float32Array(1024)
  #kind = new Uint8Array(1024)
  #longestGap = 0
  length = 0

  add(kind: RequestKind, took: number, now: number, generation = ''): void {
    if (this.length === this.#at.length) this.#grow()
    const last = this.#at[this.length - 1] ?? now
    this.#longestGap = Math.max(this.#longestGap, now - last)
    this.#at[this.length] = now
    this.#took[this.length] = took
    this.#kind[this.length] = requestKinds.indexOf(kind)
    this.#generation[this.length] = this.#numberOf(generation)
    this.length++
  }

  /** Of the answers that came in the window, of one kind or of all. */
  latency(window: Window & { readonly kind?: RequestKind | undefined } = {}, length = this.length): Latency {
    const [first, end] = this.#range(window, length)
    let took = this.#took.slice(first, end)
    if (window.kind !== undefined) {
      const kind = requestKinds.indexOf(window.kind)
      took = took.filter((_, index) => this.#kind[first + index] === kind)
    }
    took.sort()
    const share = (part: number): number => took[Math.ceil(took.length * part) - 1] ?? Number.NaN
    return { answers: took.length, p50: share(0.5), p99: share(0.99), p999: share(0.999), max: share(1) }
  }

  /** The longest time between two answers, whichever clients got them, in milliseconds. */
  get longestGap(): number {
    return this.#longestGap
  }

  get lastAnswer(): number | undefined {
    return this.#at[this.length - 1]
  }

  /** The same for those gaps that ended in the window. */
  longestGapIn(window: Window): number {
    const [first, end] = this.#range(window, this.length)
    let longest = 0
    for (let index = Math.max(first, 1); index < end; index++) {
      longest = Math.max(longest, (this.#at[index] ?? 0) - (this.#at[index - 1] ?? 0))
    }
    return longest
  }

  /** When the first answer of a generation came; undefined if there was none. */
  firstAnswerOf(generation: string): number | undefined {
    const number = this.#generations.indexOf(generation)
    const index = this.#generation.subarray(0, this.length).indexOf(number)
    return index < 0 ? undefined : this.#at[index]
  }

  /** How many answers each generation gave in each `step` milliseconds of the window. */
  answersByGeneration({ from, to, step }: Required<Window> & { readonly step: number }): AnswersOf[] {
    const [first, end] = this.#range({ from, to }, this.length)
    const rows = this.#generations.map((generation) => ({
      generation,
      counts: Array.from({ length: Math.ceil((to - from) / step) }, () => 0),
    }))
    for (let index = first; index < end; index++) {
      const counts = rows[this.#generation[index] ?? 0]?.counts ?? []
      const at = Math.floor(((this.#at[index] ?? 0) - from) / step)
      counts[at] = (counts[at] ?? 0) + 1
    }
    return rows
  }

  /** By the last one first: generations come one after the other. */
  #numberOf(generation: string): number {
    const number = this.#generations.lastIndexOf(generation)
    return number < 0 ? this.#generations.push(generation) - 1 : number
  }

  #range({ from = Number.NEGATIVE_INFINITY, to = Number.POSITIVE_INFINITY }: Window, length: number): [number, number] {
    return [this.#indexAt(from, length), this.#indexAt(to, length)]
  }

  /** The first answer that came at this time or later. */
  #indexAt(time: number, length: number): number {
    let [low, high] = [0, length]
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.#at[middle] ?? 0) < time) low = middle + 1
      else high = middle
    }
    return low
  }

  #grow(): void {
    const [at, took, kind, generation] = [this.#at, this.#took, this.#kind, this.#generation]
    this.#at = new Float64Array(at.length * 2)
    this.#took = new Float32Array(at.length * 2)
    this.#kind = new Uint8Array(at.length * 2)
    this.#generation = new Uint16Array(at.length * 2)
    this.#at.set(at)
    this.#took.set(took)
    this.#kind.set(kind)
    this.#generation.set(generation)
  }
}
