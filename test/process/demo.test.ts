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

test('the demo shows upgrades, one to a broken version, that no client noticed, and leaves nothing behind', async () => {
  await using lab = await Lab.open()
  const demo = start(lab, 'demo')
  assert.deepEqual(await within('the end of the demo', once(demo, 'close')), [0, null], lab.output)
  assert.match(lab.output, /v3 \(process \d+\) did not come up: exit code 1; v2 keeps serving\n +Error: ENOENT/)
  assert.match(lab.output, /✓ 3 upgrades, one of them broken: \d+ open connections moved, no client noticed/)
  // Plain lines: nothing but text.
  assert.equal(lab.output.includes('\x1b'), false)
  assert.deepEqual(leftBy(lab), [])
})

test('the demo that is stopped with ^C in the middle of an upgrade leaves nothing behind', async () => {
  await using lab = await Lab.open()
  const demo = start(lab, 'demo')
  await eventually('an upgrade', () => lab.output.includes('upgrade 1 of 3') || undefined)
  demo.kill('SIGINT')
  assert.deepEqual(await within('the end of the demo', once(demo, 'close')), [130, null], lab.output)
  assert.deepEqual(leftBy(lab), [])
})

test('the demo of the original Go API shows an upgrade that no client noticed, and leaves nothing behind', async () => {
  await using lab = await Lab.open()
  const demo = start(lab, 'documents-demo-run')
  assert.deepEqual(await within('the end of the demo', once(demo, 'close')), [0, null], lab.output)
  assert.match(lab.output, /✓ 1 upgrades, \d+ connections, 0 refused or reset/)
  assert.deepEqual(leftBy(lab), [])
})

function start(lab: Lab, name: string): ChildProcess {
  const script = fileURLToPath(new URL(`../../examples/${name}.js`, import.meta.url))
  return lab.spawn(script, { env: { DEMO_SHORT: '1', TMPDIR: lab.makeFolder('tmp') } })
}

/** Files that are there, and processes that it told of and that still live. */
function leftBy(lab: Lab): (string | number)[] {
  const pids = [...lab.output.matchAll(/process (\d+)|^(\d+) \S/gm)].map(([, pid, first]) => Number(pid ?? first))
  assert.ok(pids.length > 0, lab.output)
  return [...readdirSync(lab.path('tmp')), ...pids.filter((pid) => system.startTime(pid) !== undefined)]
}
