/**
 * A fault of the program in what the library calls is the program's: told as Node would, and nobody
 * waits for it.
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect } from 'node:net'
import { test } from 'node:test'
import type { Daemon } from 'cook-daemon'
import { Lab } from '../support/lab.ts'
import { eventually, within } from '../support/waiting.ts'

test('a connection listener that throws on a connection that was handed over is an uncaught exception of the new process, and the old one does not wait for it', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const port = await old.run(async ({ cook, kept, http }) => {
    const daemon = await cook.createDaemon({ drainTimeout: 25_000 })
    const server = http.createServer((_, response) => response.end('hello'))
    await daemon.listen(server, { name: 'web', port: 0, host: '127.0.0.1' })
    await daemon.ready()
    kept.daemon = daemon
    return (server.address() as { port: number }).port
  })
  const client = connect(port, '127.0.0.1')
  client.on('error', () => {}).write('GET / HTTP/1.1\r\nHost: a\r\n\r\n')
  await once(client, 'data')
  const upgrading = old.run(async ({ kept }) => {
    const { drained } = await (kept.daemon as Daemon).upgrade()
    return { counts: await drained }
  })
  upgrading.catch(() => {})
  const young = await lab.next()
  await young.run(async ({ cook, kept, http }) => {
    const told: string[] = []
    kept.told = told
    process.on('uncaughtException', (error) => told.push(error.message))
    const daemon = await cook.createDaemon({})
    const server = http.createServer((_, response) => response.end('hello'))
    server.on('connection', () => {
      throw new Error('a fault of the program')
    })
    await daemon.listen(server, { name: 'web', port: 0, host: '127.0.0.1' })
    await daemon.ready()
  })
  const told = await eventually(
    'the uncaught exception',
    async () => {
      const found = await young.run(({ kept }) => kept.told as string[])
      return found.length > 0 ? found : undefined
    },
    5_000,
  )
  assert.deepEqual(told, ['a fault of the program'])
  // Long before drainTimeout.
  await within('the end of the drain', upgrading, 10_000)
  client.destroy()
})
