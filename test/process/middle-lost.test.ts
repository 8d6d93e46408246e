/** Three generations at once, of which the one in the middle dies: the first may take the service back, and the last may take it over. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { beginReplace, type Program } from '../support/daemons.ts'
import { idleConnections } from '../support/http-connection.ts'
import { Lab } from '../support/lab.ts'

test('of three generations whose middle one dies while it still gets connections and already starts the next, one serves', {
  todo: 'both do: the first takes the service back, and the third finds its predecessor gone',
}, async () => {
  await using lab = await Lab.open()
  const first = await lab.start()
  const port = await first.run(({ serve, web }) => serve({ pidFile: 'pid' }, web({ keepAliveTimeout: 60_000 })))
  await idleConnections(port, 300)
  const { young: middle, upgrading } = await beginReplace(lab, first)
  middle.run(startingTheNext).catch(() => {})
  await upgrading
  const last = await lab.next()
  await last.run(({ cook }) => cook.inUpgrade())
  middle.kill('SIGKILL')
  await middle.gone
  await first.event('successor-lost')
  await last.run(({ serve }) => serve({ pidFile: 'pid' }))
  const phases = [first, last].map((one) => one.run(({ kept }) => kept.daemon?.phase))
  assert.deepEqual((await Promise.all(phases)).filter((phase) => phase === 'ready').length, 1)
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
