/** A service in a container of a real engine: its keeper is pid 1 there. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { get } from 'node:http'
import { test } from 'node:test'
import { portOf } from '../support/command.ts'
import { openContainers, readOnly, running, starts, untilLogged, writeApp, zombies } from '../support/containers.ts'
import { onlyOnHost } from '../support/extent.ts'
import { connectionClients } from '../support/load/connection-clients.ts'
import { keepAliveClients } from '../support/load/keep-alive-clients.ts'
import { inContainers, inContainersOnHost } from '../support/podman.ts'
import { eventually, within } from '../support/waiting.ts'

test(
  'in a container that is read-only, of any user, a service is upgraded again and again and stopped, and loses nothing',
  inContainers,
  async (context) => {
    const upgrades = onlyOnHost.skip === false ? 20 : 2
    await using podman = await openContainers()
    await starts(podman, readOnly)
    const port = portOf(await podman.status('web'))
    const where = { host: '127.0.0.1', port }
    await using keepAlive = keepAliveClients(where, { count: 10, pause: [0, 20] })
    await using single = connectionClients(where, { count: 5, pause: [0, 50] })
    await Promise.all([keepAlive.ready, single.ready])
    for (let upgrade = 0; upgrade < upgrades; upgrade++) {
      const { code, stdout, stderr } = await podman.cook('web', 'upgrade')
      assert.equal(code, 0, stdout + stderr)
    }
    writeApp(podman, 'bad', "throw new Error('no database')")
    const { code, stderr } = await podman.cook('web', 'upgrade')
    assert.equal(code, 1)
    assert.match(stderr, /no database/)
    assert.equal((await podman.status('web')).generation, upgrades + 1)
    const results = await Promise.all([keepAlive.stop(), single.stop()])
    for (const { failures, faults, answers } of results) {
      assert.deepEqual(failures, {}, JSON.stringify(faults))
      assert.ok(answers > 0)
    }
    context.diagnostic(`${upgrades} upgrades, ${results.map(({ answers }) => answers).join(' + ')} answers, 0 failed`)
    assert.deepEqual(await zombies(podman), [])
    const slow = await Promise.all(
      [1, 2, 3].map(async () => {
        const [response] = await once(get({ ...where, path: '/slow', agent: false }), 'response')
        response.setEncoding('utf8')
        const [first] = await once(response, 'data')
        return { response, first: String(first) }
      }),
    )
    const answered = slow.map(async ({ response, first }) => {
      let body = first
      for await (const part of response) body += part
      return body
    })
    await podman.does(['stop', '--time', '30', 'web'], 60_000)
    assert.deepEqual(await within('the answers', Promise.all(answered)), ['slow v1', 'slow v1', 'slow v1'])
    assert.equal(await podman.shows('web', '{{.State.ExitCode}}'), '0')
    const logs = await podman.logs('web')
    assert.equal(logs.split('v1 serves').length - 1, upgrades + 1, logs)
    assert.match(logs, /no database/)
  },
)

const memory = '--mount=type=tmpfs,destination=/dev/shm'
const kinds: readonly (readonly [what: string, options: readonly string[]])[] = [
  ['root', []],
  ['root in an image that is read-only, without a tmpfs', ['--read-only', '--read-only-tmpfs=false']],
  ['a user without an entry in passwd and without a home', ['--user', '12345', '--passwd=false', '--env', 'HOME=']],
  ['the same, read-only', [...readOnly, '--passwd=false', '--env', 'HOME=']],
  ['the same with no tmpfs but /dev/shm', [...readOnly, '--read-only-tmpfs=false']],
  ['a run directory by its name, in a tmpfs', [...readOnly, '--env', 'COOK_DAEMON_HOME=/tmp/run']],
  ['root without a capability, read-only', ['--read-only', '--cap-drop', 'all', '--security-opt', 'no-new-privileges']],
  ['an init as pid 1', [...readOnly, '--init']],
]

for (const [what, options] of kinds) {
  test(`in a container, ${what}: exec finds the service and upgrades it`, inContainersOnHost, async () => {
    await using podman = await openContainers()
    await starts(podman, options)
    const { code, stdout, stderr } = await podman.cook('web', 'upgrade')
    assert.equal(code, 0, stdout + stderr)
    await untilLogged(podman, 'v1 serves', 2)
    assert.doesNotMatch(await podman.logs('web'), /run directory/)
    await podman.does(['stop', '--time', '30', 'web'], 60_000)
    assert.equal(await podman.shows('web', '{{.State.ExitCode}}'), '0')
  })
}

test(
  'an image in which nothing can be written serves, is upgraded by SIGUSR2, and says what it lacks',
  inContainersOnHost,
  async () => {
    await using podman = await openContainers()
    await starts(podman, [...readOnly, '--read-only-tmpfs=false', `${memory},ro`])
    await untilLogged(podman, 'there is no writable tmpfs at /tmp or /dev/shm. The service has no control socket')
    await podman.does(['kill', '--signal', 'USR2', 'web'])
    await untilLogged(podman, 'v1 serves', 2)
    await podman.does(['stop', '--time', '30', 'web'], 60_000)
    assert.equal(await podman.shows('web', '{{.State.ExitCode}}'), '0')
  },
)

test(
  'the container ends with the exit code of a worker that crashes, and with --keep the worker is started again',
  inContainersOnHost,
  async () => {
    await using podman = await openContainers()
    writeApp(podman, 'v1', "process.on('SIGHUP', () => process.exit(7))")
    await starts(podman, readOnly)
    await podman.does(['kill', '--signal', 'HUP', 'web'])
    assert.equal((await podman.does(['wait', 'web'])).trim(), '7')
    await podman.does(['rm', 'web'])
    await starts(podman, readOnly, ['--keep'])
    await podman.does(['kill', '--signal', 'HUP', 'web'])
    await untilLogged(podman, 'v1 serves', 2)
    assert.deepEqual(await zombies(podman), [])
  },
)

test(
  "signals to pid 1: HUP and USR1 are the program's, USR2 upgrades, and INT stops as TERM does",
  inContainersOnHost,
  async () => {
    await using podman = await openContainers()
    writeApp(
      podman,
      'v1',
      "for (const name of ['SIGHUP', 'SIGUSR1']) process.on(name, () => console.log('got ' + name))",
    )
    await starts(podman, readOnly)
    for (const name of ['HUP', 'USR1']) {
      await podman.does(['kill', '--signal', name, 'web'])
      await untilLogged(podman, `got SIG${name}`)
    }
    await podman.does(['kill', '--signal', 'USR2', 'web'])
    await eventually('the upgrade', async () => (await podman.status('web')).generation === 2 || undefined)
    await podman.does(['kill', '--signal', 'INT', 'web'])
    assert.equal((await podman.does(['wait', 'web'])).trim(), '0')
  },
)

test(
  'the container ends with 128 and the signal that killed the worker, and with the exit code of a program that does not start',
  inContainersOnHost,
  async () => {
    await using podman = await openContainers()
    await starts(podman, readOnly)
    const { pid } = await podman.status('web')
    await podman.does(['exec', 'web', 'node', '-e', `process.kill(${pid}, 'SIGKILL')`])
    assert.equal((await podman.does(['wait', 'web'])).trim(), '137')
    writeApp(podman, 'v1', "console.log('no database'); process.exit(3)")
    const { code, stdout } = await podman.runs(running(podman, readOnly, [], 'bad'))
    assert.equal(code, 3)
    assert.match(stdout, /no database/)
    // Without --keep and with it: what never served is not tried again.
    assert.equal((await podman.runs(running(podman, readOnly, ['--keep'], 'kept'))).code, 3)
  },
)

test('a container is stopped at once by SIGTERM while its program does not serve yet', inContainersOnHost, async () => {
  await using podman = await openContainers()
  writeFileSync(podman.path('app/app.mjs'), "console.log('v1 serves not yet'); setInterval(() => {}, 1_000)")
  await starts(podman, readOnly)
  await podman.does(['kill', '--signal', 'TERM', 'web'])
  assert.match((await podman.does(['wait', 'web'])).trim(), /^(0|143)$/)
})

test(
  'what a program leaves that starts others is reaped by an init; pid 1 says at its start that it is none',
  inContainersOnHost,
  async () => {
    await using podman = await openContainers()
    const orphan = `process.getBuiltinModule('node:child_process').spawn('sh', ['-c', 'node -p "\\'orphan ends\\'" &'], { stdio: 'inherit' })`
    writeApp(podman, 'v1', orphan)
    const doubt =
      /as pid 1 this process reaps its workers, but not orphaned processes: if the program starts others, use an init/
    for (const [options, isReaped] of [
      [readOnly, false],
      [[...readOnly, '--init'], true],
    ] as const) {
      await starts(podman, options)
      await untilLogged(podman, 'orphan ends')
      const look = async () => ((await zombies(podman)).length === (isReaped ? 0 : 1) ? true : undefined)
      await eventually(isReaped ? 'that it is reaped' : 'that it is left', look)
      assert.equal(doubt.test(await podman.logs('web')), !isReaped)
      await podman.does(['rm', '--force', '--time', '30', 'web'])
    }
  },
)
