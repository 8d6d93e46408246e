/** What a drain says of itself when it is over. */

/**
 * What became of the live connections, in all and by listener; as a string, one line for people.
 */
export type DrainReport = DrainCounts & {
  /** The same for each listener, by its name. */
  readonly listeners: Readonly<Record<string, DrainCounts>>
  /** How far it came, and when. */
  readonly times: DrainTimes
  /** What of it was TLS; there with the option `moveTls`. */
  readonly tls?: TlsCounts
}

/** What became of connections of TLS, with the option `moveTls`. */
export type TlsCounts = {
  /** Moved to the successor: they are among those handed over. */
  readonly moved: number
  /** Of those: it has read something of the client, after which there is no way back. */
  readonly proven: number
  /** Came back from the successor, and went on here: half a record had been read already. */
  readonly returned: number
  /** Could not move, by a word for why: docs/tls.md explains each. */
  readonly stayed: Readonly<Record<string, number>>
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
