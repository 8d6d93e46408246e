/** The daemon of an unmodified program, which is made when it is first asked for: behind the first line of the program, and behind its first listen(). */
import type { Server } from 'node:net'
import { type Daemon, type Inside, insideOf, takeUp } from '../daemon.ts'
import type { DaemonEvent } from '../options.ts'
import type { EnteredState } from '../process/state.ts'

type Admission = Parameters<Inside['admit']>

export class Life {
  /** Called when it is made. */
  onBegin: (inside: Inside) => void = () => {}
  readonly #state: EnteredState
  readonly #onEvent: (event: DaemonEvent) => void
  #daemon: Daemon | undefined
  /** Servers that began to listen before. */
  #admissions: readonly Admission[] = []

  constructor(state: EnteredState, onEvent: (event: DaemonEvent) => void) {
    this.#state = state
    this.#onEvent = onEvent
  }

  get daemon(): Daemon {
    if (this.#daemon === undefined) {
      this.#daemon = takeUp(this.#state, { onEvent: this.#onEvent })
      this.onBegin(this.inside)
      for (const admission of this.#admissions) this.inside.admit(...admission)
    }
    return this.#daemon
  }

  get inside(): Inside {
    return insideOf(this.daemon)
  }

  get isReady(): boolean {
    return this.#daemon !== undefined && this.inside.isReady()
  }

  /** A server of the program listens. */
  admit(...admission: Admission): void {
    if (this.#daemon === undefined) this.#admissions = [...this.#admissions, admission]
    else this.inside.admit(...admission)
  }

  /** It does not any more. */
  dismiss(server: Server): void {
    if (this.#daemon === undefined) this.#admissions = this.#admissions.filter(([, , one]) => one !== server)
    else this.inside.dismiss(server)
  }
}
