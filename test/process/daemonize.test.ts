/** Becoming a daemon: what the daemon is cut off from, and what the launcher hears of it. */
import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import type { CookErrorCode, DaemonizeOptions } from 'cook-daemon'
import type { PuppetScope } from '../fixtures/puppet-scope.ts'
import { Lab } from '../support/lab.ts'
import { openListener, upgradeOnce } from '../support/steps.ts'
import { within } from '../support/waiting.ts'

const onLinux = { skip: process.platform !== 'linux' && 'reads /proc' }

test('a daemon has a session of its own, no terminal, and another parent than its launcher', onLinux, async () => {
  await using lab = await Lab.open()
  const launcher = launch(lab)
  const daemon = await lab.next()
  assert.equal(await exitCode(launcher), 0)
  const [, parent, , session, terminal] = stat(daemon.pid)
  assert.notEqual(parent, launcher.pid)
  assert.equal(session, daemon.pid)
  assert.equal(terminal, 0)
})

test('without a logFile stdin, stdout and stderr of a daemon are /dev/null', onLinux, async () => {
  await using lab = await Lab.open()
  launch(lab)
  const daemon = await lab.next()
  assert.deepEqual(await daemon.run(standardFiles), ['/dev/null', '/dev/null', '/dev/null'])
})

test('stdout and stderr of a daemon go to its logFile, which is new with mode 0640', onLinux, async () => {
  await using lab = await Lab.open()
  launch(lab, { logFile: 'log' })
  const daemon = await lab.next()
  assert.deepEqual(await daemon.run(standardFiles), ['/dev/null', lab.path('log'), lab.path('log')])
  await daemon.run(({ fs }) => {
    fs.writeSync(1, 'out\n')
    fs.writeSync(2, 'err\n')
  })
  assert.equal(lab.read('log'), 'out\nerr\n')
  assert.equal(statSync(lab.path('log')).mode & 0o777, 0o640)
})

test('a log that is there is appended to and keeps its mode', async () => {
  await using lab = await Lab.open()
  writeFileSync(lab.path('log'), 'before\n', { mode: 0o600 })
  launch(lab, { logFile: 'log' })
  const daemon = await lab.next()
  await daemon.run(({ fs }) => void fs.writeSync(2, 'after\n'))
  assert.equal(lab.read('log'), 'before\nafter\n')
  assert.equal(statSync(lab.path('log')).mode & 0o777, 0o600)
})

test('a daemon has the working directory, the umask and the variables of the options', async () => {
  await using lab = await Lab.open()
  const cwd = lab.makeFolder('place')
  launch(lab, { cwd, umask: 0o027, env: { COLOUR: 'blue' } })
  const daemon = await lab.next()
  const seen = await daemon.run(() => [process.cwd(), process.env.PWD, process.umask(), process.env.COLOUR])
  assert.deepEqual(seen, [cwd, cwd, 0o027, 'blue'])
})

test('working directory, umask and environment of a daemon are otherwise those of its launcher', async () => {
  await using lab = await Lab.open()
  launch(lab, {}, { env: { COLOUR: 'red' } })
  const daemon = await lab.next()
  const seen = await daemon.run(() => [process.cwd(), process.umask(), process.env.COLOUR])
  assert.deepEqual(seen, [lab.folder, process.umask(), 'red'])
})

for (const stage of ['parent', 'daemon'] as const) {
  test(`relative paths are those of the launcher in every generation, stage ${stage}`, onLinux, async () => {
    await using lab = await Lab.open()
    const cwd = lab.makeFolder('place')
    launch(lab, { cwd: 'place', logFile: 'log' })
    let daemon = await lab.next()
    await openListener(daemon)
    for (let generation = 1; generation <= 3; generation++) {
      assert.deepEqual(await daemon.run(() => [process.cwd(), process.env.PWD]), [cwd, cwd])
      assert.deepEqual(await daemon.run(standardFiles), ['/dev/null', lab.path('log'), lab.path('log')])
      daemon = await upgradeOnce(lab, daemon, { stage })
    }
  })

  test(`a daemon with its own cwd does not need that of the launcher any more, stage ${stage}`, async () => {
    await using lab = await Lab.open()
    const cwd = lab.makeFolder('release')
    launch(lab, { cwd: lab.folder }, { cwd, env: { PWD: cwd } })
    const daemon = await lab.next()
    await openListener(daemon)
    rmSync(cwd, { recursive: true })
    const young = await upgradeOnce(lab, daemon, { stage })
    assert.equal(await young.run(() => process.cwd()), lab.folder)
  })

  test(`a log that was moved away is left behind by the next generation, stage ${stage}`, onLinux, async () => {
    await using lab = await Lab.open()
    launch(lab, { logFile: 'log' })
    const daemon = await lab.next()
    await openListener(daemon)
    renameSync(lab.path('log'), lab.path('log.1'))
    const young = await upgradeOnce(lab, daemon, { stage })
    assert.deepEqual(await daemon.run(standardFiles), ['/dev/null', lab.path('log.1'), lab.path('log.1')])
    assert.deepEqual(await young.run(standardFiles), ['/dev/null', lab.path('log'), lab.path('log')])
  })
}

