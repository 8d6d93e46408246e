/**
 * A daemon whose event loop stands still: told, ended and started again from the command line, and
 * nobody else is signalled.
 */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { lstatSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { get } from 'node:http'
import { createServer, type Server, type Socket } from 'node:net'
import { describe, test } from 'node:test'
import { clientOf } from '../../src/control/client.ts'
import type { Status } from '../../src/control/status.ts'
import { placeOfPids } from '../../src/node/processes.ts'
import { isAlive, system } from '../../src/node/system.ts'
import { type Ended, Operator, portOf, writeProgram } from '../support/command.ts'
import { onlyInMatrix } from '../support/extent.ts'
import { HttpConnection } from '../support/http-connection.ts'
import { Lab } from '../support/lab.ts'
import { eventually } from '../support/waiting.ts'

/**
 * A request for /loop is the last one that it begins; one for /late is answered when /now has come.
 */
const looping = `let late
server.prependListener('request', (request) => { if (request.url === '/loop') for (;;) {} })
server.removeAllListeners('request').on('request', (request, response) => {
  if (request.url === '/loop') for (;;) {}
  if (request.url === '/late') {
    late = response
    console.log('asked')
  } else response.end(String(process.pid))
})`

// They wait for a silence to be long enough, most of the time.
describe('a daemon that does not answer', { concurrency: 3 }, () => {
  test('status, list and logs show that a daemon is in an endless loop, and stop ends it', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    writeProgram(lab, 'app.mjs', 'one', looping)
    await operator.does(['start', '--no-keep', 'app.mjs', '--drain-timeout', '0'])
    const daemon = await loop(operator, 'app')
    const [status, statusJson, list, listJson, logs, upgrade, start] = await Promise.all([
      operator.types(['status']),
      operator.types(['status', '--json']),
      operator.types(['list']),
      operator.types(['list', '--json']),
      operator.types(['logs', 'app']),
      operator.types(['upgrade', 'app']),
      operator.types(['start', '--no-keep', 'app.mjs']),
    ])
    const who = new RegExp(
      `^cook-daemon: app does not respond: pid ${daemon.pid}, generation 1, since \\d{4}-\\S+Z: its event loop is blocked.*; nothing was changed\n.*restart`,
    )
    for (const ended of [status, statusJson, upgrade, start]) {
      assert.match(ended.stderr, who)
      assert.equal(ended.code, 1)
    }
    const told = { name: 'app', pid: daemon.pid, startTime: daemon.startTime, generation: 1, phase: 'silent' }
    assert.deepEqual(JSON.parse(statusJson.stdout), told)
    assert.deepEqual([list.code, JSON.parse(listJson.stdout)], [0, [told]])
    assert.match(list.stdout, new RegExp(`^app +silent +- +1 .* pid ${daemon.pid} does not respond$`, 'm'))
    assert.deepEqual([logs.code, logs.stdout], [0, 'one serves\n'])
    const stopped = await operator.types(['stop', 'app', '--kill-after', '1000'])
    assert.equal(stopped.stderr, '')
    assert.deepEqual(
      stopped.stdout
        .split('\n')
        .map((line) => line.replace(/^ +\d+\.\d{3} s {2}/, '').replace(/since \S+:/, 'since then:')),
      [
        `app does not respond: pid ${daemon.pid}, generation 1, since then: its event loop is blocked: it uses the CPU all the time`,
        `SIGTERM to pid ${daemon.pid}`,
        'SIGKILL in 1 s',
        `SIGKILL to pid ${daemon.pid}`,
        'gone',
        '✓ app was killed: it did not stop in time',
        '',
      ],
    )
    assert.equal(stopped.code, 0)
    assert.equal(isAlive([daemon.pid, daemon.startTime]), false)
    assert.equal((await operator.types(['stop', 'app'])).code, 3)
  })

  test(
    'restart of a daemon in an endless loop starts the same program with the same options and environment',
    onlyInMatrix,
    async () => {
      await using lab = await Lab.open()
      await using operator = new Operator(lab)
      writeProgram(lab, 'app.mjs', 'one', looping)
      const args = [
        'start',
        '--no-keep',
        'app.mjs',
        '--name',
        'web',
        '--pid',
        'pid',
        '--drain-timeout',
        '1234',
        '--',
        'x',
      ]
      await operator.does(args, { env: { SECRET: 'first' } })
      await operator.does(['upgrade', 'web'])
      const before = await loop(operator, 'web')
      await operator.does(['restart', 'web', '--kill-after', '100'])
      const after = await operator.status('web')
      assert.notEqual(after.pid, before.pid)
      assert.deepEqual([after.generation, after.command, after.program], [1, before.command, before.program])
      assert.equal(lab.read('pid'), `${after.pid}\n`)
      assert.deepEqual(ownersIn(lab), [`web.${after.pid}.owner`])
      assert.equal(clientOf(lab.path('run'), 'web').owners().at(-1)?.environment?.SECRET, 'first')
    },
  )

  test('a daemon that is stopped by SIGSTOP finishes what it had accepted, and is not killed', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    writeProgram(lab, 'app.mjs', 'one', `${looping}\nprocess.on('SIGTERM', () => late.end('late'))`)
    await operator.does(['start', '--no-keep', 'app.mjs'])
    const status = await operator.status('app')
    const { pid } = status
    const client = await HttpConnection.open(portOf(status))
    const asked = client.ask('/late')
    await operator.untilAsked('app')
    process.kill(pid, 'SIGSTOP')
    const { stderr } = await operator.types(['status'])
    assert.match(stderr, new RegExp(`pid ${pid}, .* is stopped by a signal`))
    const { code, stdout } = await operator.types(['stop', '--json'])
    assert.deepEqual([code, JSON.parse(stdout)], [0, { name: 'app', pid, wasKilled: false, answered: false }])
    assert.equal((await asked).body, 'late')
    client.socket.destroy()
  })

  test('older generations that still drain end with the one that does not answer', onlyInMatrix, async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    writeProgram(lab, 'app.mjs', 'one', looping)
    await operator.does(['start', '--no-keep', 'app.mjs'])
    const pids: number[] = []
    const clients: HttpConnection[] = []
    for (let generation = 1; generation <= 2; generation++) {
      const status = await operator.status('app')
      const client = await HttpConnection.open(portOf(status))
      client.socket.write('GET /late HTTP/1.1\r\nhost: x\r\n\r\n')
      await operator.untilAsked('app', generation)
      pids.push(status.pid)
      clients.push(client)
      await operator.does(['upgrade', 'app', '--no-wait'])
    }
    const { pid, generations } = await operator.status('app')
    process.kill(pid, 'SIGSTOP')
    assert.deepEqual(
      generations.map((one) => one.pid),
      [...pids, pid],
    )
    const { stdout } = await operator.types(['stop', 'app', '--kill-after', '200'])
    assert.match(stdout, new RegExp(`SIGTERM to pid ${[...pids, pid].join(' and ')}\n`))
    for (const one of generations) assert.equal(isAlive([one.pid, one.startTime]), false)
    for (const client of clients) client.socket.destroy()
  })

  test(
    'a new version that was being started when the old one stood still takes over at its end, and is stopped as well',
    onlyInMatrix,
    async () => {
      await using lab = await Lab.open()
      await using operator = new Operator(lab)
      writeProgram(lab, 'app.mjs', 'one', looping)
      await operator.does(['start', '--no-keep', 'app.mjs', '--drain-timeout', '0'])
      const gate = createServer().listen(lab.path('gate'))
      await once(gate, 'listening')
      writeProgram(
        lab,
        'app.mjs',
        'two',
        `await new Promise((done) => process.getBuiltinModule('node:net').connect('${lab.path('gate')}').once('close', done).resume())`,
      )
      const upgrading = operator.types(['upgrade', 'app'])
      const [boot] = await once(gate, 'connection')
      await loop(operator, 'app')
      const stopping = operator.types(['stop', 'app', '--kill-after', '200'])
      boot.destroy()
      const { code, stderr } = await stopping
      assert.deepEqual([code, stderr], [0, ''])
      gate.close()
      assert.match((await upgrading).stderr, /ended during the upgrade/)
      assert.equal(await operator.does(['list']), 'no service is running\n')
    },
  )

  test('a daemon that stands still while it stops is killed, and stop does not wait for ever', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    writeProgram(lab, 'app.mjs', 'one', "process.on('SIGTERM', () => { for (;;) {} })")
    await operator.does(['start', '--no-keep', 'app.mjs'])
    assert.match(await operator.does(['stop', '--kill-after', '300']), /^✓ app was killed: it did not stop in time\n$/)
  })

  test('the record of the owner is written when the socket changes hands, for nobody else to read, and goes with its process', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    writeProgram(lab, 'app.mjs', 'one')
    await operator.does(['start', '--no-keep', 'app.mjs'])
    const first = await operator.status('app')
    const { environment, ...record } = recordOf(lab, first.pid)
    assert.equal((environment as { COOK_DAEMON_HOME?: string }).COOK_DAEMON_HOME, lab.path('run'))
    assert.deepEqual(record, {
      pid: first.pid,
      startTime: first.startTime,
      generation: 1,
      drainTimeout: 30_000,
      command: first.command,
      program: first.program,
      place: placeOfPids(),
    })
    assert.equal(lstatSync(lab.path('run', `app.${first.pid}.owner`)).mode & 0o777, 0o600)
    writeProgram(lab, 'app.mjs', 'two', 'process.exit(1)')
    assert.equal((await operator.types(['upgrade'])).code, 1)
    assert.deepEqual(ownersIn(lab), [`app.${first.pid}.owner`])
    writeProgram(lab, 'app.mjs', 'two')
    await operator.does(['upgrade'])
    const second = await operator.status('app')
    assert.deepEqual(ownersIn(lab), [`app.${second.pid}.owner`])
    assert.equal(recordOf(lab, second.pid).generation, 2)
    await operator.does(['stop'])
    assert.deepEqual(ownersIn(lab), [])
  })

  test('the record of a dead process counts for nothing, and the next start removes it', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    writeProgram(lab, 'app.mjs', 'one')
    await operator.does(['start', '--no-keep', 'app.mjs'])
    const { pid } = await operator.status('app')
    process.kill(pid, 'SIGKILL')
    await eventually('its end', async () => (await operator.status('app').catch(() => 'gone')) === 'gone' || undefined)
    assert.deepEqual(ownersIn(lab), [`app.${pid}.owner`])
    assert.equal((await operator.types(['stop', 'app'])).code, 3)
    await operator.does(['start', '--no-keep', 'app.mjs'])
    assert.deepEqual(ownersIn(lab), [`app.${(await operator.status('app')).pid}.owner`])
  })

  test('a process that only has the pid of a record is never signalled, whatever the record lacks', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    await using stranger = new Stranger()
    const { pid = 0 } = stranger.child
    const startTime = system.startTime(pid) ?? ''
    const record = { pid, startTime, generation: 1, drainTimeout: 0, command: { args: [] }, place: placeOfPids() }
    const wrong = [
      { ...record, startTime: String(Number(startTime) + 1) },
      { ...record, startTime: '' },
      { ...record, startTime: undefined },
      { ...record, place: 'before the last boot' },
      { ...record, place: undefined },
      { ...record, pid: process.pid },
      { ...record, pid: String(pid) },
      [],
    ]
    const texts = [...wrong.map((one) => JSON.stringify(one)), '', '{']
    using silence = new Silence()
    const ends: Promise<Ended>[] = []
    for (const [at, text] of texts.entries()) {
      // One run directory for each, as they are asked at once.
      const home = lab.path(`run-${at}`)
      mkdirSync(home, { mode: 0o700 })
      await silence.at(`${home}/app.sock`)
      writeFileSync(`${home}/app.${pid}.owner`, text, { mode: 0o600 })
      ends.push(operator.types(['stop', 'app', '--kill-after', '0'], { env: { COOK_DAEMON_HOME: home } }))
    }
    for (const { code, stdout, stderr } of await Promise.all(ends)) {
      assert.match(stderr, /app did not respond on \S+: no answer within 5000 ms/)
      assert.deepEqual([code, stdout], [1, ''])
    }
    assert.equal(system.startTime(pid), startTime)
  })

  test('stop ends the daemon that serves, and no other process that a record names as its owner, which it reports', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    writeProgram(lab, 'app.mjs', 'one')
    await operator.does(['start', '--no-keep', 'app.mjs'])
    const { pid } = await operator.status('app')
    await using stranger = new Stranger()
    const own = recordOf(lab, pid)
    const strangerPid = stranger.child.pid ?? 0
    const record = {
      ...own,
      pid: strangerPid,
      startTime: system.startTime(strangerPid),
      generation: 2,
    }
    writeFileSync(lab.path('run', `app.${record.pid}.owner`), JSON.stringify(record), { mode: 0o600 })
    const { code, stdout, stderr } = await operator.types(['stop', 'app', '--json'])
    const others = [[record.pid, record.startTime]]
    assert.deepEqual([code, JSON.parse(stdout)], [1, { name: 'app', pid, wasKilled: false, answered: true, others }])
    assert.match(stderr, new RegExp(`pid ${pid} has stopped, but another process .* pid ${record.pid}`))
    assert.equal(isAlive([own.pid, own.startTime]), false)
    assert.equal(system.startTime(record.pid), record.startTime)
  })

  test('a daemon whose control socket was deleted is stopped all the same, and started again', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    writeProgram(lab, 'app.mjs', 'one')
    await operator.does(['start', '--no-keep', 'app.mjs'])
    const before = await operator.status('app')
    rmSync(operator.socket('app'))
    const restarted = JSON.parse(await operator.does(['restart', 'app', '--json'])) as Status
    assert.deepEqual([restarted.generation, restarted.command], [1, before.command])
    assert.equal(isAlive([before.pid, before.startTime]), false)
    rmSync(operator.socket('app'))
    const { stdout } = await operator.types(['stop', 'app', '--json'])
    assert.deepEqual(JSON.parse(stdout), { name: 'app', pid: restarted.pid, wasKilled: false, answered: true })
    assert.deepEqual(ownersIn(lab), [])
  })

  test('a record that is right in every word is believed', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    mkdirSync(lab.path('run'), { mode: 0o700 })
    using silence = new Silence()
    await silence.at(operator.socket('app'))
    await using stranger = new Stranger()
    const { pid = 0 } = stranger.child
    const record = { pid, startTime: system.startTime(pid), generation: 1, drainTimeout: 0, command: { args: [] } }
    writeFileSync(lab.path('run', `app.${pid}.owner`), JSON.stringify({ ...record, place: placeOfPids() }))
    const { code, stderr } = await operator.types(['stop', 'app', '--kill-after', '10000'])
    // The socket is this test's, and still says nothing.
    assert.match(stderr, /all known processes of app have exited, but another process still holds \S+app\.sock/)
    assert.equal(code, 1)
    assert.equal(system.startTime(pid), undefined)
  })
})

