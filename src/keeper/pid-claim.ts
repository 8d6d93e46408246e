/** The pid file of a service that is kept: the pid of the keeper is that of the service. */
import { pidFileFault } from '../conditions.ts'
import type { Identity } from '../contract/environment.ts'
import type { WarningRecord } from '../contract/messages.ts'
import { type CookError, messageOf } from '../errors.ts'
import { identify } from '../node/system.ts'
import { checkPidFile, releasePidFile, writePidFile } from '../process/pid-file.ts'
import { say } from './log-lines.ts'

export class PidClaim {
  /** Processes of this service, which may have had it before. */
  readonly #own: () => readonly Identity[]
  #file: string | undefined
  #told: WarningRecord | undefined

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

  /** At each new generation, as it says: no reason to end one that serves already. */
  keep(file: string | undefined): void {
    try {
      this.claim(file)
      this.#told = undefined
    } catch (error) {
      this.#tell(messageOf(error), (error as CookError).code)
    }
  }

  /** What is wrong with it now; said in the log once. */
  get warning(): WarningRecord | undefined {
    if (this.#file === undefined) return undefined
    const fault = pidFileFault(this.#file, this.#told)
    if (fault === undefined) this.#told = undefined
    else if (fault !== this.#told?.text) this.#tell(fault)
    return this.#told
  }

  #tell(text: string, code?: string): void {
    say(text)
    this.#told = { at: Date.now(), about: 'pidFile', text, ...(code !== undefined && { code }) }
  }

  release(): void {
    if (this.#file !== undefined) releasePidFile(this.#file)
  }
}
