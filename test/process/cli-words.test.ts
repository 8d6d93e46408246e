/** What the command prints: colours for people only, JSON for scripts, and how far a drain is. */
import assert from 'node:assert/strict'
import { execFile, spawnSync } from 'node:child_process'
import { chownSync, mkdirSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { isAlive } from '../../src/node/system.ts'
import { Operator, portOf, writeProgram } from '../support/command.ts'
import { HttpConnection } from '../support/http-connection.ts'
import { Lab } from '../support/lab.ts'
import { within } from '../support/waiting.ts'

const bin = fileURLToPath(new URL('../../bin/cook-daemon.js', import.meta.url))
const noTerminal =
  spawnSync('script', ['--version']).error !== undefined && 'there is no script (util-linux) to make a terminal'

test('colours are for terminals, and NO_COLOR turns them off', { skip: noTerminal }, async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeProgram(lab, 'app.mjs', 'one')
  await operator.does(['start', 'app.mjs'])
  const onTerminal = async (env: Readonly<Record<string, string>>) => {
    const command = `${process.execPath} ${bin} status app`
    // With CI set Node believes in no terminal's colours.
    const { NO_COLOR: _, CI: __, ...rest } = process.env
    const options = { env: { ...rest, ...lab.environment(), TERM: 'xterm', ...env } }
    const typing = promisify(execFile)('script', ['-qec', command, '/dev/null'], options)
    return (await within('the status', typing)).stdout
  }
  const colour = '\u001b['
  assert.ok((await onTerminal({})).startsWith(`${colour}1mapp${colour}22m`))
  for (const NO_COLOR of ['1', 'false']) assert.ok((await onTerminal({ NO_COLOR })).startsWith('app\r\n'))
  for (const env of [{}, { FORCE_COLOR: '1' }]) {
    const { stdout } = await operator.types(['status', 'app'], { env })
    assert.ok(stdout.startsWith('app\n'))
  }
  const { stderr } = await operator.types(['status', 'nobody'])
  assert.equal(stderr.includes(colour), false)
})

test('at a terminal a start that takes longer says what it waits for, and how long already; its last line is as ever', {
  skip: noTerminal,
}, async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeProgram(lab, 'app.mjs', 'one', 'await new Promise((done) => setTimeout(done, 1_500))')
  const command = `${process.execPath} ${bin} start app.mjs`
  const { CI: _, ...rest } = process.env
  const options = { env: { ...rest, ...lab.environment(), TERM: 'xterm', NO_COLOR: '1' }, cwd: lab.folder }
  const typing = promisify(execFile)('script', ['-qec', command, '/dev/null'], options)
  const { stdout } = await within('the start', typing)
  await operator.status('app')
  const cleared = '\r\u001b[K'
  const parts = stdout.split(cleared)
  assert.match(parts.at(-2) ?? '', /^ +\d\.\d s {2}starting app; waiting until it listens$/)
  assert.match(parts.at(-1) ?? '', /^✓ app serves on /)
})

test('an exception that ends a version is printed once, behind the sentence that says who serves', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeProgram(lab, 'app.mjs', 'one')
  await operator.does(['start', 'app.mjs'])
  const long = `/* ${'x'.repeat(500)} */`
  writeFileSync(lab.path('app.mjs'), `console.log('connecting'); ${long} throw new Error('no database')`)
  for (const [typed, sentence, verdict] of [
    [
      ['upgrade', 'app'],
      /exit code 1\. The old version \(pid \d+\) still serves\. It printed:\n {2}connecting\n/,
      /✗ not upgraded: /,
    ],
    [
      ['start', 'app.mjs', '--name', 'other'],
      /exit code 1\. It printed:\n {2}connecting\n/,
      /✗ not started: nothing was left running\. Full log: \S+\/run\/other\.log/,
    ],
  ] as const) {
    const { stderr } = await operator.types(typed)
    assert.match(stderr, sentence)
    assert.match(stderr.split('\n').at(-2) ?? '', verdict)
    assert.equal(stderr.split('Error: no database').length, 2, stderr)
    assert.equal(stderr.split('\n').filter((line) => line.length > 250).length, 0, stderr)
  }
  // What it printed in the foreground has been read there.
  const { stderr } = await operator.types(['run', 'app.mjs', '--name', 'other'])
  assert.equal(stderr.split('Error: no database').length, 2, stderr)
  assert.match(stderr, /\ncook-daemon: the program \(pid \d+\) exited before it was ready: exit code 1\n/)
})

