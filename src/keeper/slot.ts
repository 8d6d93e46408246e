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
  /** It is being started: if it fails, what ran before is started again. */
  readonly isTrial?: boolean
  readonly living: readonly number[]
  /** Who owns the service, and since when. */
  readonly serving?: { readonly generation: number; readonly since: number } | undefined
}

export type SlotEvent<Release> =
  /** A generation is there, started by a worker or by the keeper. */
  | { readonly type: 'started'; readonly generation: number }
  | { readonly type: 'serves'; readonly generation: number; readonly release: Release; readonly now: number }
  | { readonly type: 'exit'; readonly generation: number; readonly now: number }
  /** What the keeper has started itself did not come up, and is gone. */
  | { readonly type: 'failed'; readonly now: number }
  /** The pause is over. */
  | { readonly type: 'timer' }
  | { readonly type: 'stop' }
  /** What runs is being ended, for this to be started in its place. */
  | { readonly type: 'restart'; readonly release: Release }

export type SlotEffect<Release> =
  | { readonly do: 'start'; readonly release: Release }
  | { readonly do: 'wait'; readonly ms: number }
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
}

export function newSlot<Release>(release: Release): Step<Release> {
  const common = { release, isProven: false, early: 0, inRow: 0, hasFailed: false, isStopping: false, living: [] }
  return [{ ...common, at: 'starting', isFirst: true }, [{ do: 'start', release }]]
}

export function stepSlot<Release>(
  slot: Slot<Release>,
  event: SlotEvent<Release>,
  rules: Rules,
  isSame: (one: Release, other: Release) => boolean,
): Step<Release> {
  switch (event.type) {
    case 'started':
      return [{ ...slot, living: [...slot.living.filter((one) => one !== event.generation), event.generation] }, []]
    case 'serves':
      return [serves(slot, event, isSame), []]
    case 'exit': {
      const living = slot.living.filter((one) => one !== event.generation)
      const next = { ...slot, living }
      // Its end is told by `failed`.
      if (slot.at !== 'serving' || living.length > 0) return [next, []]
      if (slot.isStopping) return end(next, 'stopped')
      return slot.next === undefined ? crash(next, event.now, rules) : startNext(next, slot.next)
    }
    case 'failed':
      if (slot.at !== 'starting') return [slot, []]
      if (slot.isStopping) return end(slot, 'stopped')
      if (slot.isFirst) return end(slot, 'first')
      return slot.isTrial === true && slot.before !== undefined
        ? goBack(slot, slot.before)
        : crash(slot, event.now, rules)
    case 'timer':
      if (slot.at !== 'waiting' || slot.isStopping) return [slot, []]
      return [{ ...slot, at: 'starting' }, [{ do: 'start', release: slot.release }]]
    case 'stop': {
      const next = { ...slot, isStopping: true }
      return slot.at === 'waiting' ? end(next, 'stopped') : [next, []]
    }
    case 'restart':
      if (slot.isStopping || slot.at === 'down') return [slot, []]
      return slot.at === 'waiting' ? startNext(slot, event.release) : [{ ...slot, next: event.release }, []]
  }
}

function startNext<Release>(slot: Slot<Release>, release: Release): Step<Release> {
  const trial = { release, before: slot.release, isTrial: true, isProven: false, early: 0, inRow: 0, hasFailed: false }
  return [{ ...slot, ...trial, at: 'starting', next: undefined, serving: undefined }, [{ do: 'start', release }]]
}

/** To a release that was in order. */
function goBack<Release>(slot: Slot<Release>, release: Release): Step<Release> {
  const back = { release, before: undefined, isTrial: false, isProven: true, early: 0, inRow: 0, hasFailed: false }
  return [{ ...slot, ...back, at: 'starting', serving: undefined }, [{ do: 'back' }, { do: 'start', release }]]
}

/** Its own word: also that of an old generation that has the service again. */
function serves<Release>(
  slot: Slot<Release>,
  { generation, release, now }: Extract<SlotEvent<Release>, { type: 'serves' }>,
  isSame: (one: Release, other: Release) => boolean,
): Slot<Release> {
  if (slot.at === 'down' || slot.serving?.generation === generation) return slot
  const living = slot.living.includes(generation) ? slot.living : [...slot.living, generation]
  const next = {
    ...slot,
    at: 'serving' as const,
    isFirst: false,
    isTrial: false,
    living,
    serving: { generation, since: now },
  }
  if (isSame(release, slot.release)) return next
  const isProven = slot.isProven || (slot.serving !== undefined && now - slot.serving.since >= longEnough)
  // To one that never was in order nobody wants to go back.
  const before = isProven || slot.before === undefined ? slot.release : slot.before
  const isBack = slot.before !== undefined && isSame(release, slot.before)
  return {
    ...next,
    release,
    before: isBack || isSame(release, before) ? undefined : before,
    isProven: isBack,
    early: 0,
    inRow: 0,
    hasFailed: false,
  }
}

function crash<Release>(slot: Slot<Release>, now: number, { givesUp, chance }: Rules): Step<Release> {
  const { before } = slot
  const isLong = slot.serving !== undefined && now - slot.serving.since >= longEnough
  const isProven = slot.isProven || isLong
  const early = isProven ? 0 : slot.early + 1
  const crashed = { ...slot, serving: undefined, isProven, early }
  if (early >= 2 && before !== undefined) return goBack(slot, before)
  const inRow = isLong ? 1 : slot.inRow + 1
  const hasFailed = inRow >= mostInRow
  const told = { do: 'crashed', inRow, hasFailed } as const
  if (hasFailed && givesUp) return [{ ...crashed, at: 'down', inRow, hasFailed }, [told, { do: 'end', why: 'crashes' }]]
  if (isLong) return [{ ...crashed, at: 'starting', inRow, hasFailed }, [told, { do: 'start', release: slot.release }]]
  const pause = hasFailed ? longestPause : Math.min(longestPause, firstPause * 2 ** (inRow - 1))
  return [{ ...crashed, at: 'waiting', inRow, hasFailed }, [told, { do: 'wait', ms: pause * (0.8 + 0.4 * chance()) }]]
}

function end<Release>(slot: Slot<Release>, why: 'stopped' | 'first' | 'crashes'): Step<Release> {
  return [{ ...slot, at: 'down', serving: undefined }, [{ do: 'end', why }]]
}
