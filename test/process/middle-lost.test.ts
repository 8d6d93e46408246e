/**
 * Three generations at once, of which the one in the middle dies: the last one takes over, and the
 * first does not take the service back.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { beginReplace, type Program } from '../support/daemons.ts'
import { HttpConnection, idleConnections } from '../support/http-connection.ts'
import { Lab } from '../support/lab.ts'

test('of three generations whose middle one dies while it still gets connections and already starts the next, one serves', async () => {
  await using lab = await Lab.open()
  const first = await lab.start()
  const port = await first.run(({ serve, web }) => {
    return serve({ pidFile: 'pid', drainTimeout: 3_000 }, web({ keepAliveTimeout: 60_000 }))
  })
  await idleConnections(port, 300)
  const { young: middle, upgrading } = await beginReplace(lab, first)
  middle.run(startingTheNext).catch(() => {})
  await upgrading
  const last = await lab.next()
  await last.run(({ cook }) => cook.inUpgrade())
  middle.kill('SIGKILL')
  await middle.gone
  await last.run(({ serve }) => serve({ pidFile: 'pid' }))
  await first.gone
  assert.equal(await last.run(({ kept }) => kept.daemon?.phase), 'ready')
  assert.equal(lab.read('pid'), `${last.pid}\n`)
  assert.equal((await (await HttpConnection.open(port)).ask()).body, String(last.pid))
})

/** Upgrades as soon as it serves, and stands still when it has got 200 connections. */
const startingTheNext: Program = async ({ serve, web, kept }) => {
  const server = web({ keepAliveTimeout: 60_000 })
  let got = 0
  server.on('connection', () => {
    got++
    if (got === 1) setImmediate(() => kept.daemon?.upgrade())
    if (got === 200) setImmediate(() => process.kill(process.pid, 'SIGSTOP'))
  })
  await serve({ pidFile: 'pid' }, server)
}
