/** The units that `cook-daemon systemd` makes: what stands in them, for each kind of service. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { optionWords, type UnitOptions } from '../../src/cli/unit-options.ts'
import { type UnitPlan, unitMark, unitsOf } from '../../src/host/unit.ts'
import { execLine, UnitFault, value } from '../../src/host/unit-words.ts'

const plan: UnitPlan = {
  name: 'web',
  run: ['/usr/bin/node', '/srv/web/cook-daemon.js', 'run', '/srv/web/app.js', '--keep'],
  reload: ['/usr/bin/node', '/srv/web/cook-daemon.js', 'upgrade', 'web'],
  times: { readyTimeout: 60_000, drainTimeout: 30_000, lameDuck: 0, overlap: 5_000 },
  user: { kind: 'dynamic' },
  isInHome: false,
}

const users: Readonly<Record<string, UnitPlan['user']>> = {
  dynamic: { kind: 'dynamic' },
  named: { kind: 'named', user: 'web', group: 'www' },
  root: { kind: 'named', user: 'root' },
  manager: { kind: 'manager' },
}

function settingsOf(text = ''): readonly string[] {
  return text.split('\n').filter((line) => /^\w+=/.test(line))
}

function service(changes: Partial<UnitPlan> = {}): readonly string[] {
  return settingsOf(unitsOf({ ...plan, ...changes })[0]?.text)
}

test('every line of a unit has its reason above it, and its first line says whose it is', () => {
  for (const user of Object.values(users)) {
    for (const { text } of unitsOf({ ...plan, user, sockets: [{ kind: 'stream', address: '8080' }] })) {
      assert.ok(text.startsWith(`${unitMark}\n`))
      const parts = text.split(/^(?=# )/m).filter((part) => /^\w+=/m.test(part))
      assert.ok(parts.length >= 4)
      for (const section of text.split(/^\[/m).slice(1)) assert.match(section, /^\w+\]\n# /)
      assert.deepEqual(
        text.split('\n').filter((line) => line.startsWith('#') && line.length > 102),
        [],
      )
    }
  }
})

test('a unit waits as long as the service may take: to start, to be replaced and to stop', () => {
  assert.ok(service().includes('TimeoutStartSec=105'))
  assert.ok(service().includes('TimeoutStopSec=40'))
  const times = { readyTimeout: 1_500, drainTimeout: 100, lameDuck: 2_000, overlap: 0 }
  assert.ok(service({ times }).includes('TimeoutStartSec=12'))
  assert.ok(service({ times }).includes('TimeoutStopSec=13'))
})

test('a unit never sets what would cost requests or keep Node from starting', () => {
  for (const user of Object.values(users)) {
    const names = service({ user }).map((line) => line.split('=')[0])
    for (const name of ['KillMode', 'MemoryDenyWriteExecute', 'PIDFile', 'WorkingDirectory', 'ExecStop']) {
      assert.ok(!names.includes(name), name)
    }
    for (const line of ['Type=notify', 'NotifyAccess=all', 'RuntimeDirectoryMode=0700', 'OOMPolicy=continue']) {
      assert.ok(service({ user }).includes(line), line)
    }
  }
})

test('nothing runs as root unless that was said, and nobody has rights of root that are not needed', () => {
  assert.ok(service().includes('DynamicUser=yes'))
  assert.ok(service().includes('ProtectSystem=strict'))
  assert.ok(service().includes('CapabilityBoundingSet='))
  const named = service({ user: users.named as UnitPlan['user'] })
  for (const line of ['User=web', 'Group=www', 'ProtectSystem=full', 'CapabilityBoundingSet=']) {
    assert.ok(named.includes(line), line)
  }
  assert.ok(service({ user: users.root as UnitPlan['user'] }).includes('User=root'))
  const low = service({ hasLowPort: true })
  assert.ok(low.includes('AmbientCapabilities=CAP_NET_BIND_SERVICE'))
  assert.ok(low.includes('CapabilityBoundingSet=CAP_NET_BIND_SERVICE'))
  // systemd listens there itself.
  const sockets = [{ kind: 'stream', address: '80' }] as const
  assert.ok(!service({ hasLowPort: true, sockets }).some((line) => line.startsWith('Ambient')))
})

test('in the manager of a user there is only what works there', () => {
  const names = service({ user: { kind: 'manager' } }).map((line) => line.split('=')[0] ?? '')
  assert.deepEqual(
    names.filter((name) => /^(User|Group|DynamicUser|Protect|Private|Capability|Ambient)/.test(name)),
    [],
  )
  assert.ok(service({ user: { kind: 'manager' } }).includes('WantedBy=default.target'))
})

test('homes are hidden only from a service that has nothing in them', () => {
  assert.ok(service().includes('ProtectHome=yes'))
  assert.ok(!service({ isInHome: true }).some((line) => line.startsWith('ProtectHome')))
})

test('a socket unit has each address, and who may connect to a path', () => {
  const [, socket] = unitsOf({
    ...plan,
    sockets: [
      { kind: 'stream', address: '[::1]:8080' },
      { kind: 'datagram', address: '5353' },
      { kind: 'stream', address: '/run/100%/web.sock' },
    ],
  })
  assert.equal(socket?.file, 'web.socket')
  assert.deepEqual(settingsOf(socket?.text).slice(1), [
    'ListenStream=[::1]:8080',
    'ListenDatagram=5353',
    'ListenStream=/run/100%%/web.sock',
    'SocketMode=0660',
    'TriggerLimitIntervalSec=0',
    'WantedBy=sockets.target',
  ])
})

test('words stand in a unit so that systemd takes nothing for its own, and what cannot stand there is refused', () => {
  assert.equal(
    execLine(['/a $b/50%', '$HOME', '100%', 'a b', '"', '\\', '', ';', '--x=y']),
    '"/a $b/50%%" $$HOME 100%% "a b" "\\"" "\\\\" "" ";" --x=y',
  )
  for (const word of ['a\nb', '\0', '\u007f', '\ufffe']) {
    assert.throws(() => execLine(['/bin/true', word]), UnitFault)
    assert.throws(() => value(word), UnitFault)
  }
  for (const path of ['/a"b', "/a'b", '/a\\b']) assert.throws(() => execLine([path]), UnitFault)
  for (const word of [' a', 'a ', 'a\\']) assert.throws(() => value(word), UnitFault)
})

test('every option of start that was typed is in the command of the unit', () => {
  // What has a place of its own there, or is for the command that prints it.
  type Elsewhere = 'name' | 'cwd' | 'node' | 'json' | 'keep' | 'env' | 'allowOwner' | 'uid' | 'gid'
  type Printing = 'userManager' | 'socket' | 'install'
  const all: Required<Omit<UnitOptions, Elsewhere | Printing>> = {
    ...{ waitReady: true, listen: false, moveConnections: false, workers: 'max', log: 'log', pid: '/run/web.pid' },
    ...{
      readyTimeout: 1,
      drainTimeout: 2,
      lameDuck: 3,
      admin: '9464',
      overlap: 4,
      hangTimeout: 5,
      maxMemory: 6,
      logMaxSize: 7,
      logKeep: 8,
    },
    nodeArg: ['--import=tsx'],
    ...{ moveTls: true, moveTlsFor: 9 },
  }
  const words = optionWords({ ...all, cwd: '/srv/web' })
  assert.deepEqual(
    words
      .join(' ')
      .split(/ (?=--)/)
      .sort(),
    [
      '--admin 9464',
      '--drain-timeout 2',
      '--hang-timeout 5',
      '--lame-duck 3',
      '--log /srv/web/log',
      '--log-keep 8',
      '--log-max-size 7',
      '--max-memory 6',
      '--move-tls',
      '--move-tls-for 9',
      '--no-listen',
      '--no-move-connections',
      '--node-arg=--import=tsx',
      '--overlap 4',
      '--pid /run/web.pid',
      '--ready-timeout 1',
      '--wait-ready',
      '--workers max',
    ],
  )
  assert.deepEqual(optionWords({}), [])
})
