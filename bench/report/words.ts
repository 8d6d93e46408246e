/** Numbers of the benchmarks in words. */
import type { Machine } from '../machine.ts'
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

export function runsWords(runs: number): string {
  return runs === 1 ? 'one run' : `medians of ${runs} runs`
}

export function isBusy({ busy }: Machine): boolean {
  return Number.parseFloat(busy) > 25
}

/** What else ran when the benchmark began, which nobody who reads its numbers can see otherwise. */
export function busyWords(machine: Machine): string {
  return `Before it began, ${machine.busy} of the processors' time went to other work.${isBusy(machine) ? ' Times are long and uneven, and say something beside each other only.' : ''}`
}

export function machineWords({ cores, kernel, memory, node }: Machine): string {
  return list([`${cores}, ${memory}`, kernel.replace(/-\S+/, ''), `Node ${node.slice(1)}`]).replace(' and ', ', ')
}
