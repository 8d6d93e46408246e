/** Logs: one file for all generations, followed and rotated. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readlinkSync, renameSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { Operator, writeProgram } from '../support/command.ts'
import { Lab } from '../support/lab.ts'
import { eventually } from '../support/waiting.ts'

const noPerl = { skip: spawnSync('perl', ['-MFcntl', '-e', '0']).status !== 0 && 'there is no perl to set O_NONBLOCK' }

/** A program that says something whenever it is asked. */
const talking =
  "server.on('request', (request) => { console.log('out ' + request.url); console.error('err ' + request.url) })"

test('all generations write into one log, and logs prints its end', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeProgram(lab, 'app.mjs', 'one', talking)
  await operator.does(['start', 'app.mjs'])
  writeProgram(lab, 'app.mjs', 'two', talking)
  await operator.does(['upgrade'])
  await operator.asks('app')
  await eventually('its lines', () => lab.read('run/app.log').endsWith('err /\n') || undefined)
  assert.equal(await operator.does(['logs']), 'one serves\ntwo serves\nout /\nerr /\n')
  assert.equal(await operator.does(['logs', 'app', '-n', '1']), 'err /\n')
  assert.equal(await operator.does(['logs', '--path']), `${lab.path('run', 'app.log')}\n`)
})

test('the log of a daemon that is dead is found by its name, wherever it is', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeProgram(lab, 'app.mjs', 'one')
  await operator.does(['start', 'app.mjs', '--log', 'elsewhere.log'])
  const { pid } = await operator.status('app')
  process.kill(pid, 'SIGKILL')
  await eventually('its end', async () => (await operator.status('app').catch(() => 'gone')) === 'gone' || undefined)
  assert.equal(readlinkSync(lab.path('run', 'app.log')), lab.path('elsewhere.log'))
  assert.equal(await operator.does(['logs', 'app']), 'one serves\n')
  assert.equal((await operator.types(['logs', 'other'])).code, 3)
})

test('where stdout does not block, a reader that does not keep up gets all of a log, in order', noPerl, async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeProgram(lab, 'app.mjs', 'one')
  await operator.does(['start', 'app.mjs'])
  const lines = Array.from({ length: 200_000 }, (_, line) => `line ${line}\n`).join('')
  writeFileSync(lab.path('run', 'app.log'), lines)
  const before = "perl -MFcntl -e 'fcntl(STDOUT, F_SETFL, O_RDWR | O_NONBLOCK)'"
  const { code, stdout } = await operator.types(['logs', 'app', '-n', '200000'], { before })
  assert.equal(code, 0)
  assert.ok(stdout === lines, `${stdout.length} of ${lines.length} bytes, or others`)
})

test('logs -f goes on with what is written, and with the new file after a rotation and an upgrade', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeProgram(lab, 'app.mjs', 'one', talking)
  await operator.does(['start', 'app.mjs'])
  const following = operator.begins(['logs', '-f'])
  let text = ''
  following.stdout?.setEncoding('utf8').on('data', (part: string) => {
    text += part
  })
  await eventually('the first line', () => text === 'one serves\n' || undefined)
  await operator.asks('app')
  await eventually('what is written', () => text === 'one serves\nout /\nerr /\n' || undefined)
  renameSync(lab.path('run', 'app.log'), lab.path('run', 'app.log.1'))
  await operator.does(['upgrade'])
  await operator.asks('app')
  await eventually(
    'what is written after it',
    () => text === 'one serves\nout /\nerr /\none serves\nout /\nerr /\n' || undefined,
  )
})
