/** SIGKILL and SIGSTOP of either side at each step of an upgrade: somebody serves, and nothing else is left. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ask } from '../support/clients.ts'
import { Lab, type Puppet } from '../support/lab.ts'
import { openListener, takeListener, upgradeOnce } from '../support/steps.ts'

type Step = { readonly name: string; go(young: Puppet): Promise<unknown> }

/** How far the new version has come when the signal arrives. */
const steps: readonly Step[] = [
  { name: 'it has booted', go: async () => {} },
  { name: 'it said hello', go: (young) => young.run(({ cook }) => cook.inUpgrade()) },
  {
    name: 'it listens',
    go: (young) =>
      young.run(async ({ cook, kept, echo }) => {
        kept.server = await echo(cook.inheritTcpListeners('listen')[0] ?? {})
      }),
  },
]

for (const stage of ['daemon', 'parent'] as const) {
  for (const { name, go } of steps) {
    test(`the new version is killed when ${name}: the old one serves and can upgrade (stage ${stage})`, async () => {
      await using lab = await Lab.open()
      const old = await lab.start('puppet', { args: ['--daemonize={}'] })
      const port = await openListener(old)
      const upgrading = old.run(({ cook }, options) => cook.upgrade(options), { stage })
      const young = await lab.next()
      await go(young)
      young.kill('SIGKILL')
      await assert.rejects(upgrading, { code: 'ERR_COOK_SUCCESSOR_EXITED' })
      assert.equal(await ask({ port, host: '127.0.0.1' }), String(old.pid))
      await upgradeOnce(lab, old, { stage })
    })

    test(`the old version is killed when ${name}: the new one goes on and serves (stage ${stage})`, async () => {
      await using lab = await Lab.open()
      const old = await lab.start('puppet', { args: ['--daemonize={}'] })
      const port = await openListener(old)
      old.run(({ cook }, options) => cook.upgrade(options), { stage }).catch(() => {})
      const young = await lab.next()
      await go(young)
      old.kill('SIGKILL')
      await old.gone
      // A descriptor is listened on once: at the last step that has happened.
      if (name === 'it listens') await young.run(({ cook }) => cook.notifyUpgradeDone())
      else await takeListener(young)
      assert.equal(await ask({ port, host: '127.0.0.1' }), String(young.pid))
      if (name === 'it listens')
        await young.run(({ cook, kept }) => kept.server && cook.addInheritTcpListener('listen', kept.server))
      await upgradeOnce(lab, young, { stage })
    })
  }

  test(`a new version that is stopped beyond the deadline and goes on then is gone (stage ${stage})`, async () => {
    await using lab = await Lab.open()
    const old = await lab.start('puppet', { args: ['--daemonize={}'] })
    const port = await openListener(old)
    const upgrading = old.run(({ cook }, options) => cook.upgrade(options), { stage, readyTimeout: 4_000 })
    upgrading.catch(() => {})
    const young = await lab.next()
    young.kill('SIGSTOP')
    await assert.rejects(upgrading, { code: 'ERR_COOK_SUCCESSOR_TIMEOUT' })
    young.kill('SIGCONT')
    await young.gone
    assert.equal(await ask({ port, host: '127.0.0.1' }), String(old.pid))
  })
}

test('an old version that was stopped while its deadline passed hears the yes that came meanwhile', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const port = await openListener(old)
  const upgrading = old.run(async ({ cook }) => void (await cook.upgrade({ stage: 'daemon', readyTimeout: 2_000 })))
  const young = await lab.next()
  await young.run(({ cook }) => cook.inUpgrade())
  old.kill('SIGSTOP')
  const taking = takeListener(young)
  // The deadline passes for a process that does not run: nothing but the clock can tell when.
  await new Promise((done) => setTimeout(done, 2_500))
  old.kill('SIGCONT')
  await taking
  await upgrading
  await old.run(({ kept }) => void kept.server?.close())
  assert.equal(await ask({ port, host: '127.0.0.1' }), String(young.pid))
})
