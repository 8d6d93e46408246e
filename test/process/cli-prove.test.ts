/** `cook-daemon prove`: a program that keeps its promise, and one that does not. */
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { makeCertificate } from '../support/certificate.ts'
import { Operator, portOf, writeProgram } from '../support/command.ts'
import { takesAll } from '../support/extent.ts'
import { freePort } from '../support/free-port.ts'
import { Lab } from '../support/lab.ts'
import { leftIn, proves } from '../support/prove.ts'

test('cook-daemon prove upgrades a program of the user to good and bad versions under load, and finds nothing lost', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeProgram(lab, 'app.mjs', 'one')
  const { code, stdout, stderr } = await proves(lab, operator, ['app.mjs', '--upgrades', '6', '--clients', '20'])
  assert.equal(code, 0, stdout + stderr)
  const kinds = [...stdout.matchAll(/^ +\d {2}(\w+) +ok /gm)].map(([, kind]) => kind)
  assert.deepEqual(kinds, ['good', 'exits', 'good', 'hangs', 'good', 'crashes'])
  assert.match(
    stdout,
    /\nproved: \d+ requests answered, 0 failed, 0 connections opened again, 0 upgrades with a wrong result\n$/,
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
  const args = ['app.mjs', '--upgrades', '1', '--clients', '10', '--json']
  const people = await proves(lab, operator, args.slice(0, -1))
  assert.match(people.stdout, /^upgrade 1 \(good\): \d+ requests failed: (ECONNRESET|incomplete answer)\n/m)
  assert.match(
    people.stdout,
    /^(ECONNRESET|incomplete answer): the connection was cut: usually an answer takes longer than --drain-timeout/m,
  )
  assert.match(people.stdout, /^NOT PROVED: /m)
  const { code, stdout } = await proves(lab, operator, args)
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

test('cook-daemon prove runs beside the service itself: where its port is in use, the program gets another one', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  const port = await freePort()
  const where = `{ host: '127.0.0.1', port: ${port} }`
  const programs = {
    'plain.cjs': `require('node:http').createServer((_, response) => response.end('one')).listen(${port}, '127.0.0.1')`,
    'serve.mjs': `import { createServer } from 'node:http'
import { serve } from '${operator.library}'
await serve(createServer((_, response) => response.end('one')), ${where})`,
  }
  for (const [file, source] of Object.entries(programs)) writeFileSync(lab.path(file), source)
  await operator.does(['start', 'plain.cjs'])
  for (const file of Object.keys(programs).slice(0, takesAll ? undefined : 1)) {
    const args = [file, '--port', String(port), '--upgrades', '2', '--clients', '5']
    const { code, stdout, stderr } = await proves(lab, operator, args)
    assert.equal(code, 0, stdout + stderr)
    assert.ok(stdout.startsWith(`Port ${port} is in use, so the program listens on another one here.\n`), stdout)
    assert.match(stdout, /5 clients request http:\/\/127\.0\.0\.1:\d+\//)
    assert.ok(!stdout.includes(`:${port}/`), stdout)
  }
  const status = await operator.status('plain')
  assert.deepEqual([status.generation, portOf(status)], [1, port])
})

test('cook-daemon prove of a program that does not come up says why and leaves nothing', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeProgram(lab, 'app.mjs', 'one', "throw new Error('no database here')")
  const { code, stderr } = await proves(lab, operator, ['app.mjs'])
  assert.equal(code, 1)
  assert.match(stderr, /no database here/)
  assert.deepEqual(leftIn(lab), [])
})

test('cook-daemon prove asks over TLS with a certificate that nobody signed, and says why its clients connect again', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  makeCertificate(lab)
  const secure = `const { createServer: secure } = process.getBuiltinModule('node:https')
const [key, cert] = ['key', 'cert'].map((name) => process.getBuiltinModule('node:fs').readFileSync(name + '.pem'))
await serve(secure({ key, cert }, (_, response) => response.end('one')), { host: '127.0.0.1', port: 0 })
await new Promise(() => {})`
  writeProgram(lab, 'app.mjs', 'one', secure)
  const args = ['app.mjs', '--upgrades', '1', '--clients', '5']
  const { code, stdout, stderr } = await proves(lab, operator, args)
  assert.equal(code, 0, stdout + stderr)
  assert.match(
    stdout,
    /^5 clients request https:\/\/127\.0\.0\.1:\d+\/, each on one keep-alive connection, and never retry\.\n/,
  )
  assert.match(
    stdout,
    /reconnects, once for each good upgrade\.\nproved: \d+ requests answered, 0 failed, 5 connections/,
  )
})

