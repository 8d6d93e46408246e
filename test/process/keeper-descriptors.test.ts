/** A plain descriptor, which no keeper can hold, goes from one worker to the next all the same. */
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { system } from '../../src/node/system.ts'
import { Operator } from '../support/command.ts'
import { Lab } from '../support/lab.ts'
import { eventually } from '../support/waiting.ts'

test('a plain descriptor goes to the next version under a keeper, which keeps that as every other worker', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeFileSync(lab.path('data'), 'what the first one has opened')
  writeFileSync(
    lab.path('app.mjs'),
    `import { createServer } from 'node:http'
import { openSync, readFileSync } from 'node:fs'
import { addInheritFile, inheritFiles, inUpgrade, serve } from '${operator.library}'
const first = process.argv[2]
const [{ fd }] = inUpgrade() && process.env.COOK_DAEMON_CRASHED === undefined ? files() : [{ fd: openSync(first) }]
function files() { try { return inheritFiles('data') } catch { return [{ fd: openSync(first) }] } }
addInheritFile('data', fd)
const text = readFileSync('/proc/self/fd/' + fd, 'utf8')
await serve(createServer((_, response) => response.end(text)), { host: '127.0.0.1', port: 0 })`,
  )
  await operator.does(['start', 'app.mjs', '--', 'data'])
  const { keeper } = await operator.status('app')
  // Another file has the name from here on; the descriptor is that of the first one.
  writeFileSync(lab.path('other'), 'another file')
  await operator.does(['upgrade', 'app', '--', 'other'])
  assert.equal(await operator.asks('app'), 'what the first one has opened')
  await operator.does(['upgrade', 'app'])
  const third = await operator.status('app')
  assert.deepEqual([third.generation, third.keeper?.pid], [3, keeper?.pid])
  system.kill([third.pid, third.startTime], 'SIGKILL')
  // What nobody holds is opened anew; the listener is held.
  const fourth = await eventually('the next worker', async () => {
    const status = await operator.status('app').catch(() => undefined)
    return status?.phase === 'ready' && status.generation === 4 ? status : undefined
  })
  assert.deepEqual(fourth.listeners[0]?.address, third.listeners[0]?.address)
  assert.equal(await operator.asks('app'), 'another file')
  assert.match(readFileSync(lab.path('run/app.log'), 'utf8'), /exited unexpectedly .*exit code unknown/)
  await operator.does(['stop', 'app'])
})
