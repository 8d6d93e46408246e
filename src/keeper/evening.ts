/** Which worker gives connections to which, so that none has far more than the others. Pure. */

/** Above so many times the mean and so many more a worker gives some away. */
const most = { times: 1.25, more: 8 } as const

/** Connections that are open, by slot. */
export type Counts = ReadonlyMap<number, number>

export type Move = { readonly from: number; readonly to: number; readonly count: number }

/** Undefined: they are even enough. */
export function nextMove(counts: Counts): Move | undefined {
  const sorted = [...counts].sort(([, one], [, other]) => one - other)
  const [fewest, greatest] = [sorted[0], sorted.at(-1)]
  if (fewest === undefined || greatest === undefined || fewest === greatest) return undefined
  const mean = sorted.reduce((sum, [, count]) => sum + count, 0) / sorted.length
  if (greatest[1] <= mean * most.times + most.more) return undefined
  // Neither is beyond the mean then.
  const count = Math.floor(Math.min(greatest[1] - mean, mean - fewest[1]))
  return count < 1 ? undefined : { from: greatest[0], to: fewest[0], count }
}

/** The one with the fewest, of those that may take them. */
export function fewestOf(counts: Counts): number | undefined {
  return [...counts].sort(([, one], [, other]) => one - other)[0]?.[0]
}
