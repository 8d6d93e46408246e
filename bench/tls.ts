/** `npm run bench:tls`: what the option `moveTls` costs, in CPU of the server and memory. */
import './environment.ts'
import { parseArgs } from 'node:util'
import { measureMoved, measureNative } from './measure-tls.ts'
import { measureAll } from './rows.ts'

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '10' },
    requests: { type: 'string', default: '2000' },
    idle: { type: 'string', default: '1000' },
  },
})
const sizes = { rounds: Number(values.rounds), requests: Number(values.requests), idle: Number(values.idle) }
if (!Object.values(sizes).every((size) => size >= 1)) {
  throw new Error('usage: bench:tls [--rounds N] [--requests N] [--idle N]')
}

await measureAll(
  'tls',
  [
    ['Connections that OpenSSL has: with moveTls, beside the same server without', measureNative],
    ['Connections that have moved, beside those that OpenSSL has', measureMoved],
  ],
  sizes,
)
