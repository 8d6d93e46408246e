/**
 * The command line and what goes wrong: a clear message, the right exit code, and what runs is
 * untouched.
 */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, existsSync, lstatSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import type { Status } from '../../src/control/status.ts'
import { type Ended, Operator, writeProgram } from '../support/command.ts'
import { onlyInMatrix, takesAll } from '../support/extent.ts'
import { FullDisk, noFullDisk } from '../support/full-disk.ts'
import { Lab } from '../support/lab.ts'
import { eventually, within } from '../support/waiting.ts'

// ---------------------------------------------------------------------------------------------- programs

test('what is typed in the place of a program is a usage error that says what to type instead', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  const scripts = { start: 'node dist/main.js --port 80', prod: 'next start' }
  writeFileSync(lab.path('package.json'), JSON.stringify({ scripts }))
  for (const file of ['ecosystem.config.cjs', 'server.sh', 'app.js']) writeFileSync(lab.path(file), '')
  writeFileSync(lab.path('server.sh'), '#!/bin/sh\nexec node app.js\n')
  mkdirSync(lab.path('folder'))
  const so =
    /The script "start" of its package\.json is: node dist\/main\.js --port 80\nSo: cook-daemon start dist\/main\.js -- --port 80\n/
  const cases: readonly (readonly [typed: readonly string[], why: RegExp])[] = [
    [['start', 'missing.mjs'], /there is no program \S+\/missing\.mjs\n/],
    [['start', 'npm', '--', 'start'], so],
    [['run', 'yarn'], so],
    [['start', 'pnpm', '--', 'run', 'prod'], /The script "prod" of its package\.json is: next start\n/],
    [['start', '.'], so],
    [['start', 'folder'], /folder is a folder with neither an index\.js nor a main/],
    [['start', 'ecosystem.config.cjs'], /ecosystem\.config\.cjs cannot be used: it has neither services nor apps/],
    [['start', 'package.json'], /configuration file, not a program/],
    [['start', 'server.sh'], /server\.sh is a script for \/bin\/sh, not a program for Node\./],
    [['start', process.execPath], /is a binary, not a program for Node\./],
    [['start', 'app.js', '--node-arg=--watch'], /--node-arg --watch cannot be used: it restarts the program/],
    [['run', 'app.js', '--node-arg', '-e'], /--node-arg -e cannot be used: it runs code/],
  ]
  for (const [typed, why] of cases) {
    const { code, stdout, stderr } = await operator.types(typed)
    assert.match(stderr, why)
    assert.deepEqual([typed, code, stdout], [typed, 2, ''])
  }
  assert.equal(await operator.does(['list']), 'no service is running\n')
})

test(
  'a folder with an index.js or a main, and a script without its extension, are programs as they are for Node',
  onlyInMatrix,
  async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    const program =
      "require('node:http').createServer((request, response) => response.end('served')).listen(0, '127.0.0.1')"
    for (const folder of ['indexed', 'main']) mkdirSync(lab.path(folder))
    writeFileSync(lab.path('indexed/index.js'), program)
    writeFileSync(lab.path('main/package.json'), JSON.stringify({ main: 'server' }))
    for (const file of ['main/server.js', 'short.js']) writeFileSync(lab.path(file), program)
    for (const name of ['indexed', 'main', 'short']) {
      await operator.does(['start', name])
      assert.equal(await operator.asks(name), 'served')
    }
  },
)

test('start of a program that is none, throws or exits tells why and its last words, and leaves nothing running', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeFileSync(lab.path('notes.txt'), 'these are notes\n')
  failed(
    await operator.types(['start', 'notes.txt']),
    /exited before it was ready: exit code 1\. It printed:\n[\s\S]*notes\.txt:1[\s\S]*SyntaxError/,
  )
  writeProgram(lab, 'throws.mjs', '', "throw new Error('no database here')")
  failed(
    await operator.types(['start', 'throws.mjs']),
    /exited before it was ready: exit code 1\. It printed:\n[\s\S]*no database here/,
  )
  writeProgram(lab, 'exits.mjs', '', "process.stderr.write('I say no\\n'); process.exit(9)")
  failed(await operator.types(['start', 'exits.mjs']), /exit code 9\. It printed:\n {2}I say no\n/)
  assert.equal(await operator.does(['list']), 'no service is running\n')
})

