/**
 * `npm run bench:live`: what clients feel of upgrades with serve(), each beside the same server in
 * the same run without one.
 */
import './environment.ts'
import { mkdirSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { describeMachine } from './machine.ts'
import { measureHandover } from './measure-handover.ts'
import { measureMoves, measureSaturated } from './measure-moves.ts'
import { measureServing } from './measure-serving.ts'
import { measureTail } from './measure-tail.ts'
import { printRow, printTitle, type Row } from './rows.ts'

const resultFile = fileURLToPath(new URL('../bench-results/live.json', import.meta.url))

const { values } = parseArgs({
  options: {
    connections: { type: 'string', default: '10000' },
    rounds: { type: 'string', default: '5' },
    upgrades: { type: 'string', default: '10' },
  },
})
const sizes = {
  connections: Number(values.connections),
  rounds: Number(values.rounds),
  upgrades: Number(values.upgrades),
}
if (!Object.values(sizes).every((size) => size >= 1)) {
  throw new Error('usage: bench:live [--connections N] [--rounds N] [--upgrades N]')
}

const machine = describeMachine()
for (const [name, value] of Object.entries(machine)) console.log(`${name.padEnd(7)} ${value}`)
const rows: Row[] = []
for (const [title, measure] of [
  [`${sizes.connections} idle connections move, beside a bare loop that sends one handle at a time`, measureHandover],
  [`${sizes.connections} idle connections move, many on the way at once beside two at a time`, measureMoves],
  [`${sizes.upgrades} upgrades under 120 clients that never pause`, measureSaturated],
  [`${sizes.upgrades} upgrades under 100 keep-alive and 20 one-connection clients, beside none`, measureTail],
  ['Serving with serve(), beside serving without the library', measureServing],
] as const) {
  printTitle(title)
  for await (const row of measure(sizes)) {
    printRow(row)
    rows.push(row)
  }
}
mkdirSync(fileURLToPath(new URL('../bench-results', import.meta.url)), { recursive: true })
writeFileSync(resultFile, `${JSON.stringify({ machine, ...sizes, rows }, undefined, 2)}\n`)
console.log(`\n${resultFile}`)
