/** Upgrades that succeed. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ask, connectAllTheTime } from '../support/clients.ts'
import { Lab } from '../support/lab.ts'
import { leave, openListener, takeListener, upgradeOnce } from '../support/steps.ts'
import { eventually } from '../support/waiting.ts'

for (const stage of ['parent', 'daemon'] as const) {
  const way = stage === 'parent' ? 'the way of the original Go API' : 'the direct way'

  test(`an upgrade by ${way} hands the listener over and tells the new process and what it took`, async () => {
    await using lab = await Lab.open()
    const old = await lab.start('puppet', { args: ['--daemonize={}'] })
    const port = await openListener(old)
    const upgrading = old.run(
      async ({ cook }, options) => {
        return cook.upgrade(options)
      },
      { stage },
    )
    const young = await lab.next()
    await takeListener(young)
    const report = await upgrading
    assert.equal(report.pid, young.pid)
    assert.equal(report.generation, 2)
    assert.deepEqual(Object.keys(report.phases), ['spawn', 'boot', 'ready', 'commit'])
    for (const ms of Object.values(report.phases)) assert.ok(ms >= 0 && ms < 60_000)
    await old.run(({ kept }) => void kept.server?.close())
    assert.equal(await ask({ port, host: '127.0.0.1' }), String(young.pid))
  })

  test(`both processes accept side by side until the old one closes, ${way}`, async () => {
    await using lab = await Lab.open()
    const old = await lab.start('puppet', { args: ['--daemonize={}'] })
    const port = await openListener(old)
    const young = await upgradeOnce(lab, old, { stage })
    const load = connectAllTheTime({ port, host: '127.0.0.1' }, 8)
    await eventually('400 answers', () => load.answers >= 400 || undefined)
    const { answers, failures } = await load.stop()
    assert.deepEqual(failures, [])
    assert.deepEqual(new Set(answers.keys()), new Set([String(old.pid), String(young.pid)]))
  })
}

test('new connections are never refused or reset while 10 upgrades run', async () => {
  await using lab = await Lab.open()
  let puppet = await lab.start('puppet', { args: ['--daemonize={}'] })
  const port = await openListener(puppet)
  const load = connectAllTheTime({ port, host: '127.0.0.1' }, 10)
  const pids = [puppet.pid]
  for (let upgrades = 0; upgrades < 10; upgrades++) {
    const young = await upgradeOnce(lab, puppet, { stage: upgrades % 2 === 0 ? 'daemon' : 'parent' })
    const before = load.answers
    await eventually('answers while both accept', () => load.answers > before + 20 || undefined)
    await leave(puppet)
    puppet = young
    pids.push(young.pid)
  }
  const before = load.answers
  await eventually('answers of the last generation', () => load.answers > before + 20 || undefined)
  const { answers, failures } = await load.stop()
  assert.deepEqual(failures, [])
  assert.deepEqual([...answers.keys()].map(Number).sort(), pids.sort())
})

test('a successor that nobody handed anything is an upgrade too', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const upgrading = old.run(async ({ cook }) => (await cook.upgrade({ stage: 'daemon' })).generation)
  const young = await lab.next()
  assert.equal(await young.run(({ cook }) => cook.inUpgrade()), true)
  await young.run(({ cook }) => cook.notifyUpgradeDone())
  assert.equal(await upgrading, 2)
})

test('a handle that nobody claims is closed when the new process takes over', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  await openListener(old)
  const upgrading = old.run(async ({ cook }) => void (await cook.upgrade({ stage: 'daemon' })))
  const young = await lab.next()
  const handed = await young.run(({ cook, fs }) => [cook.inUpgrade(), fs.fstatSync(4).isSocket()])
  assert.deepEqual(handed, [true, true])
  await young.run(({ cook }) => cook.notifyUpgradeDone())
  await upgrading
  await assert.rejects(
    young.run(({ fs }) => void fs.fstatSync(4)),
    /EBADF/,
  )
})

test('a new version that dies during the overlap costs nothing', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const port = await openListener(old)
  const upgrading = old.run(({ cook }) => cook.upgrade({ stage: 'daemon', overlap: 20_000 }))
  const young = await lab.next()
  await young.run(({ cook }) => void cook.notifyUpgradeDone())
  // Both accept in it: the listener is claimed and open on both sides.
  young.kill('SIGKILL')
  await assert.rejects(upgrading, { code: 'ERR_COOK_SUCCESSOR_EXITED' })
  assert.equal(await ask({ port, host: '127.0.0.1' }), String(old.pid))
})
