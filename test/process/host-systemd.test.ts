/** `cook-daemon systemd` against a real systemd: what it prints, refuses and installs. */
import assert from 'node:assert/strict'
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { execLine } from '../../src/host/unit-words.ts'
import { install, SystemdLab, underSystemd, underSystemdOnHost } from '../support/systemd-lab.ts'

const program = (version: string) => `require('node:http')
  .createServer((request, response) => response.end('${version} ' + process.pid + ' ' + process.getuid() + ' ' + (process.env.WORD ?? '')))
  .listen(Number(process.env.PORT ?? 8080), '127.0.0.1')
`

/** Two releases, and a link to the first, as deploys make them. */
async function assertEndedWell(lab: SystemdLab, unit: string): Promise<void> {
  const result = await lab.shows(unit, 'Result')
  assert.equal(result, 'success', await lab.does(`journalctl -u ${unit} -n 40 --no-pager || true`))
}

async function deploy(lab: SystemdLab): Promise<void> {
  for (const release of [1, 2]) {
    const folder = `/srv/web/releases/${release}`
    await lab.writes(`${folder}/app.cjs`, program(`v${release}`))
    await install(lab, folder)
  }
  await lab.does('ln -s releases/1 /srv/web/current')
}

const cook = (words: string, folder = '/srv/web/current') =>
  `cd ${folder} && node node_modules/.bin/cook-daemon ${words}`

