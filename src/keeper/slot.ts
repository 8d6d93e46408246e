/** What a keeper does with one place for a worker, event by event. Pure. */

/** Of service, in milliseconds: a worker that has had it is no sign of a bad release. */
export const longEnough = 10_000
/** Between two starts after crashes in a row, in milliseconds: twice as long each time. */
const firstPause = 100
const longestPause = 30_000
/** So many crashes in a row are a failure: it is tried every 30 s from then on, or given up. */
export const mostInRow = 10

export type Slot<Release> = {
  /** Nobody serves and nobody is started in `waiting`; what is `down` stays so. */
  readonly at: 'starting' | 'serving' | 'waiting' | 'down'
  readonly release: Release
  /** The one before it, to which to go back. */
  readonly before?: Release | undefined
  /** The release has served for long enough once. */
  readonly isProven: boolean
  /** Its crashes before that. */
  readonly early: number
  /** Crashes in a row. */
  readonly inRow: number
  readonly hasFailed: boolean
  readonly isStopping: boolean
  /** Nothing has served yet: a start that fails is told, and not tried again. */
  readonly isFirst: boolean
  /** What is started when nobody lives any more: somebody has asked for a restart. */
  readonly next?: Release | undefined
  /** What ran before a restart: it is started again if that does not come up. */
  readonly fallback?: Past<Release> | undefined
  readonly living: readonly number[]
  /** Who owns the service, since when, and until when if nobody has taken over from it yet. */
  readonly serving?: { readonly generation: number; readonly since: number; readonly until?: number } | undefined
}

/** What is known of a release, beside its crashes in a row. */
type Past<Release> = Pick<Slot<Release>, 'release' | 'before' | 'isProven' | 'early'>

export type SlotEvent<Release> =
  /** A generation is there, started by a worker or by the keeper. */
  | { readonly type: 'started'; readonly generation: number }
  | { readonly type: 'serves'; readonly generation: number; readonly release: Release; readonly now: number }
  | { readonly type: 'exit'; readonly generation: number; readonly now: number }
  /** What the keeper has started itself did not come up, and is gone. */
  | { readonly type: 'failed'; readonly now: number }
  /** The pause is over. */
  | { readonly type: 'timer' }
  /** Nobody has taken over for too long from one that has ended. */
  | { readonly type: 'overdue' }
  | { readonly type: 'stop' }
  /** What runs is to be ended, for this to be started in its place. */
  | { readonly type: 'restart'; readonly release: Release; readonly now: number }

export type SlotEffect<Release> =
  | { readonly do: 'start'; readonly release: Release }
  | { readonly do: 'wait'; readonly ms: number }
  /** The one that serves is told to end. */
  | { readonly do: 'replace' }
  /** The one that served has ended; another generation lives, and should take over in time. */
  | { readonly do: 'watch' }
  /** Whatever lives is killed: it would never serve. */
  | { readonly do: 'kill' }
  /** It goes back to the release before. */
  | { readonly do: 'back' }
  | { readonly do: 'crashed'; readonly inRow: number; readonly hasFailed: boolean }
  /** The first start has failed, or a service that may be given up has crashed too often. */
  | { readonly do: 'end'; readonly why: 'stopped' | 'first' | 'crashes' }

type Step<Release> = readonly [Slot<Release>, readonly SlotEffect<Release>[]]

export type Rules = {
  /** Ends after too many crashes in a row, in place of trying for ever. */
  readonly givesUp: boolean
  /** From 0 to 1: so that many services of one machine do not start at once. */
  chance(): number
  /** What the other slots know of the same release. */
  readonly elsewhere?: { readonly isProven: boolean; readonly early: number }
}

export function newSlot<Release>(release: Release): Step<Release> {
  const common = { release, isProven: false, early: 0, inRow: 0, hasFailed: false, isStopping: false, living: [] }
  return [{ ...common, at: 'starting', isFirst: true }, [{ do: 'start', release }]]
}

type IsSame<Release> = (one: Release, other: Release) => boolean

export function stepSlot<Release>(
  slot: Slot<Release>,
  event: SlotEvent<Release>,
  rules: Rules,
  isSame: IsSame<Release>,
): Step<Release> {
  switch (event.type) {
    case 'started':
      return [{ ...slot, living: [...slot.living.filter((one) => one !== event.generation), event.generation] }, []]
    case 'serves':
      return serves(slot, event, isSame)
    case 'exit':
      return exit(slot, event, rules, isSame)
    case 'failed':
      if (slot.at !== 'starting') return [slot, []]
      if (slot.isStopping) return end(slot, 'stopped')
      if (slot.isFirst) return end(slot, 'first')
      if (slot.next !== undefined) return startNext(slot, slot.next, { now: event.now, isSame })
      return slot.fallback === undefined ? crash(slot, event.now, rules) : goBack(slot, slot.fallback)
    case 'timer':
      if (slot.at !== 'waiting') return [slot, []]
      return [{ ...slot, at: 'starting' }, [{ do: 'start', release: slot.release }]]
    case 'overdue':
      return [slot, slot.at === 'serving' && slot.serving?.until !== undefined ? [{ do: 'kill' }] : []]
    case 'stop': {
      const next = { ...slot, isStopping: true, next: undefined }
      return slot.at === 'waiting' ? end(next, 'stopped') : [next, []]
    }
    case 'restart': {
      if (slot.isStopping || slot.at === 'down') return [slot, []]
      if (slot.at === 'waiting') return startNext(slot, event.release, { now: event.now, isSame })
      // A second word would cut what is still answered.
      const isTold = slot.next !== undefined
      return [{ ...slot, next: event.release }, slot.at === 'serving' && !isTold ? [{ do: 'replace' }] : []]
    }
  }
}

