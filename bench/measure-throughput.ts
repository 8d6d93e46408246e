/**
 * Requests per second of a plain http server, with the library imported and its listener
 * registered, and without.
 */
import autocannon from 'autocannon'
import type { Bench } from './measure-upgrade.ts'
import { end, formats, messageFrom, programFile, startNode } from './processes.ts'
import type { Row } from './rows.ts'
import { compare, ratio, summarize } from './statistics.ts'

/**
 * A run takes a quarter to half of a second: long enough to be even, short enough that a pair sees
 * the same machine.
 */
const requests = 10_000

export async function* measureThroughput({ pairs }: Bench): AsyncGenerator<Row> {
  for (const format of formats) {
    const children = [
      startNode(programFile('importing', format), { env: { BENCH_REGISTER: '1' } }),
      startNode(programFile('plain', format)),
    ] as const
    const [portWith, portWithout] = [await messageFrom(children[0]), await messageFrom(children[1])]
    const [withIt, without]: [number[], number[]] = [[], []]
    // The first rounds let V8 compile what is hot; they are not counted.
    for (let round = -3; round < pairs; round++) {
      const turns = [
        [portWith, withIt],
        [portWithout, without],
      ] as const
      for (const [port, results] of round % 2 === 0 ? turns : turns.toReversed()) {
        const result = await perSecond(Number(port))
        if (round >= 0) results.push(result)
      }
    }
    yield { what: `requests per second, ${format}: with / without`, unit: 'x', ...compare(withIt, without, ratio) }
    yield { what: '  with', unit: '', ...summarize(withIt) }
    yield { what: '  without', unit: '', ...summarize(without) }
    for (const child of children) await end(child)
  }
}

async function perSecond(port: number): Promise<number> {
  const before = performance.now()
  const result = await autocannon({ url: `http://127.0.0.1:${port}`, connections: 10, amount: requests, sampleInt: 10 })
  const failed = result.errors + result.non2xx
  if (failed > 0) throw new Error(`${failed} of ${requests} requests failed`)
  return requests / ((performance.now() - before) / 1_000)
}