test('a descriptor that the shell opened for the launcher is not open in the daemon', onLinux, async () => {
  await using lab = await Lab.open()
  const shell = { execPath: 'bash', execArgv: ['-c', 'exec 200>leak; exec "$@"', 'bash', process.execPath] }
  // The launcher has it, or there is nothing to see here.
  const isOpen = ({ fs }: PuppetScope) => process.env.COOK_DAEMON_STAGE ?? fs.fstatSync(200)
  launch(lab, {}, { ...shell, before: isOpen })
  const daemon = await lab.next()
  const open = await daemon.run(({ fs }) => fs.readdirSync('/proc/self/fd'))
  assert.ok(!open.includes('200'), open.join(' '))
})

test('with waitReady the launcher ends when the daemon says that it is up, and not before', async () => {
  await using lab = await Lab.open()
  const launcher = launch(lab, { waitReady: true })
  const daemon = await lab.next()
  await daemon.run(() => new Promise((done) => setTimeout(done, 200)))
  assert.equal(launcher.exitCode, null)
  await daemon.run(({ cook }) => cook.notifyUpgradeDone())
  assert.equal(await exitCode(launcher), 0)
  assert.equal(await daemon.run(({ cook }) => cook.inUpgrade()), false)
})

test('the launcher of a daemon that exits before it is up tells its exit code and its last stderr lines', async () => {
  await using lab = await Lab.open()
  const launcher = launch(lab, { waitReady: true, logFile: 'log' })
  const daemon = await lab.next()
  await daemon.run(({ fs }) => void fs.writeSync(2, 'no database\nI give up\n'))
  daemon.run(() => process.exit(7)).catch(() => {})
  const message = await failure(lab, launcher, 'ERR_COOK_DAEMON_EXITED')
  assert.match(
    message,
    new RegExp(`pid ${daemon.pid}\\) exited before it was ready: exit code 7.*no database\n {2}I give up`, 's'),
  )
})

test('the launcher of a daemon that is killed before it is up tells the signal', async () => {
  await using lab = await Lab.open()
  const launcher = launch(lab, { waitReady: true })
  const daemon = await lab.next()
  daemon.kill('SIGSEGV')
  assert.match(await failure(lab, launcher, 'ERR_COOK_DAEMON_EXITED'), /before it was ready: signal SIGSEGV/)
})

test('the launcher of a daemon that says no tells the reason', async () => {
  await using lab = await Lab.open()
  const launcher = launch(lab, { waitReady: true })
  const daemon = await lab.next()
  await daemon.run(async ({ cook }) => {
    await cook.notifyUpgradeDone(false, 'the port is taken')
    setImmediate(() => process.exit())
  })
  assert.match(await failure(lab, launcher, 'ERR_COOK_DAEMON_FAILED'), /could not start \(pid \d+\): the port is taken/)
})

test('a daemon that says no and does not end is ended', async () => {
  await using lab = await Lab.open()
  const launcher = launch(lab, { waitReady: true })
  const daemon = await lab.next()
  await daemon.run(({ cook }) => cook.notifyUpgradeDone(false, 'but I stay'))
  await failure(lab, launcher, 'ERR_COOK_DAEMON_FAILED')
  await daemon.gone
})

test('a daemon that is not up in time is killed, and its launcher says so', async () => {
  await using lab = await Lab.open()
  const launcher = launch(lab, { waitReady: true, readyTimeout: 1_000 })
  const daemon = await lab.next()
  assert.match(await failure(lab, launcher, 'ERR_COOK_DAEMON_TIMEOUT'), /not ready after 1 s and was killed/)
  await daemon.gone
})

