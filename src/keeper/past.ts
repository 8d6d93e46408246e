/** What a service has behind it: its counts never go back, whoever of its workers dies. */
import type { News, UpgradeCounts } from '../contract/messages.ts'
import type { Restarts, Status } from '../control/status.ts'

export class Past {
  /** For a worker that is started anew. */
  #news: News = { generations: [], upgrades: { succeeded: 0, failed: 0 } }
  /** Counts when the upgrade of all began that is under way. */
  #begun: UpgradeCounts | undefined
  /** Of slots that are gone: one that comes again goes on. */
  readonly #restarts = new Map<number, Restarts>()

  get news(): News {
    return this.#news
  }

  /** An upgrade of all workers counts once, although each of them tells of it. */
  begin(): void {
    this.#begun = this.#news.upgrades
  }

  end(): void {
    this.#begun = undefined
  }

  /** What there was before the upgrade that begins now. */
  get before(): UpgradeCounts {
    return this.#begun ?? this.#news.upgrades
  }

  /** Twice about the same upgrade counts once. */
  count(before: UpgradeCounts, outcome: keyof UpgradeCounts): void {
    this.#raise({ ...before, [outcome]: before[outcome] + 1 })
  }

  /** A worker that has just taken over, or died, knows less than others. */
  hear(found: readonly Status[]): void {
    for (const { upgrades } of found) this.#raise(upgrades)
    const last = found[0]?.lastUpgrade
    if (last !== undefined && last.at >= (this.#news.last?.at ?? 0)) this.#news = { ...this.#news, last }
  }

  #raise({ succeeded, failed }: UpgradeCounts): void {
    const { upgrades } = this.#news
    const most = {
      succeeded: Math.max(upgrades.succeeded, succeeded),
      failed: Math.max(upgrades.failed, failed),
    }
    this.#news = { ...this.#news, upgrades: most }
  }

  keepRestarts(slot: number, restarts: Restarts): void {
    this.#restarts.set(slot, restarts)
  }

  restartsOf(slot: number): Restarts {
    return this.#restarts.get(slot) ?? { crash: 0, hang: 0, memory: 0 }
  }
}
