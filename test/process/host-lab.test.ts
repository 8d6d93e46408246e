/** The machine with a systemd of its own, in which other tests run services. */
import assert from 'node:assert/strict'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { isAlive, system } from '../../src/node/system.ts'
import { install, SystemdLab, underSystemd, underSystemdOnHost } from '../support/systemd-lab.ts'

test('a test has a machine with a real systemd, of which nothing is left', underSystemd, async () => {
  await using lab = await SystemdLab.boot()
  const { folder } = lab
  const pid = Number(readFileSync(join(folder, 'pid'), 'utf8'))
  const identity = [pid, system.startTime(pid) ?? ''] as const
  assert.equal(await lab.does('systemctl is-system-running --wait; id -un'), 'running\nroot\n')
  // Both sides see one folder, and nothing else of each other.
  writeFileSync(join(folder, 'word'), 'from outside')
  assert.equal(await lab.does('cat /lab/word; ls -A /tmp'), 'from outside')
  await lab.does('touch /lab/back /srv/here /tmp/here')
  assert.equal(existsSync(join(folder, 'back')), true)
  assert.equal(existsSync('/srv/here') || existsSync('/tmp/here'), false)
  // What ends with another code, and what it printed, is known.
  const { code, stdout, stderr } = await lab.runs('echo out; echo err >&2; exit 7')
  assert.deepEqual([code, stdout, stderr], [7, 'out\n', 'err\n'])
  // The command of this build, as a project has it.
  await install(lab, '/srv/web')
  assert.match(await lab.does('node /srv/web/node_modules/.bin/cook-daemon --version'), /^\d+\.\d+\.\d+\n$/)
  // A user with a manager of their own.
  await lab.does('systemctl start lab-user.service')
  assert.equal(await lab.does('systemctl --user is-system-running --wait; id -un', { user: 'lab' }), 'running\nlab\n')
  await lab[Symbol.asyncDispose]()
  assert.equal(isAlive(identity), false)
  assert.equal(existsSync(folder), false)
  // Others mount and unmount beside this.
  assert.equal(readFileSync('/proc/self/mounts', 'utf8').includes(folder), false)
  assert.equal(readFileSync('/proc/self/cgroup', 'utf8').includes('lab'), false)
})

test('a machine of a test can be rebooted: files stay, and nothing in /run and /tmp', underSystemdOnHost, async () => {
  await using lab = await SystemdLab.boot()
  await lab.does('touch /srv/here /tmp/here /run/here')
  await lab.reboot()
  assert.equal(await lab.does('ls -d /srv/here; ls -A /tmp; ls -A /run | grep here || true'), '/srv/here\n')
})
