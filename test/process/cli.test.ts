/** The command line: start, upgrade, status, stop, restart and list, as an operator types them. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { existsSync, mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { get } from 'node:http'
import { connect, createServer } from 'node:net'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import { endAll } from '../../src/cli/stop.ts'
import { clientOf } from '../../src/control/client.ts'
import { Operator, portOf, writeProgram } from '../support/command.ts'
import { askAll, HttpConnection } from '../support/http-connection.ts'
import { Lab } from '../support/lab.ts'
import { eventually, within } from '../support/waiting.ts'
import { Witnesses } from '../support/witnesses.ts'

test('cook-daemon start returns when the program serves, and stop when nothing of it is left', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeProgram(lab, 'app.mjs', 'one')
  const started = await operator.types(['start', 'app.mjs'])
  assert.equal(started.code, 0, started.stderr)
  assert.match(
    started.stdout,
    /^✓ app serves on 127\.0\.0\.1:\d+ \(pid \d+, generation 1\), log .*\/run\/app\.log\n {2}app\.mjs in \S+, node v\S+\n$/,
  )
  assert.match(await operator.asks('app'), /^one /)
  assert.match(await operator.does(['stop', 'app']), /^✓ app has stopped\n$/)
  assert.equal(existsSync(operator.socket('app')), false)
  const again = await operator.types(['stop', 'app'])
  assert.deepEqual([again.code, again.stdout], [3, ''])
  assert.match(again.stderr, /the service app is down: stopped/)
})

test('stop sends SIGTERM once, and waits for what was accepted', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  // Longer than stop waits before it asks what becomes of the daemon.
  const counting = `let terms = 0
process.on('SIGTERM', () => terms++)
server.removeAllListeners('request').on('request', (_, response) => {
  process.once('SIGTERM', () => setTimeout(() => response.end(String(terms)), 500))
  console.log('asked')
})`
  writeProgram(lab, 'app.mjs', 'one', counting)
  await operator.does(['start', 'app.mjs'])
  const client = await HttpConnection.open(portOf(await operator.status('app')))
  const asked = client.ask()
  await operator.untilAsked('app')
  assert.equal(await operator.does(['stop']), '✓ app has stopped\n')
  assert.equal((await asked).body, '1')
  client.socket.destroy()
})

test('stop ends a daemon that SIGTERM would kill by its control socket, and waits for what was accepted', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeFileSync(
    lab.path('app.mjs'),
    `import { createServer } from 'node:http'
import { serve } from '${operator.library}'
let late
const server = createServer((_, response) => { late = response; console.log('asked') })
const daemon = await serve(server, { host: '127.0.0.1', port: 0, signals: { stop: ['SIGINT'] } })
daemon.onDrain(() => late.end('late'))`,
  )
  await operator.does(['start', 'app.mjs'])
  const status = await operator.status('app')
  const client = await HttpConnection.open(portOf(status))
  const asked = client.ask()
  await operator.untilAsked('app')
  assert.equal(await operator.does(['stop']), '✓ app has stopped\n')
  assert.equal((await asked).body, 'late')
  client.socket.destroy()
})

test('stop ends the new version too that took over when it had looked who serves', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  const holding = `server.removeAllListeners('request').on('request', (_, response) => {
process.once('SIGHUP', () => setTimeout(() => response.end('late'), 500))
console.log('asked')
})`
  writeProgram(lab, 'app.mjs', 'one', holding)
  await operator.does(['start', 'app.mjs'])
  const real = clientOf(lab.path('run'), 'app')
  const client = await HttpConnection.open(portOf(await operator.status('app')))
  const asked = client.ask()
  await operator.untilAsked('app')
  const upgraded = async () => {
    const status = await real.status()
    await operator.does(['upgrade', '--no-wait'])
    process.kill(status.pid, 'SIGHUP')
    return status
  }
  const end = await endAll({ ...real, status: upgraded }, { json: true })
  assert.equal(end.wasKilled, false)
  assert.equal((await asked).body, 'late')
  assert.deepEqual(real.owners(), [])
  client.socket.destroy()
})

test('cook-daemon upgrade shows each step with its time, and ends when the new version serves and the old one is gone', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeProgram(lab, 'app.mjs', 'one')
  await operator.does(['start', 'app.mjs', '--name', 'web'])
  const old = await operator.status('web')
  const client = await HttpConnection.open(portOf(old))
  assert.match((await client.ask()).body, /^one /)
  writeProgram(lab, 'app.mjs', 'two')
  const lines = (await operator.does(['upgrade', 'web'])).trimEnd().split('\n')
  const now = await operator.status('web')
  assert.deepEqual(lines.slice(0, 2), ['web  generation 1 → 2', `  app.mjs in ${lab.folder}`])
  const steps = lines.slice(2).filter((line) => !/\d+ of \d+ connections moved/.test(line))
  assert.deepEqual(
    steps.map((line) => line.replace(/^ +\d+\.\d\d s {2}/, '')),
    [
      'new version started',
      'booted',
      'ready',
      'switched',
      '1 connection moved, 0 finished, 0 closed, 0 cut',
      'old process gone',
      `✓ web serves generation 2 on 127.0.0.1:${portOf(now)} (pid ${now.pid})`,
    ],
  )
  assert.equal((await client.ask()).body, `two ${now.pid}`)
  client.socket.destroy()
})

test('cook-daemon upgrade exits with 1 and prints the reason when the new version fails, and the old one still serves', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeProgram(lab, 'app.mjs', 'one')
  await operator.does(['start', 'app.mjs'])
  writeProgram(lab, 'app.mjs', 'two', "throw new Error('no database here')")
  const { code, stderr } = await operator.types(['upgrade'])
  assert.equal(code, 1)
  assert.match(stderr, /^cook-daemon: the new version \(pid \d+\) exited before it was ready: exit code 1/)
  assert.match(stderr, /no database here/)
  assert.match(
    stderr,
    /\n✗ not upgraded: generation 1 still serves, nothing was lost\. Full log: cook-daemon logs app\n$/,
  )
  assert.match(await operator.asks('app'), /^one /)
  const json = await operator.types(['upgrade', 'app', '--json'])
  assert.equal(json.code, 1)
  assert.doesNotMatch(json.stderr, /✗/)
  const { upgrades, lastUpgrade } = await operator.status('app')
  assert.deepEqual([upgrades.failed, lastUpgrade?.code], [2, 'ERR_COOK_SUCCESSOR_EXITED'])
})

test('nobody meets a new version of an unmodified program before it says that it is ready', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  const program = (version: string, then: string) =>
    writeFileSync(
      lab.path('app.cjs'),
      `const server = require('node:http').createServer((_, response) => response.end('${version}'))
server.listen(0, '127.0.0.1', () => { ${then} })`,
    )
  const gate = createServer().listen(lab.path('gate'))
  await once(gate, 'listening')
  program('one', "process.send('ready')")
  await operator.does(['start', 'app.cjs', '--wait-ready'])
  program('two', `require('node:net').connect('${lab.path('gate')}').once('close', () => process.exit(1)).resume()`)
  const upgrading = operator.types(['upgrade'])
  const [boot] = await once(gate, 'connection')
  const port = portOf(await operator.status('app'))
  const clients = await Promise.all(Array.from({ length: 100 }, () => HttpConnection.open(port)))
  const bodies = async () => [...new Set((await askAll(clients)).map(({ body }) => body))]
  assert.deepEqual(await bodies(), ['one'])
  boot.destroy()
  assert.equal((await upgrading).code, 1)
  assert.deepEqual(await bodies(), ['one'])
  gate.close()
  for (const { socket } of clients) socket.destroy()
})

test('a new version that closes its server before it is ready, and has nothing more to do, ends', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  const program = (then: string) =>
    writeFileSync(
      lab.path('app.mjs'),
      `import { createServer } from 'node:http'
import { createDaemon } from '${operator.library}'
const daemon = await createDaemon()
const server = createServer((_, response) => response.end('one'))
await daemon.listen(server, { host: '127.0.0.1', port: 0 })
${then}`,
    )
  program('await daemon.ready()')
  await operator.does(['start', 'app.mjs'])
  program('server.close(); process.exitCode = 7')
  const { code, stderr } = await operator.types(['upgrade', '--ready-timeout', '20000'])
  assert.match(stderr, /exit code 7/)
  assert.equal(code, 1)
  assert.equal(await operator.asks('app'), 'one')
})

test('a release folder behind a symlink is followed at each upgrade, and is the working directory too', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  for (const version of ['v1', 'v2']) {
    mkdirSync(lab.path(version))
    writeProgram(lab, `${version}/app.mjs`, version, 'process.title')
  }
  symlinkSync('v1', lab.path('current'))
  await operator.does(['start', 'app.mjs'], { cwd: lab.path('current') })
  assert.match(await operator.asks('app'), /^v1 /)
  symlinkSync('v2', lab.path('next'))
  renameSync(lab.path('next'), lab.path('current'))
  rmSync(lab.path('v1'), { recursive: true })
  await operator.does(['upgrade', 'app'])
  assert.match(await operator.asks('app'), /^v2 /)
  const { command } = await operator.status('app')
  assert.deepEqual([command.cwd, command.args], [lab.path('current'), [lab.path('current/app.mjs')]])
})

test("what a program does at SIGTERM has the time of this upgrade's drain, not that of the start", async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  const lines = `const server = require('node:http').createServer((request, response) => {
      response.flushHeaders()
      setTimeout(() => response.end(), 700)
    })
    server.listen(0, '127.0.0.1')
    process.on('SIGTERM', () => setTimeout(() => {
      require('node:fs').appendFileSync('ended', process.pid + '\\n')
      process.exit(0)
    }, 500))`
  writeFileSync(lab.path('app.cjs'), lines)
  await operator.does(['start', 'app.cjs', '--drain-timeout', '400'])
  const { pid, listeners } = await operator.status('app')
  // Taken before the upgrade, and answered by the old version.
  const [response] = await once(get(`http://${listeners[0]?.address}`), 'response')
  await operator.does(['upgrade', 'app', '--drain-timeout', '20000'])
  await text(response)
  assert.equal(lab.read('ended'), `${pid}\n`)
})

test('start of a name that runs says so, and upgrade --or-start does either', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeProgram(lab, 'app.mjs', 'one')
  await operator.does(['upgrade', 'web', '--or-start', 'app.mjs', '--drain-timeout', '1234', '--', 'an', 'argument'])
  const first = await operator.status('web')
  assert.deepEqual([first.generation, first.drainTimeout, first.command.args.slice(1)], [1, 1234, ['an', 'argument']])
  const again = await operator.types(['start', 'app.mjs', '--name', 'web'])
  assert.equal(again.code, 1)
  assert.match(again.stderr, /a service named web is already running: pid \d+, generation 1.* cook-daemon upgrade web/)
  await operator.does(['upgrade', 'web', '--or-start', 'app.mjs'])
  assert.equal((await operator.status('web')).generation, 2)
})

test('status and list tell people and scripts of every daemon', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  assert.equal(await operator.does(['list']), 'no service is running\n')
  assert.equal(await operator.does(['list', '--json']), '[]\n')
  assert.equal((await operator.types(['status'])).code, 3)
  writeProgram(lab, 'app.mjs', 'one')
  await operator.does(['start', 'app.mjs', '--name', 'one'])
  assert.match(await operator.does(['status']), /^one\n {2}state +running\n {2}pid +\d+\n {2}generation +1\n/)
  await operator.does(['start', 'app.mjs', '--name', 'two'])
  const which = await operator.types(['status'])
  assert.equal(which.code, 2)
  assert.match(which.stderr, /several services run; name one: one, two/)
  const all = JSON.parse(await operator.does(['list', '--json'])) as { name: string }[]
  assert.deepEqual(
    all.map(({ name }) => name),
    ['one', 'two'],
  )
  assert.match(
    await operator.does(['list']),
    /^NAME +STATE +WORKERS +GENERATION +UPTIME +RESTARTS +MEMORY +LISTENS ON\none +running +1\/1 +1 .*\ntwo +running +1\/1 +1 /,
  )
  const told = JSON.parse(await operator.does(['status', 'two', '--json']))
  assert.equal(told.pid, (await operator.status('two')).pid)
})

test('restart stops and starts the same program with the same options', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeProgram(lab, 'app.mjs', 'one')
  await operator.does(['start', 'app.mjs', '--name', 'web', '--pid', 'web.pid', '--log', 'web.log', '--', 'x'])
  const before = await operator.status('web')
  assert.equal(lab.read('web.pid'), `${before.keeper?.pid}\n`)
  await operator.does(['restart', 'web'])
  const after = await operator.status('web')
  assert.notEqual(after.pid, before.pid)
  assert.deepEqual([after.generation, after.command, after.program], [2, before.command, before.program])
  assert.equal(lab.read('web.pid'), `${before.keeper?.pid}\n`)
  await eventually('two starts in the log', () => lab.read('web.log') === 'one serves\none serves\n' || undefined)
})

test('restart starts the program again each time, also one whose end takes its threads a moment, and a program that closes its server keeps its port and loses no request', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  // Its main thread is a zombie while others live on for some milliseconds, with the control socket
  // open.
  writeFileSync(
    lab.path('app.cjs'),
    `const server = require('node:http').createServer((_, response) => response.end(String(process.pid)))
server.listen(0, '127.0.0.1')
process.on('SIGTERM', () => server.close(() => setTimeout(() => process.exit(0), 500)))`,
  )
  await operator.does(['start', 'app.cjs'])
  const port = portOf(await operator.status('app'))
  const pids = [await operator.asks('app')]
  // The program closes its server, as many do, and the keeper holds the listener all the same.
  await using clients = new Witnesses(port, 4)
  for (let time = 0; time < 4; time++) {
    await operator.does(['restart', 'app'])
    assert.equal(portOf(await operator.status('app')), port, `restart ${time + 1}`)
    pids.push(await operator.asks('app'))
  }
  assert.equal(new Set(pids).size, 5, pids.join(' '))
  assert.deepEqual(await clients.stop(), [])
})

test('an upgrade has the environment of the first start, and with --update-env that of the command', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeProgram(
    lab,
    'app.mjs',
    '',
    "server.on('request', (_, response) => response.end(process.env.COLOUR))".replace(
      'server.on',
      'server.removeAllListeners("request").on',
    ),
  )
  await operator.does(['start', 'app.mjs'], { env: { COLOUR: 'red' } })
  await operator.does(['upgrade'], { env: { COLOUR: 'blue' } })
  assert.equal(await operator.asks('app'), 'red')
  await operator.does(['upgrade', '--update-env'], { env: { COLOUR: 'blue' } })
  assert.equal(await operator.asks('app'), 'blue')
  const { generation, program } = await operator.status('app')
  assert.deepEqual([generation, program?.name], [3, 'app'])
})

test('what the operator says goes before what the program says, in every generation', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  const program = writeProgram(lab, 'app.mjs', 'one')
  writeProgram(
    lab,
    'app.mjs',
    'one',
    "const own = { name: 'own', drainTimeout: 1 }; await serve(server, { ...own, host: '127.0.0.1', port: 0 }); await new Promise(() => {})",
  )
  await operator.does(['start', program, '--name', 'told', '--drain-timeout', '4321', '--no-move-connections'])
  for (let generation = 1; generation <= 2; generation++) {
    const status = await operator.status('told')
    assert.deepEqual(
      [status.generation, status.drainTimeout, status.program?.moveConnections],
      [generation, 4321, false],
    )
    if (generation === 1) await operator.does(['upgrade', 'told'])
  }
  assert.equal(existsSync(operator.socket('own')), false)
})

test('a program that becomes a daemon by itself is started too, with the log of the command', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  const detached = `await serve(server, { detach: true, logFile: 'own.log', host: '127.0.0.1', port: 0 })
console.log('detached')
await new Promise(() => {})`
  writeProgram(lab, 'app.mjs', 'one', detached)
  await operator.does(['start', 'app.mjs', '--log', 'told.log'])
  await operator.does(['upgrade'])
  assert.equal((await operator.status('app')).logFile, lab.path('told.log'))
  await eventually('both generations in the log', () => lab.read('told.log') === 'detached\ndetached\n' || undefined)
  assert.equal(existsSync(lab.path('own.log')), false)
})

test('a program of the verbs is started when it says that it is up, and is told as one that the other commands do not reach', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  const { library } = operator
  writeFileSync(
    lab.path('verbs.mjs'),
    `import { createServer } from 'node:net'
import { daemonize, notifyUpgradeDone, writePid } from '${library}'
if (!(await daemonize())) process.exit()
createServer((socket) => socket.on('data', () => process.exit())).listen('${lab.path('verbs.sock')}', async () => {
  await notifyUpgradeDone()
  writePid('verbs.pid')
})
`,
  )
  assert.match(await operator.does(['start', '--no-keep', 'verbs.mjs']), /^✓ verbs is up, but has no control socket/)
  assert.equal((await operator.types(['status', 'verbs'])).code, 3)
  const socket = connect(lab.path('verbs.sock'))
  socket.write('end')
  await within('its end', once(socket.resume(), 'close'))
})

test('packages that are symlinks, as pnpm makes them, are found with those beside them, in every generation and at any time', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  for (const [name, code] of [
    ['early', "exports.answer = require('beside').answer"],
    ['late', "exports.answer = require('beside').answer"],
    ['beside', "exports.answer = 'found'"],
  ] as const) {
    mkdirSync(lab.path(`store/node_modules/${name}`), { recursive: true })
    writeFileSync(lab.path(`store/node_modules/${name}/index.js`), code)
  }
  mkdirSync(lab.path('node_modules'))
  for (const name of ['early', 'late']) {
    symlinkSync(`../store/node_modules/${name}`, lab.path(`node_modules/${name}`))
  }
  writeFileSync(
    lab.path('app.mjs'),
    `import { createServer } from 'node:http'
import { answer } from 'early'
const server = createServer(async (_, response) => {
  const late = await import('late').catch((error) => ({ answer: String(error) }))
  response.end(answer + ' ' + late.answer)
})
server.listen(0, '127.0.0.1')`,
  )
  await operator.does(['start', 'app.mjs'])
  assert.equal(await operator.asks('app'), 'found found')
  for (let generation = 2; generation <= 3; generation++) {
    await operator.does(['upgrade', 'app'])
    assert.equal(await operator.asks('app'), 'found found', `generation ${generation}`)
  }
})

test('every command has a help with an example, and a wrong word is exit code 2', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  const help = await operator.does(['--help'])
  const commands = ['start', 'run', 'upgrade', 'status', 'stop', 'restart', 'logs', 'list', 'prove']
  for (const command of commands) {
    assert.match(help, new RegExp(`^ {2}${command}\\b`, 'm'))
    assert.match(await operator.does([command, '--help']), new RegExp(`Examples?:\n  cook-daemon ${command}`))
  }
  for (const wrong of [
    ['strat'],
    ['start'],
    ['start', 'app.mjs', '--colour'],
    ['upgrade', '--overlap', 'soon'],
    ['status', '../web'],
    ['logs', '-n', 'x'],
    [],
  ]) {
    const { code, stdout } = await operator.types(wrong)
    assert.deepEqual([wrong, code, stdout], [wrong, 2, ''])
  }
})

test('--hang-timeout and --max-memory of an upgrade or a restart are those of its keeper from then on, and refused where there is none', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeProgram(lab, 'app.mjs', 'one')
  const kept = () => JSON.parse(lab.read('run/app.service')).plan.options
  await operator.does(['start', 'app.mjs', '--max-memory', '1G'])
  assert.deepEqual(kept(), { keep: true, maxMemory: 2 ** 30 })
  await operator.does(['upgrade', 'app', '--hang-timeout', '60000'])
  await operator.does(['restart', 'app', '--max-memory', '512M'])
  await eventually('the record', () => kept().maxMemory === 2 ** 29 || undefined)
  assert.deepEqual(kept(), { keep: true, maxMemory: 2 ** 29, hangTimeout: 60_000 })
  await operator.does(['stop', 'app'])
  await operator.does(['start', 'app.mjs', '--name', 'alone', '--no-keep'])
  const { code, stderr } = await operator.types(['upgrade', 'alone', '--max-memory', '1G'])
  assert.equal(code, 1)
  assert.match(stderr, /alone has no keeper/)
  assert.equal((await operator.status('alone')).generation, 1)
})