test(
  'systemd finds no fault with any unit that cook-daemon systemd prints, and little that it is exposed to',
  underSystemd,
  async () => {
    await using lab = await SystemdLab.boot()
    await deploy(lab)
    await lab.does('chown -R lab: /srv/web/releases/2')
    // Typed in the folder behind the link, as npm and deploy agents do it.
    const pinned = await lab.runs(cook('systemd app.cjs', '/srv/web/releases/1'))
    assert.match(pinned.stderr, /switches \/srv\/web\/current has no effect on it.* --cwd \/srv\/web\/current$/m)
    const config = JSON.stringify({
      services: [
        { name: 'one', script: 'app.cjs' },
        { name: 'two', script: 'app.cjs' },
      ],
    })
    await lab.writes('/srv/web/releases/1/cook.config.json', config)
    const settings = new Map<string, string>()
    const print = async (words: string, folder?: string) => {
      const { code, stdout, stderr } = await lab.runs(cook(words, folder))
      assert.deepEqual([code, stderr], [0, ''], words)
      // Each of several has a comment with its file name above it.
      const texts = stdout.split(/^# (\S+\.(?:service|socket))\n/m)
      const named = texts.length > 1 ? texts.slice(1) : [`${/Description=(\w+)/.exec(stdout)?.[1]}.service`, stdout]
      for (let at = 0; at < named.length; at += 2) {
        settings.set(String(named[at]), String(named[at + 1]))
        await lab.writes(`/etc/systemd/system/${named[at]}`, String(named[at + 1]))
      }
    }
    await print('systemd app.cjs --name dynamic --workers max --drain-timeout 5000 -- --flag "a b"')
    await print('systemd app.cjs --name owned', '/srv/web/releases/2')
    await print('systemd app.cjs --name super --uid root --gid lab-extra')
    await print('systemd app.cjs --name listens --socket 8080 --socket udp:5353 --socket /run/web.sock')
    await lab.does('ln -s /usr/local/bin/node /opt/node')
    await print('systemd app.cjs --name linked --node /opt/node')
    await print('systemd')
    assert.deepEqual(
      [...settings.keys()],
      ['dynamic', 'owned', 'super', 'listens.service', 'listens.socket', 'linked', 'one', 'two'].map((name) =>
        name.includes('.') ? name : `${name}.service`,
      ),
    )
    const has = (file: string, line: string) =>
      assert.ok(settings.get(file)?.split('\n').includes(line), `${file}: ${line}`)
    const run = '/usr/local/bin/node /srv/web/current/node_modules/cook-daemon/dist/bin/cook-daemon.js'
    has(
      'dynamic.service',
      `ExecStart=${run} run /srv/web/current/app.cjs --name dynamic --keep --cwd /srv/web/current --workers max --drain-timeout 5000 -- --flag "a b"`,
    )
    has('dynamic.service', `ExecReload=${run} upgrade dynamic --update-env`)
    has('dynamic.service', 'TimeoutStopSec=15')
    has('owned.service', 'User=lab')
    // Followed again at each upgrade.
    has(
      'linked.service',
      `ExecStart=${run.replace('/usr/local/bin', '/opt')} run /srv/web/current/app.cjs --name linked --keep --cwd /srv/web/current --node /opt/node`,
    )
    has('super.service', 'User=root')
    has('super.service', 'Group=lab-extra')
    has('two.service', `ExecStart=${run} run /srv/web/current/cook.config.json two --keep`)
    has('two.service', `ExecReload=${run} upgrade /srv/web/current/cook.config.json two --update-env`)
    assert.equal(await lab.does(`systemd-analyze verify ${[...settings.keys()].join(' ')} 2>&1`), '')
    const exposure = async (name: string) =>
      Number(/level for \S+: ([\d.]+)/.exec(await lab.does(`systemd-analyze security --no-pager ${name}`))?.[1])
    assert.ok((await exposure('dynamic.service')) <= 2)
    assert.ok((await exposure('owned.service')) <= 2.1)
    assert.ok((await exposure('super.service')) <= 4.5)
    // For the manager of a user.
    await lab.does('install -d -o lab -g lab /home/lab/.config/systemd/user; systemctl start lab-user.service')
    const text = await lab.does(cook('systemd app.cjs --name own --user-manager --socket 8081'), { user: 'lab' })
    const [, first = '', second = ''] = text.split(/^# own\.\w+\n/m)
    await lab.writes('/home/lab/.config/systemd/user/own.service', first)
    await lab.writes('/home/lab/.config/systemd/user/own.socket', second)
    assert.equal(await lab.does('systemd-analyze --user verify own.service own.socket 2>&1', { user: 'lab' }), '')
  },
)

test(
  'every path and every argument reaches the program through systemd as it was typed',
  underSystemdOnHost,
  async () => {
    await using lab = await SystemdLab.boot()
    const plain = (text: string) => !/[\p{Cc}\p{Noncharacter_Code_Point}]/u.test(text)
    const special = fc.string({ unit: fc.constantFrom(...' %$"\'\\;#{}@-~*=:!+|xn0') })
    const word = fc.oneof(special, fc.string({ unit: 'binary' }).filter(plain))
    const name = word.filter((text) => !/[/"'\\]|^\.{0,2}$/.test(text) && Buffer.byteLength(text) < 200)
    const cases = fc.sample(fc.tuple(name, fc.array(word, { maxLength: 4 })), 120)
    const show = '#!/bin/bash\nprintf "%s\\0" "$@" end >>/lab/shown\n'
    const lines = cases.map(([folder, args], at) => {
      const place = join(lab.folder, 'odd', String(at), folder)
      mkdirSync(place, { recursive: true })
      writeFileSync(join(place, 'show'), show)
      chmodSync(join(place, 'show'), 0o755)
      return `ExecStart=${execLine([join('/lab/odd', String(at), folder, 'show'), ...args])}`
    })
    await lab.writes('/etc/systemd/system/odd.service', `[Service]\nType=oneshot\n${lines.join('\n')}\n`)
    await lab.does('systemctl daemon-reload && systemctl start odd.service')
    const shown = readFileSync(join(lab.folder, 'shown'), 'utf8')
    assert.equal(shown, cases.map(([, args]) => [...args, 'end', ''].join('\0')).join(''))
  },
)

test('what cannot be a unit is refused with a reason, and nothing is written', underSystemd, async () => {
  await using lab = await SystemdLab.boot()
  await deploy(lab)
  await lab.does(
    'mkdir -p /root/app /tmp/app && cp /srv/web/current/app.cjs /root/app && cp /root/app/app.cjs /tmp/app',
  )
  await lab.does('cp /root/app/app.cjs /srv/web/orphan.cjs; chown 4242 /srv/web/orphan.cjs')
  await lab.does('mkdir -p /root/.npm/_npx/1/node_modules; ln -s /srv/cook-daemon /root/.npm/_npx/1/node_modules/')
  await lab.does('cp /root/app/app.cjs /srv/alone.cjs')
  await lab.writes('/etc/systemd/system/mine.service', '[Service]\nExecStart=/bin/true\n')
  await lab.does('ln -s /dev/null /etc/systemd/system/masked.service')
  const before = await lab.does('find /etc/systemd /run/systemd/system | sort')
  const refuses = async (words: string, reason: RegExp, code = 2) => {
    const { code: was, stdout, stderr } = await lab.runs(words)
    assert.match(stderr, reason, words)
    assert.deepEqual([was, stdout], [code, ''], words)
  }
  const refused: readonly (readonly [words: string, reason: RegExp])[] = [
    ['systemd /tmp/app/app.cjs', /is in \/tmp, which is cleaned up/],
    ['systemd app.cjs --cwd /tmp/app', /is in \/tmp, which is cleaned up/],
    ['systemd app.cjs --uid nobody-of-this-name', /no user nobody-of-this-name/],
    ['systemd app.cjs --uid lab --gid no-such-group', /no group no-such-group/],
    ['systemd app.cjs --gid lab', /--gid needs --uid/],
    ['systemd /srv/web/orphan.cjs', /belongs to user 4242, who does not exist/],
    ['systemd /root/app/app.cjs', /cannot read \/root\/app\/app\.cjs/],
    ['systemd app.cjs --uid lab --cwd /root/app', /the user lab \(7100:7100\) cannot read the program: EACCES/],
    ['systemd app.cjs --name "a b"', /is not a valid name/],
    ['systemd app.cjs --name all', /means every service/],
    ['systemd', /nothing to make a unit for/],
    ['systemd nothing-here', /there is no program/],
    ['systemd app.cjs --socket', /does not run, so its addresses are unknown/],
    ['systemd --socket app.cjs', /--socket app\.cjs: it must be a port/],
    ['systemd app.cjs --socket localhost:80', /--socket localhost:80: it must be a port/],
    ['systemd app.cjs --socket 70000', /--socket 70000: it must be a port/],
    ['systemd app.cjs --user-manager --uid lab', /--uid and --gid are for units of the machine/],
    ["systemd app.cjs -- $'a\\nb'", /line break or another control character/],
    ['systemd app.cjs --name mine --install', /unit mine\.service exists .*\/etc\/systemd\/system\/mine\.service/],
    ['systemd app.cjs --name masked --install', /unit masked\.service exists/],
    ['systemd app.cjs --name systemd-journald --install', /unit systemd-journald\.service exists/],
  ]
  await Promise.all(refused.map(([words, reason]) => refuses(cook(words), reason)))
  await refuses(
    'cd /srv && node /root/.npm/_npx/1/node_modules/cook-daemon/dist/bin/cook-daemon.js systemd alone.cjs',
    /is in the npx cache/,
  )
  const asLab = await lab.runs(cook('systemd app.cjs --install'), { user: 'lab' })
  assert.match(asLab.stderr, /--install needs root/)
  assert.equal(await lab.does('find /etc/systemd /run/systemd/system | sort'), before)
})

test(
  'systemd --install starts a service at once and at each boot, is repeatable, and touches nothing that runs',
  underSystemd,
  async () => {
    await using lab = await SystemdLab.boot()
    await deploy(lab)
    await lab.writes('/etc/default/web', 'WORD=hello\n')
    const asks = async () => (await lab.does('curl --silent --show-error 127.0.0.1:8080')).split(' ')
    const first = await lab.does(cook('systemd app.cjs --name web --install'))
    assert.match(first, /\/etc\/systemd\/system\/web\.service {2}written\n.* enabled: .*\n.*\n✓ web runs under systemd/)
    const [version, worker, user, word] = await asks()
    assert.deepEqual([version, word], ['v1', 'hello'])
    assert.notEqual(user, '0')
    const keeper = await lab.shows('web', 'MainPID')
    assert.equal(await lab.does('stat --format="%a %U %F" /etc/systemd/system/web.service'), '644 root regular file\n')
    assert.equal(await lab.does('ls -A /etc/systemd/system | grep "^\\." || true'), '')

    // Once more, and then with another unit: what runs goes on.
    assert.match(await lab.does(cook('systemd app.cjs --name web --install')), /unchanged\n[\s\S]*✓ web already runs/)
    const changed = await lab.runs(cook('systemd app.cjs --name web --socket 127.0.0.1:8080 --install'))
    assert.equal(changed.code, 0)
    assert.match(changed.stderr, /take effect at the next restart: systemctl restart web/)
    assert.deepEqual((await asks())[1], worker)
    assert.equal(await lab.shows('web', 'MainPID'), keeper)

    // A deploy: the link is switched, the environment changed, and the unit reloaded.
    await lab.does('ln -sfn releases/2 /srv/web/current && echo WORD=again >/etc/default/web && systemctl reload web')
    const [next, , , other] = await asks()
    assert.deepEqual([next, other], ['v2', 'again'])
    assert.equal(await lab.shows('web', 'MainPID'), keeper)
    assert.equal(
      await lab.does(
        `tr '\\0' '\\n' </proc/${(await asks())[1]}/environ | grep -E '^(MAINPID|NOTIFY|WATCHDOG|LISTEN)' || true`,
      ),
      '',
    )

    // From the restart on systemd listens; and all of it comes back after a reboot.
    await lab.does('systemctl restart web')
    assert.equal(await lab.does('systemctl is-active web.socket web.service'), 'active\nactive\n')
    assert.equal((await asks())[0], 'v2')
    await lab.reboot()
    assert.deepEqual((await asks()).slice(0, 1), ['v2'])
    assert.equal(await lab.does('systemctl is-active web.socket web.service'), 'active\nactive\n')
    await lab.does('systemctl disable --now web.socket web.service')
    await assertEndedWell(lab, 'web')
    assert.equal(await lab.does('ls -d /run/cook-daemon-web 2>/dev/null || true'), '')
  },
)

test(
  'systemd --install leaves a service alone that start has started, and says why one does not start',
  underSystemdOnHost,
  async () => {
    await using lab = await SystemdLab.boot()
    await deploy(lab)
    await lab.does(cook('start app.cjs --name web'))
    const before = await lab.does('curl --silent 127.0.0.1:8080')
    // Where it listens is known.
    const printed = await lab.runs(`export WORD=x; ${cook('systemd web --socket')}`)
    assert.match(printed.stdout, /^ListenStream=127\.0\.0\.1:8080$/m)
    assert.match(printed.stdout, /run \/srv\/web\/current\/app\.cjs --name web --keep --cwd \/srv\/web\/current$/m)
    assert.match(printed.stderr, /goes to the journal, not to /)
    const { code, stderr } = await lab.runs(cook('systemd web --install'))
    assert.equal(code, 0)
    assert.match(
      stderr,
      /web already runs, started by cook-daemon start, .* cook-daemon stop web && systemctl start web\.service/,
    )
    assert.equal(await lab.does('systemctl is-enabled web; systemctl is-active web || true'), 'enabled\ninactive\n')
    assert.equal(await lab.does('curl --silent 127.0.0.1:8080'), before)

    await lab.writes('/srv/web/current/bad.cjs', "throw new Error('no database today')\n")
    const failed = await lab.runs(cook('systemd bad.cjs --install'))
    assert.equal(failed.code, 1)
    assert.match(failed.stderr, /bad\.service did not start:[\s\S]*no database today[\s\S]*tries again every second/)
    // It comes up by itself when what it needs is there.
    await lab.writes('/srv/web/current/bad.cjs', program('good').replace('8080', '8081'))
    await lab.does('curl --silent --retry-connrefused --retry 60 --retry-delay 1 127.0.0.1:8081')
  },
)

test(
  'systemd --install --user-manager needs no root, and its unit is reloaded and stopped as one of root',
  underSystemdOnHost,
  async () => {
    await using lab = await SystemdLab.boot()
    await lab.writes('/home/lab/app.cjs', program('v1'))
    await lab.does('chown -R lab: /home/lab; systemctl start lab-user.service')
    const as = { user: 'lab' } as const
    await install(lab, '/home/lab', as)
    const { code, stdout, stderr } = await lab.runs(cook('systemd app.cjs --install --user-manager', '/home/lab'), as)
    assert.equal(code, 0, stderr)
    assert.match(
      stdout,
      /\/home\/lab\/\.config\/systemd\/user\/app\.service {2}written[\s\S]*systemctl --user reload app/,
    )
    // In this machine nobody can make them linger.
    assert.match(stderr, /lingering could not be enabled for lab.* loginctl enable-linger lab/)
    assert.match(await lab.does('curl --silent 127.0.0.1:8080'), /^v1 \d+ 7100 $/)
    await lab.does(
      'sed -i s/v1/v2/ ~/app.cjs; systemctl --user reload app; [[ $(curl --silent 127.0.0.1:8080) = v2* ]]',
      as,
    )
    await lab.does('systemctl --user stop app', as)
    assert.equal(await lab.does('systemctl --user show --value --property=Result app', as), 'success\n')
  },
)

test(
  'services of a configuration are installed as units, each as the user that the file names',
  underSystemdOnHost,
  async () => {
    await using lab = await SystemdLab.boot()
    await deploy(lab)
    const services = [
      { name: 'one', script: 'app.cjs', uid: 'lab', gid: 'lab-extra', env: { WORD: 'one' } },
      { name: 'two', script: 'app.cjs', workers: 2, env: { WORD: 'two', PORT: 8081 }, lameDuck: 1000 },
    ]
    await lab.writes('/srv/web/releases/1/cook.config.json', JSON.stringify({ services }))
    await lab.does(cook('systemd --install'))
    const asks = async (port: number) => (await lab.does(`curl --silent --show-error 127.0.0.1:${port}`)).split(' ')
    const one = await asks(8080)
    assert.deepEqual([one[0], ...one.slice(2)], ['v1', '7100', 'one'])
    assert.match(await lab.does(`cat /proc/${one[1]}/status`), /^Gid:\t7101\t7101\t/m)
    const two = await asks(8081)
    assert.deepEqual([two[0], two[3]], ['v1', 'two'])
    assert.equal(await lab.shows('two', 'TimeoutStopUSec'), '41s')
    // A reload reads the file of the next release.
    await lab.writes(
      '/srv/web/releases/2/cook.config.json',
      JSON.stringify({ services }).replaceAll('WORD":"', 'WORD":"new-'),
    )
    await lab.does('ln -sfn releases/2 /srv/web/current && systemctl reload one two')
    assert.deepEqual([(await asks(8080))[0], (await asks(8080))[3]], ['v2', 'new-one'])
    assert.deepEqual([(await asks(8081))[0], (await asks(8081))[3]], ['v2', 'new-two'])
    await lab.does('systemctl stop one two')
    await assertEndedWell(lab, 'one')
    await assertEndedWell(lab, 'two')
  },
)
