/** An upgrade of several workers: all of them at once and all or none, or one by one. Pure. */

/** How far one is: `held` waits for the others, `freed` was let go on, for the last time or not. */
type Part = { readonly at: 'waiting' | 'asked' | 'held' | 'freed' | 'served' | 'failed'; readonly holds: number }

export type GroupUpgrade = {
  /** One after the other, each on its own. */
  readonly isRolling: boolean
  /** How often each is held: before the commit, and before an overlap too. */
  readonly holds: number
  readonly parts: ReadonlyMap<number, Part>
  /** All go on to their commit, or none does; undefined: that is open. */
  readonly decision?: 'go' | 'no' | undefined
  readonly isOver: boolean
}

export type GroupEvent =
  /** It is ready, or has overlapped for long enough. */
  | { readonly type: 'held'; readonly slot: number }
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

export function newGroup(slots: readonly number[], how: Pick<GroupUpgrade, 'isRolling' | 'holds'>): Step {
  const asked = how.isRolling ? slots.slice(0, 1) : slots
  const parts = new Map(
    slots.map((slot) => [slot, { at: asked.includes(slot) ? 'asked' : 'waiting', holds: 0 } as Part]),
  )
  return [{ ...how, parts, isOver: false }, asked.map((slot) => ({ do: 'ask', slot }))]
}

export function stepGroup(group: GroupUpgrade, event: GroupEvent): Step {
  if (group.isOver) {
    // Who comes now has been refused before.
    const isLate = event.type === 'held'
    return [group, isLate ? [{ do: 'release', slot: event.slot, mayGo: isFreed(group, event.slot) }] : []]
  }
  if (event.type === 'stop') return group.decision === undefined ? giveUp(group, []) : [group, []]
  const part = group.parts.get(event.slot)
  if (part === undefined) return [group, []]
  switch (event.type) {
    case 'held':
      return onHeld(group, event.slot, part)
    case 'served':
      return settle(set(group, event.slot, { ...part, at: 'served' }), [])
    case 'left':
      return group.isRolling ? askNext(group) : [group, []]
    case 'failed': {
      const failed = set(group, event.slot, { ...part, at: 'failed' })
      return group.decision === 'go' ? settle(failed, []) : giveUp(failed, [])
    }
  }
}

function onHeld(group: GroupUpgrade, slot: number, part: Part): Step {
  const free = (mayGo: boolean): GroupEffect => ({ do: 'release', slot, mayGo })
  // Its successor asks again where its predecessor has died behind the answer.
  if (part.at === 'freed' || group.decision !== undefined) return [group, [free(group.decision !== 'no')]]
  if (part.at === 'held') return [group, []]
  if (part.at !== 'asked') return [group, [free(false)]]
  const held = set(group, slot, { at: 'held', holds: part.holds + 1 })
  const all = group.isRolling ? [[slot, { at: 'held', holds: part.holds + 1 } as Part] as const] : [...held.parts]
  if (!all.every(([, one]) => one.at === 'held')) return [held, []]
  const isLast = part.holds + 1 === group.holds
  const at = isLast ? 'freed' : 'asked'
  const freed = all.reduce((next, [one, before]) => set(next, one, { ...before, at }), held)
  const decision = isLast && !group.isRolling ? 'go' : group.decision
  return [{ ...freed, decision }, all.map(([one]) => ({ do: 'release', slot: one, mayGo: true }))]
}

/** Nothing has changed yet, or in an upgrade one by one nothing changes from here on. */
function giveUp(group: GroupUpgrade, effects: readonly GroupEffect[]): Step {
  const open = [...group.parts].filter(([, { at }]) => at === 'asked' || at === 'held')
  const refused = open.map(([slot]): GroupEffect => ({ do: 'release', slot, mayGo: false }))
  const parts = new Map([...group.parts].map(([slot, part]) => [slot, part.at === 'waiting' ? failedPart : part]))
  return settle({ ...group, parts, decision: 'no' }, [...effects, ...refused])
}

const failedPart: Part = { at: 'failed', holds: 0 }

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
  return [set(group, next[0], { at: 'asked', holds: 0 }), [{ do: 'ask', slot: next[0] }]]
}

function isFreed(group: GroupUpgrade, slot: number): boolean {
  const at = group.parts.get(slot)?.at
  return at === 'freed' || at === 'served'
}

function set(group: GroupUpgrade, slot: number, part: Part): GroupUpgrade {
  return { ...group, parts: new Map([...group.parts, [slot, part]]) }
}
