/** Logs: one file for all generations, followed and rotated. */
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  appendFileSync,
  chmodSync,
  closeSync,
  existsSync,
  lchownSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { dirname } from 'node:path'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { Status } from '../../src/control/status.ts'
import { isAlive, system } from '../../src/node/system.ts'
import { logFolders, openDefaultLog } from '../../src/process/log-dir.ts'
import { Operator, writeProgram } from '../support/command.ts'
import { Lab } from '../support/lab.ts'
import { eventually, within } from '../support/waiting.ts'

const noPerl = { skip: spawnSync('perl', ['-MFcntl', '-e', '0']).status !== 0 && 'there is no perl to set O_NONBLOCK' }

/** Root's own folders are the system's; where systemd gives others, those. */
const rootsFolders = (home: string) =>
  process.getuid?.() === 0
    ? { RUNTIME_DIRECTORY: `${home}/.cook-daemon`, LOGS_DIRECTORY: `${home}/.local/state/cook-daemon` }
    : {}

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
  await operator.does(['start', '--no-keep', 'app.mjs', '--log', 'elsewhere.log'])
  const { pid } = await operator.status('app')
  process.kill(pid, 'SIGKILL')
  await eventually('its end', async () => (await operator.status('app').catch(() => 'gone')) === 'gone' || undefined)
  assert.equal(readlinkSync(lab.path('run', 'app.log')), lab.path('elsewhere.log'))
  assert.equal(await operator.does(['logs', 'app']), 'one serves\n')
  assert.equal((await operator.types(['logs', 'other'])).code, 3)
})

test('without --log the log is in the state folder of its user, and is found when the daemon is dead, as one of before is', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeProgram(lab, 'app.mjs', 'one')
  const home = lab.makeFolder('home')
  mkdirSync(`${home}/.cook-daemon`, { mode: 0o700 })
  const before = 'unset COOK_DAEMON_HOME XDG_STATE_HOME'
  const options = { before, env: { HOME: home, ...rootsFolders(home) } }
  const log = `${home}/.local/state/cook-daemon/app.log`
  try {
    assert.match(await operator.does(['start', '--no-keep', 'app.mjs'], options), new RegExp(`log ${log}$`, 'm'))
    assert.deepEqual([modeOf(log), modeOf(dirname(log))], [0o640, 0o750])
    const { pid, startTime } = JSON.parse(await operator.does(['status', 'app', '--json'], options)) as Status
    assert.equal(await operator.does(['logs', 'app', '--path'], options), `${log}\n`)
    system.kill([pid, startTime], 'SIGKILL')
    await eventually('its end', () => !isAlive([pid, startTime]) || undefined)
    assert.equal(await operator.does(['logs', 'app'], options), 'one serves\n')
    rmSync(`${home}/.cook-daemon/app.log`)
    assert.equal(await operator.does(['logs', 'app'], options), 'one serves\n')
    writeFileSync(`${home}/.cook-daemon/before.log`, 'of an earlier version\n')
    assert.equal(await operator.does(['logs', 'before'], options), 'of an earlier version\n')
  } finally {
    await operator.types(['stop', 'app', '--kill-after', '0'], options)
  }
})

function modeOf(path: string): number {
  return statSync(path).mode & 0o777
}

