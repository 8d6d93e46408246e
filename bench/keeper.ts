/**
 * `npm run bench:keeper`: what a keeper costs and gives, each beside the same service without one,
 * or beside what else starts a process again, in the same run.
 */
import './environment.ts'
import { parseArgs } from 'node:util'
import { runInterruptibly } from './interruption.ts'
import { measureCrashes } from './keeper/crashes.ts'
import { measureMemory } from './keeper/memory.ts'
import { measureMoves } from './keeper/moves.ts'
import { measureRotation } from './keeper/rotation.ts'
import { endAllServices, type Sizes } from './keeper/service.ts'
import { measureStalls } from './keeper/stalls.ts'
import { measureUpgrades } from './keeper/upgrades.ts'
import { measureAll } from './rows.ts'
import { endAllSites } from './versus/site.ts'

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
  upgrades: [
    `${sizes.upgrades} upgrades under 100 keep-alive and 20 one-connection clients that never retry`,
    measureUpgrades,
  ],
  moves: [`${sizes.connections} idle connections move, kept beside alone`, measureMoves],
  stalls: ['A process with 500 MB of numbers stands still at an upgrade', measureStalls],
  crashes: ['SIGKILL of the process that serves under 120 clients', measureCrashes],
  memory: [`Private dirty memory of the keeper over ${sizes.lives} upgrades`, measureMemory],
  rotation: ['Lines that are lost between the copy of a log and its cut', measureRotation],
} as const
const chosen = values.only?.split(',') ?? Object.keys(parts)
if (!Object.values(sizes).every((size) => size >= 1) || !chosen.every((name) => name in parts)) {
  throw new Error(`usage: bench:keeper [--only ${Object.keys(parts).join(',')}] [--upgrades N] [--connections N]
  [--rounds N] [--lives N]`)
}

const asked = Object.entries(parts).flatMap(([name, part]) => (chosen.includes(name) ? [part] : []))
await runInterruptibly(
  () => measureAll('keeper', asked, sizes),
  () => Promise.all([endAllServices(), endAllSites()]),
)
