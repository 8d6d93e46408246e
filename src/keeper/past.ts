/** What a service has behind it: its counts never go back, whoever of its workers dies. */
import type { ConnectionCounts, LastUpgrade, News, UpgradeCounts } from '../contract/messages.ts'
import type { Restarts, Status } from '../control/status.ts'
import { withoutUndefined } from '../options.ts'

export class Past {
  /** For a worker that is started anew. */
  #news: News = { generations: [], upgrades: { succeeded: 0, failed: 0 } }
  /** How many workers have told of the last upgrade that has succeeded, and which one that was. */
  #told = { parts: 0, succeeded: 0 }
  /** Counts when the upgrade of all began that is under way. */
  #begun: UpgradeCounts | undefined
  /** The last one of all: when it began and ended, and why it failed. Each worker knows its own. */
  #whole: { readonly since: number; readonly until: number; readonly code?: string } = { since: 0, until: 0 }
  /** Of slots that are gone: one that comes again goes on. */
  readonly #restarts = new Map<number, Restarts>()

  get news(): News {
    return this.#news
  }

  /** An upgrade of all workers counts once, although each of them tells of it. */
  begin(): void {
    this.#begun = this.#news.upgrades
    this.#whole = { since: Date.now(), until: Number.POSITIVE_INFINITY }
  }

  fail(code: string): void {
    this.#whole = { ...this.#whole, code }
  }

  end(): void {
    this.#begun = undefined
    this.#whole = { ...this.#whole, until: Date.now() }
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
    const { succeeded } = this.#news.upgrades
    const parts = partsOf(found, succeeded, (one) => this.#isOfWhole(one))
    const [newest] = parts
    const { last } = this.#news
    if (newest === undefined || newest.at < (last?.at ?? 0)) return
    // One of those that took part is gone, and what it has moved is known from it alone.
    if (newest.outcome === 'succeeded' && succeeded === this.#told.succeeded && parts.length < this.#told.parts) return
    if (newest.outcome === 'succeeded') this.#told = { parts: parts.length, succeeded }
    this.#news = { ...this.#news, last: this.#asWhole(sumOf(newest, parts)) }
  }

  #isOfWhole({ at }: LastUpgrade): boolean {
    return at >= this.#whole.since && at <= this.#whole.until
  }

  #asWhole(last: LastUpgrade): LastUpgrade {
    if (!this.#isOfWhole(last)) return last
    const { since, code } = this.#whole
    // Of workers that are replaced one by one, each took less.
    const seconds = Math.max(last.seconds, (last.at - since) / 1000)
    return { ...last, seconds, ...(code !== undefined && last.outcome === 'failed' && { code }) }
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

/**
 * The last upgrade as each worker knows it that came of it, the newest first. Generations are
 * counted by slot: one that was started again after a crash is ahead of the others.
 */
function partsOf(
  found: readonly Status[],
  succeeded: number,
  isOfWhole: (one: LastUpgrade) => boolean,
): readonly LastUpgrade[] {
  const byTime = (one: LastUpgrade, other: LastUpgrade) => other.at - one.at
  const told = found.flatMap(({ lastUpgrade }) => lastUpgrade ?? []).sort(byTime)
  const [newest] = told
  if (newest?.outcome !== 'succeeded') return told.slice(0, 1)
  // Of workers that did not all take part in the one before, one knows of fewer than another.
  if (isOfWhole(newest)) return told.filter((one) => one.outcome === 'succeeded' && isOfWhole(one))
  const own = found.flatMap(({ generation, upgrades, lastUpgrade: one }) =>
    one?.generation === generation && upgrades.succeeded === succeeded ? [one] : [],
  )
  return own.length > 0 ? own.sort(byTime) : [newest]
}

/** Of all workers, as soon as the old process of each has drained. */
function sumOf(newest: LastUpgrade, parts: readonly LastUpgrade[]): LastUpgrade {
  const { connections: _, drain: __, ...upgrade } = newest
  const counts = parts.flatMap(({ connections }) => connections ?? [])
  const seconds = Math.max(...parts.map((part) => part.seconds))
  const generation = Math.max(...parts.map((part) => part.generation))
  if (counts.length < parts.length) return { ...upgrade, generation, seconds }
  const sum = (of: keyof ConnectionCounts) => counts.reduce((all, one) => all + one[of], 0)
  const connections = {
    handedOver: sum('handedOver'),
    served: sum('served'),
    closed: sum('closed'),
    cut: sum('cut'),
  }
  const times = parts.flatMap((part) => part.drain ?? [])
  return { ...upgrade, generation, seconds, connections, ...(times.length > 0 && { drain: latestOf(times) }) }
}

type Times = NonNullable<LastUpgrade['drain']>

/** When the last of them came so far. */
function latestOf(times: readonly Times[]): Times {
  const latest = (of: keyof Times) => {
    const all = times.flatMap((one) => one[of] ?? [])
    return all.length === 0 ? undefined : Math.max(...all)
  }
  return {
    ...withoutUndefined({
      stoppedAccepting: latest('stoppedAccepting'),
      toldToEnd: latest('toldToEnd'),
      cut: latest('cut'),
    }),
    ended: latest('ended') ?? 0,
  }
}
