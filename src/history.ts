/** What a service has behind it: its upgrades, and the generations that still drain. */
import type { GenerationRecord, LastUpgrade, News } from './contract/messages.ts'
import type { DrainReport } from './options.ts'
import { deferred } from './waiting.ts'

export class History {
  #upgrades = { succeeded: 0, failed: 0 }
  #last: LastUpgrade | undefined
  #older: readonly GenerationRecord[] = []
  readonly #heard = deferred<void>()

  /** Resolves when the predecessor has sent it, or is gone: what is here is less before that. */
  get heard(): Promise<void> {
    return this.#heard.promise
  }

  get upgrades(): News['upgrades'] {
    return this.#upgrades
  }

  get last(): LastUpgrade | undefined {
    return this.#last
  }

  /** Generations before this one that are not gone. */
  get older(): readonly GenerationRecord[] {
    return this.#older
  }

  /** What the predecessor sent. */
  take({ generations, upgrades, last }: News): void {
    this.#older = generations
    this.#heard.resolve()
    // An upgrade of our own is newer than all that the predecessor knows.
    if (this.#last !== undefined && last?.generation !== this.#last.generation) return
    this.#upgrades = { ...upgrades }
    this.#last = last
  }

  /** The predecessor has said bye, or is gone, and with it all before it. */
  forget(): void {
    this.#older = []
    this.#heard.resolve()
  }

  /**
   * An upgrade that began at `begin` of performance.now() and ends now; with a code it has failed.
   */
  add({
    generation,
    begin,
    code,
  }: {
    readonly generation: number
    readonly begin: number
    readonly code?: string
  }): void {
    const outcome = code === undefined ? 'succeeded' : 'failed'
    const seconds = (performance.now() - begin) / 1000
    this.#upgrades = { ...this.#upgrades, [outcome]: this.#upgrades[outcome] + 1 }
    this.#last = { outcome, generation, at: Date.now(), seconds, ...(code !== undefined && { code }) }
  }

  /** This process has drained. */
  drained({ handedOver, served, closed, cut, times }: Omit<DrainReport, 'listeners'>): void {
    if (this.#last === undefined) return
    this.#last = { ...this.#last, connections: { handedOver, served, closed, cut }, drain: times }
  }

  /** For the successor, with what this process is now. */
  news(self: GenerationRecord): News {
    return {
      generations: [...this.#older, self],
      upgrades: this.#upgrades,
      ...(this.#last && { last: this.#last }),
    }
  }
}
