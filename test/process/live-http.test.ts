/** HTTP/1.1 connections live through upgrades: nothing is lost, and no client reconnects. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { test } from 'node:test'
import { drained } from '../support/daemons.ts'
import { onlyInMatrix } from '../support/extent.ts'
import { HttpConnection } from '../support/http-connection.ts'
import { Lab } from '../support/lab.ts'
import { keepAliveClients } from '../support/load/keep-alive-clients.ts'
import { type Report, upgradeBySignal } from '../support/steps.ts'
import { eventually } from '../support/waiting.ts'

// A hundred upgrades of the same are in each run.
test(
  '100 keep-alive clients that never retry lose nothing in 20 upgrades, and none reconnects',
  onlyInMatrix,
  async () => {
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
  },
)

test('a connection whose keep-alive time ends on its way to the new version takes nobody down', async () => {
  await using lab = await Lab.open()
  const old = await lab.start('load-server', { env: { LOAD_KEEP_ALIVE: '2000' } })
  const { port } = (await old.event('serving')) as { port: number }
  await using idle = idleConnections(port, 500)
  await idle.ready
  old.kill('SIGUSR2')
  const young = await lab.next()
  await young.event('serving')
  // Whatever is on its way now is not acknowledged before its time is over.
  young.kill('SIGSTOP')
  await new Promise((done) => setTimeout(done, 3_000))
  young.kill('SIGCONT')
  const { report } = (await old.event('drained')) as { report: Report }
  await old.gone
  assert.equal(report.cut, 0)
  assert.ok(report.handedOver > 0, JSON.stringify(report))
  assert.equal((await fetch(`http://127.0.0.1:${port}/load?id=1&size=1&place=0`)).status, 200)
})

test('a new version that has no descriptor left while connections move gets them when it has one again; until then the old one serves them', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const port = await old.run(({ serveWithFault }) => serveWithFault({ drainTimeout: 60_000 }))
  const clients = await Promise.all(Array.from({ length: 40 }, () => HttpConnection.open(port)))
  for (const client of clients) await client.ask('/pid')
  const upgrading = old.run(async ({ kept }) => void (await kept.daemon?.upgrade()))
  const young = await lab.next()
  // It has five connections then, and takes what is left of its descriptors.
  await young.run(({ serveWithFault }) => serveWithFault({ step: 'handover', fault: 'descriptors' }))
  await young.event('at')
  await upgrading
  // All but those that are between the two, six at most.
  const answered: string[] = []
  for (const client of clients) void client.ask('/pid').then(({ body }) => answered.push(body))
  await eventually('answers from both', () => answered.length >= 34 || undefined)
  assert.ok(answered.filter((pid) => pid === String(old.pid)).length >= 28, answered.join())
  await young.run(({ giveDescriptorsBack }) => giveDescriptorsBack())
  await eventually('the last answers', () => answered.length === 40 || undefined)
  const { handedOver, closed, cut } = await drained(old)
  assert.deepEqual({ handedOver, closed, cut }, { handedOver: 40, closed: 0, cut: 0 })
  for (const client of clients) assert.deepEqual((await client.ask('/pid')).body, String(young.pid))
})

/** Connections that have had an answer and say nothing more. */
function idleConnections(port: number, count: number): { ready: Promise<unknown> } & AsyncDisposable {
  const sockets: Socket[] = []
  async function open(): Promise<void> {
    while (sockets.length < count) {
      const socket = connect(port, '127.0.0.1').on('error', () => {})
      sockets.push(socket)
      await once(socket, 'connect')
      socket.write('GET /load?id=1&size=1&place=0 HTTP/1.1\r\nHost: localhost\r\n\r\n')
      await once(socket, 'data')
    }
  }
  return {
    ready: Promise.all(Array.from({ length: 50 }, open)),
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy()
    },
  }
}
