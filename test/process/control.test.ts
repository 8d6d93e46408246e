/** The control socket: who may ask, what it answers, and that exactly one generation does. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { chmodSync, existsSync, lstatSync, mkdirSync, realpathSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer as createHttpServer } from 'node:http'
import { connect, createServer } from 'node:net'
import { test } from 'node:test'
import type { Progress } from '../../src/control/status.ts'
import { begin, control, linesOf, statusOf } from '../support/control.ts'
import { beginReplace, drained, replace } from '../support/daemons.ts'
import { readExposition } from '../support/exposition.ts'
import { HttpConnection } from '../support/http-connection.ts'
import { fixturePath, Lab, type Puppet } from '../support/lab.ts'
import { eventually } from '../support/waiting.ts'

const named = { name: 'web' }

test('a daemon with a name answers GET /status on a socket that is ours alone', async () => {
  await using lab = await Lab.open()
  const daemon = await lab.start()
  const port = await startNamed(daemon)
  const { status, type, body } = await control(socketOf(lab), 'GET /status')
  assert.deepEqual([status, type], [200, 'application/json'])
  const told = JSON.parse(body)
  const { keepAliveTimeout } = createHttpServer()
  assert.deepEqual(
    { ...told, startTime: '', version: '', startedAt: '', uptime: 0, memory: {}, generations: [], command: {} },
    {
      name: 'web',
      version: '',
      node: process.version,
      pid: daemon.pid,
      startTime: '',
      generation: 1,
      phase: 'ready',
      ready: true,
      startedAt: '',
      uptime: 0,
      memory: {},
      connections: 0,
      listeners: [{ name: 'web', address: `127.0.0.1:${port}`, connections: 0, keepAliveTimeout }],
      upgrades: { succeeded: 0, failed: 0 },
      generations: [],
      drainTimeout: 30_000,
      lameDuck: 0,
      warnings: [],
      command: {},
      resolved: { cwd: realpathSync(lab.folder), script: realpathSync(fixturePath('puppet')) },
    },
  )
  assert.equal(lstatSync(lab.path('run')).mode & 0o777, 0o700)
  assert.equal(lstatSync(socketOf(lab)).mode & 0o777, 0o600)
  await daemon.run(async ({ kept }) => void (await kept.daemon?.stop()))
  assert.equal(existsSync(socketOf(lab)), false)
})

test('a daemon without a name opens no control socket', async () => {
  await using lab = await Lab.open()
  const daemon = await lab.start()
  await daemon.run(({ start }) => start())
  assert.equal(existsSync(lab.path('run')), false)
})

test('POST /upgrade streams how far it is, and the socket is answered by exactly one generation', async () => {
  await using lab = await Lab.open()
  let old = await lab.start()
  const port = await startNamed(old)
  const inode = lstatSync(socketOf(lab)).ino
  for (let generation = 2; generation <= 4; generation++) {
    const client = await HttpConnection.open(port)
    await client.ask()
    const upgrading = control(socketOf(lab), 'POST /upgrade')
    const young = await lab.next()
    await young.run(async ({ open, listen }) => {
      await open({ name: 'web' })
      await listen()
    })
    const before = await statusOf(socketOf(lab))
    assert.deepEqual([before.pid, before.phase], [old.pid, 'upgrading'])
    await young.run(({ kept }) => kept.daemon?.ready())
    const lines = linesOf(await upgrading)
    const told = lines.filter(({ type }) => type !== 'draining').map(untimed)
    assert.deepEqual(told, [
      { type: 'started', ms: 0 },
      { type: 'booted', ms: 0 },
      { type: 'ready', ms: 0 },
      { type: 'serves', ms: 0, pid: young.pid, generation },
      { type: 'drained', ms: 0, handedOver: 1, served: 0, closed: 0, cut: 0 },
    ])
    await drained(old)
    const after = await statusOf(socketOf(lab))
    assert.deepEqual([after.pid, after.generation, after.phase], [young.pid, generation, 'ready'])
    assert.deepEqual(after.upgrades, { succeeded: generation - 1, failed: 0 })
    assert.deepEqual(after.lastUpgrade?.connections, { handedOver: 1, served: 0, closed: 0, cut: 0 })
    client.socket.destroy()
    old = young
  }
  assert.equal(lstatSync(socketOf(lab)).ino, inode)
})

test('an upgrade that fails ends its stream with the code and the reason, and the old version answers on', async () => {
  await using lab = await Lab.open()
  const daemon = await lab.start()
  await startNamed(daemon)
  const upgrading = control(socketOf(lab), 'POST /upgrade')
  const young = await lab.next()
  young
    .run(() => {
      process.stderr.write('no database here\n', () => process.exit(7))
    })
    .catch(() => {})
  const last = linesOf(await upgrading).at(-1)
  assert.equal(last?.type === 'error' && last.code, 'ERR_COOK_SUCCESSOR_EXITED')
  assert.match(JSON.stringify(last), /exit code 7/)
  const { pid, phase, upgrades, lastUpgrade } = await statusOf(socketOf(lab))
  assert.deepEqual([pid, phase, upgrades], [daemon.pid, 'ready', { succeeded: 0, failed: 1 }])
  assert.equal(lastUpgrade?.code, 'ERR_COOK_SUCCESSOR_EXITED')
})

test('a second POST /upgrade is told that one is in progress, and that one goes on when its client has gone', async () => {
  await using lab = await Lab.open()
  const daemon = await lab.start()
  await startNamed(daemon)
  const first = await begin(socketOf(lab), 'POST /upgrade')
  const young = await lab.next()
  const second = await control(socketOf(lab), 'POST /upgrade')
  assert.equal(second.status, 409)
  assert.match(second.body, /ERR_COOK_UPGRADE_IN_PROGRESS/)
  first.destroy()
  await startNamed(young)
  await drained(daemon)
  assert.equal((await statusOf(socketOf(lab))).pid, young.pid)
})

test('a generation that has drained is shown no more', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const port = await startNamed(old)
  const client = await HttpConnection.open(port)
  client.socket.write('GET /slow HTTP/1.1\r\nhost: x\r\n\r\n')
  await old.event('asked')
  await replace(lab, old, ({ start }) => start({ name: 'web' }))
  const count = async () => (await statusOf(socketOf(lab))).generations.length
  await eventually('both', async () => (await count()) === 2 || undefined)
  await old.run(({ finish }) => finish())
  await eventually('one', async () => (await count()) === 1 || undefined)
  client.socket.destroy()
})

test('one answer shows every generation while older ones drain', async () => {
  await using lab = await Lab.open()
  const puppets = [await lab.start()]
  const port = await startNamed(puppets[0] as Puppet)
  const clients: HttpConnection[] = []
  for (let generation = 1; generation <= 3; generation++) {
    const puppet = puppets.at(-1) as Puppet
    const client = await HttpConnection.open(port)
    client.socket.write('GET /slow HTTP/1.1\r\nhost: x\r\n\r\n')
    await puppet.event('asked')
    clients.push(client)
    if (generation < 3) puppets.push(await replace(lab, puppet, ({ start }) => start({ name: 'web' })))
  }
  const shown = await eventually('three generations', async () => {
    const { generations } = await statusOf(socketOf(lab))
    return generations.length === 3 && generations.every(({ connections }) => connections === 1)
      ? generations
      : undefined
  })
  assert.deepEqual(
    shown.map(({ generation, pid, phase }) => [generation, pid, phase]),
    puppets.map(({ pid }, at) => [at + 1, pid, at < 2 ? 'draining' : 'ready']),
  )
  for (const client of clients) client.socket.destroy()
})

test('POST /stop drains a daemon in which nobody handles SIGTERM but the package signal-exit, which kills', async () => {
  await using lab = await Lab.open()
  const daemon = await lab.start()
  const port = await startNamed(daemon)
  await daemon.run(() => {
    const emitter = { count: 1 }
    Object.assign(process, { [Symbol.for('signal-exit emitter')]: emitter })
    process.on('SIGTERM', () => {
      if (process.listeners('SIGTERM').length === emitter.count) process.kill(process.pid, 'SIGKILL')
    })
  })
  const client = await HttpConnection.open(port)
  await client.ask()
  const drained = linesOf(await control(socketOf(lab), 'POST /stop')).at(-1)
  assert.deepEqual(untimed(drained), { type: 'drained', ms: 0, handedOver: 0, served: 0, closed: 1, cut: 0 })
})

test('POST /stop ends the service and its socket, and tells what became of the connections', async () => {
  await using lab = await Lab.open()
  const daemon = await lab.start()
  const port = await daemon.run(({ serve }) => serve({ name: 'web' }))
  const client = await HttpConnection.open(port)
  await client.ask()
  // How far it is comes now and then, on a slow machine only.
  const lines = linesOf(await control(socketOf(lab), 'POST /stop')).filter(({ type }) => type !== 'draining')
  assert.deepEqual(
    lines.map((line) => ({ ...untimed(line), ...('generations' in line && { generations: line.generations.length }) })),
    [
      { type: 'stopping', ms: 0, drainTimeout: 30_000, generations: 1 },
      { type: 'drained', ms: 0, handedOver: 0, served: 0, closed: 1, cut: 0 },
    ],
  )
  await daemon.gone
  assert.equal(existsSync(socketOf(lab)), false)
})

test('GET /metrics is Prometheus text', async () => {
  await using lab = await Lab.open()
  const daemon = await lab.start()
  const port = await startNamed(daemon)
  const client = await HttpConnection.open(port)
  await client.ask()
  const young = await replace(lab, daemon, ({ start }) => start({ name: 'web' }))
  await drained(daemon)
  const { type, body } = await eventually('the counts of the drain', async () => {
    const answer = await control(socketOf(lab), 'GET /metrics')
    return answer.body.includes('fate="handed_over"') ? answer : undefined
  })
  assert.equal(type, 'text/plain; version=0.0.4; charset=utf-8')
  const metrics = readExposition(body)
  assert.equal(metrics.size, (body.match(/^# TYPE /gm) ?? []).length)
  assert.deepEqual(
    [...(metrics.get('cook_daemon_phase')?.samples.values() ?? [])].reduce((sum, one) => sum + one),
    1,
  )
  for (const line of [
    `cook_daemon_info{name="web",version="${JSON.parse((await control(socketOf(lab), 'GET /status')).body).version}",node="${process.version}",pid="${young.pid}"} 1`,
    'cook_daemon_generation 2',
    'cook_daemon_phase{phase="ready"} 1',
    'cook_daemon_upgrades_total{outcome="succeeded"} 1',
    'cook_daemon_upgrades_total{outcome="failed"} 0',
    'cook_daemon_last_upgrade_connections{fate="handed_over"} 1',
    'cook_daemon_connections{listener="web"} 1',
  ]) {
    assert.ok(body.includes(`${line}\n`), `${line} in\n${body}`)
  }
  client.socket.destroy()
})

test('a name with quotes, backslashes and line ends is a label like any other', async () => {
  await using lab = await Lab.open()
  const daemon = await lab.start()
  const name = 'a "b" \\ c\n{d="e"} ,'
  await daemon.run(async ({ open, kept }, listener) => {
    const { createServer } = process.getBuiltinModule('node:http')
    await open({ name: 'web' })
    await kept.daemon?.listen(createServer(), { host: '127.0.0.1', port: 0, name: listener })
    await kept.daemon?.ready()
  }, name)
  const { body } = await control(socketOf(lab), 'GET /metrics')
  const connections = readExposition(body).get('cook_daemon_connections')?.samples
  assert.deepEqual([...(connections ?? [])], [[JSON.stringify({ listener: name }), 0]])
})

test('wrong requests are told what is wrong, and what is too large or too slow ends', async () => {
  await using lab = await Lab.open()
  const daemon = await lab.start()
  await startNamed(daemon)
  const path = socketOf(lab)
  const wrong = async (what: string, status: number, words: RegExp, body?: object | string) => {
    const answer = await control(path, what, body)
    assert.equal(answer.status, status, `${what} ${body}`)
    assert.match(answer.body, words)
  }
  await wrong('GET /', 404, /GET \/ does not exist/)
  await wrong('DELETE /status', 404, /ERR_COOK_CONTROL/)
  await wrong('POST /upgrade', 400, /is not valid JSON/, '{')
  await wrong('POST /upgrade', 400, /is not an object/, '[]')
  await wrong('POST /upgrade', 400, /unknown option umask/, { umask: 0 })
  await wrong('POST /upgrade', 400, /readyTimeout/, { readyTimeout: -1 })
  await wrong('POST /upgrade', 400, /cwd must be an absolute path/, { cwd: 'current' })
  await wrong('POST /upgrade', 400, /drainTimeout/, { program: { drainTimeout: '5' } })
  await wrong('POST /upgrade', 400, /release is not an option/, { program: { release: ['web'] } })
  await wrong('POST /upgrade', 400, /must be an object/, { program: 5 })
  await wrong('POST /upgrade', 400, /more than 1048576 bytes/, JSON.stringify({ env: { BIG: 'x'.repeat(1_100_000) } }))
  const tooLong = await control(path, `GET /${'x'.repeat(9_000)}`)
  assert.equal(tooLong.status, 431)
  const silent = connect(path)
  silent.write('POST /upgrade HTTP/1.1\r\n')
  await once(silent.resume(), 'close')
  assert.equal((await statusOf(path)).phase, 'ready')
})

test('a second daemon of a name that runs is refused, and the first is untouched; a dead one is replaced', async () => {
  await using lab = await Lab.open()
  const first = await lab.start()
  await startNamed(first)
  const second = await lab.start()
  await assert.rejects(startNamed(second), { code: 'ERR_COOK_NAME_TAKEN' })
  assert.equal((await statusOf(socketOf(lab))).pid, first.pid)
  first.kill('SIGKILL')
  await first.gone
  assert.equal(existsSync(socketOf(lab)), true)
  await startNamed(second)
  assert.equal((await statusOf(socketOf(lab))).pid, second.pid)
})

test('of several daemons that start with one name at once, exactly one gets it', async () => {
  await using lab = await Lab.open()
  const puppets = [await lab.start(), await lab.start(), await lab.start(), await lab.start()]
  const ends = await Promise.allSettled(puppets.map(startNamed))
  assert.equal(ends.filter(({ status }) => status === 'fulfilled').length, 1)
  for (const end of ends) if (end.status === 'rejected') assert.equal(end.reason.code, 'ERR_COOK_NAME_TAKEN')
})

test('a run directory that is a symlink, a file or writable for others, and a name that leads elsewhere, are refused', async () => {
  await using lab = await Lab.open()
  const daemon = await lab.start()
  mkdirSync(lab.path('elsewhere'), { mode: 0o700 })
  symlinkSync('elsewhere', lab.path('run'))
  await assert.rejects(startNamed(daemon), { code: 'ERR_COOK_RUN_DIR', message: /symlink/ })
  await using other = await Lab.open()
  const two = await other.start()
  writeFileSync(other.path('run'), '')
  await assert.rejects(startNamed(two), { code: 'ERR_COOK_RUN_DIR' })
  await using third = await Lab.open()
  const three = await third.start()
  mkdirSync(third.path('run'))
  chmodSync(third.path('run'), 0o777)
  await assert.rejects(startNamed(three), {
    code: 'ERR_COOK_RUN_DIR',
    message: /others can write to it \(its mode is 0777\)/,
  })
  chmodSync(third.path('run'), 0o700)
  for (const name of ['../web', 'a/b', '.web', '', 'x'.repeat(65), 'a b']) {
    await assert.rejects(
      three.run(({ open }, given) => open({ name: given }).then(() => {}), name),
      { code: 'ERR_COOK_OPTION' },
    )
  }
})

test('a symlink and a living stranger in the place of the socket are refused, and left as they are', async () => {
  await using lab = await Lab.open()
  const daemon = await lab.start()
  mkdirSync(lab.path('run'), { mode: 0o700 })
  symlinkSync(lab.path('lab'), socketOf(lab))
  await assert.rejects(startNamed(daemon), { code: 'ERR_COOK_NAME_TAKEN' })
  assert.equal(lstatSync(socketOf(lab)).isSymbolicLink(), true)
  const stranger = createServer((socket) => socket.on('error', () => {}).end()).listen(lab.path('run', 'other.sock'))
  await once(stranger, 'listening')
  await assert.rejects(
    daemon.run(({ open }) => open({ name: 'other' }).then(() => {})),
    { code: 'ERR_COOK_NAME_TAKEN', message: /another process listens there/ },
  )
  stranger.close()
})

test('a version that has lost its name closes the socket, and one that gains a name opens it', async () => {
  await using lab = await Lab.open()
  const one = await lab.start()
  await startNamed(one)
  const two = await replace(lab, one)
  assert.deepEqual(await two.event('unclaimed'), { type: 'unclaimed', names: ['cook:control'] })
  await drained(one)
  assert.equal(existsSync(socketOf(lab)), false)
  const three = await replace(lab, two, ({ start }) => start({ name: 'web' }))
  await drained(two)
  assert.equal((await statusOf(socketOf(lab))).pid, three.pid)
})

test('a successor that is lost before the old one stopped accepting gives the socket back', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const port = await startNamed(old)
  // Enough idle connections to be killed between them.
  const clients = await Promise.all(Array.from({ length: 200 }, () => HttpConnection.open(port)))
  const { young, upgrading } = await beginReplace(lab, old)
  await young.run(async ({ open, listen, kept }) => {
    await open({ name: 'web' })
    await listen()
    kept.server?.on('connection', () => process.kill(process.pid, 'SIGKILL'))
    kept.daemon?.ready().catch(() => {})
  })
  await upgrading
  await old.event('successor-lost')
  const status = await eventually('its answer', () => statusOf(socketOf(lab)).catch(() => undefined))
  assert.deepEqual([status.pid, status.phase], [old.pid, 'ready'])
  for (const client of clients) client.socket.destroy()
})

/** What is the same in every run. */
function untimed(progress: Progress | undefined): object {
  const { times: _, ...rest } = { times: undefined, ...progress }
  return { ...rest, ms: 0 }
}

async function startNamed(puppet: Puppet): Promise<number> {
  return puppet.run(({ start }, options) => start(options), named)
}

function socketOf(lab: Lab): string {
  return lab.path('run', 'web.sock')
}
