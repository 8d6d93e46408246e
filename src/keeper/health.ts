/** Whether the worker that serves is in order: its event loop turns, and its memory is bounded. */
import { readFileSync } from 'node:fs'
import { patientTimer } from '../waiting.ts'
import type { KeepOptions } from './plan.ts'
import type { Worker } from './worker.ts'

/** How often memory is looked at, in milliseconds: above the limit twice in a row counts. */
const memoryInterval = 5_000
/** Between two replacements of a service for memory, in milliseconds, at least. */
export const memoryPause = 60_000

/** Whose worker it is. */
type Keeping = {
  readonly serving: Worker | undefined
  killHanging(worker: Worker): void
  countMemory(): void
  /** Not two of a service at once. */
  mayReplaceForMemory(): boolean
  say(text: string): void
  /** Replaces it by itself. */
  renew(): void
}

export class Health {
  readonly #keeper: Keeping
  /** Which worker was asked; its answer ends the wait. */
  #asked: { readonly worker: Worker; readonly answered: () => void } | undefined
  #wasAbove = false

  #timers: readonly NodeJS.Timeout[] = []

  constructor(options: KeepOptions, keeper: Keeping) {
    this.#keeper = keeper
    this.watch(options)
  }

  /** By these from now on. */
  watch({ hangTimeout, maxMemory }: KeepOptions): void {
    for (const timer of this.#timers) clearInterval(timer)
    this.#timers = [
      ...(hangTimeout === undefined ? [] : [setInterval(() => this.#ask(hangTimeout), hangTimeout / 4).unref()]),
      ...(maxMemory === undefined ? [] : [setInterval(() => this.#weigh(maxMemory), memoryInterval).unref()]),
    ]
  }

  end(): void {
    this.watch({})
    this.#asked?.answered()
    this.#asked = undefined
  }

  /** It has answered: its event loop turns. */
  heard(worker: Worker): void {
    if (this.#asked?.worker !== worker) return
    this.#asked.answered()
    this.#asked = undefined
  }

  #ask(hangTimeout: number): void {
    const { serving } = this.#keeper
    if (serving === undefined || this.#asked?.worker === serving) return
    this.#asked?.answered()
    // Time in which this process itself was stopped or blocked is no time that the other one had.
    const answered = patientTimer(hangTimeout, () => {
      this.#asked = undefined
      if (this.#keeper.serving === serving) this.#keeper.killHanging(serving)
    })
    this.#asked = { worker: serving, answered }
    serving.station.send({ type: 'ping' })
  }

  #weigh(maxMemory: number): void {
    const { serving } = this.#keeper
    const resident = serving === undefined ? 0 : residentOf(serving.identity[0])
    const isAbove = resident > maxMemory
    const isDue = isAbove && this.#wasAbove
    this.#wasAbove = isAbove
    if (!isDue || serving === undefined || !this.#keeper.mayReplaceForMemory()) return
    this.#wasAbove = false
    this.#keeper.say(
      `the worker uses ${megabytes(resident)} of memory, more than ${megabytes(maxMemory)}: upgrading it to itself`,
    )
    this.#keeper.countMemory()
    this.#keeper.renew()
  }
}

/** Bytes; 0 for a process that is gone. */
function residentOf(pid: number): number {
  try {
    return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) * 1024
  } catch {
    return 0
  }
}

function megabytes(bytes: number): string {
  return `${Math.round(bytes / 1024 / 1024)} MB`
}
