/** An upgrade of several workers: all of them at once and all or none, or one by one. Pure. */

/**
 * How far one is: `held` waits for the others, before its overlap or before its commit; `freed` was
 * let go on to its commit.
 */
type Part = {
  readonly at: 'waiting' | 'asked' | 'held' | 'freed' | 'served' | 'failed'
  readonly overlaps?: boolean
}

export type GroupUpgrade = {
  /** One after the other, each on its own. */
  readonly isRolling: boolean
  readonly parts: ReadonlyMap<number, Part>
  /** All go on to their commit, or none does; undefined: that is open. */
  readonly decision?: 'go' | 'no' | undefined
  readonly isOver: boolean
}

export type GroupEvent =
  /** It is ready, or has overlapped for long enough; `overlaps`: an overlap comes next. */
  | { readonly type: 'held'; readonly slot: number; readonly overlaps?: boolean }
  /** Its new version serves. */
  | { readonly type: 'served'; readonly slot: number }
  /** Its old version serves on, or nobody does. */
  | { readonly type: 'failed'; readonly slot: number }
  /** Its old version has drained. */
  | { readonly type: 'left'; readonly slot: number }
  /** The service ends, or whoever asked has given up. */
  | { readonly type: 'stop' }

export type GroupEffect =
  | { readonly do: 'ask'; readonly slot: number }
  | { readonly do: 'release'; readonly slot: number; readonly mayGo: boolean }
  /** `mixed`: some serve the new version, and others do not. */
  | { readonly do: 'end'; readonly outcome: 'served' | 'failed' | 'mixed'; readonly missing: readonly number[] }

type Step = readonly [GroupUpgrade, readonly GroupEffect[]]

export function newGroup(slots: readonly number[], isRolling: boolean): Step {
  const asked = isRolling ? slots.slice(0, 1) : slots
  const parts = new Map(slots.map((slot) => [slot, { at: asked.includes(slot) ? 'asked' : 'waiting' } as Part]))
  return [{ isRolling, parts, isOver: false }, asked.map((slot) => ({ do: 'ask', slot }))]
}

export function stepGroup(group: GroupUpgrade, event: GroupEvent): Step {
  if (group.isOver) {
    // Who comes now has been refused before.
    const isLate = event.type === 'held'
    return [group, isLate ? [{ do: 'release', slot: event.slot, mayGo: isFreed(group, event.slot) }] : []]
  }
  if (event.type === 'stop') return group.decision === undefined ? giveUp(group) : [group, []]
  const part = group.parts.get(event.slot)
  if (part === undefined) return [group, event.type === 'held' ? [refusal(event.slot)] : []]
  switch (event.type) {
    case 'held':
      return onHeld(group, event.slot, { part, overlaps: event.overlaps === true })
    case 'served':
      return settle(set(group, event.slot, { at: 'served' }), [])
    case 'left':
      return group.isRolling ? askNext(group) : [group, []]
    case 'failed': {
      const next = set(group, event.slot, failed)
      return group.decision === 'go' ? settle(next, []) : giveUp(next)
    }
  }
}

function onHeld(
  group: GroupUpgrade,
  slot: number,
  { part, overlaps }: { readonly part: Part; readonly overlaps: boolean },
): Step {
  // Its successor asks again where its predecessor has died behind the answer.
  if (part.at === 'freed' || group.decision === 'go') return [group, [{ do: 'release', slot, mayGo: true }]]
  // Or before it, and waits in its place.
  if ((part.at !== 'asked' && part.at !== 'held') || group.decision === 'no') return [group, [refusal(slot)]]
  const held = set(group, slot, { at: 'held', overlaps })
  const all = group.isRolling ? [[slot, { at: 'held', overlaps } as Part] as const] : [...held.parts]
  if (!all.every(([, one]) => one.at === 'held')) return [held, []]
  // Who has no overlap before it waits for those that have.
  const first = all.filter(([, one]) => one.overlaps === true)
  const isLast = first.length === 0
  const freed = isLast ? all : first
  const next = freed.reduce((after, [one]) => set(after, one, { at: isLast ? 'freed' : 'asked' }), held)
  const decision = isLast && !group.isRolling ? 'go' : group.decision
  return [{ ...next, decision }, freed.map(([one]) => ({ do: 'release', slot: one, mayGo: true }))]
}

function refusal(slot: number): GroupEffect {
  return { do: 'release', slot, mayGo: false }
}

/** Nothing has changed yet, or in an upgrade one by one nothing changes from here on. */
function giveUp(group: GroupUpgrade): Step {
  const open = [...group.parts].filter(([, { at }]) => at === 'asked' || at === 'held')
  const refused = open.map(([slot]) => refusal(slot))
  const parts = new Map([...group.parts].map(([slot, part]) => [slot, part.at === 'waiting' ? failed : part]))
  return settle({ ...group, parts, decision: 'no' }, refused)
}

const failed: Part = { at: 'failed' }

function settle(group: GroupUpgrade, effects: readonly GroupEffect[]): Step {
  const parts = [...group.parts]
  if (!parts.every(([, { at }]) => at === 'served' || at === 'failed')) return [group, effects]
  const missing = parts.filter(([, { at }]) => at === 'failed').map(([slot]) => slot)
  const outcome = missing.length === 0 ? 'served' : missing.length === parts.length ? 'failed' : 'mixed'
  return [{ ...group, isOver: true }, [...effects, { do: 'end', outcome, missing }]]
}

function askNext(group: GroupUpgrade): Step {
  const isBusy = [...group.parts.values()].some(({ at }) => at === 'asked' || at === 'held' || at === 'freed')
  const next = [...group.parts].find(([, { at }]) => at === 'waiting')
  if (next === undefined || isBusy || group.decision !== undefined) return [group, []]
  return [set(group, next[0], { at: 'asked' }), [{ do: 'ask', slot: next[0] }]]
}

function isFreed(group: GroupUpgrade, slot: number): boolean {
  const at = group.parts.get(slot)?.at
  return at === 'freed' || at === 'served'
}

function set(group: GroupUpgrade, slot: number, part: Part): GroupUpgrade {
  return { ...group, parts: new Map([...group.parts, [slot, part]]) }
}