test('start of a program that never listens ends with 1 at the timeout, and the program is killed', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeProgram(
    lab,
    'app.mjs',
    '',
    "console.error('waiting for the database'); await createDaemon(); await new Promise((done) => setTimeout(done, 60_000))",
  )
  failed(
    await operator.types(['start', 'app.mjs', '--ready-timeout', '700']),
    /was not ready after 700 ms and was killed/,
  )
  assert.equal(await operator.does(['list']), 'no service is running\n')
  writeFileSync(lab.path('idle.mjs'), 'setInterval(() => {}, 1000)')
  const { stderr } = await operator.types(['start', 'idle.mjs', '--ready-timeout', '300'])
  assert.match(stderr, /after 300 ms and was killed/)
  // What it prints when it hears that is not why it failed.
  assert.doesNotMatch(stderr, /refused this process|CookError/)
})

test('start of a program that listens on a taken port ends with 1 and names the port', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  const stranger = createServer().listen(0, '127.0.0.1')
  await once(stranger, 'listening')
  const { port } = stranger.address() as AddressInfo
  writeProgram(lab, 'app.mjs', '', `await serve(server, { host: '127.0.0.1', port: ${port} })`)
  failed(await operator.types(['start', 'app.mjs']), new RegExp(`EADDRINUSE.*${port}`))
  stranger.close()
})

// ---------------------------------------------------------------------------------------------- names and the run directory

test('an unknown name is exit code 3, and a name that leads elsewhere is a wrong word', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  for (const command of ['upgrade', 'status', 'stop', 'restart', 'logs']) {
    const { code, stdout, stderr } = await operator.types([command, 'nobody'])
    assert.deepEqual([command, code, stdout], [command, 3, ''])
    assert.match(stderr, /no service named nobody is running/)
    assert.equal((await operator.types([command, '../nobody'])).code, 2)
  }
  writeProgram(lab, 'app.mjs', 'one')
  assert.equal((await operator.types(['start', 'app.mjs', '--name', 'a/b'])).code, 2)
})

test('a run directory that is a symlink or writable for others is refused by every command', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeProgram(lab, 'app.mjs', 'one')
  const refused = async (why: RegExp) => {
    const first = [['start', 'app.mjs'], ['stop']]
    const others = [['run', 'app.mjs'], ['upgrade'], ['status'], ['restart'], ['logs'], ['list']]
    for (const args of takesAll ? [...first, ...others] : first) {
      failed(await operator.types(args), why)
    }
  }
  mkdirSync(lab.path('run'))
  chmodSync(lab.path('run'), 0o770)
  await refused(/the run directory \S+ cannot be used: others can write to it \(its mode is 0770\)/)
  rmSync(lab.path('run'), { recursive: true })
  mkdirSync(lab.path('mine'), { mode: 0o700 })
  symlinkSync('mine', lab.path('run'))
  await refused(/cannot be used: it is a symlink/)
  rmSync(lab.path('run'))
  writeFileSync(lab.path('run'), '')
  await refused(/cannot be used|EEXIST|ENOTDIR/)
  rmSync(lab.path('run'))
})

// ---------------------------------------------------------------------------------------------- what is stale or foreign

test('the socket of a dead daemon counts for nothing, and the next start takes its place', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeProgram(lab, 'app.mjs', 'one')
  await operator.does(['start', 'app.mjs', '--no-keep'])
  process.kill((await operator.status('app')).pid, 'SIGKILL')
  await eventually('its end', async () => (await operator.status('app').catch(() => 'gone')) === 'gone' || undefined)
  assert.equal(existsSync(operator.socket('app')), true)
  assert.equal(await operator.does(['list']), 'no service is running\n')
  for (const command of ['status', 'stop', 'upgrade']) assert.equal((await operator.types([command, 'app'])).code, 3)
  await operator.does(['start', 'app.mjs'])
  assert.match(await operator.asks('app'), /^one /)
})

