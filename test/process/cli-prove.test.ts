/** `cook-daemon prove`: a program that keeps its promise, and one that does not. */
import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { test } from 'node:test'
import { Operator, writeProgram } from '../support/command.ts'
import { Lab } from '../support/lab.ts'

test('cook-daemon prove upgrades a program of the user to good and bad versions under load, and finds nothing lost', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeProgram(lab, 'app.mjs', 'one')
  const { code, stdout, stderr } = await operator.types(
    ['prove', 'app.mjs', '--upgrades', '6', '--clients', '20'],
    inLab(lab),
  )
  assert.equal(code, 0, stdout + stderr)
  const kinds = [...stdout.matchAll(/^ +\d {2}(\w+) +ok /gm)].map(([, kind]) => kind)
  assert.deepEqual(kinds, ['good', 'exits', 'good', 'hangs', 'good', 'crashes'])
  assert.match(
    stdout,
    /\nproved: \d+ requests answered, 0 failed, 0 connections opened again, 0 upgrades not as they should\n$/,
  )
  assert.deepEqual(leftIn(lab), [])
})

test('cook-daemon prove finds the requests that a program loses, and says so to scripts', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  const losing = `server.removeAllListeners('request').on('request', (_, response) => setTimeout(() => response.end('late'), 40))
await serve(server, { host: '127.0.0.1', port: 0, drainTimeout: 0 })
await new Promise(() => {})`
  writeProgram(lab, 'app.mjs', 'one', losing)
  const args = ['prove', 'app.mjs', '--upgrades', '1', '--clients', '10', '--json']
  const { code, stdout } = await operator.types(args, inLab(lab))
  assert.equal(code, 1, stdout)
  const { isProved, failed, failures, rounds } = JSON.parse(stdout)
  assert.deepEqual([isProved, rounds.length], [false, 1])
  assert.ok(failed > 0)
  assert.equal(
    Object.values<number>(failures).reduce((sum, count) => sum + count, 0),
    failed,
  )
  assert.deepEqual(leftIn(lab), [])
})

test('cook-daemon prove of a program that does not come up says why and leaves nothing', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeProgram(lab, 'app.mjs', 'one', "throw new Error('no database here')")
  const { code, stderr } = await operator.types(['prove', 'app.mjs'], inLab(lab))
  assert.equal(code, 1)
  assert.match(stderr, /no database here/)
  assert.deepEqual(leftIn(lab), [])
})

function inLab(lab: Lab) {
  return { env: { TMPDIR: lab.folder } }
}

function leftIn(lab: Lab): string[] {
  return readdirSync(lab.folder).filter((name) => name.startsWith('cook-prove'))
}
