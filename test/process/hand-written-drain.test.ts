/**
 * The same load on an upgrade as people write it by hand: what our clients would see if we lost
 * something.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Lab } from '../support/lab.ts'
import { keepAliveClients } from '../support/load/keep-alive-clients.ts'
import { eventually } from '../support/waiting.ts'

const upgrades = 5

test('the test clients notice losses: 100 of them on keep-alive connections lose requests when a server shuts down with server.close()', async () => {
  await using lab = await Lab.open()
  let current = await lab.start('hand-written-drain')
  const port = Number(await current.event('listening'))
  await using load = keepAliveClients({ host: '127.0.0.1', port }, { count: 100, reconnect: true })
  await load.ready

  for (let upgrade = 1; upgrade <= upgrades; upgrade++) {
    // Of whichever generation: a busy client may keep an old process for as long as it likes.
    const { answers } = load.result()
    await eventually('answers', () => load.result().answers > answers + 1_000 || undefined)
    current.kill('SIGUSR2')
    current = await lab.next()
    await current.event('listening')
  }
  const { failures, failedRequests, reconnects, requests, answers } = await load.stop()

  assert.ok(failedRequests > 0, JSON.stringify({ failures, reconnects, requests }))
  assert.ok(reconnects > 0)
  assert.equal(requests, answers + failedRequests)
})
