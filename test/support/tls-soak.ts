/** Upgrade after upgrade under clients over TLS 1.3 that never retry, half of them resumed. */
import { once } from 'node:events'
import { connect } from 'node:tls'
import type { WebSocketServerPlan } from '../fixtures/web-socket-server.ts'
import { makeCertificate } from './certificate.ts'
import { Lab, type Puppet } from './lab.ts'
import { keepAliveClients } from './load/keep-alive-clients.ts'
import { webSocketClients } from './load/web-socket-clients.ts'
import type { Report } from './steps.ts'
import { within } from './waiting.ts'

export type TlsSoakPlan = {
  readonly upgrades: number
  /** Of each kind: keep-alive clients of HTTPS, and WebSockets. */
  readonly clients: number
  /** After each upgrade. */
  onUpgrade?(result: TlsSoakResult): void
  /** Ends it early; what has happened until then is the result. */
  readonly signal?: AbortSignal
}

export type TlsSoakResult = {
  readonly upgrades: number
  readonly answers: number
  readonly reconnects: number
  /** Connections, by what became of them in all drains. */
  readonly moved: number
  readonly proven: number
  readonly returned: number
  readonly closed: number
  readonly cut: number
  readonly stayed: Readonly<Record<string, number>>
  /** Medians, in milliseconds: until the new version serves, of the drain, and until the old one is gone. */
  readonly times: { readonly start: number; readonly drain: number; readonly end: number }
  /** What is not as it should be, in words. */
  readonly faults: readonly string[]
}

/** Long enough for a new version on a busy machine: it is reached only by a fault. */
const deadline = 120_000

export async function tlsSoak({ upgrades, clients, onUpgrade, signal }: TlsSoakPlan): Promise<TlsSoakResult> {
  await using lab = await Lab.open()
  makeCertificate(lab)
  const plan: WebSocketServerPlan = { isSecure: true, serve: { moveTls: true, moveTlsFor: 2 ** 31 - 1 } }
  let server = await lab.start('web-socket-server', { env: { WEB_SOCKET_SERVER: JSON.stringify(plan) } })
  const { port } = (await server.event('serving')) as { port: number }
  const where = { host: '127.0.0.1', port, tls: {} }
  const resumed = { ...where, tls: { session: await sessionOf(port) } }
  const [some, others] = [Math.ceil(clients / 2), Math.floor(clients / 2)]
  const pause = [0, 1_000] as const
  await using fresh = keepAliveClients(where, { count: some, pause, deadline })
  await using again = keepAliveClients(resumed, { count: others, pause, deadline, seed: 2 })
  await using webSockets = webSocketClients(where, { count: some, pause, deadline })
  await using webSocketsAgain = webSocketClients(resumed, { count: others, pause, deadline, seed: 2 })
  const loads = [fresh, again, webSockets, webSocketsAgain]
  await Promise.all(loads.map(({ ready }) => ready))

  const totals = { moved: 0, proven: 0, returned: 0, closed: 0, cut: 0 }
  const stayed: Record<string, number> = {}
  const times = { start: [] as number[], drain: [] as number[], end: [] as number[] }
  let done = 0
  const result = (): TlsSoakResult => {
    const results = loads.map((load) => load.result())
    const sum = (key: 'answers' | 'reconnects') => results.reduce((total, one) => total + one[key], 0)
    const faults = results.flatMap((one) => one.faults.map(({ kind, words }) => `${kind}: ${words}`))
    const closes = results.flatMap((one) =>
      Object.entries(one.closes).map(([what, count]) => `${count} closed: ${what}`),
    )
    const [start, drain, end] = [median(times.start), median(times.drain), median(times.end)]
    return {
      ...{ upgrades: done, answers: sum('answers'), reconnects: sum('reconnects'), ...totals, stayed },
      ...{ times: { start, drain, end }, faults: [...faults, ...closes] },
    }
  }
  while (done < upgrades && signal?.aborted !== true) {
    const { young, report, ...took } = await upgrade(lab, server)
    server = young
    done++
    for (const key of ['start', 'drain', 'end'] as const) times[key].push(took[key])
    for (const key of ['moved', 'proven', 'returned'] as const) totals[key] += report.tls?.[key] ?? 0
    for (const key of ['closed', 'cut'] as const) totals[key] += report[key]
    for (const [why, count] of Object.entries(report.tls?.stayed ?? {})) stayed[why] = (stayed[why] ?? 0) + count
    onUpgrade?.(result())
  }
  await Promise.all(loads.map((load) => load.stop()))
  const last = result()
  const wrong = [
    ...(last.reconnects > 0 ? [`${last.reconnects} clients connected again`] : []),
    ...(last.cut > 0 ? [`${last.cut} connections were cut`] : []),
    ...(last.closed > 0 ? [`${last.closed} connections were closed`] : []),
    ...Object.entries(stayed).map(([why, count]) => `${count} connections stayed: ${why}`),
  ]
  return { ...last, faults: [...last.faults, ...wrong] }
}

async function upgrade(lab: Lab, old: Puppet) {
  const begin = performance.now()
  old.kill('SIGUSR2')
  const young = await lab.next()
  await young.event('serving')
  const served = performance.now()
  const { report } = (await old.event('drained')) as { report: Report }
  const drained = performance.now()
  await old.gone
  return { young, report, start: served - begin, drain: drained - served, end: performance.now() - drained }
}

/** Of a connection that was closed: with its tickets a client resumes. */
async function sessionOf(port: number): Promise<Buffer> {
  const socket = connect({ port, host: '127.0.0.1', rejectUnauthorized: false })
  const [session] = (await within('a session', once(socket, 'session'))) as [Buffer]
  socket.destroy()
  return session
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] ?? 0
}