function exit<Release>(
  slot: Slot<Release>,
  { generation, now }: Extract<SlotEvent<Release>, { type: 'exit' }>,
  rules: Rules,
  isSame: IsSame<Release>,
): Step<Release> {
  const living = slot.living.filter((one) => one !== generation)
  // The end of one that starts is told by `failed`.
  if (slot.at !== 'serving') return [{ ...slot, living }, []]
  const { serving } = slot
  const isIts = serving?.generation === generation && serving.until === undefined
  const next = { ...slot, living, ...(isIts && { serving: { ...serving, until: now } }) }
  // A successor takes over, or an old generation that still drains takes the service back.
  if (living.length > 0) return [next, isIts ? [{ do: 'watch' }] : []]
  if (slot.isStopping) return end(next, 'stopped')
  return slot.next === undefined ? crash(next, now, rules) : startNext(next, slot.next, { now, isSame })
}

function startNext<Release>(
  slot: Slot<Release>,
  release: Release,
  { now, isSame }: { readonly now: number; readonly isSame: IsSame<Release> },
): Step<Release> {
  const start = [{ do: 'start', release }] as const
  const common = { ...slot, at: 'starting', next: undefined, serving: undefined, inRow: 0, hasFailed: false } as const
  const isProven = isInOrder(slot, now)
  if (isSame(release, slot.release)) return [{ ...common, isProven }, start]
  const { before, early } = slot
  const fallback = slot.fallback ?? { release: slot.release, before, isProven, early }
  return [{ ...common, ...pastOf(release, fallback, isSame), fallback }, start]
}

/** Back to what was in order, or at least ran. */
function goBack<Release>(slot: Slot<Release>, past: Past<Release>): Step<Release> {
  const back = { ...past, fallback: undefined, inRow: 0, hasFailed: false, serving: undefined }
  return [{ ...slot, ...back, at: 'starting' }, [{ do: 'back' }, { do: 'start', release: past.release }]]
}

/** Of a release that comes in the place of another. */
function pastOf<Release>(release: Release, last: Past<Release>, isSame: IsSame<Release>): Past<Release> {
  const { before } = last
  if (before !== undefined && isSame(release, before)) return { release, before: undefined, isProven: true, early: 0 }
  // To one that never was in order nobody wants to go back.
  return { release, before: last.isProven || before === undefined ? last.release : before, isProven: false, early: 0 }
}

/** Its own word: also that of an old generation that has the service again. */
function serves<Release>(
  slot: Slot<Release>,
  { generation, release, now }: Extract<SlotEvent<Release>, { type: 'serves' }>,
  isSame: IsSame<Release>,
): Step<Release> {
  const isKnown = slot.living.includes(generation) && slot.serving?.generation !== generation
  if (slot.at === 'down' || !isKnown) return [slot, []]
  const isOther = !isSame(release, slot.release)
  const last = { ...slot, isProven: isInOrder(slot, now) }
  const next = {
    ...slot,
    ...(isOther && { ...pastOf(release, last, isSame), inRow: 0, hasFailed: false }),
    ...{ at: 'serving' as const, isFirst: false, fallback: undefined, serving: { generation, since: now } },
  }
  // It has not heard of a stop or a restart that was asked for while it started.
  return [next, slot.isStopping || slot.next !== undefined ? [{ do: 'replace' }] : []]
}

export function isInOrder<Release>({ isProven, serving }: Slot<Release>, now: number): boolean {
  return isProven || hasServedLong(serving, now)
}

function hasServedLong(serving: Slot<unknown>['serving'], now: number): boolean {
  return serving !== undefined && (serving.until ?? now) - serving.since >= longEnough
}

function crash<Release>(slot: Slot<Release>, now: number, { givesUp, chance, elsewhere }: Rules): Step<Release> {
  const { before } = slot
  const isLong = hasServedLong(slot.serving, now)
  const isProven = isInOrder(slot, now) || elsewhere?.isProven === true
  const early = isProven ? 0 : slot.early + 1
  const inRow = isLong ? 1 : slot.inRow + 1
  const hasFailed = inRow >= mostInRow
  const told = { do: 'crashed', inRow, hasFailed } as const
  const crashed = { ...slot, serving: undefined, isProven, early, inRow, hasFailed }
  if (early + (early > 0 ? (elsewhere?.early ?? 0) : 0) >= 2 && before !== undefined) {
    const [back, effects] = goBack(crashed, { release: before, before: undefined, isProven: true, early: 0 })
    return [back, [told, ...effects]]
  }
  if (hasFailed && givesUp) return [{ ...crashed, at: 'down' }, [told, { do: 'end', why: 'crashes' }]]
  if (isLong) return [{ ...crashed, at: 'starting' }, [told, { do: 'start', release: slot.release }]]
  const pause = hasFailed ? longestPause : Math.min(longestPause, firstPause * 2 ** (inRow - 1))
  return [{ ...crashed, at: 'waiting' }, [told, { do: 'wait', ms: Math.round(pause * (0.8 + 0.4 * chance())) }]]
}

function end<Release>(slot: Slot<Release>, why: 'stopped' | 'first' | 'crashes'): Step<Release> {
  return [{ ...slot, at: 'down', serving: undefined }, [{ do: 'end', why }]]
}