test('a foreign process behind a socket is told, and never signalled', onlyInMatrix, async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeProgram(lab, 'app.mjs', 'one')
  mkdirSync(lab.path('run'), { mode: 0o700 })
  const answers = ['HTTP/1.1 200 OK\r\n\r\n{"pid":1}', 'SSH-2.0-OpenSSH\r\n\r\n', '']
  for (const answer of answers) {
    const stranger = createServer((socket) =>
      socket
        .on('error', () => {})
        .resume()
        .end(answer),
    ).listen(operator.socket('app'))
    await once(stranger, 'listening')
    for (const command of ['status', 'stop', 'upgrade', 'restart']) {
      failed(await operator.types([command, 'app']), /app did not respond on/)
    }
    failed(await operator.types(['start', 'app.mjs']), /app did not respond on/)
    stranger.close()
    await once(stranger, 'close')
  }
  symlinkSync(lab.path('elsewhere'), operator.socket('app'))
  failed(await operator.types(['stop', 'app']), /it is not a socket/)
  assert.equal(lstatSync(operator.socket('app')).isSymbolicLink(), true)
})

test('a pid file of a living stranger keeps a daemon from starting, and the stranger lives; one of a dead process is replaced', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeProgram(lab, 'app.mjs', 'one')
  writeFileSync(lab.path('app.pid'), `${process.pid}\n`)
  failed(
    await operator.types(['start', 'app.mjs', '--pid', 'app.pid']),
    new RegExp(`names another running process \\(pid ${process.pid}\\)`),
  )
  assert.equal(lab.read('app.pid'), `${process.pid}\n`)
  const dead = spawn(process.execPath, ['-e', '0'])
  await once(dead, 'exit')
  writeFileSync(lab.path('app.pid'), `${dead.pid}\n`)
  await operator.does(['start', 'app.mjs', '--pid', 'app.pid'])
  assert.equal(lab.read('app.pid'), `${(await operator.status('app')).keeper?.pid}\n`)
  await operator.does(['stop'])
  assert.equal(existsSync(lab.path('app.pid')), false)
})

// ---------------------------------------------------------------------------------------------- two at once

test('of two starts at once one wins, and the other says who', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeProgram(lab, 'app.mjs', 'one')
  const ends = await Promise.all([1, 2, 3].map(() => operator.types(['start', 'app.mjs'])))
  assert.deepEqual(ends.map(({ code }) => code).sort(), [0, 1, 1])
  for (const end of ends)
    if (end.code === 1) failed(end, /a service named app is already running: .* cook-daemon upgrade app/)
  assert.match(await operator.asks('app'), /^one /)
})

test('of two simultaneous upgrades the second is refused, and an upgrade whose command is interrupted continues', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeProgram(lab, 'app.mjs', 'one')
  await operator.does(['start', 'app.mjs'])
  const gate = createServer().listen(lab.path('gate'))
  await once(gate, 'listening')
  const boot = `await new Promise((done) => process.getBuiltinModule('node:net').connect('${lab.path('gate')}').once('close', done).resume())`
  writeProgram(lab, 'app.mjs', 'two', boot)
  const first = operator.begins(['upgrade'])
  const [socket] = await within('the new version', once(gate, 'connection'))
  const second = await operator.types(['upgrade'])
  failed(second, /an upgrade to generation 2 is already in progress/)
  const shown = first.stderr === null ? '' : text(first.stderr)
  first.kill('SIGINT')
  assert.deepEqual(await within('its end', once(first, 'exit')), [130, null])
  assert.match(await shown, /the upgrade continues: cook-daemon status/)
  assert.equal((await operator.status('app')).phase, 'upgrading')
  socket.destroy()
  gate.close()
  await eventually('the second generation', async () => (await operator.status('app')).generation === 2 || undefined)
  assert.match(await operator.asks('app'), /^two /)
})

// ---------------------------------------------------------------------------------------------- full disks

