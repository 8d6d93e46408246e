/** A row of the result: what was measured, its numbers, and whether the goal is met. */
import type { Summary } from './statistics.ts'

export type Row = {
  readonly what: string
  readonly unit: 'x' | 'ms' | 'MB' | ''
  /** The most that the median may be. */
  readonly goal?: number
} & Summary

const widths = [58, 9, 9, 9, 5] as const

export function printTitle(title: string): void {
  console.log(`\n${title}`)
  console.log(`${columns(['', 'min', 'median', 'max', 'n'])}  goal`)
}

export function printRow({ what, unit, goal, min, median, max, n }: Row): void {
  const numbers = [min, median, max].map((value) => `${digits(value, unit)}`)
  const label = unit === 'x' || unit === '' ? what : `${what}, ${unit}`
  const verdict = goal === undefined ? '' : `<= ${goal} ${median <= goal ? '✓' : '✗'}`
  console.log(`${columns([label, ...numbers, String(n)])}  ${verdict}`.trimEnd())
}

function columns(cells: readonly string[]): string {
  return cells.map((cell, at) => (at === 0 ? cell.padEnd(widths[0]) : cell.padStart(widths[at] ?? 0))).join('')
}

function digits(value: number, unit: Row['unit']): string {
  return unit === '' ? value.toFixed(0) : value.toFixed(unit === 'x' ? 3 : 2)
}
