/** The report of a drain. */

/**
 * What happened to the live connections, in total and by listener; as a string, one line for
 * people.
 */
export type DrainReport = DrainCounts & {
  /** The same for each listener, by its name. */
  readonly listeners: Readonly<Record<string, DrainCounts>>
  /** The points that it reached, and when. */
  readonly times: DrainTimes
  /** TLS connections; only with the option `moveTls`. */
  readonly tls?: TlsCounts
}

/** What happened to TLS connections, with the option `moveTls`. */
export type TlsCounts = {
  /** Moved to the successor; included in `handedOver`. */
  readonly moved: number
  /** Of those, the number from which the successor has read data: these cannot come back. */
  readonly proven: number
  /**
   * Came back from the successor and continued here, because half a record had already been read.
   */
  readonly returned: number
  /** Could not move, by reason; docs/tls.md explains each. */
  readonly stayed: Readonly<Record<string, number>>
}

/**
 * When a drain reached each point, in milliseconds since its start. An absent point was not
 * reached.
 */
export type DrainTimes = {
  /**
   * This process stopped accepting: all idle connections had moved, or a third of the time was
   * over.
   */
  readonly stoppedAccepting?: number
  /**
   * The rest was asked to close: connections that still waited to move after two thirds of the
   * time, or idle ones when a draining process was stopped.
   */
  readonly toldToEnd?: number
  /** The rest was cut. */
  readonly cut?: number
  /** The drain ended. */
  readonly ended: number
}

/** What happened to the live connections of one listener. */
export type DrainCounts = {
  /** Moved to the successor, and stayed open. */
  readonly handedOver: number
  /** Ended after everything was answered. */
  readonly served: number
  /** Closed by us with nothing in flight. */
  readonly closed: number
  /**
   * Destroyed with something in flight: at the deadline, or on the way to a successor that crashed.
   */
  readonly cut: number
}
