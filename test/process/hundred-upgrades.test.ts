/** The promise as a whole, for as long as a team deploys in two weeks. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { takesAll } from '../support/extent.ts'
import { Lab } from '../support/lab.ts'
import { connectionClients } from '../support/load/connection-clients.ts'
import { keepAliveClients } from '../support/load/keep-alive-clients.ts'
import { webSocketClients } from '../support/load/web-socket-clients.ts'
import { upgradeBySignal } from '../support/steps.ts'

test('30 upgrades under 100 keep-alive clients, 20 that connect for each request and 100 WebSockets: no request fails, no connection is refused or reset, and no client reconnects', async () => {
  const count = takesAll ? 100 : 30
  await using lab = await Lab.open()
  let server = await lab.start('web-socket-server')
  const { port } = (await server.event('serving')) as { port: number }
  const where = { host: '127.0.0.1', port }
  // The clients pause, so that on two cores there is time to deploy: what is sent, and when, is as
  // ugly as ever.
  await using keepAlive = keepAliveClients(where, { count: 100, pause: [0, 1_000] })
  await using single = connectionClients(where, { count: 20, pause: [0, 200] })
  await using webSockets = webSocketClients(where, { count: 100, pause: [0, 1_000] })
  await Promise.all([keepAlive.ready, single.ready, webSockets.ready])
  const totals = { handedOver: 0, cut: 0 }
  for (let upgrades = 0; upgrades < count; upgrades++) {
    const { young, report } = await upgradeBySignal(lab, server)
    totals.handedOver += report.handedOver
    totals.cut += report.cut
    server = young
  }
  const results = await Promise.all([keepAlive, single, webSockets].map((load) => load.stop()))
  for (const { failures, faults, reconnects, closes } of results) {
    assert.deepEqual(failures, {}, JSON.stringify(faults.slice(0, 3)))
    assert.deepEqual(closes, {})
    assert.equal(reconnects, 0)
  }
  assert.equal(totals.cut, 0)
  assert.ok(totals.handedOver > count * 150, `${totals.handedOver} connections were handed over`)
})
