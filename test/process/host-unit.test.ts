/** A service in a unit of a real systemd, under clients that never retry. */
import assert from 'node:assert/strict'
import { existsSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { install, SystemdLab, underSystemd, underSystemdOnHost } from '../support/systemd-lab.ts'
import { eventually } from '../support/waiting.ts'

const port = 18080
const fixtures = '/srv/cook-daemon/dist/test/fixtures'
const command = '/srv/web/node_modules/.bin/cook-daemon'

/** Answers the load, and /slow in two parts: who has the first one is being answered. */
async function deploy(
  lab: SystemdLab,
  version: string,
  { before = '', isServing = false }: { readonly before?: string; readonly isServing?: boolean } = {},
): Promise<void> {
  await lab.writes(
    '/srv/web/app.mjs',
    `import { fstatSync } from 'node:fs'
import { createServer } from 'node:http'
import { loadHandler } from '${fixtures}/load-server-handler.js'
${isServing ? "import { serve } from 'cook-daemon'" : ''}
${before}
const load = loadHandler('${version}')
const server = createServer({ keepAliveTimeout: 60_000 }, (request, response) => {
  if (request.url !== '/slow') return load(request, response)
  response.write('slow ')
  setTimeout(() => response.end('${version}'), 3_000)
})
const where = { port: ${port}, host: '0.0.0.0' }
${isServing ? "await serve(server, { ...where, name: 'web', pidFile: '/run/web/web.pid' })" : 'server.listen(where)'}
const { dev, ino } = fstatSync(1)
console.log('${version} serves, pid ' + process.pid + (process.env.JOURNAL_STREAM === dev + ':' + ino ? ' in the journal' : ''))
`,
  )
}

/** A load in the background; resolves to what became of it when it is stopped. */
async function load(lab: SystemdLab, keepAlive = 10, single = 5) {
  const file = `/run/load.${Math.random()}`
  const ended = lab.does(
    `node ${fixtures}/strict-clients.js ${port} load ${keepAlive} ${single} >${file} & echo $! >${file}.pid; wait; cat ${file}`,
  )
  // A test that fails first ends the machine.
  ended.catch(() => {})
  await lab.does(`until grep -q asks ${file}; do sleep 0.05; done 2>/dev/null`)
  return {
    async stop() {
      await lab.does(`kill -TERM $(cat ${file}.pid)`)
      const [, told = '[]'] = (await ended).split('\n')
      return JSON.parse(told) as { answers: number; failures: object; reconnects: number; faults: object[] }[]
    },
  }
}

/** Five requests that are being answered, and then what they have got. */
async function slowRequests(lab: SystemdLab): Promise<{ readonly answered: Promise<readonly string[]> }> {
  const flag = join(lab.folder, 'in-flight')
  rmSync(flag, { force: true })
  const ended = lab.does(`node ${fixtures}/strict-clients.js ${port} slow 5`)
  await eventually('the slow requests', () => existsSync(flag) || undefined)
  return { answered: ended.then((text) => JSON.parse(text) as string[]) }
}

function assertNothingLost(results: readonly { answers: number; failures: object; faults: object[] }[]): void {
  for (const { answers, failures, faults } of results) {
    assert.deepEqual(failures, {}, JSON.stringify(faults))
    assert.ok(answers > 0)
  }
}

const journal = (lab: SystemdLab, unit = 'web') => lab.does(`journalctl --no-pager -o cat -u ${unit}`)

const directUnit = `[Service]
Type=exec
PIDFile=%t/web/web.pid
User=lab
WorkingDirectory=/srv/web
ExecStart=/usr/local/bin/node app.mjs
ExecReload=/usr/local/bin/node ${command} upgrade web
RuntimeDirectory=web
RuntimeDirectoryMode=0700
Restart=on-failure
TimeoutStopSec=40
`

/** With the units that the command prints. */
async function begin(lab: SystemdLab, options = ''): Promise<void> {
  await install(lab, '/srv/web')
  await deploy(lab, 'one')
  await lab.does(
    `cd /srv/web && node ${command} systemd app.mjs --name web ${options} >/run/units &&
     csplit -s -z -f /run/unit. /run/units '/^# web\\.socket$/' '{*}' &&
     cp /run/unit.00 /etc/systemd/system/web.service && { [ ! -e /run/unit.01 ] || cp /run/unit.01 /etc/systemd/system/web.socket; } &&
     systemctl daemon-reload`,
  )
}

/** The unit is stopped while the old version still answers, and so does the new one. */
async function stopsInDrain(lab: SystemdLab, old: string, young: string, how: { readonly isServing?: boolean } = {}) {
  const askedBefore = await slowRequests(lab)
  await deploy(lab, young, how)
  const reloaded = lab.runs('systemctl reload web')
  const isThere = new RegExp(`^${young} serves`, 'm')
  await eventually('the new version', async () => isThere.test(await journal(lab)) || undefined)
  const askedAfter = await slowRequests(lab)
  await lab.does('systemctl stop web')
  const answersOf = (version: string) => Array.from({ length: 5 }, () => `slow ${version}`)
  assert.deepEqual(await askedBefore.answered, answersOf(old))
  assert.deepEqual(await askedAfter.answered, answersOf(young))
  await reloaded
  assert.equal(await lab.shows('web', 'Result'), 'success')
}

describe('in a unit of systemd', { concurrency: 1 }, () => {
  for (const { reloads, how } of [
    { reloads: 3, how: underSystemd },
    { reloads: 20, how: underSystemdOnHost },
  ]) {
    test(
      `${reloads} reloads lose no request, the main process stays, every generation writes to the journal, and a bad version is refused with its reason`,
      how,
      async () => {
        await using lab = await SystemdLab.boot()
        await begin(lab)
        await lab.does('systemctl start web')
        const main = await lab.shows('web', 'MainPID')
        const clients = await load(lab)
        for (let reload = 0; reload < reloads; reload++) {
          await deploy(lab, `v${reload}`)
          await lab.does('systemctl reload web')
        }
        await deploy(lab, 'bad', { before: "throw new Error('no such table: users')" })
        const refused = await lab.runs('systemctl reload web')
        assert.equal(refused.code, 1)
        // What the keeper tells systemd is on its way for a moment.
        await eventually('the reason in the status', async () => {
          return /Status: ".*no such table: users/.test(await lab.does('systemctl status web || true')) || undefined
        })
        assert.equal(await lab.shows('web', 'ActiveState'), 'active')
        assertNothingLost(await clients.stop())
        assert.equal(await lab.shows('web', 'MainPID'), main)
        const lines = await journal(lab)
        for (let reload = 0; reload < reloads; reload++)
          assert.match(lines, new RegExp(`^v${reload} serves, pid \\d+ in the journal$`, 'm'))
        assert.match(lines, /no such table: users/)
        assert.doesNotMatch(lines, /not our child|does not hear/)
        // Of the unit nothing is left, and the service is found by its name meanwhile.
        const slow = await slowRequests(lab)
        await lab.does('systemctl stop web')
        assert.deepEqual(
          await slow.answered,
          Array.from({ length: 5 }, () => `slow v${reloads - 1}`),
        )
        assert.equal(await lab.shows('web', 'Result'), 'success')
        assert.equal(await lab.does('ls -A /run | grep cook-daemon-web || true'), '')
      },
    )
  }

  test('a stop while an older generation drains answers all, in time', underSystemdOnHost, async () => {
    await using lab = await SystemdLab.boot()
    await begin(lab)
    await lab.does('systemctl start web')
    await stopsInDrain(lab, 'one', 'two')
  })

  test(
    'behind a socket unit nobody is refused: a worker is killed, the keeper is killed, the unit is restarted',
    underSystemdOnHost,
    async () => {
      await using lab = await SystemdLab.boot()
      await begin(lab)
      await lab.writes('/etc/systemd/system/web.socket', `[Socket]\nListenStream=${port}\n`)
      await lab.does('systemctl daemon-reload && systemctl start web.socket')
      const ask = `curl -sS --max-time 60 http://127.0.0.1:${port}/load?id=1`
      await lab.does(ask)
      const worker =
        "systemctl show web -p ControlGroup --value | xargs -I{} sed '/^'$(systemctl show web -p MainPID --value)'$/d' /sys/fs/cgroup{}/cgroup.procs | head -1"
      const clients = await load(lab, 0, 3)
      const before = await lab.does(worker)
      await lab.does(`kill -KILL $(${worker})`)
      await eventually('another worker', async () => {
        const now = await lab.does(worker)
        return (now !== '' && now !== before) || undefined
      })
      await lab.does(ask)
      await lab.does('kill -KILL $(systemctl show web -p MainPID --value)')
      await eventually('another keeper', async () => (await lab.shows('web', 'NRestarts')) === '1' || undefined)
      await lab.does(`${ask} && systemctl restart web && ${ask}`)
      const results = await clients.stop()
      for (const { failures, faults } of results)
        assert.deepEqual(
          Object.keys(failures).filter((kind) => kind === 'refused'),
          [],
          JSON.stringify(faults),
        )
    },
  )

  test('several workers of a unit are replaced as one, and end by one stop', underSystemdOnHost, async () => {
    await using lab = await SystemdLab.boot()
    await begin(lab, '--workers 3')
    await lab.does('systemctl start web')
    const main = await lab.shows('web', 'MainPID')
    const clients = await load(lab)
    for (const version of ['two', 'three']) {
      await deploy(lab, version)
      await lab.does('systemctl reload web')
    }
    assert.match(await lab.shows('web', 'StatusText'), /^generation 3 serves, 3 of 3 workers$/)
    assertNothingLost(await clients.stop())
    assert.equal(await lab.shows('web', 'MainPID'), main)
    const slow = await slowRequests(lab)
    await lab.does('systemctl stop web')
    assert.deepEqual(
      await slow.answered,
      Array.from({ length: 5 }, () => 'slow three'),
    )
    assert.equal(await lab.shows('web', 'Result'), 'success')
  })
})

describe('in a unit of systemd, without a keeper', { concurrency: 1 }, () => {
  test(
    '20 reloads lose no request and the new process is never a stranger to systemd; a stop answers what is being answered, also while an older generation drains',
    underSystemdOnHost,
    async () => {
      await using lab = await SystemdLab.boot()
      await install(lab, '/srv/web')
      await deploy(lab, 'one', { isServing: true })
      await lab.writes('/etc/systemd/system/web.service', directUnit)
      await lab.does('systemctl daemon-reload && systemctl start web')
      await lab.does(`until systemctl reload web; do :; done 2>/dev/null`)
      const clients = await load(lab)
      for (let reload = 0; reload < 20; reload++) {
        await deploy(lab, `v${reload}`, { isServing: true })
        await lab.does('systemctl reload web')
      }
      assertNothingLost(await clients.stop())
      assert.equal(await lab.shows('web', 'MainPID'), (await lab.does('cat /run/web/web.pid')).trim())
      assert.doesNotMatch(await systemdLines(lab), /not our child/)
      const slow = await slowRequests(lab)
      await lab.does('systemctl stop web')
      assert.deepEqual(
        await slow.answered,
        Array.from({ length: 5 }, () => 'slow v19'),
      )
      assert.equal(await lab.shows('web', 'Result'), 'success')

      await lab.does('systemctl start web')
      await stopsInDrain(lab, 'v19', 'last', { isServing: true })
    },
  )

  test('a current generation that is killed is started again by systemd', underSystemdOnHost, async () => {
    await using lab = await SystemdLab.boot()
    await install(lab, '/srv/web')
    await deploy(lab, 'one', { isServing: true })
    await lab.writes('/etc/systemd/system/web.service', directUnit)
    await lab.does('systemctl daemon-reload && systemctl start web')
    await lab.does(`until systemctl reload web; do :; done 2>/dev/null`)
    await lab.does('kill -KILL $(cat /run/web/web.pid)')
    await eventually('a start', async () => (await lab.shows('web', 'NRestarts')) === '1' || undefined)
    await lab.does(`until curl -sS http://127.0.0.1:${port}/load?id=1; do :; done 2>/dev/null`)
    await lab.does('systemctl stop web')
  })
})

describe('in a unit of a user manager', () => {
  test('reloads lose no request, and a stop answers what is being answered', underSystemdOnHost, async () => {
    await using lab = await SystemdLab.boot()
    await install(lab, '/srv/web')
    await deploy(lab, 'one')
    await lab.does('systemctl start lab-user.service')
    const user = { user: 'lab' } as const
    await lab.does(
      `mkdir -p ~/.config/systemd/user && cd /srv/web &&
       node ${command} systemd app.mjs --name web --user-manager >~/.config/systemd/user/web.service &&
       systemctl --user daemon-reload && systemctl --user start web`,
      user,
    )
    const main = await lab.does('systemctl --user show --value -p MainPID web', user)
    const clients = await load(lab)
    for (const version of ['two', 'three', 'four']) {
      await deploy(lab, version)
      await lab.does('systemctl --user reload web', user)
    }
    assertNothingLost(await clients.stop())
    assert.equal(await lab.does('systemctl --user show --value -p MainPID web', user), main)
    const slow = await slowRequests(lab)
    await lab.does('systemctl --user stop web', user)
    assert.deepEqual(
      await slow.answered,
      Array.from({ length: 5 }, () => 'slow four'),
    )
    assert.equal(await lab.does('systemctl --user show --value -p Result web', user), 'success\n')
  })
})

/** What systemd itself says of a unit. */
function systemdLines(lab: SystemdLab): Promise<string> {
  return lab.does('journalctl --no-pager -o cat _PID=1')
}
