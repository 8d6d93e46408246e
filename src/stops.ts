/** What counts as one stop: several words for it that come within a second. */

/**
 * Milliseconds in which words are the same stop: a supervisor signals each process of a group, one
 * of them passes its signal on, and the successor tells its predecessor. Somebody who means it is
 * slower.
 */
const sameStop = 1_000

/** Who hears of a stop asks here what it means: a signal, a call, the control socket, the link. */
export class Stops {
  #since = Number.NEGATIVE_INFINITY
  #isFirst = true
  /** By a request: whoever made it waits for the end, and nobody is announced anything. */
  isAsked = false
  /** Clients have been sent elsewhere before it: a lame duck is over. */
  wasAnnounced = false

  /** The same stop as a moment ago, whichever way it comes. */
  get isRepeated(): boolean {
    return performance.now() - this.#since < sameStop
  }

  /** A stop was asked for. `again`: somebody waits no longer, and what is left is cut. */
  hear(): 'first' | 'repeated' | 'again' {
    if (this.isRepeated) return 'repeated'
    const word = this.#isFirst ? 'first' : 'again'
    this.begin()
    return word
  }

  /** The successor was stopped: whatever else says so is the same stop, and nothing is cut. */
  begin(): void {
    this.#isFirst = false
    this.#since = performance.now()
  }
}
