/** Numbers of the benchmarks in words. */
import type { Summary } from '../statistics.ts'
import { numeral } from './pictures.ts'

/** The median, and in parentheses the least and the most where they are others. */
export function spread({ min, median, max }: Summary): string {
  const [low, middle, high] = [numeral(min), numeral(median), numeral(max)]
  return low === high ? middle : `${middle} (${low} to ${high})`
}

export function middle({ median }: Summary): string {
  return numeral(median)
}

export function list(words: readonly string[]): string {
  return words.length < 2 ? words.join('') : `${words.slice(0, -1).join(', ')} and ${words.at(-1)}`
}
