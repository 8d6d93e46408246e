/** The pid file of a service that is kept: the pid of the keeper is that of the service. */
import type { Identity } from '../contract/environment.ts'
import { messageOf } from '../errors.ts'
import { identify } from '../node/system.ts'
import { checkPidFile, releasePidFile, writePidFile } from '../process/pid-file.ts'
import { say } from './log-lines.ts'

export class PidClaim {
  /** Processes of this service, which may have had it before. */
  readonly #own: () => readonly Identity[]
  #file: string | undefined

  constructor(own: () => readonly Identity[]) {
    this.#own = own
  }

  /** Undefined: there is none. */
  get file(): string | undefined {
    return this.#file
  }

  /** Throws what keeps a new one from being written. */
  check(file: string): void {
    checkPidFile(file, [identify(), ...this.#own()])
  }

  /** Throws what keeps it from being written. */
  claim(file: string | undefined): void {
    if (file === undefined) return
    writePidFile(file, this.#own())
    if (this.#file !== undefined && this.#file !== file) releasePidFile(this.#file)
    this.#file = file
  }

  /** As a worker says that serves already: no reason to end it. */
  keep(file: string | undefined): void {
    if (file === this.#file) return
    try {
      this.claim(file)
    } catch (error) {
      say(messageOf(error))
    }
  }

  release(): void {
    if (this.#file !== undefined) releasePidFile(this.#file)
  }
}
