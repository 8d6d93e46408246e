/** A row of the result: what was measured, its numbers, and whether the goal is met. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describeMachine } from './machine.ts'
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

/** What is measured, with its title. */
export type Part<Sizes> = readonly [title: string, measure: (sizes: Sizes) => Iterable<Row> | AsyncIterable<Row>]

/** Measures one after the other, prints each row as it comes, and leaves all in a file. */
export async function measureAll<Sizes extends object>(
  name: string,
  parts: Iterable<Part<Sizes>>,
  sizes: Sizes,
): Promise<void> {
  const machine = describeMachine()
  for (const [what, value] of Object.entries(machine)) console.log(`${what.padEnd(7)} ${value}`)
  const rows: Row[] = []
  for (const [title, measure] of parts) {
    printTitle(title)
    for await (const row of measure(sizes)) {
      printRow(row)
      rows.push(row)
    }
  }
  const folder = fileURLToPath(new URL('../bench-results', import.meta.url))
  const file = join(folder, `${name}.json`)
  mkdirSync(folder, { recursive: true })
  writeFileSync(file, `${JSON.stringify({ machine, ...sizes, rows }, undefined, 2)}\n`)
  console.log(`\n${file}`)
}
