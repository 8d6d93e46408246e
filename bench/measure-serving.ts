/**
 * Requests per second and p99 of a server with serve(), beside the same server without the library.
 */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import autocannon from 'autocannon'
import type { Sizes } from './measure-handover.ts'
import type { Row } from './rows.ts'
import { compare, ratio } from './statistics.ts'

const requests = 10_000

export async function* measureServing({ rounds }: Sizes): AsyncGenerator<Row> {
  const program = fileURLToPath(new URL('programs/serving.js', import.meta.url))
  const children = ['serve', 'plain'].map((way) => fork(program, [way]))
  try {
    const ports = await Promise.all(
      children.map((child) => once(child, 'message').then(([port]: number[]) => port ?? 0)),
    )
    const speeds: [number[], number[]] = [[], []]
    const tails: [number[], number[]] = [[], []]
    // The first rounds let V8 compile what is hot.
    for (let round = -3; round < 6 * rounds; round++) {
      for (const at of round % 2 === 0 ? ([0, 1] as const) : ([1, 0] as const)) {
        const before = performance.now()
        const result = await autocannon({
          url: `http://127.0.0.1:${ports[at]}`,
          connections: 10,
          amount: requests,
          sampleInt: 100,
        })
        if (result.errors + result.non2xx > 0) throw new Error('requests failed')
        if (round < 0) continue
        speeds[at].push(requests / (performance.now() - before))
        tails[at].push(result.latency.p99)
      }
    }
    yield { what: 'requests per second: with serve() / without', unit: 'x', ...compare(...speeds, ratio) }
    yield {
      what: 'p99: with serve() / without',
      unit: 'x',
      ...compare(...tails, (one, other) => (one + 1) / (other + 1)),
    }
  } finally {
    for (const child of children) child.kill('SIGKILL')
  }
}
