/** What `npm run demo` and `npm run demo:documents` show, in short. */
import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { system } from '../../src/node/system.ts'
import { Lab } from '../support/lab.ts'
import { eventually, within } from '../support/waiting.ts'

/** It starts a dozen processes, one after the other, in milliseconds. */
const patience = 120_000

test('the demo shows three workers through upgrades, a version that fails and a crash; only what the crash cost is lost, and nothing is left behind', async () => {
  await using lab = await Lab.open()
  const demo = start(lab, 'demo')
  assert.deepEqual(await within('the end of the demo', once(demo, 'close'), patience), [0, null], lab.output)
  assert.match(lab.output, /✓ shop serves generation 2 /)
  assert.match(lab.output, / exited before it was ready: exit code 1\..*\n.* {4}Error: ENOENT.*v3-prices\.json/)
  assert.match(lab.output, /\$ kill -9 \d+ {5}slot \d crashes\n.*its keeper restarted it/)
  assert.match(lab.output, /✓ 3 upgrades, one of them to a version that fails: nothing lost\n/)
  assert.match(lab.output, /✓ one process of three killed: .*, none was refused\n/)
  assert.match(lab.output, /✓ the WebSocket stayed open: \d+ messages, each answered in order\n/)
  // Plain lines: nothing but text.
  assert.equal(lab.output.includes('\x1b'), false)
  assert.deepEqual(leftBy(lab), [])
})

test('the demo that is stopped with ^C in the middle of an upgrade leaves nothing behind', async () => {
  await using lab = await Lab.open()
  const demo = start(lab, 'demo')
  await eventually('an upgrade', () => lab.output.includes('$ cook-daemon upgrade shop') || undefined)
  demo.kill('SIGINT')
  assert.deepEqual(await within('the end of the demo', once(demo, 'close'), patience), [130, null], lab.output)
  assert.deepEqual(leftBy(lab), [])
})

test('the demo of the original Go API shows an upgrade that no client noticed, and leaves nothing behind', async () => {
  await using lab = await Lab.open()
  const demo = start(lab, 'documents-demo-run')
  assert.deepEqual(await within('the end of the demo', once(demo, 'close'), patience), [0, null], lab.output)
  assert.match(lab.output, /✓ 1 upgrades, \d+ connections, 0 refused or reset/)
  assert.deepEqual(leftBy(lab), [])
})

function start(lab: Lab, name: string): ChildProcess {
  const script = fileURLToPath(new URL(`../../examples/${name}.js`, import.meta.url))
  return lab.spawn(script, { env: { DEMO_SHORT: '1', TMPDIR: lab.makeFolder('tmp') } })
}

/** Files that are there, and processes that it told of and that still live. */
function leftBy(lab: Lab): (string | number)[] {
  const pids = [...lab.output.matchAll(/pid (\d+)|^(\d+) \S/gm)].map(([, pid, first]) => Number(pid ?? first))
  assert.ok(pids.length > 0, lab.output)
  return [...readdirSync(lab.path('tmp')), ...pids.filter((pid) => system.startTime(pid) !== undefined)]
}
