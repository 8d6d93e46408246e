/**
 * 100 clients on a connection each and 20 that open one for each request, under which workers are
 * replaced, killed, added and removed.
 */
import { connectionClients } from '../../test/support/load/connection-clients.ts'
import { keepAliveClients } from '../../test/support/load/keep-alive-clients.ts'
import { smallOnly } from '../../test/support/load/requests.ts'
import type { Loss } from '../../test/support/load/tally.ts'
import { within } from '../../test/support/waiting.ts'
import { pause } from '../measure-tail.ts'

const keepAliveCount = 100
const singleCount = 20

export type Felt = {
  readonly lost: readonly Loss[]
  /** Keep-alive connections that ended, whether with a request or between two. */
  readonly ended: number
  readonly answers: number
}

export type Clients = { felt(): Felt }

/** Milliseconds without an answer: it hangs. */
export const deadline = 5_000
/** Milliseconds for all clients to end: their deadline, and time on a busy machine. */
const patience = 60_000

/**
 * `goOn`: a client that has lost its connection opens another, so that the load stays the same for
 * the next look; without it, it stays failed.
 */
export async function underClients(
  port: number,
  { goOn }: { readonly goOn: boolean },
  work: (clients: Clients) => Promise<void>,
): Promise<Felt> {
  const where = { host: '127.0.0.1', port }
  // Two cores have time to deploy then.
  const common = { pause: [10, 40], deadline } as const
  await using keepAlive = keepAliveClients(where, {
    ...common,
    count: keepAliveCount,
    weights: smallOnly,
    reconnect: goOn,
  })
  await using single = connectionClients(where, { ...common, count: singleCount, asksForEnd: true, goOn })
  await within('the connections of the clients', Promise.all([keepAlive.ready, single.ready]), patience)
  await pause(1_000)
  const felt = (): Felt => {
    const [one, other] = [keepAlive.result(), single.result()]
    return {
      lost: [...one.lost, ...other.lost],
      ended: goOn ? one.reconnects : one.failedClients,
      answers: one.answers + other.answers,
    }
  }
  await work({ felt })
  await within('the last answers of the clients', Promise.all([keepAlive.stop(), single.stop()]), patience)
  for (const { kind, words } of goOn ? [] : [keepAlive, single].flatMap((load) => load.result().faults).slice(0, 5)) {
    console.log(`  ${kind}, ${words}`)
  }
  return felt()
}
