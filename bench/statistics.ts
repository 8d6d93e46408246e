/**
 * Minimum, median and maximum: what is left of many measurements on a machine that others use too.
 */

export type Summary = { readonly min: number; readonly median: number; readonly max: number; readonly n: number }

export function summarize(values: readonly number[]): Summary {
  const sorted = values.toSorted((one, other) => one - other)
  const [min, max] = [sorted[0], sorted.at(-1)]
  if (min === undefined || max === undefined) throw new Error('there is nothing to summarize')
  return { min, median: medianOf(sorted), max, n: sorted.length }
}

function medianOf(sorted: readonly number[]): number {
  const half = sorted.length / 2
  const [low = 0, high = 0] = [sorted[Math.ceil(half) - 1], sorted[Math.floor(half)]]
  return (low + high) / 2
}

/** Both lists were measured by turns, so what slowed one pair down slowed both of it. */
export function compare(
  ones: readonly number[],
  others: readonly number[],
  how: (one: number, other: number) => number,
): Summary {
  return summarize(ones.map((one, at) => how(one, others[at] ?? Number.NaN)))
}

/**
 * The smallest of each: no machine is disturbed always, so this tells most where the medians are
 * far apart.
 */
export function compareFastest(
  ones: readonly number[],
  others: readonly number[],
  how: (one: number, other: number) => number,
): Summary {
  return { ...summarize([how(Math.min(...ones), Math.min(...others))]), n: ones.length }
}

export const ratio = (one: number, other: number): number => one / other
export const difference = (one: number, other: number): number => one - other
