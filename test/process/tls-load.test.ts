/** The promise as a whole for TLS 1.3, with `moveTls`: clients that never retry notice nothing. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test } from 'node:test'
import { connect } from 'node:tls'
import type { WebSocketServerPlan } from '../fixtures/web-socket-server.ts'
import { makeCertificate } from '../support/certificate.ts'
import { onlyInMatrix, takesAll } from '../support/extent.ts'
import { Lab } from '../support/lab.ts'
import { keepAliveClients } from '../support/load/keep-alive-clients.ts'
import { randomFrom } from '../support/load/random.ts'
import { webSocketClients } from '../support/load/web-socket-clients.ts'
import { Sluice } from '../support/sluice.ts'
import { upgradeBySignal } from '../support/steps.ts'
import { within } from '../support/waiting.ts'

const extent = takesAll ? { upgrades: 30, clients: 25 } : { upgrades: 3, clients: 10 }

test('upgrades under keep-alive HTTPS clients and WebSockets over TLS, half of them resumed: nothing fails, and nobody reconnects', async () => {
  await using lab = await Lab.open()
  makeCertificate(lab)
  const plan: WebSocketServerPlan = { isSecure: true, serve: { moveTls: true, moveTlsFor: 2 ** 31 - 1 } }
  let server = await lab.start('web-socket-server', { env: { WEB_SOCKET_SERVER: JSON.stringify(plan) } })
  const { port } = (await server.event('serving')) as { port: number }
  const where = { host: '127.0.0.1', port, tls: {} }
  const resumed = { ...where, tls: { session: await sessionOf(port) } }
  const many = { count: extent.clients, pause: [0, 1_000] } as const
  await using fresh = keepAliveClients(where, many)
  await using again = keepAliveClients(resumed, { ...many, seed: 2 })
  await using webSockets = webSocketClients(where, many)
  await using webSocketsAgain = webSocketClients(resumed, { ...many, seed: 2 })
  const loads = [fresh, again, webSockets, webSocketsAgain]
  await Promise.all(loads.map(({ ready }) => ready))
  const totals = { moved: 0, proven: 0, returned: 0, cut: 0, closed: 0, stayed: {} as object }
  for (let upgrades = 0; upgrades < extent.upgrades; upgrades++) {
    const { young, report } = await upgradeBySignal(lab, server)
    const { moved = 0, proven = 0, returned = 0, stayed = {} } = report.tls ?? {}
    totals.moved += moved
    totals.proven += proven
    totals.returned += returned
    totals.cut += report.cut
    totals.closed += report.closed
    totals.stayed = { ...totals.stayed, ...stayed }
    server = young
  }
  const results = await Promise.all(loads.map((load) => load.stop()))
  for (const { failures, faults, reconnects, closes } of results) {
    assert.deepEqual(failures, {}, JSON.stringify(faults.slice(0, 3)))
    assert.deepEqual(closes, {})
    assert.equal(reconnects, 0)
  }
  assert.deepEqual([totals.cut, totals.closed, totals.stayed], [0, 0, {}], JSON.stringify(totals))
  assert.ok(totals.moved >= extent.upgrades * extent.clients * 3, JSON.stringify(totals))
})

test(
  'clients behind a proxy that hands on 1 to 60 bytes at a time lose nothing, whether a connection moves, comes back or stays',
  onlyInMatrix,
  async () => {
    await using lab = await Lab.open()
    makeCertificate(lab)
    const plan: WebSocketServerPlan = { isSecure: true, serve: { moveTls: true } }
    let server = await lab.start('web-socket-server', { env: { WEB_SOCKET_SERVER: JSON.stringify(plan) } })
    const { port } = (await server.event('serving')) as { port: number }
    await using sluice = await Sluice.open(port)
    const random = randomFrom(1)
    await using load = keepAliveClients(
      { host: '127.0.0.1', port: sluice.port, tls: {} },
      { count: 20, weights: { small: 1 }, pause: [0, 20], silence: { every: 10, most: 100 } },
    )
    await load.ready
    sluice.chop(() => random(1, 60))
    const totals = { moved: 0, returned: 0 }
    for (let upgrades = 0; upgrades < 5; upgrades++) {
      const { young, report } = await upgradeBySignal(lab, server)
      totals.moved += report.tls?.moved ?? 0
      totals.returned += report.tls?.returned ?? 0
      assert.deepEqual([report.cut, report.closed], [0, 0])
      server = young
    }
    const { failures, faults, answers } = await load.stop()
    assert.deepEqual(failures, {}, JSON.stringify(faults.slice(0, 3)))
    assert.ok(totals.moved > 0 && answers > 100, JSON.stringify({ ...totals, answers }))
  },
)

/** Of a connection that was closed: with its tickets a client resumes. */
async function sessionOf(port: number): Promise<Buffer> {
  const socket = connect({ port, host: '127.0.0.1', rejectUnauthorized: false })
  const [session] = (await within('a session', once(socket, 'session'))) as [Buffer]
  socket.destroy()
  return session
}
