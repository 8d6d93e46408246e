/** What a drain says of itself when it is over. */

/**
 * What became of the live connections, in all and by listener; as a string, one line for people.
 */
export type DrainReport = DrainCounts & {
  /** The same for each listener, by its name. */
  readonly listeners: Readonly<Record<string, DrainCounts>>
  /** How far it came, and when. */
  readonly times: DrainTimes
}

/**
 * When a drain came to each of its points, in milliseconds since its begin. One that is absent was
 * not reached.
 */
export type DrainTimes = {
  /**
   * This process accepted nothing more: what was idle had moved, or a third of the time was over.
   */
  readonly stoppedAccepting?: number
  /**
   * What was left was told to end: what still waited for its turn to move after two thirds of the
   * time, or what was idle when a process that drained was stopped.
   */
  readonly toldToEnd?: number
  /** What was left then was cut. */
  readonly cut?: number
  /** It was over. */
  readonly ended: number
}

/** What became of the live connections of one listener. */
export type DrainCounts = {
  /** Moved to the successor, open all the time. */
  readonly handedOver: number
  /** Ended by themselves, everything answered. */
  readonly served: number
  /** Closed by us with nothing in flight. */
  readonly closed: number
  /** Destroyed, something in flight: at the deadline, or on the way to a successor that died. */
  readonly cut: number
}