test('a run of a service that runs already says so, and does not start the program', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeProgram(lab, 'app.mjs', 'one')
  await operator.does(['start', 'app.mjs'])
  writeFileSync(lab.path('app.mjs'), "console.error('started a second time')")
  const { code, stderr } = await operator.types(['run', 'app.mjs'])
  assert.equal(code, 1)
  assert.match(stderr, /^cook-daemon: a service named app is already running: pid \d+, generation 1/)
  assert.doesNotMatch(stderr, /started a second time/)
})

const noNamespaces = spawnSync('unshare', ['-m', 'true']).status !== 0 && 'mount namespaces are for root'

test('on a Linux without /proc each command and each verb say so', { skip: noNamespaces }, async () => {
  await using lab = await Lab.open()
  writeFileSync(
    lab.path('app.mjs'),
    `import { createDaemon } from '${new Operator(lab).library}'\nawait createDaemon()`,
  )
  for (const command of [`${bin} start app.mjs`, `${bin} status`, 'app.mjs']) {
    const script = `mount -t tmpfs none /proc && exec ${process.execPath} ${command}`
    const options = { cwd: lab.folder, env: { ...process.env, ...lab.environment() } }
    const { stderr } = spawnSync('unshare', ['-m', 'sh', '-c', script], { ...options, encoding: 'utf8' })
    assert.match(stderr, /\/proc is not mounted; nothing was started or changed/)
  }
})

test('help shows the options of a command, as --help does', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  assert.equal(await operator.does(['help', 'upgrade']), await operator.does(['upgrade', '--help']))
  assert.equal(await operator.does(['help']), await operator.does(['--help']))
})

test('a script reads start, upgrade, restart and stop as JSON', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeProgram(lab, 'app.mjs', 'one')
  const reads = async (...args: string[]) =>
    (await operator.does([...args, '--json']))
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line))
  const [started, ...more] = await reads('start', 'app.mjs')
  assert.deepEqual([started.generation, started.phase, more], [1, 'ready', []])
  const steps = await reads('upgrade', 'app')
  assert.deepEqual(
    steps.map(({ type }) => type).filter((type) => type !== 'draining'),
    ['started', 'booted', 'ready', 'serves', 'drained'],
  )
  assert.ok(steps.every(({ ms }) => typeof ms === 'number'))
  const { node, command, resolved } = steps.find(({ type }) => type === 'serves')
  assert.deepEqual([node, command.cwd, resolved.cwd], [process.version, lab.folder, lab.folder])
  const [again] = await reads('restart', 'app')
  assert.deepEqual([again.generation, again.phase], [3, 'ready'])
  assert.deepEqual(await reads('stop', 'app'), [{ name: 'app', pid: again.pid, wasKilled: false, answered: true }])
})

test('an upgrade that has to wait for an answer tells how many connections it has handed over, of how many', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeProgram(
    lab,
    'app.mjs',
    'one',
    `const late = []
server.removeAllListeners('request').on('request', (request, response) => {
  if (request.url === '/late') late.push(response)
  else response.end(String(process.pid))
})
process.on('SIGHUP', () => late.map((response) => response.end('late')))`,
  )
  await operator.does(['start', 'app.mjs'])
  const status = await operator.status('app')
  const { pid, startTime } = status
  const port = portOf(status)
  const [busy, idle] = [await HttpConnection.open(port), await HttpConnection.open(port)]
  await idle.ask('/')
  const asked = busy.ask('/late')
  const upgrading = operator.begins(['upgrade', 'app'])
  let shown = ''
  upgrading.stdout?.setEncoding('utf8').on('data', (text: string) => {
    shown += text
    if (/1 of 2 connections moved$/m.test(shown) && isAlive([pid, startTime])) process.kill(pid, 'SIGHUP')
  })
  await within('its end', new Promise((done) => upgrading.once('close', done)))
  assert.match(shown, /^ +\d+\.\d\d s {2}1 of 2 connections moved\n/m)
  assert.match(shown, / 2 connections moved, 0 finished, 0 closed, 0 cut\n/)
  assert.equal((await asked).body, 'late')
  for (const client of [busy, idle]) client.socket.destroy()
})

test("nothing is started in a run directory of another user's", {
  skip: process.getuid?.() === 0 ? false : 'only root can give a folder away',
}, async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeProgram(lab, 'app.mjs', 'one')
  mkdirSync(lab.path('run'), { mode: 0o700 })
  chownSync(lab.path('run'), 12_345, 12_345)
  for (const args of [
    ['start', 'app.mjs'],
    ['run', 'app.mjs'],
  ]) {
    const { code, stdout, stderr } = await operator.types(args)
    assert.match(stderr, /the run directory \S+ cannot be used: it belongs to user 12345, not to this user \(0\)/)
    assert.deepEqual([code, stdout], [1, ''])
  }
})
