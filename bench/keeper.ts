/**
 * `npm run bench:keeper`: what a keeper costs and gives, each beside the same service without one,
 * or beside what else starts a process again, in the same run.
 */
import './environment.ts'
import { mkdirSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { runInterruptibly } from './interruption.ts'
import { measureCrashes } from './keeper/crashes.ts'
import { measureMemory } from './keeper/memory.ts'
import { measureMoves } from './keeper/moves.ts'
import { endAllServices, type Sizes } from './keeper/service.ts'
import { measureStalls } from './keeper/stalls.ts'
import { measureUpgrades } from './keeper/upgrades.ts'
import { describeMachine } from './machine.ts'
import { printRow, printTitle, type Row } from './rows.ts'
import { endAllSites } from './versus/site.ts'

const resultFile = fileURLToPath(new URL('../bench-results/keeper.json', import.meta.url))

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    upgrades: { type: 'string', default: '20' },
    connections: { type: 'string', default: '3000' },
    rounds: { type: 'string', default: '3' },
    lives: { type: 'string', default: '200' },
  },
})
const sizes: Sizes = {
  upgrades: Number(values.upgrades),
  connections: Number(values.connections),
  rounds: Number(values.rounds),
  lives: Number(values.lives),
}
const parts = {
  upgrades: {
    title: `${sizes.upgrades} upgrades under 100 keep-alive and 20 one-connection clients that never retry`,
    measure: measureUpgrades,
  },
  moves: { title: `${sizes.connections} idle connections move, kept beside alone`, measure: measureMoves },
  stalls: { title: 'A process with 500 MB of numbers stands still at an upgrade', measure: measureStalls },
  crashes: { title: 'SIGKILL of the process that serves under 120 clients', measure: measureCrashes },
  memory: { title: `Private dirty memory of the keeper over ${sizes.lives} upgrades`, measure: measureMemory },
} as const
const chosen = values.only?.split(',') ?? Object.keys(parts)
if (!Object.values(sizes).every((size) => size >= 1) || !chosen.every((name) => name in parts)) {
  throw new Error(`usage: bench:keeper [--only ${Object.keys(parts).join(',')}] [--upgrades N] [--connections N]
  [--rounds N] [--lives N]`)
}

await runInterruptibly(
  async () => {
    const machine = describeMachine()
    for (const [name, value] of Object.entries(machine)) console.log(`${name.padEnd(7)} ${value}`)
    const rows: Row[] = []
    for (const [name, { title, measure }] of Object.entries(parts)) {
      if (!chosen.includes(name)) continue
      printTitle(title)
      for await (const row of measure(sizes)) {
        printRow(row)
        rows.push(row)
      }
    }
    mkdirSync(fileURLToPath(new URL('../bench-results', import.meta.url)), { recursive: true })
    writeFileSync(resultFile, `${JSON.stringify({ machine, ...sizes, rows }, undefined, 2)}\n`)
    console.log(`\n${resultFile}`)
  },
  () => Promise.all([endAllServices(), endAllSites()]),
)
