/** Upgrades that fail: each costs nothing, says why, and can be followed by a good one. */
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { test } from 'node:test'
import type { UpgradeOptions } from 'cook-daemon'
import { isAlive, system } from '../../src/node/system.ts'
import { ask } from '../support/clients.ts'
import { beginReplace } from '../support/daemons.ts'
import { takesAll } from '../support/extent.ts'
import { askAll, HttpConnection } from '../support/http-connection.ts'
import { fixturePath, Lab, type Puppet } from '../support/lab.ts'
import { leave, openListener, upgradeOnce } from '../support/steps.ts'
import { eventually } from '../support/waiting.ts'

type Failing = { readonly what: string; readonly args: readonly string[]; readonly code: string; readonly text: RegExp }

/** What the fault matrix does not have: kills, loops, garbage and a closed link are there. */
const versions: readonly Failing[] = [
  { what: 'exits', args: ['exit', '3'], code: 'ERR_COOK_SUCCESSOR_EXITED', text: /exited before it was ready/ },
  { what: 'says no', args: ['no'], code: 'ERR_COOK_SUCCESSOR_FAILED', text: /refused to start: the database is down/ },
  {
    what: 'says no and stays',
    args: ['no-and-stay'],
    code: 'ERR_COOK_SUCCESSOR_FAILED',
    text: /refused to start: I stay/,
  },
  { what: 'never answers', args: ['hang'], code: 'ERR_COOK_SUCCESSOR_TIMEOUT', text: /after 4 s and was killed/ },
  {
    what: 'is killed right after it reported ready',
    args: ['yes-and-kill'],
    code: 'ERR_COOK_SUCCESSOR_EXITED',
    text: /exited/,
  },
  {
    what: 'stops right after its yes',
    args: ['yes-and-stop'],
    code: 'ERR_COOK_SUCCESSOR_TIMEOUT',
    text: /last step: ready, not confirmed/,
  },
  { what: 'sends what Node chokes on', args: ['stray-ack'], code: 'ERR_COOK_LINK_BROKEN', text: /link .* broke/ },
  {
    what: 'claims a name that nobody registered',
    args: ['unknown'],
    code: 'ERR_COOK_SUCCESSOR_EXITED',
    text: /exited/,
  },
]

/**
 * In the way of the original Go API in each run: the two in which the process between the two has something to
 * pass on.
 */
const parentExamples: readonly string[] = ['exits', 'says no and stays']

// Those that never answer take this long; it must be enough for two boots on a slow machine.
const readyTimeouts: Readonly<Record<string, number>> = { ERR_COOK_SUCCESSOR_TIMEOUT: 4_000 }

for (const stage of ['daemon', 'parent'] as const) {
  const way = stage === 'parent' ? 'the way of the original Go API' : 'the direct way'
  for (const { what, args, code, text } of versions) {
    if (stage === 'parent' && !takesAll && !parentExamples.includes(what)) continue
    test(`a new version that ${what} costs nothing and the old process reports why, ${way}`, async () => {
      await using lab = await Lab.open()
      const old = await lab.start('puppet', { args: ['--daemonize={"logFile":"log"}'] })
      const port = await openListener(old)
      const readyTimeout = readyTimeouts[code] ?? 60_000
      const failure = await failedUpgrade(old, { stage, script: fixturePath('bad-version'), args, readyTimeout })
      assert.equal(failure.code, code, failure.message)
      assert.match(failure.message, text)
      assert.match(failure.message, new RegExp(`old version \\(pid ${old.pid}\\) still serves`))
      assert.equal(await ask({ port, host: '127.0.0.1' }), String(old.pid))
      await nothingLeft(lab, old)
      const young = await upgradeOnce(lab, old, { stage, script: fixturePath('puppet'), args: ['--daemonize={}'] })
      await leave(old)
      assert.equal(await ask({ port, host: '127.0.0.1' }), String(young.pid))
    })
  }
}