test('a daemon that never comes as far as the library is killed, and its launcher says so', async () => {
  await using lab = await Lab.open()
  const hang = () => process.env.COOK_DAEMON_STAGE && new Promise((done) => setTimeout(done, 60_000))
  const launcher = launch(lab, { readyTimeout: 500 }, { before: hang })
  assert.match(await failure(lab, launcher, 'ERR_COOK_DAEMON_TIMEOUT'), /not started after 500 ms and was killed/)
})

test('without waitReady too the launcher hears of a daemon that dies before it calls the library', async () => {
  await using lab = await Lab.open()
  const die = () => process.env.COOK_DAEMON_STAGE && process.exit(5)
  const launcher = launch(lab, {}, { before: die })
  assert.match(await failure(lab, launcher, 'ERR_COOK_DAEMON_EXITED'), /before it called the library: exit code 5/)
})

test('the launcher tells the exception that ended the daemon, without any log', async () => {
  await using lab = await Lab.open()
  const launcher = launch(lab, { waitReady: true })
  const daemon = await lab.next()
  await daemon.run(() => void setImmediate(() => Promise.reject(new Error('no licence'))))
  assert.match(
    await failure(lab, launcher, 'ERR_COOK_DAEMON_EXITED'),
    /exit code 1\. It threw:\n {2}Error: no licence\n/,
  )
})

test('the launcher tells the exception that ended the daemon before it called the library, without any log', async () => {
  await using lab = await Lab.open()
  const fail = () => {
    if (process.env.COOK_DAEMON_STAGE) throw new Error('no configuration')
  }
  const launcher = launch(lab, {}, { before: fail })
  const message = await failure(lab, launcher, 'ERR_COOK_DAEMON_EXITED')
  assert.match(message, /before it called the library: exit code 1\. It threw:\n {2}Error: no configuration\n/)
})

const bad: readonly { what: string; options: DaemonizeOptions; code: CookErrorCode; text: RegExp }[] = [
  {
    what: 'a working directory that does not exist',
    options: { cwd: 'nowhere' },
    code: 'ERR_COOK_DAEMON_SPAWN',
    text: /working directory .*nowhere does not exist/,
  },
  {
    what: 'a working directory that is a file',
    options: { cwd: 'lab' },
    code: 'ERR_COOK_DAEMON_SPAWN',
    text: /working directory .*lab cannot be entered: ENOTDIR/,
  },
  {
    what: 'a log in a folder that does not exist',
    options: { logFile: 'nowhere/log' },
    code: 'ERR_COOK_OPTION',
    text: /logFile cannot be used: ENOENT/,
  },
]

for (const { what, options, code, text } of bad) {
  test(`${what} is told, and nothing was started`, async () => {
    await using lab = await Lab.open()
    assert.match(await failure(lab, launch(lab, options), code), text)
  })
}

type LaunchOptions = {
  readonly cwd?: string
  readonly env?: Record<string, string>
  readonly execPath?: string
  readonly execArgv?: readonly string[]
  /** Runs in the launcher and in the daemon, before their first verb. */
  readonly before?: (scope: PuppetScope) => unknown
}

function launch(lab: Lab, options: DaemonizeOptions = {}, { before, ...start }: LaunchOptions = {}): ChildProcess {
  const args = before === undefined ? [] : [`--before=${before}`]
  return lab.spawn('puppet', { ...start, args: [...args, `--daemonize=${JSON.stringify(options)}`] })
}

async function exitCode(launcher: ChildProcess): Promise<number> {
  if (launcher.exitCode === null) await within('the end of the launcher', once(launcher, 'exit'))
  return Number(launcher.exitCode)
}

/** What `daemonize()` rejected with in the launcher. */
async function failure(lab: Lab, launcher: ChildProcess, code: CookErrorCode): Promise<string> {
  await within('the end of the launcher', once(launcher, 'close'))
  assert.equal(launcher.exitCode, 1, lab.output)
  const error = JSON.parse(lab.output)
  assert.equal(error.code, code, error.message)
  return error.message
}

/** Fields 3 and on of proc_pid_stat(5): state, parent, group, session, terminal. */
function stat(pid: number): number[] {
  const text = readFileSync(`/proc/${pid}/stat`, 'latin1')
  return text
    .slice(text.lastIndexOf(')') + 2)
    .split(' ')
    .map(Number)
}

function standardFiles({ fs }: PuppetScope): string[] {
  return [0, 1, 2].map((fd) => fs.readlinkSync(`/proc/self/fd/${fd}`))
}
