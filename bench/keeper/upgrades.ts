/** What clients lose at upgrades, and how long those take, beside the same without a keeper. */
import type { UpgradePhases } from 'cook-daemon'
import { connectionClients } from '../../test/support/load/connection-clients.ts'
import { keepAliveClients } from '../../test/support/load/keep-alive-clients.ts'
import { smallOnly } from '../../test/support/load/requests.ts'
import { pause } from '../measure-tail.ts'
import type { Row } from '../rows.ts'
import { ratio, summarize } from '../statistics.ts'
import { loadServer, type Service, type Sizes, type Way, ways, withService } from './service.ts'

export async function* measureUpgrades({ upgrades }: Sizes): AsyncGenerator<Row> {
  const felt: Record<Way, Felt> = { alone: await underLoad('alone', upgrades), kept: await underLoad('kept', upgrades) }
  for (const way of ways) {
    const { failed, reconnects, answers } = felt[way]
    yield { what: `${way}: failed requests`, unit: '', goal: 0, ...summarize([failed]) }
    yield { what: `${way}: connections lost`, unit: '', goal: 0, ...summarize([reconnects]) }
    yield { what: '  answers', unit: '', ...summarize([answers]) }
    yield { what: '  an upgrade, until the commit', unit: 'ms', ...summarize(felt[way].took) }
    yield { what: '    of which spawn', unit: 'ms', ...summarize(felt[way].spawn) }
  }
  const [kept, alone] = ways.map((way) => summarize(felt[way].took).median)
  yield { what: 'an upgrade: kept / alone (medians)', unit: 'x', ...summarize([ratio(kept ?? 0, alone ?? 0)]) }
}

type Felt = {
  readonly failed: number
  readonly reconnects: number
  readonly answers: number
  readonly took: readonly number[]
  readonly spawn: readonly number[]
}

/** Clients that never retry: one that has failed stays failed. */
function underLoad(way: Way, upgrades: number): Promise<Felt> {
  return withService(way, { program: loadServer }, async (service) => {
    const where = { host: '127.0.0.1', port: service.port }
    await using keepAlive = keepAliveClients(where, { count: 100, weights: smallOnly, pause: [5, 25] })
    await using single = connectionClients(where, { count: 20, pause: [5, 25] })
    await Promise.all([keepAlive.ready, single.ready])
    await pause(1_000)
    const phases: UpgradePhases[] = []
    for (let done = 0; done < upgrades; done++) phases.push(await upgrade(service))
    const [first, second] = [await keepAlive.stop(), await single.stop()]
    const lost = [first, second].flatMap(({ faults }) => faults)
    for (const { kind, words } of lost.slice(0, 5)) console.log(`  ${way}: ${kind}, ${words}`)
    return {
      failed: first.failedRequests + second.failedRequests,
      reconnects: first.connections - 100 + first.failedClients,
      answers: first.answers + second.answers,
      took: phases.map(({ spawn, boot, ready, commit }) => spawn + boot + ready + commit),
      spawn: phases.map(({ spawn }) => spawn),
    }
  })
}

/** As an operator types it; the old process is gone when the command ends. */
async function upgrade(service: Service): Promise<UpgradePhases> {
  const old = service.worker
  await service.operator.does(['upgrade', 'app'])
  service.worker = await service.lab.next()
  const { phases } = (await old.event('upgraded')) as { readonly phases: UpgradePhases }
  return phases
}
