/**
 * The clients, in a process of their own: what the bench does beside them is not in their numbers.
 */
import { connectionClients } from '../../../test/support/load/connection-clients.ts'
import { keepAliveClients } from '../../../test/support/load/keep-alive-clients.ts'
import type { FailureKind } from '../../../test/support/load/kinds.ts'
import type { Load } from '../../../test/support/load/load.ts'
import type { Weights } from '../../../test/support/load/requests.ts'
import type { AnswersOf, Latency, Window } from '../../../test/support/load/timeline.ts'
import { webSocketClients } from '../../../test/support/load/web-socket-clients.ts'
import { eventually } from '../../../test/support/waiting.ts'
import { monotonic } from '../../versus/clock.ts'

export type LoadPlan = {
  readonly port: number
  readonly keepAlive: number
  readonly single: number
  readonly webSockets: number
}

/** Times on the monotonic clock. */
export type LoadQuestion = {
  readonly steady: Required<Window>
  readonly upgrades: Required<Window>
  /** When everything that moves has moved. */
  readonly afterwards: Required<Window>
  /** The versions that came, in order. */
  readonly versions: readonly string[]
  /** Milliseconds of one step of the timeline. */
  readonly step: number
}

/** What the clients felt, all together. */
export type Felt = {
  readonly answers: number
  /** HTTP requests that were lost, before the first upgrade and from then on. */
  readonly lostBefore: number
  readonly lost: { readonly [kind in FailureKind]?: number }
  /** Of WebSockets, from then on. */
  readonly lostMessages: number
  /** Connections that lasted for the whole run, and those that clients had to open again. */
  readonly kept: number
  readonly reconnects: number
  readonly webSocketsKept: number
  /** Part of the messages that the newest version answered afterwards. */
  readonly webSocketsOnNewest: number
  readonly steady: Latency & { readonly gap: number }
  readonly upgrades: Latency & { readonly gap: number }
  /** For each version, when it first answered. */
  readonly firstAnswers: readonly (number | null)[]
  readonly timeline: { readonly answers: readonly AnswersOf[]; readonly lost: readonly number[] }
}

/**
 * Small requests, and among them those that a drain has to wait for: pieces, bodies, and answers
 * that take up to 300 ms.
 */
const weights: Weights = { small: 94, chunked: 2, post: 2, late: 2 }
/**
 * Between an answer and the next request of a client, in milliseconds: 100 clients leave two cores
 * time to deploy.
 */
const pause = [10, 40] as const
const deadline = 10_000

const plan = JSON.parse(process.argv[2] ?? '') as LoadPlan
const where = { host: '127.0.0.1', port: plan.port }
const keepAlive = keepAliveClients(where, { count: plan.keepAlive, weights, pause, deadline, reconnect: true })
const single = connectionClients(where, { count: plan.single, pause, deadline, goOn: true, asksForEnd: true })
const webSockets = webSocketClients(where, {
  count: plan.webSockets,
  inFlight: 1,
  mostBytes: 1_000,
  pause: [50, 150],
  deadline,
  reconnect: true,
})
const loads = [keepAlive, single, webSockets]
/** From the clock of the tallies to the monotonic one. */
const offset = monotonic() - performance.now()

process.once('disconnect', () => process.exit())
process.once('message', async (question: LoadQuestion) => {
  process.send?.(await answer(question), () => process.exit())
})
await Promise.all(loads.map(({ ready }) => ready))
// Ten answers for each client: then all code here and there has been compiled.
const warm = 10 * plan.keepAlive
await eventually('the load to be warm', () => keepAlive.result().answers >= warm || undefined)
process.send?.('ready')

async function answer({ steady, upgrades, afterwards, versions, step }: LoadQuestion): Promise<Felt> {
  const [before, during] = [ours(steady), ours(upgrades)]
  const newest = versions.at(-1)
  const { from, to } = ours(afterwards)
  const messages = webSockets.timeline.answersByGeneration({ from, to, step: to - from })
  const results = await Promise.all(loads.map((load) => load.stop()))
  const [ofKeepAlive, ofSingle, ofWebSockets] = results
  const lost = [ofKeepAlive, ofSingle].flatMap((result) => result?.lost ?? [])
  const lostSince = lost.filter(({ at }) => at >= during.from)
  return {
    answers: sum(results.map(({ answers }) => answers)),
    lostBefore: lost.length - lostSince.length,
    lost: countByKind(lostSince),
    lostMessages: ofWebSockets?.lost.filter(({ at }) => at >= during.from).length ?? 0,
    kept: plan.keepAlive - (ofKeepAlive?.failedClients ?? 0),
    reconnects: ofKeepAlive?.reconnects ?? 0,
    webSocketsKept: plan.webSockets - (ofWebSockets?.failedClients ?? 0),
    webSocketsOnNewest:
      sum(messages.map(({ generation, counts }) => (generation === newest ? sum(counts) : 0))) /
      sum(messages.map(({ counts }) => sum(counts))),
    steady: feltIn(before),
    upgrades: feltIn(during),
    firstAnswers: versions.map(firstAnswerOf),
    timeline: {
      answers: addUp(
        [keepAlive, single].flatMap(({ timeline }) => timeline.answersByGeneration({ ...during, step })),
        versions,
      ),
      lost: countBySteps(lostSince, during, step),
    },
  }
}

function ours({ from, to }: Required<Window>): Required<Window> {
  return { from: from - offset, to: to - offset }
}

/** Of small requests on keep-alive connections: the others take as long as they are told to. */
function feltIn(window: Window): Latency & { readonly gap: number } {
  return { ...keepAlive.latency({ ...window, kind: 'small' }), gap: keepAlive.longestGap(window) }
}

function firstAnswerOf(version: string): number | null {
  const times = [keepAlive, single].map(
    ({ timeline }: Load) => timeline.firstAnswerOf(version) ?? Number.POSITIVE_INFINITY,
  )
  const first = Math.min(...times)
  return Number.isFinite(first) ? first + offset : null
}

function addUp(rows: readonly AnswersOf[], versions: readonly string[]): AnswersOf[] {
  return versions.map((generation) => {
    const same = rows.filter((row) => row.generation === generation)
    const steps = same[0]?.counts ?? []
    return { generation, counts: steps.map((_, at) => sum(same.map(({ counts }) => counts[at] ?? 0))) }
  })
}

function countByKind(lost: readonly { readonly kind: FailureKind }[]): Felt['lost'] {
  const counts: { [kind in FailureKind]?: number } = {}
  for (const { kind } of lost) counts[kind] = (counts[kind] ?? 0) + 1
  return counts
}

function countBySteps(
  lost: readonly { readonly at: number }[],
  { from, to }: Required<Window>,
  step: number,
): number[] {
  const counts = Array.from({ length: Math.ceil((to - from) / step) }, () => 0)
  for (const { at } of lost) {
    const index = Math.min(Math.floor((at - from) / step), counts.length - 1)
    counts[index] = (counts[index] ?? 0) + 1
  }
  return counts
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}
