/** What an upgrade leaves in the processes that it took place in: nothing. */
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { system } from '../../src/node/system.ts'
import type { PuppetScope } from '../fixtures/puppet-scope.ts'
import { fixturePath, Lab, type Puppet } from '../support/lab.ts'
import { leave, openListener, takeListener, upgradeOnce } from '../support/steps.ts'
import { eventually, within } from '../support/waiting.ts'

/** What keeps a process alive, what it has open, and who listens to it. */
function belongings({ fs }: PuppetScope) {
  const descriptors = fs.readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      return [fs.readlinkSync(`/proc/self/fd/${fd}`).replace(/\d+/g, '')]
    } catch {
      // That of the listing itself.
      return []
    }
  })
  return {
    active: process.getActiveResourcesInfo().sort(),
    // Node 24 reads the certificates of the system in a thread of its own, when it comes to it.
    descriptors: descriptors.filter((path) => !path.startsWith('/etc/')).sort(),
    listeners: process
      .eventNames()
      // Node's own, with which it opens a channel.
      .filter((name) => !['newListener', 'removeListener', 'internalMessage'].includes(String(name)))
      .map((name) => `${String(name)}: ${process.listenerCount(name)}`),
    channel: [process.channel ?? 'no channel', process.send ?? 'no send', process.connected ?? false],
  }
}

for (const stage of ['daemon', 'parent'] as const) {
  test(`a failed upgrade leaves nothing in the old process: no timer, descriptor or listener (stage ${stage})`, async () => {
    await using lab = await Lab.open()
    const old = await lab.start('puppet', { args: ['--daemonize={"logFile":"log"}'] })
    await openListener(old)
    const before = await old.run(belongings)
    const bad = { stage, script: fixturePath('bad-version') }
    for (const args of [['exit', '3'], ['no'], ['garbage'], ['yes-and-crash']]) {
      await assert.rejects(old.run(({ cook }, options) => cook.upgrade(options), { ...bad, args }))
    }
    await assertSame(old, before)
  })

  test(`a good upgrade leaves nothing in the old process, and nothing in the new one that a first start has not (stage ${stage})`, async () => {
    await using lab = await Lab.open()
    const old = await lab.start('puppet', { args: ['--daemonize={"logFile":"log"}'] })
    await openListener(old)
    const before = await old.run(belongings)
    const young = await upgradeOnce(lab, old, { stage })
    await assertSame(old, before)
    // A successor listens for its own uncaught exceptions, to tell them; so does a first start
    // under a launcher.
    await assertSame(young, before)
  })
}

test('a new version behind a shell script, which is all that the old one has started, is ended with it', async () => {
  await using lab = await Lab.open()
  const old = await lab.start('puppet', { args: ['--daemonize={"logFile":"log"}'] })
  await openListener(old)
  const wrapper = lab.path('wrapper')
  // No exec: the script stays between the two.
  writeFileSync(wrapper, `#!/bin/sh\n'${process.execPath}' "$@"\nexit $?\n`, { mode: 0o755 })
  const bad = { stage: 'daemon', execPath: wrapper, script: fixturePath('bad-version'), args: ['loop'] } as const
  await assert.rejects(
    old.run(({ cook }, options) => cook.upgrade(options), { ...bad, readyTimeout: 4_000 }),
    { code: 'ERR_COOK_SUCCESSOR_TIMEOUT', message: /last step: booted/ },
  )
  const pid = Number(/^pid (\d+)$/m.exec(lab.read('log'))?.[1])
  assert.equal(system.startTime(pid), undefined)
  const young = await upgradeOnce(lab, old, { stage: 'daemon', execPath: wrapper })
  await leave(old)
  await young.run(({ cook }) => cook.inUpgrade())
})

test('a signal for an upgrade has no listener any more when the upgrade is over, however it ended', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  await openListener(old)
  const count = ({ kept }: PuppetScope) => {
    const signal = kept.signal as AbortSignal
    return process.getBuiltinModule('node:events').getEventListeners(signal, 'abort').length
  }
  const upgrade = ({ cook, kept }: PuppetScope, options: object) => {
    kept.signal ??= new AbortController().signal
    return cook.upgrade({ stage: 'daemon', ...options, signal: kept.signal as AbortSignal }).then(() => {})
  }
  await assert.rejects(old.run(upgrade, { script: fixturePath('bad-version'), args: ['exit', '1'] }))
  assert.equal(await old.run(count), 0)
  const upgrading = old.run(upgrade, {})
  const young = await lab.next()
  await takeListener(young)
  await upgrading
  assert.equal(await old.run(count), 0)
})

test('an old process that was busy at the commit is not kept alive by the deadline of the upgrade', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  await openListener(old)
  const before = await old.run(belongings)
  // Each turn of its loop takes longer than a slice of the deadline, so that slice and confirmation
  // come in the same one.
  const upgrading = old.run(async ({ cook }) => {
    let isOver = false
    const block = () => {
      const end = performance.now() + 300
      while (performance.now() < end);
      if (!isOver) setImmediate(block)
    }
    block()
    await cook.upgrade({ stage: 'daemon' })
    isOver = true
  })
  await takeListener(await lab.next())
  await upgrading
  await assertSame(old, before)
})

test('an old process that closes its listener after an upgrade ends by itself', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  await openListener(old)
  await upgradeOnce(lab, old, { stage: 'daemon' })
  await old.run(({ kept }) => {
    kept.server?.close()
    // The lab is the only other thing that holds it.
    setImmediate(() => {
      for (const handle of (process as unknown as { _getActiveHandles(): { unref?(): void }[] })._getActiveHandles()) {
        handle.unref?.()
      }
    })
  })
  await within('the end of the old process', old.gone)
})

test('each generation knows those that live, not all that there ever were', async () => {
  await using lab = await Lab.open()
  let puppet = await lab.start()
  await openListener(puppet)
  for (let generation = 2; generation <= 4; generation++) {
    const young = await upgradeOnce(lab, puppet, { stage: 'daemon' })
    const living = await young.run(() => {
      type Shared = { predecessor: { living: readonly (readonly [number, string])[] } }
      const service = (globalThis as unknown as Record<symbol, Shared>)[Symbol.for('cook-daemon.service.1')]
      return service?.predecessor.living.map(([pid]) => pid)
    })
    assert.deepEqual(living, [puppet.pid])
    await leave(puppet)
    puppet = young
  }
})

test('what has taken the number of a handle that the program closed itself is left alone', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  await openListener(old)
  const upgrading = old.run(async ({ cook }) => void (await cook.upgrade({ stage: 'daemon' })))
  const young = await lab.next()
  const path = lab.path('mine')
  const fd = await young.run(async ({ cook, fs }, file) => {
    cook.inUpgrade()
    fs.closeSync(4)
    return fs.openSync(file, 'w')
  }, path)
  assert.equal(fd, 4)
  await young.run(({ cook }) => cook.notifyUpgradeDone())
  await upgrading
  await young.run(({ fs }) => void fs.writeSync(4, 'still mine'))
  assert.equal(lab.read('mine'), 'still mine')
})

async function assertSame(puppet: Puppet, wanted: unknown): Promise<void> {
  // What ends in the next turns of the loop is not left: the channel's end, the reaping.
  let found: unknown
  const isSame = async () => {
    found = await puppet.run(belongings)
    return JSON.stringify(found) === JSON.stringify(wanted) || undefined
  }
  await eventually('what there was before', isSame, 3_000).catch(() => assert.deepEqual(found, wanted))
}