test('a log that cannot be opened keeps a program from starting, with a clear message', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeProgram(lab, 'app.mjs', 'one')
  failed(await operator.types(['start', 'app.mjs', '--log', 'missing/log']), /logFile cannot be used: ENOENT/)
  assert.equal(await operator.does(['list']), 'no service is running\n')
})

test('a pid file that cannot be written keeps a program from starting, with a clear message', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeProgram(lab, 'app.mjs', 'one')
  failed(
    await operator.types(['start', 'app.mjs', '--pid', 'missing/pid']),
    /the pid file \S+\/missing\/pid could not be written: ENOENT/,
  )
  // Nor is a program blamed that has said nothing.
  writeFileSync(lab.path('plain.cjs'), "require('http').createServer().listen(0)")
  const { stderr } = await operator.types(['start', 'plain.cjs', '--pid', 'missing/pid'])
  assert.match(stderr, /missing\/pid could not be written: ENOENT.*\nCheck that its folder exists/)
  assert.equal(await operator.does(['list']), 'no service is running\n')
})

test('on a full disk a start fails with what could not be written, and leaves nothing behind', {
  skip: noFullDisk(),
}, async () => {
  await using lab = await Lab.open()
  using disk = FullDisk.mount(lab.makeFolder('disk'))
  await using operator = new Operator(lab)
  writeProgram(lab, 'app.mjs', 'one')
  disk.fillBytes()
  failed(
    await operator.types(['start', 'app.mjs', '--pid', 'disk/pid']),
    /the pid file \S+\/disk\/pid could not be written: ENOSPC/,
  )
  assert.equal(await operator.does(['list']), 'no service is running\n')
  const env = { COOK_DAEMON_HOME: lab.path('disk/run') }
  const args = ['start', 'app.mjs', '--log', lab.path('log')]
  failed(await operator.types(args, { env }), /the run directory \S+ cannot be used: .*ENOSPC/)
  const left = readdirSync(lab.path('disk'), { recursive: true, encoding: 'utf8' })
  assert.deepEqual(
    left.filter((file) => !/^(full|run|log)$/.test(file)),
    [],
  )
})

test('a disk that fills up while a daemon runs keeps it from nothing: it is upgraded, and stopped', {
  skip: noFullDisk(),
}, async () => {
  await using lab = await Lab.open()
  using disk = FullDisk.mount(lab.makeFolder('disk'))
  await using operator = new Operator(lab)
  writeProgram(lab, 'app.mjs', 'one')
  const env = { COOK_DAEMON_HOME: lab.path('disk/run') }
  await operator.does(['start', 'app.mjs', '--log', 'disk/log', '--pid', 'disk/pid'], { env })
  const status = async () => JSON.parse(await operator.does(['status', '--json'], { env })) as Status
  const { pid } = await status()
  disk.fillBytes()
  // Its predecessor's is as good as any to upgrade again, and to stop.
  await operator.does(['upgrade'], { env })
  const now = await status()
  assert.notEqual(now.pid, pid)
  assert.deepEqual([now.generation, now.phase], [2, 'ready'])
  await operator.does(['stop'], { env })
  assert.match(await operator.does(['list'], { env }), /^app +stopped +- +[12] .* stopped \d+ s ago$/m)
})

test('a new version that cannot write its log fails, and the old one serves on', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeProgram(lab, 'app.mjs', 'one')
  writeFileSync(lab.path('real.log'), '')
  symlinkSync('real.log', lab.path('app.log'))
  await operator.does(['start', 'app.mjs', '--log', 'app.log'])
  rmSync(lab.path('app.log'))
  symlinkSync('/dev/full', lab.path('app.log'))
  writeProgram(lab, 'app.mjs', 'two', "process.stdout.write('a line\\n'); await new Promise(setImmediate)")
  failed(await operator.types(['upgrade']), /ENOSPC/)
  assert.match(await operator.asks('app'), /^one /)
})

function failed({ code, stdout, stderr }: Ended, why: RegExp): void {
  assert.match(stderr, why)
  assert.match(stderr, /^cook-daemon: /)
  assert.deepEqual([code, stdout.replace(/^app {2}generation .*\n {2}\S.*\n|^ +\d.* s {2}.*\n/gm, '')], [1, ''])
}
