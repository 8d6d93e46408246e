/** The promise as a whole for TLS 1.3, with `moveTls`: clients that never retry notice nothing. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { WebSocketServerPlan } from '../fixtures/web-socket-server.ts'
import { makeCertificate } from '../support/certificate.ts'
import { onlyInMatrix, takesAll } from '../support/extent.ts'
import { Lab } from '../support/lab.ts'
import { keepAliveClients } from '../support/load/keep-alive-clients.ts'
import { randomFrom } from '../support/load/random.ts'
import { Sluice } from '../support/sluice.ts'
import { upgradeBySignal } from '../support/steps.ts'
import { tlsSoak } from '../support/tls-soak.ts'

const extent = takesAll ? { upgrades: 30, clients: 50 } : { upgrades: 3, clients: 20 }

test('upgrades under keep-alive HTTPS clients and WebSockets over TLS, half of them resumed: nothing fails, and nobody reconnects', async () => {
  const { faults, moved, ...rest } = await tlsSoak(extent)
  assert.deepEqual(faults, [], JSON.stringify(rest))
  assert.ok(moved >= extent.upgrades * extent.clients * 1.5, JSON.stringify({ moved, ...rest }))
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
