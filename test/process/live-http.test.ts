/** HTTP/1.1 connections live through upgrades: nothing is lost, and no client reconnects. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Lab, type Puppet } from '../support/lab.ts'
import { keepAliveClients } from '../support/load/keep-alive-clients.ts'

test('100 keep-alive clients that never retry lose nothing in 20 upgrades, and none reconnects', async () => {
  await using lab = await Lab.open()
  let server = await lab.start('load-server')
  const { port } = (await server.event('serving')) as { port: number }
  await using load = keepAliveClients({ host: '127.0.0.1', port }, { count: 100 })
  await load.ready
  let moved = 0
  for (let upgrades = 0; upgrades < 20; upgrades++) {
    const { young, report } = await upgradeBySignal(lab, server)
    moved += report.handedOver
    assert.equal(report.cut, 0)
    server = young
  }
  const { failures, reconnects, answers } = await load.stop()
  assert.deepEqual(failures, {})
  assert.equal(reconnects, 0)
  assert.ok(answers > 1_000)
  assert.ok(moved > 1_000, `${moved} connections moved`)
})

type Report = { readonly handedOver: number; readonly served: number; readonly closed: number; readonly cut: number }

/** One upgrade as an operator triggers it; resolves when the old process is gone. */
async function upgradeBySignal(lab: Lab, old: Puppet): Promise<{ young: Puppet; report: Report }> {
  old.kill('SIGUSR2')
  const young = await lab.next()
  await young.event('serving')
  const { report } = (await old.event('drained')) as { report: Report }
  await old.gone
  return { young, report }
}