/** Sends its daemon into an endless loop, and gives what it was before. */
async function loop(operator: Operator, name: string): Promise<Status> {
  const status = await operator.status(name)
  get({ port: portOf(status), host: '127.0.0.1', path: '/loop', agent: false }).on('error', () => {})
  await eventually('that it stands still', () => {
    const stat = readFileSync(`/proc/${status.pid}/stat`, 'latin1')
    return stat[stat.lastIndexOf(')') + 2] === 'R' || undefined
  })
  return status
}

function ownersIn(lab: Lab): string[] {
  return readdirSync(lab.path('run')).filter((file) => file.includes('.owner'))
}

function recordOf(lab: Lab, pid: number) {
  return JSON.parse(lab.read(`run/app.${pid}.owner`))
}

/** Somebody has the sockets, and says nothing. */
class Silence {
  readonly #sockets = new Set<Socket>()
  readonly #servers: Server[] = []

  async at(path: string): Promise<void> {
    const server = createServer((socket) => {
      this.#sockets.add(socket)
      socket.on('error', () => {}).resume()
    }).listen(path)
    this.#servers.push(server)
    await once(server, 'listening')
  }

  [Symbol.dispose](): void {
    for (const server of this.#servers) server.close()
    for (const socket of this.#sockets) socket.destroy()
  }
}

/** A process that has nothing to do with any of this. */
class Stranger {
  readonly child: ChildProcess = spawn('sleep', ['600'], { stdio: 'ignore' })

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return
    this.child.kill('SIGKILL')
    await once(this.child, 'exit')
  }
}
