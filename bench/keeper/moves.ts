/** How fast idle connections move under a keeper, beside the same without one. */
import { openIdle } from '../measure-handover.ts'
import type { Row } from '../rows.ts'
import { ratio, summarize } from '../statistics.ts'
import { byTurns, loadServer, type Sizes, type Way, withService } from './service.ts'

export async function* measureMoves({ connections, rounds }: Sizes): AsyncGenerator<Row> {
  const { kept, alone } = await byTurns(rounds, (way) => moveIdle(way, connections))
  const ratios = kept.map((speed, at) => ratio(alone[at] ?? 0, speed))
  yield { what: 'time: kept / alone', unit: 'x', goal: 1.11, ...summarize(ratios) }
  yield { what: '  connections a second, kept', unit: '', ...summarize(kept) }
  yield { what: '  connections a second, alone', unit: '', ...summarize(alone) }
}

/** Connections a second, from the commit to the end of the drain on the old process's clock. */
function moveIdle(way: Way, connections: number): Promise<number> {
  return withService(way, { program: loadServer, env: { LOAD_KEEP_ALIVE: '60000' } }, async ({ lab, worker, port }) => {
    const sockets = await openIdle(port, connections)
    try {
      worker.kill('SIGUSR2')
      await lab.next()
      const committed = (await worker.event('upgraded')) as { readonly at: number }
      const { at, report } = (await worker.event('drained')) as { at: number; report: { handedOver: number } }
      if (report.handedOver !== connections) throw new Error(`${report.handedOver} of ${connections} moved`)
      return connections / ((at - committed.at) / 1_000)
    } finally {
      for (const socket of sockets) socket.destroy()
    }
  })
}