test('no client reaches a new version before its commit: one that listens and then fails costs nothing', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const port = await old.run(({ start }) => start())
  const { young, upgrading } = await beginReplace(lab, old)
  await young.run(async ({ open, listen }) => {
    await open()
    await listen()
  })
  // The kernel wakes whoever accepts: among so many at once the new version had some, and mostly
  // most.
  const clients = await Promise.all(Array.from({ length: 100 }, () => HttpConnection.open(port)))
  assert.deepEqual(await askAll(clients), [{ status: 200, body: String(old.pid), closes: false }])
  young.run(() => process.exit(1)).catch(() => {})
  await assert.rejects(upgrading, { code: 'ERR_COOK_SUCCESSOR_EXITED' })
  assert.deepEqual(await askAll(clients), [{ status: 200, body: String(old.pid), closes: false }])
  for (const { socket } of clients) socket.destroy()
})

test('the error of a version that failed names exit code, signal and its last stderr lines', async () => {
  await using lab = await Lab.open()
  const old = await lab.start('puppet', { args: ['--daemonize={"logFile":"log"}'] })
  const bad = { stage: 'daemon', script: fixturePath('bad-version'), readyTimeout: 10_000 } as const
  assert.match(
    (await failedUpgrade(old, { ...bad, args: ['exit', '3'] })).message,
    /: exit code 3\.[\s\S]*\n {2}last words of exit/,
  )
  assert.match((await failedUpgrade(old, { ...bad, args: ['kill'] })).message, /: signal SIGKILL\./)
  assert.match((await failedUpgrade(old, { ...bad, args: ['throw'] })).message, /no database here/)
})

test('a version that cannot be started costs nothing: bad binary, bad working directory, script that is gone', async () => {
  await using lab = await Lab.open()
  const old = await lab.start('puppet', { args: ['--daemonize={"logFile":"log"}'] })
  const port = await openListener(old)
  writeFileSync(lab.path('no-program'), 'not executable')
  const cases: readonly [UpgradeOptions, string, RegExp][] = [
    [{ execPath: lab.path('no-node') }, 'ERR_COOK_SUCCESSOR_SPAWN', /: no such file\./],
    [{ execPath: lab.path('no-program') }, 'ERR_COOK_SUCCESSOR_SPAWN', /EACCES/],
    [{ cwd: lab.path('no-folder') }, 'ERR_COOK_SUCCESSOR_SPAWN', /working directory .* does not exist/],
    [{ script: lab.path('no-script.js') }, 'ERR_COOK_SUCCESSOR_EXITED', /Cannot find module/],
  ]
  const descriptors = await countDescriptors(old)
  for (const [options, code, text] of cases) {
    const failure = await failedUpgrade(old, { stage: 'daemon', ...options })
    assert.equal(failure.code, code, failure.message)
    assert.match(failure.message, text)
  }
  await eventually(
    'no descriptor more than before',
    async () => (await countDescriptors(old)) === descriptors || undefined,
  )
  assert.equal(await ask({ port, host: '127.0.0.1' }), String(old.pid))
})

test('after a failed upgrade the listener of the old process is not blocking, and serves', async () => {
  await using lab = await Lab.open()
  const old = await lab.start('puppet', { args: ['--daemonize={"logFile":"log"}'] })
  const port = await openListener(old)
  assert.equal(await isBlocking(old), false)
  for (const stage of ['daemon', 'parent'] as const) {
    // One that never touched its handles, one that listened on them, and one that was killed while
    // it did.
    await failedUpgrade(old, { stage, script: fixturePath('bad-version'), args: ['exit', '3'] })
    for (const end of [() => process.exit(3), () => process.kill(process.pid, 'SIGKILL')]) {
      const upgrading = old.run(({ cook }, options) => cook.upgrade(options), { stage, args: ['--daemonize={}'] })
      upgrading.catch(() => {})
      const young = await lab.next()
      await young.run(async ({ cook, kept, echo }) => {
        kept.server = await echo(cook.inheritTcpListeners('listen')[0] ?? {})
      })
      assert.equal(await isBlocking(young), false)
      young.run(end).catch(() => {})
      await assert.rejects(upgrading, { code: 'ERR_COOK_SUCCESSOR_EXITED' })
      await young.gone
    }
    assert.equal(await isBlocking(old), false)
    assert.equal(await ask({ port, host: '127.0.0.1' }), String(old.pid))
  }
})

