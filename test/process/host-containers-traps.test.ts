/** The run directory of a service in a container, where it is shared, left over or another user's. */
import assert from 'node:assert/strict'
import { chmodSync, chownSync, mkdirSync, readdirSync, symlinkSync } from 'node:fs'
import { test } from 'node:test'
import { openContainers, readOnly, running, starts, untilLogged, zombies } from '../support/containers.ts'
import { inContainersOnHost, type Podman } from '../support/podman.ts'

/** A folder of this machine, and of the user of `readOnly`, at a place in a container. */
function volume(podman: Podman, at: string, mode = 0o700, owner = 12_345): readonly string[] {
  const folder = podman.path('volume')
  mkdirSync(folder, { recursive: true })
  chmodSync(folder, mode)
  chownSync(folder, owner, owner)
  return ['--volume', `${folder}:${at}`]
}

const home = ['--env', 'COOK_DAEMON_HOME=/run/cook']

for (const what of ['a folder of another user', 'a symlink', 'a folder that others can write to'] as const) {
  test(`a run directory in memory is never ${what}: the next place is taken`, inContainersOnHost, async () => {
    await using podman = await openContainers()
    const tmp = volume(podman, '/tmp', 0o1777, 0)
    const trap = podman.path('volume/cook-daemon-12345')
    if (what === 'a symlink') symlinkSync('/dev/shm', trap)
    else mkdirSync(trap)
    if (what === 'a folder that others can write to') {
      chownSync(trap, 12_345, 12_345)
      chmodSync(trap, 0o777)
    }
    await starts(podman, [...readOnly, ...tmp])
    const { code, stdout, stderr } = await podman.cook('web', 'upgrade')
    assert.equal(code, 0, stdout + stderr)
    if (what !== 'a symlink') assert.deepEqual(readdirSync(trap), [])
    const shared = await podman.does(['exec', 'web', 'sh', '-c', 'echo /dev/shm/*'])
    assert.equal(shared.trim(), '/dev/shm/cook-daemon-12345')
  })
}

test(
  'a container that is killed and started again serves, whatever socket, record and pid file it has left on a volume',
  inContainersOnHost,
  async () => {
    await using podman = await openContainers()
    const words = ['--workers', '2', '--pid', '/run/cook/web.pid']
    await starts(podman, [...readOnly, ...volume(podman, '/run/cook'), ...home], words)
    for (const times of [1, 2]) {
      await untilLogged(podman, 'v1 serves', 4 * times - 2)
      const { code, stdout, stderr } = await podman.cook('web', 'upgrade')
      assert.equal(code, 0, stdout + stderr)
      await untilLogged(podman, 'v1 serves', 4 * times)
      await podman.does(['kill', '--signal', 'KILL', 'web'])
      await podman.does(['wait', 'web'])
      const left = readdirSync(podman.path('volume'))
      for (const file of ['web.sock', 'web.service', 'web.1.owner', 'web.pid'])
        assert.ok(left.includes(file), `${left}`)
      await podman.does(['start', 'web'])
    }
    await untilLogged(podman, 'v1 serves', 10)
    assert.equal((await podman.status('web')).workers?.length, 2)
    assert.deepEqual(await zombies(podman), [])
    await podman.does(['stop', '--time', '30', 'web'], 60_000)
    assert.equal(await podman.shows('web', '{{.State.ExitCode}}'), '0')
    assert.deepEqual(readdirSync(podman.path('volume')), ['web.service'])
  },
)

test(
  'two containers that share a run directory know each other by their names: one that is taken is refused',
  inContainersOnHost,
  async () => {
    await using podman = await openContainers()
    const options = [...readOnly, ...volume(podman, '/run/cook'), ...home]
    await starts(podman, options)
    const second = await podman.runs(running(podman, options, [], 'second'))
    assert.notEqual(second.code, 0)
    assert.match(second.stderr, /a service named web is already running/)
    await starts(podman, options, ['--name', 'other'], 'other')
    const list = await podman.cook('web', 'list')
    assert.match(list.stdout, /^other .*\n?/m)
    assert.match(list.stdout, /^web /m)
    // Its keeper, and with it the new version, is in the other container.
    const { code, stdout, stderr } = await podman.cook('web', 'upgrade', 'other')
    assert.equal(code, 0, stdout + stderr)
    await untilLogged(podman, 'v1 serves', 2, 'other')
    await podman.does(['kill', '--signal', 'KILL', 'other'])
    await podman.does(['wait', 'other'])
    const gone = await podman.cook('web', 'status', 'other')
    assert.notEqual(gone.code, 0)
    assert.equal((await podman.status('web')).generation, 1)
  },
)

for (const [what, mode, owner, why] of [
  ['belongs to another user', 0o755, 0, /\/run\/cook cannot be used: it belongs to user 0, not to this user \(12345\)/],
  ['others can write to', 0o777, 12_345, /\/run\/cook cannot be used: others can write to it/],
] as const) {
  test(
    `a volume for the run directory that ${what} is refused, and nothing is started`,
    inContainersOnHost,
    async () => {
      await using podman = await openContainers()
      const options = [...readOnly, ...volume(podman, '/run/cook', mode, owner), ...home]
      const { code, stdout, stderr } = await podman.runs(running(podman, options))
      assert.notEqual(code, 0)
      assert.match(stderr, why)
      assert.doesNotMatch(stdout, /serves/)
    },
  )
}

test(
  'where pid 1 is what begins a pod whose containers share their processes, exec finds the service and upgrades it',
  inContainersOnHost,
  async () => {
    await using podman = await openContainers()
    const pause = ['--rootfs', `${podman.root}:O`, 'node', '-e', 'setInterval(() => {}, 60_000)']
    await podman.does(['run', '--detach', '--name', 'pause', '--user', '65535', ...pause])
    await starts(podman, [...readOnly, '--pid', 'container:pause'])
    const { code, stdout, stderr } = await podman.cook('web', 'upgrade')
    assert.equal(code, 0, stdout + stderr)
    assert.deepEqual(await zombies(podman), [])
    await podman.does(['stop', '--time', '30', 'web'], 60_000)
    assert.equal(await podman.shows('web', '{{.State.ExitCode}}'), '0')
  },
)
