/**
 * Whoever starts a daemon may be interrupted at any moment: the daemon goes on, or was never there.
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { existsSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { Lab } from '../support/lab.ts'
import { openListener, upgradeOnce } from '../support/steps.ts'
import { eventually } from '../support/waiting.ts'

/**
 * The daemon waits here until the test has seen to its launcher: before its first call into the
 * library.
 */
const waitForFile = () => {
  if (process.env.COOK_DAEMON_STAGE !== 'daemon') return
  const fs = process.getBuiltinModule('node:fs')
  fs.writeFileSync('booted', '')
  while (!fs.existsSync('go-on'));
}

for (const signal of ['SIGINT', 'SIGKILL'] as const) {
  for (const waitReady of [false, true]) {
    const options = JSON.stringify({ waitReady, logFile: 'log' })
    test(`a launcher that is ended by ${signal} before its daemon came up costs nothing: that serves and upgrades (waitReady ${waitReady})`, async () => {
      await using lab = await Lab.open()
      const launcher = lab.spawn('puppet', { args: [`--before=${waitForFile}`, `--daemonize=${options}`] })
      await eventually('the boot of the daemon', () => existsSync(lab.path('booted')) || undefined)
      const ended = once(launcher, 'exit')
      launcher.kill(signal)
      assert.deepEqual(await ended, [null, signal])
      writeFileSync(lab.path('go-on'), '')
      const daemon = await lab.next()
      await openListener(daemon)
      if (waitReady) await daemon.run(({ cook }) => cook.notifyUpgradeDone())
      const young = await upgradeOnce(lab, daemon, { stage: 'parent' })
      assert.notEqual(young.pid, daemon.pid)
    })
  }
}
