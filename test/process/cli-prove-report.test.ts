/** `cook-daemon prove --report`: what a proof has seen, as a page. */
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { makeCertificate } from '../support/certificate.ts'
import { Operator, writeProgram } from '../support/command.ts'
import { Lab } from '../support/lab.ts'
import { inLab, leftIn, proves } from '../support/prove.ts'
import { readReport } from '../support/report.ts'
import { eventually } from '../support/waiting.ts'

test('cook-daemon prove --report shows each upgrade of several workers on one page that asks nobody for anything', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeFileSync(
    lab.path('app.cjs'),
    `require('node:http').createServer({ keepAliveTimeout: 60_000 }, (_, response) => response.end(process.env.NODE_OPTIONS ?? 'none')).listen(0, '127.0.0.1')`,
  )
  const args = ['app.cjs', '--workers', '2', '--upgrades', '4', '--clients', '10']
  const { code, stdout, stderr } = await proves(lab, operator, [
    ...args,
    '--report',
    'proof.html',
    '--json',
    '--',
    '<script>alert(1)</script>',
  ])
  assert.equal(code, 0, stdout + stderr)
  const { isProved, workers, rounds, report, answered } = JSON.parse(stdout)
  assert.deepEqual([isProved, workers, rounds.length, report], [true, 2, 4, lab.path('proof.html')])
  const page = lab.read('proof.html')
  const { title, verdict, table, pictures } = readReport(page)
  assert.equal(title, 'Proved: app.cjs')
  assert.equal(
    verdict,
    `Nothing was lost in 4 upgrades, 2 of them to versions that fail: all ${answered.toLocaleString('en-US')} requests were answered.`,
  )
  assert.deepEqual(table.slice(1), rowsOf(rounds))
  assert.deepEqual(
    pictures.map(({ title, crosses }) => [title, crosses]),
    [
      ['Upgrade 1: the same program once more', 0],
      ['Upgrade 2: a version that exits', 0],
      ['Upgrade 3: the same program once more', 0],
      ['Upgrade 4: a version that hangs', 0],
    ],
  )
  for (const [at, { description }] of pictures.entries()) {
    assert.match(description, at % 2 === 0 ? /The new version answers from/ : /Refused at/)
    assert.match(description, /The old version answers from .* No failure\.$/)
    assert.doesNotMatch(description, /should not serve|do not show which version/)
  }
  assert.match(page, /&#60;script&#62;alert\(1\)/)
  assert.deepEqual(leftIn(lab), [])
})

test('cook-daemon prove --report marks what a program loses, with its kind and what that comes from', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  const losing = `server.removeAllListeners('request').on('request', (_, response) => setTimeout(() => response.end('late'), 40))
await serve(server, { host: '127.0.0.1', port: 0, drainTimeout: 0 })
await new Promise(() => {})`
  writeProgram(lab, 'app.mjs', 'one', losing)
  const args = ['app.mjs', '--upgrades', '1', '--clients', '10', '--no-keep', '--report', 'proof.html']
  const { code, stdout } = await proves(lab, operator, args)
  assert.equal(code, 1, stdout)
  assert.match(stdout, /^NOT PROVED: .*\nreport: \S+\/proof\.html\n$/m)
  const page = lab.read('proof.html')
  const { title, verdict, pictures } = readReport(page)
  assert.equal(title, 'NOT PROVED: app.mjs')
  assert.match(verdict, /^\d+ of [\d,]+ requests failed\.$/)
  assert.ok(Number(pictures[0]?.crosses) > 0)
  assert.match(String(pictures[0]?.description), /\d+ failed with (ECONNRESET|incomplete answer), from/)
  assert.match(page, /usually an answer takes longer than --drain-timeout/)
})

test('cook-daemon prove --report knows over TLS which version answered, and says why clients connect again', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  makeCertificate(lab)
  writeFileSync(
    lab.path('app.mjs'),
    `import { readFileSync } from 'node:fs'
import { createServer } from 'node:https'
const [key, cert] = ['key.pem', 'cert.pem'].map((name) => readFileSync(name))
createServer({ key, cert, keepAliveTimeout: 60_000 }, (_, response) => response.end('one')).listen(0, '127.0.0.1')`,
  )
  const args = ['app.mjs', '--upgrades', '1', '--clients', '5', '--report', 'proof.html']
  const { code, stdout, stderr } = await proves(lab, operator, args)
  assert.equal(code, 0, stdout + stderr)
  const page = lab.read('proof.html')
  assert.match(String(readReport(page).pictures[0]?.description), /The new version answers from/)
  assert.match(page, /<code>https:\/\/127\.0\.0\.1:\d+\/<\/code>/)
})

test('cook-daemon prove that is interrupted ends what it has started, and leaves nothing', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeProgram(lab, 'app.mjs', 'one')
  const child = operator.begins(['prove', 'app.mjs', '--upgrades', '1000', '--clients', '2'], inLab(lab))
  let said = ''
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    said += text
  })
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    said += text
  })
  await eventually('the first upgrade', () => said.includes('generation 2 serves') || undefined)
  child.kill('SIGINT')
  await eventually('its end', () => child.exitCode ?? undefined)
  assert.equal(child.exitCode, 130)
  assert.match(said, /interrupted \(SIGINT\): nothing is proved\n$/)
  assert.deepEqual(leftIn(lab), [])
})

type Row = { readonly [name: string]: unknown; readonly seconds: number; readonly isRight: boolean }

function rowsOf(rounds: readonly Row[]): string[][] {
  return rounds.map(({ kind, seconds, isRight, answered, failed, reconnected }, at) =>
    [at + 1, kind, seconds.toFixed(2), isRight ? 'yes' : 'NO', answered, failed, reconnected].map(String),
  )
}