test('root has its logs in /var/log, not in /run, systemd and a home of its own go before, and a state folder that others can write to is passed over', async () => {
  await using lab = await Lab.open()
  assert.equal(logFolders({}, '/run/cook-daemon', 0)[0], '/var/log/cook-daemon')
  assert.equal(logFolders({ XDG_STATE_HOME: '/x/state' }, undefined, 1000)[0], '/x/state/cook-daemon')
  assert.equal(logFolders({ LOGS_DIRECTORY: '/var/log/web:/var/log/more' }, undefined, 0)[0], '/var/log/web')
  assert.deepEqual(logFolders({ COOK_DAEMON_HOME: '/x/home', LOGS_DIRECTORY: '/var/log/web' }, '/x/home', 0), [
    '/x/home',
  ])
  const [given, state, run] = [lab.path('given'), lab.path('state/cook-daemon'), lab.makeFolder('run')]
  const open = () => {
    const { file, fd, fault } = openDefaultLog([given, state, run], 'web')
    closeSync(fd)
    return { file, fault }
  }
  assert.deepEqual(open(), { file: `${given}/web.log`, fault: undefined })
  chmodSync(given, 0o777)
  assert.deepEqual(open(), {
    file: `${state}/web.log`,
    fault: `${given} cannot be used for logs: others can write to it`,
  })
  rmSync(state, { recursive: true })
  writeFileSync(state, '')
  assert.match(String(open().fault), /others can write to it; .*state\/cook-daemon cannot be used for logs: /)
  assert.equal(open().file, `${run}/web.log`)
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

test('logs -f goes on with what is written, when the log is cut or has another file under its name too', async () => {
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
  // As logrotate does with copytruncate.
  truncateSync(lab.path('run', 'app.log'))
  await operator.asks('app')
  await eventually('what is written after it', () => text === 'one serves\nout /\nerr /\nout /\nerr /\n' || undefined)
  renameSync(lab.path('run', 'app.log'), lab.path('run', 'app.log.1'))
  await operator.does(['upgrade'])
  // That it was moved is a line of it too.
  await eventually(
    'what the next generation writes',
    () => /err \/\n(cook-daemon: .*\n)?one serves\n$/.test(text) || undefined,
  )
})

test('logs of several workers are shown as one with the slot before each line, the one that wrote last at the end, --slot shows one, and files of others are left out', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeProgram(lab, 'app.mjs', 'one')
  lab.makeFolder('log')
  await operator.does(['start', 'app.mjs', '--log', 'log/app.log'])
  const files = { keeper: 'log/app.log', slot0: 'log/app@0.log', slot11: 'log/app@11.log' }
  const write = (file: string, text: string, at: number) => {
    appendFileSync(lab.path(file), text)
    utimesSync(lab.path(file), at, at)
  }
  write(files.slot11, 'a\nb\nc\n', 1_000)
  write(files.slot0, 'd\ne\nwithout an end', 2_000)
  write('log/app@1.txt', 'no log\n', 3_000)
  const told = '11| b\n11| c\n0| e\n0| without an end\none serves\n'
  assert.equal(await operator.does(['logs', '-n', '2']), told)
  assert.equal(await operator.does(['logs', '-n', '2', '--slot', '11']), 'b\nc\n')
  assert.equal(
    await operator.does(['logs', '--path']),
    Object.values(files)
      .map((file) => `${lab.path(file)}\n`)
      .join(''),
  )
  const wrong = await operator.types(['logs', '--slot', '1'])
  assert.deepEqual([wrong.code, /slot 1 has no log: the slots with a log are 0, 11/.test(wrong.stderr)], [2, true])
  const following = operator.begins(['logs', '-f', '-n', '2'])
  let text = ''
  following.stdout?.setEncoding('utf8').on('data', (part: string) => {
    text += part
  })
  await eventually('what is there', () => text === told || undefined)
  write(files.slot0, ' and more\nhalf', 4_000)
  write('log/app@3.log', 'a worker more\n', 4_000)
  await eventually('what is new', () => text.includes('3| a worker more\n') || undefined)
  assert.equal(text, `${told}0|  and more\n3| a worker more\n`)
  await operator.does(['stop', 'app'])
  assert.match(await operator.does(['logs', 'app']), /^11\| a\n[\s\S]*3\| a worker more\n/)
  if (process.getuid?.() !== 0) return
  chmodSync(lab.path('log'), 0o777)
  lchownSync(lab.path('log/app@3.log'), 65_534, 65_534)
  assert.doesNotMatch(await operator.does(['logs', 'app']), /a worker more/)
})

test('logs prints as many lines as one wants also when the log has just been rotated', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeProgram(lab, 'app.mjs', 'one')
  await operator.does(['start', 'app.mjs'])
  writeFileSync(lab.path('run/app.log.2'), '1\n2\n3\n')
  writeFileSync(lab.path('run/app.log.1'), '4\n5 is cut')
  assert.equal(await operator.does(['logs', '-n', '5']), '2\n3\n4\n5 is cut\none serves\n')
  assert.equal(await operator.does(['logs', '-n', '1']), 'one serves\n')
  rmSync(lab.path('run/app.log.1'))
  assert.equal(await operator.does(['logs', '-n', '5']), 'one serves\n')
})

for (const [what, args] of [
  ['logs', ['logs', 'app', '-n', '200000']],
  ['logs -f', ['logs', 'app', '-f', '-n', '200000']],
] as const) {
  test(`${what} ends without an error when its reader has read enough, as head does`, async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    writeProgram(lab, 'app.mjs', 'one', "setInterval(() => console.log('more'), 1)")
    await operator.does(['start', 'app.mjs'])
    appendFileSync(lab.path('run', 'app.log'), 'a line\n'.repeat(200_000))
    const child = operator.begins(args)
    const said = child.stderr === null ? '' : text(child.stderr)
    const ended = once(child, 'exit')
    child.stdout?.once('data', () => child.stdout?.destroy())
    assert.deepEqual(await within('its end', ended), [0, null])
    assert.equal(await said, '')
  })
}

const logrotate = ['/usr/sbin/logrotate', '/sbin/logrotate'].find((path) => existsSync(path))

test('the logrotate example of the docs rotates the log of a daemon that writes all the time', {
  skip: logrotate === undefined ? 'logrotate is not installed here' : false,
}, async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  mkdirSync(lab.path('log'), { mode: 0o755 })
  writeProgram(lab, 'app.mjs', 'one', "let line = 0; setInterval(() => console.log('line ' + line++), 1)")
  await operator.does(['start', 'app.mjs', '--name', 'web', '--log', 'log/web.log'])
  const page = readFileSync(fileURLToPath(new URL('../../../docs/cli.md', import.meta.url)), 'utf8')
  const [, example = ''] = /^```logrotate\n(.*?)^```$/ms.exec(page) ?? []
  const settings = example.replaceAll('/var/log/', `${lab.path('log')}/`)
  assert.notEqual(settings, example)
  writeFileSync(lab.path('logrotate.conf'), settings, { mode: 0o644 })
  const lines = (file: string) => lab.read(`log/${file}`).match(/^line \d+$/gm) ?? []
  for (let turn = 0; turn < 3; turn++) {
    await eventually('lines in the log', () => lines('web.log').length > 20 || undefined)
    // Not waited for in this process alone: the daemon writes meanwhile.
    const rotating = spawn(logrotate ?? '', ['--force', '--state', lab.path('state'), lab.path('logrotate.conf')])
    const [[code], stderr] = await Promise.all([once(rotating, 'close'), text(rotating.stderr)])
    assert.equal(code, 0, stderr)
  }
  await eventually('lines in the log', () => lines('web.log').length > 20 || undefined)
  await operator.does(['stop'])
  const all = ['web.log.3', 'web.log.2', 'web.log.1', 'web.log'].map(lines)
  for (const part of all) assert.ok(part.length > 20, `${part.length} lines`)
  // What is written between the copy and the cut is lost, and nothing comes twice.
  const numbers = all.flat().map((line) => Number(line.slice(5)))
  assert.deepEqual(
    numbers,
    [...new Set(numbers)].sort((one, other) => one - other),
  )
})
