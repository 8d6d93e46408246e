/** What the process that leaves knows of its successor, and the last words between the two. */
import { livesOn } from '../node/processes.ts'
import { killSession } from '../node/sessions.ts'
import { isAlive } from '../node/system.ts'
import type { LinkEvent } from '../upgrade/link.ts'
import type { Committed } from '../upgrade/predecessor.ts'
import { Latch, patientTimer } from '../waiting.ts'

/**
 * How long beyond the end of the drain a successor may take to answer the last word, in
 * milliseconds; then it is killed.
 */
const answerTime = 5_000

export class Farewell {
  readonly #committed: Committed
  /** The link has ended without a bye: the successor is dead, or lives on. */
  readonly #onEnded: (isDead: boolean) => void
  /** The successor has died, and nobody else has the service: it comes back, if it can. */
  readonly lost = new Latch()
  readonly #linkEnded = new Latch()
  #heard = new Latch()
  /**
   * The service ends with the successor, or goes to a successor of its own: it never comes back to
   * us.
   */
  #wasStopped = false
  #isReplacing = false
  #isFoundLost = Promise.resolve(false)
  #bye: Promise<boolean> | undefined

  constructor(committed: Committed, onEnded: (isDead: boolean) => void) {
    this.#committed = committed
    this.#onEnded = onEnded
  }

  /** The link has ended and nothing explains why: the successor is lost, unless it still lives. */
  get mayBeLost(): boolean {
    return this.#linkEnded.isSet && !this.#isPassedOn
  }

  get wasStopped(): boolean {
    return this.#wasStopped
  }

  get #isPassedOn(): boolean {
    return this.#wasStopped || this.#isReplacing
  }

  /** Resolves when the successor says anything from now on: then it does not hang. */
  untilHeard(): Promise<void> {
    this.#heard = new Latch()
    return this.#heard.wait()
  }

  onLink(event: LinkEvent): void {
    if (event.type === 'closed') this.#onEnd()
    if (event.type === 'message') this.#heard.set()
    if (event.type !== 'message' || typeof event.message !== 'object') return
    if (event.message.type === 'stop') this.#wasStopped = true
    if (event.message.type === 'replacing') this.#isReplacing = event.message.isOn
  }

  /** Whether the successor is lost; waits if that is not known yet. */
  isLost(): Promise<boolean> {
    return this.#isFoundLost
  }

  #onEnd(): void {
    this.#linkEnded.set()
    // After the bye an end of the link is its answer.
    if (this.#bye !== undefined) return
    const isDead = livesOn(this.#committed.identity).then((lives) => {
      this.#onEnded(!lives)
      return !lives
    })
    if (this.#isPassedOn) return
    this.#isFoundLost = isDead.then((isLost) => {
      if (isLost) this.lost.set()
      return isLost
    })
  }

  /**
   * The last word, which the successor answers by ending the link: only then the service is safe in
   * its hands. False if it is dead, or did not respond until well after `late`, and was killed.
   * Said once.
   */
  sayBye(late: Latch, hurry: Latch, beforehand: () => void): Promise<boolean> {
    this.#bye ??= this.#sayBye(late, hurry, beforehand)
    return this.#bye
  }

  async #sayBye(late: Latch, hurry: Latch, beforehand: () => void): Promise<boolean> {
    const { link, identity } = this.#committed
    // It was looked for when the link ended.
    if (this.#linkEnded.isSet) {
      if (this.#isPassedOn) return true
      return !(await this.#isFoundLost) && isAlive(identity)
    }
    beforehand()
    link.send({ type: 'bye' })
    if (await this.#isAnswered(late, hurry)) return this.#isPassedOn || isAlive(identity)
    link.close()
    if (this.#isPassedOn || hurry.isSet) return true
    killSession(identity)
    await livesOn(identity)
    return false
  }

  /**
   * True when the link ends; false long after the end of the drain, and at that end if the service
   * ends too.
   */
  async #isAnswered(late: Latch, hurry: Latch): Promise<boolean> {
    let stop = () => {}
    const tooLate = new Promise<false>((settle) => {
      void late.wait().then(() => {
        stop = patientTimer(hurry.isSet ? 0 : answerTime, () => settle(false))
      })
    })
    try {
      return await Promise.race([this.#linkEnded.wait(true), tooLate])
    } finally {
      stop()
    }
  }
}
