/** The plan of a drain: what may take how long. Nothing else decides it. */
import type { DrainTimes } from '../options.ts'
import type { DrainClock, DrainStage } from '../service-parts.ts'
import { Latch } from '../waiting.ts'

/**
 * Milliseconds since the begin of a drain of `time` milliseconds, for each of its points, as
 * docs/drain-and-deadlines.md has them.
 */
export const drainPlan = {
  /** Both accept until what is idle has moved, and no longer than this. */
  stopAccepting: (time: number) => Math.min(time / 3, 10_000),
  /**
   * Nor do we go on accepting longer for second handles: of one that did not get through nobody
   * tells.
   */
  stopWaitingForSpares: (time: number) => Math.min(time / 2, 5_000),
  /** What still waits for its turn to move is told to end, with a third of the time for that. */
  tellToEnd: (time: number) => (time * 2) / 3,
  /**
   * The last idle connection is sent by then, and the last WebSocket told to close: the rest is for
   * their arrival, and for its answer.
   */
  lastTurn: (time: number) => (time * 5) / 6,
  /** What is left is cut. */
  cut: (time: number) => time,
} as const

/** A connection that was quiet for as long is not in use, in milliseconds. */
export const longQuiet = 1_000
/** The next request of one that is in use is waited for as long at a stop, in milliseconds. */
export const patience = 250

/** The times of one drain, from the moment in which it is made. */
export class Clock implements DrainClock {
  readonly time: number
  readonly endsAt: number
  readonly movedLongEnough = new Latch()
  readonly late = new Latch()
  readonly deadline = new Latch()
  readonly #begin = performance.now()
  readonly #timers: readonly NodeJS.Timeout[]
  readonly #times: { -readonly [Name in keyof DrainTimes]?: number } = {}

  constructor(time: number) {
    this.time = time
    this.endsAt = this.#begin + time
    const at = (latch: Latch, ms: number) => setTimeout(() => latch.set(), ms)
    this.#timers = [
      at(this.movedLongEnough, drainPlan.stopAccepting(time)),
      at(this.late, drainPlan.tellToEnd(time)),
      at(this.deadline, drainPlan.cut(time)),
    ]
  }

  get stage(): DrainStage {
    const { stoppedAccepting, toldToEnd, cut } = this.#times
    if (cut !== undefined) return 'cutting'
    if (toldToEnd !== undefined) return 'ending'
    return stoppedAccepting === undefined ? 'moving' : 'finishing'
  }

  get times(): DrainTimes {
    return { ...this.#times, ended: this.#now() }
  }

  get patienceForSpares(): number {
    return drainPlan.stopWaitingForSpares(this.time)
  }

  get isLastTurnOver(): boolean {
    return this.#now() >= drainPlan.lastTurn(this.time)
  }

  note(point: 'stoppedAccepting' | 'toldToEnd' | 'cut'): void {
    this.#times[point] ??= this.#now()
  }

  spread(wanted: number): number {
    return Math.min(wanted, this.time / 2, Math.max(0, drainPlan.lastTurn(this.time) - this.#now()))
  }

  grace(wanted: number): number {
    return Math.min(wanted, Math.max(0, this.endsAt - performance.now()) / 2)
  }

  stop(): void {
    for (const timer of this.#timers) clearTimeout(timer)
  }

  #now(): number {
    return Math.round(performance.now() - this.#begin)
  }
}
