/** Root's commands, and those of a user, for services in units of a real systemd. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { install, SystemdLab, underSystemdOnHost } from '../support/systemd-lab.ts'

const program = (version: string) => `
console.log('${version} serves')
console.log('\\u001b]0;evil\\u0007 \\u009b2J steers')
require('node:http')
  .createServer((request, response) => response.end('${version}'))
  .listen(8080, '127.0.0.1')
`

const bin = 'node /srv/web/node_modules/.bin/cook-daemon'

test(
  'root finds the service of a unit with DynamicUser=, upgrades it, reads its journal, and is told when its unit is down',
  underSystemdOnHost,
  async () => {
    await using lab = await SystemdLab.boot()
    await install(lab, '/srv/web')
    await lab.writes('/srv/web/app.cjs', program('v1'))
    await lab.does(`cd /srv/web && ${bin} systemd app.cjs --install`)
    assert.equal(await lab.shows('app', 'DynamicUser'), 'yes')
    const main = Number(await lab.shows('app', 'MainPID'))
    const [one, ...others] = JSON.parse(await lab.does(`${bin} list --json`))
    assert.deepEqual([one.name, one.keeper.pid, one.folder, others], ['app', main, '/run/cook-daemon-app', []])
    assert.equal(one.user, (await lab.does(`stat -c %U /run/cook-daemon-app`)).trim())

    await lab.writes('/srv/web/app.cjs', program('v2'))
    assert.match(await lab.does(`${bin} upgrade`), /✓ app serves generation 2/)
    assert.equal(await lab.does('curl --silent 127.0.0.1:8080'), 'v2')
    assert.equal(Number(await lab.shows('app', 'MainPID')), main)

    const log = await lab.does(`${bin} logs app -n 100`)
    assert.match(log, /^\d{4}-\d\d-\d\dT\S+ \S+ app\[\d+\]: v1 serves$/m)
    assert.match(log, /app\[\d+\]: v2 serves$/m)
    assert.doesNotMatch(log, /[^\P{Cc}\n]/u)
    assert.match(log, /app\[\d+\]: \[\d+B blob data\]$/m)
    assert.equal((await lab.does(`${bin} logs app -n 1`)).trim().split('\n').length, 1)
    assert.equal(await lab.does(`${bin} logs --path`), 'the journal, unit app.service: journalctl --unit=app.service\n')
    const slot = await lab.runs(`${bin} logs app --slot 0`)
    assert.deepEqual([slot.code, /the journal has no slots/.test(slot.stderr)], [2, true])
    // What comes behind, until it is interrupted.
    const followed = await lab.does(
      `${bin} logs app -f -n 0 >/run/followed & follow=$!
       until pgrep -x journalctl >/dev/null; do sleep 0.05; done
       sed -i s/v2/v3/ /srv/web/app.cjs; ${bin} upgrade app >/dev/null
       until grep -q 'v3 serves' /run/followed; do sleep 0.05; done
       kill $follow; wait $follow; ! pgrep -x journalctl >&2; cat /run/followed`,
    )
    assert.doesNotMatch(followed, /v2 serves/)

    await lab.does(`${bin} stop app`)
    const { code, stderr } = await lab.runs(`${bin} status app`)
    assert.equal(code, 3)
    assert.match(
      stderr,
      /no service named app is running; the unit app\.service is inactive \(dead\)\n.*systemctl status/,
    )
    assert.match(await lab.does(`${bin} logs app -n 100`), /v3 serves/)
    await lab.writes('/srv/web/app.cjs', 'process.exit(3)')
    await lab.runs('systemctl start app')
    const failed = await lab.runs(`${bin} upgrade app`)
    assert.deepEqual([failed.code, /the unit app\.service is (failed|activating) \(/.test(failed.stderr)], [3, true])
    const table = await lab.runs(`${bin} status app nope`)
    assert.match(
      table.stdout,
      /^app .* unknown .* the unit app\.service is (failed|activating) [\s\S]*^nope .*was never started$/m,
    )
  },
)

test(
  'a user finds the services of the units of their own manager, and root those of a user whose folder it names',
  underSystemdOnHost,
  async () => {
    await using lab = await SystemdLab.boot()
    const as = { user: 'lab' } as const
    await lab.writes('/home/lab/app.cjs', program('v1'))
    // By the name that managers of users have, by which they are known.
    await lab.does(
      `chown -R lab: /home/lab; cd /etc/systemd/system; cp lab-user.service user@7100.service
       systemctl daemon-reload; systemctl start user@7100.service`,
    )
    await install(lab, '/srv/web')
    await lab.does(`cd /home/lab && ${bin} systemd app.cjs --install --user-manager`, as)
    const folder = '/run/user/7100/cook-daemon-app'
    const [one] = JSON.parse(await lab.does(`${bin} list --json`, as))
    assert.deepEqual([one.name, one.folder, one.user], ['app', folder, undefined])
    await lab.does(`sed -i s/v1/v2/ /home/lab/app.cjs; cd / && ${bin} upgrade app`, as)
    assert.equal(await lab.does('curl --silent 127.0.0.1:8080'), 'v2')
    assert.match(
      await lab.does(`${bin} logs app --path`, as),
      /unit app\.service: journalctl --user-unit=app\.service$/m,
    )
    // Root does not look there unless it is told to.
    assert.equal(await lab.does(`${bin} list`), 'no service is running\n')
    const named = `COOK_DAEMON_HOME=${folder} ${bin}`
    assert.match(await lab.does(`${named} list`), /^app +lab +\/run\/user\/7100/m)
    assert.match(await lab.does(`${named} logs app`), /app\[\d+\]: v2 serves$/m)
    assert.match(await lab.does(`${named} upgrade app`), /generation 3/)
    await lab.does('systemctl --user stop app', as)
    const { code, stderr } = await lab.runs(`${bin} status app`, as)
    assert.deepEqual([code, /the unit --user app\.service is inactive/.test(stderr)], [3, true], stderr)
  },
)

test(
  'upgrade --no-wait says what systemd makes of it where the service is the main process of its unit, and nowhere else',
  underSystemdOnHost,
  async () => {
    await using lab = await SystemdLab.boot()
    await install(lab, '/srv/web')
    await lab.writes(
      '/srv/web/app.mjs',
      `import { createServer } from 'node:http'
       import { serve } from 'cook-daemon'
       await serve(createServer((request, response) => response.end('x')), { port: 8080, host: '127.0.0.1', name: 'web', pidFile: '/run/web/web.pid' })`,
    )
    await lab.writes(
      '/etc/systemd/system/any.service',
      `[Service]
Type=exec
PIDFile=%t/web/web.pid
User=lab
WorkingDirectory=/srv/web
ExecStart=/usr/local/bin/node app.mjs
RuntimeDirectory=web
`,
    )
    await lab.does(`systemctl start any; until [ -S /run/web/web.sock ]; do sleep 0.05; done`)
    const quick = await lab.runs(`${bin} upgrade web --no-wait`)
    assert.deepEqual(
      [quick.code, /main process of the unit any\.service\. With --no-wait/.test(quick.stderr)],
      [0, true],
    )
    const whole = await lab.runs(`${bin} upgrade web`)
    assert.deepEqual([whole.code, whole.stderr], [0, ''])
    // Its unit has another name, which the control group of its process has.
    assert.match(await lab.does(`${bin} logs web`), /systemd\[1\]: Started any\.service/)
    const { code, stderr } = await lab.runs(`${bin} restart web`)
    assert.deepEqual([code, /systemctl restart/.test(stderr)], [1, true], stderr)
    await lab.does('systemctl stop any')
    await lab.does(`mkdir -p /run/web; cd /srv/web && ${bin} start app.mjs --no-keep --name alone`)
    const alone = await lab.runs(`${bin} upgrade alone --no-wait`)
    assert.deepEqual([alone.code, alone.stderr], [0, ''])
    await lab.does(`${bin} stop alone`)
  },
)
