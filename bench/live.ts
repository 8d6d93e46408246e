/**
 * `npm run bench:live`: what clients feel of upgrades with serve(), each beside the same server in
 * the same run without one.
 */
import './environment.ts'
import { parseArgs } from 'node:util'
import { measureHandover } from './measure-handover.ts'
import { measureMoves, measureSaturated } from './measure-moves.ts'
import { measureServing } from './measure-serving.ts'
import { measureTail } from './measure-tail.ts'
import { measureAll } from './rows.ts'

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

await measureAll(
  'live',
  [
    [`${sizes.connections} idle connections move, beside a bare loop that sends one handle at a time`, measureHandover],
    [`${sizes.connections} idle connections move, many on the way at once beside two at a time`, measureMoves],
    [`${sizes.upgrades} upgrades under 120 clients that never pause`, measureSaturated],
    [`${sizes.upgrades} upgrades under 100 keep-alive and 20 one-connection clients, beside none`, measureTail],
    ['Serving with serve(), beside serving without the library', measureServing],
  ],
  sizes,
)