test('cook-daemon prove asks a Unix path, and of several listeners the one that is named, with a Host header', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  const several = `const daemon = await createDaemon({ onEvent: ({ type }) => { if (type === 'drained') setImmediate(() => process.exit()) } })
const other = createServer((request, response) => response.writeHead(request.headers.host === 'example.org' ? 200 : 421).end())
await daemon.listen(server, { host: '127.0.0.1', port: 0, name: 'web' })
await daemon.listen(other, { path: '${lab.path('admin')}', name: 'admin' })
await daemon.ready()
await new Promise(() => {})`
  writeProgram(lab, 'app.mjs', 'one', several)
  const args = ['app.mjs', '--upgrades', '1', '--clients', '3', '--json']
  const asked = async (more: readonly string[]) => {
    const { code, stdout, stderr } = await proves(lab, operator, [...args, ...more])
    assert.equal(code, 0, stdout + stderr)
    return JSON.parse(stdout).url as string
  }
  assert.match(await asked([]), /^http:\/\/127\.0\.0\.1:\d+\/$/)
  assert.equal(
    await asked(['--listener', 'admin', '--host', 'example.org', '--path', 'x']),
    `/x in http at ${lab.path('admin')}`,
  )
  for (const wrong of [
    ['--listener', 'none'],
    ['--port', '1'],
  ]) {
    const { code, stderr } = await proves(lab, operator, [...args, ...wrong])
    assert.equal(code, 2)
    assert.match(stderr, /no such listener; the program has: web \(127\.0\.0\.1:\d+\), admin \(\S+\/admin\)/)
  }
  assert.deepEqual(leftIn(lab), [])
})

test('cook-daemon prove of a path that is not there, fails, or is never answered says so before any upgrade', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  const answers = `server.removeAllListeners('request').on('request', (request, response) => {
  if (request.url !== '/never') response.writeHead(Number(request.url.slice(1)) || 200).end()
})`
  writeProgram(lab, 'app.mjs', 'one', answers)
  writeProgram(
    lab,
    'raw.mjs',
    'one',
    "await serve(process.getBuiltinModule('node:net').createServer((socket) => socket.end('220 hello')), { host: '127.0.0.1', port: 0 }); await new Promise(() => {})",
  )
  writeProgram(
    lab,
    'deaf.mjs',
    'one',
    'await createDaemon().then((daemon) => daemon.ready()); await new Promise((done) => setTimeout(done, 60_000))',
  )
  const refused = async (args: readonly string[], why: RegExp) => {
    const { code, stdout, stderr } = await proves(lab, operator, args)
    assert.match(stderr, why)
    assert.deepEqual([code, stdout], [1, ''])
  }
  // Side by side: one of them waits for its answer until it may give up.
  await Promise.all([
    refused(['app.mjs', '--path', '/never'], /the program is up, but did not answer \S+\/never within 10 s/),
    refused(['app.mjs', '--path', '/404'], /answered 404 before any upgrade.*--path/),
    refused(['app.mjs', '--path', '/503'], /answered 503 before any upgrade/),
    refused(['raw.mjs'], /speaks neither HTTP .* nor HTTPS/),
    refused(['deaf.mjs'], /does not listen anywhere/),
  ])
  assert.deepEqual(leftIn(lab), [])
})