test('a second upgrade during one is told so, and the first goes on', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  await openListener(old)
  const upgrading = old.run(async ({ cook }) => void (await cook.upgrade({ stage: 'daemon' })))
  const young = await lab.next()
  await assert.rejects(
    old.run(({ cook }) => cook.upgrade({ stage: 'daemon' })),
    { code: 'ERR_COOK_UPGRADE_IN_PROGRESS', message: /to generation 2/ },
  )
  await young.run(({ cook }) => cook.notifyUpgradeDone())
  await upgrading
  await assert.rejects(
    old.run(({ cook }) => cook.upgrade()),
    { code: 'ERR_COOK_UPGRADED' },
  )
})

test('a successor cannot upgrade before it was accepted', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const upgrading = old.run(async ({ cook }) => void (await cook.upgrade({ stage: 'daemon' })))
  const young = await lab.next()
  await assert.rejects(
    young.run(({ cook }) => cook.upgrade()),
    { code: 'ERR_COOK_NOT_COMMITTED' },
  )
  await young.run(({ cook }) => cook.notifyUpgradeDone())
  await upgrading
})

for (const stage of ['daemon', 'parent'] as const) {
  test(`a caller can stop an upgrade: the new version is killed (stage ${stage})`, async () => {
    await using lab = await Lab.open()
    const old = await lab.start('puppet', { args: ['--daemonize={}'] })
    const port = await openListener(old)
    const upgrading = old.run(
      ({ cook, kept }, options) => {
        const controller = new AbortController()
        kept.stop = () => controller.abort()
        return cook.upgrade({ ...options, signal: controller.signal })
      },
      { stage },
    )
    upgrading.catch(() => {})
    const young = await lab.next()
    await old.run(({ kept }) => (kept.stop as () => void)())
    await assert.rejects(upgrading, { code: 'ERR_COOK_STOPPED' })
    await young.gone
    assert.equal(await ask({ port, host: '127.0.0.1' }), String(old.pid))
  })
}

async function failedUpgrade(old: Puppet, options: UpgradeOptions): Promise<{ code: string; message: string }> {
  return old.run(
    ({ cook }, given) =>
      cook.upgrade(given).then(
        () => ({ code: 'NONE', message: 'the upgrade succeeded' }),
        (error) => ({ code: error.code as string, message: error.message as string }),
      ),
    options,
  )
}

/** What the bad versions say of themselves is the only trace of them. */
async function nothingLeft(lab: Lab, old: Puppet): Promise<void> {
  const pids = [...lab.read('log').matchAll(/^pid (\d+)$/gm)].map(([, pid]) => Number(pid))
  assert.ok(pids.length > 0)
  for (const pid of pids) {
    const startTime = system.startTime(pid)
    assert.ok(startTime === undefined || !isAlive([pid, startTime]), `process ${pid} is left of process ${old.pid}`)
  }
}

function countDescriptors(puppet: Puppet): Promise<number> {
  return puppet.run(({ fs }) => fs.readdirSync('/proc/self/fd').length)
}

/**
 * The mode belongs to the socket, and not to the process: whoever changes it does so for all that
 * share it.
 */
function isBlocking(puppet: Puppet): Promise<boolean> {
  return puppet.run(({ kept, fs }) => {
    const { fd } = (kept.server as unknown as { _handle: { fd: number } })._handle
    const [, flags = ''] = /^flags:\s*(\d+)/m.exec(fs.readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1')) ?? []
    const { O_NONBLOCK } = fs.constants
    return (Number.parseInt(flags, 8) & O_NONBLOCK) === 0
  })
}
