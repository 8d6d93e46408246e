/**
 * `npm run bench:workers`: what several workers under a keeper cost and give, beside node:cluster
 * and PM2 with as many, in the same run.
 */
import './environment.ts'
import { parseArgs } from 'node:util'
import { runInterruptibly } from './interruption.ts'
import { measureAll } from './rows.ts'
import { endAllSites } from './versus/site.ts'
import { measureEvenness } from './workers/evenness.ts'
import { others, type Sizes } from './workers/group.ts'
import { measureKills } from './workers/kills.ts'
import { measureScale } from './workers/scale.ts'
import { measureThroughput } from './workers/throughput.ts'
import { measureUpgrades } from './workers/upgrades.ts'

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    beside: { type: 'string', default: others.join(',') },
    upgrades: { type: 'string', default: '100' },
    rounds: { type: 'string', default: '3' },
    requests: { type: 'string', default: '3000' },
    connections: { type: 'string', default: '200' },
  },
})
const sizes: Sizes = {
  upgrades: Number(values.upgrades),
  rounds: Number(values.rounds),
  requests: Number(values.requests),
  connections: Number(values.connections),
  beside: values.beside.split(','),
}
const parts = {
  upgrades: [
    '4 workers are replaced under 100 keep-alive and 20 one-connection clients that never retry',
    measureUpgrades,
  ],
  kills: ['SIGKILL of one of 4 workers under 120 clients', measureKills],
  scale: ['4 -> 2 -> 1 -> 8 -> 3 workers under 120 clients', measureScale],
  throughput: ['Requests, beside node:cluster with as many workers', measureThroughput],
  evenness: [`${sizes.connections} keep-alive connections, 8 workers`, measureEvenness],
} as const
const chosen = values.only?.split(',') ?? Object.keys(parts)
const { beside, ...counts } = sizes
if (
  !Object.values(counts).every((count) => count >= 1) ||
  !chosen.every((name) => name in parts) ||
  !beside.every((name) => others.some((other) => other === name))
) {
  throw new Error(`usage: bench:workers [--only ${Object.keys(parts).join(',')}] [--beside ${others.join(',')}]
  [--upgrades N] [--rounds N] [--requests N] [--connections N]`)
}

const asked = Object.entries(parts).flatMap(([name, part]) => (chosen.includes(name) ? [part] : []))
await runInterruptibly(() => measureAll('workers', asked, sizes), endAllSites)
