/** The admin port: what probes and Prometheus are answered, whoever serves. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { Agent } from 'node:http'
import { type AddressInfo, createServer } from 'node:net'
import { describe, test } from 'node:test'
import type { Identity } from '../../src/contract/environment.ts'
import type { Status } from '../../src/control/status.ts'
import { isGone, system } from '../../src/node/system.ts'
import { ask } from '../support/admin.ts'
import { Operator, writeProgram } from '../support/command.ts'
import { readExposition } from '../support/exposition.ts'
import { takesAll } from '../support/extent.ts'
import { freePort } from '../support/free-port.ts'
import { Lab } from '../support/lab.ts'
import { eventually } from '../support/waiting.ts'

function ownerOf({ keeper, pid, startTime }: Status): Identity {
  const identity = keeper === undefined ? ([pid, startTime] as const) : ([keeper.pid, keeper.startTime] as const)
  assert.ok(identity[0] > 1)
  return identity
}

/** Asks again and again, with a connection for each question and with one for all. */
class Probe {
  readonly faults: string[] = []
  asked = 0
  #isOver = false
  readonly #running: Promise<unknown>

  constructor(port: number, path: string) {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    this.#running = Promise.all([this.#ask(port, path, false), this.#ask(port, path, agent)]).finally(() =>
      agent.destroy(),
    )
  }

  async #ask(port: number, path: string, agent: Agent | false): Promise<void> {
    while (!this.#isOver) {
      try {
        const { code } = await ask(port, path, 'GET', agent)
        if (code !== 200) this.faults.push(String(code))
      } catch (error) {
        const { code = '', message } = error as NodeJS.ErrnoException
        // Of a connection that was idle when its server left: probes open another.
        if (agent === false || code !== 'ECONNRESET') this.faults.push(message)
      }
      this.asked++
      await new Promise((done) => setTimeout(done, 2))
    }
  }

  async stop(): Promise<readonly string[]> {
    this.#isOver = true
    await this.#running
    return this.faults
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
  }
}

describe('the admin port', { concurrency: 2 }, () => {
  for (const { how, args } of [
    { how: 'a keeper', args: [] },
    ...(takesAll ? [{ how: 'a keeper of two workers', args: ['--workers', '2'] }] : []),
    { how: 'a daemon without a keeper', args: ['--no-keep'] },
  ]) {
    test(`${how} says whether it lives, is ready and how it is, without a gap through upgrades, and no more when it is told to end`, async () => {
      await using lab = await Lab.open()
      await using operator = new Operator(lab)
      writeProgram(lab, 'app.mjs', 'one')
      const port = await freePort()
      await operator.does(['start', 'app.mjs', '--admin', `${port}`, '--lame-duck', '600000', ...args])
      assert.deepEqual([(await ask(port, '/livez')).body, (await ask(port, '/readyz')).body], ['ok\n', 'ok\n'])
      await using livez = new Probe(port, '/livez')
      await using readyz = new Probe(port, '/readyz')
      await using metrics = new Probe(port, '/metrics')
      for (let upgrade = 0; upgrade < 3; upgrade++) await operator.does(['upgrade', 'app'])
      for (const probe of [livez, readyz, metrics]) {
        assert.deepEqual(await probe.stop(), [])
        assert.ok(probe.asked > 10)
      }
      const families = readExposition((await ask(port, '/metrics')).body)
      assert.deepEqual([...(families.get('cook_daemon_generation')?.samples.values() ?? [])], [4])
      const status = await operator.status('app')
      system.kill(ownerOf(status), 'SIGTERM')
      await eventually('that it is not ready', async () => (await ask(port, '/readyz')).code === 503 || undefined)
      assert.equal((await ask(port, '/livez')).code, 200)
      await eventually('the end', () => {
        if (isGone(ownerOf(status))) return true
        system.kill(ownerOf(status), 'SIGTERM')
        return undefined
      })
    })
  }

  test('it answers what it is for, by GET and HEAD, and shows no path, argument or variable', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    const path = lab.path('app.sock')
    writeFileSync(
      lab.path('app.mjs'),
      `import { createServer } from 'node:http'\nfor (const where of ['${path}', 0]) createServer((_, response) => response.end()).listen(where)`,
    )
    const port = await freePort()
    await operator.does(['start', 'app.mjs', '--admin', `127.0.0.1:${port}`, '--', '--secret-word'], {
      env: { SECRET_NAME: 'secret value' },
    })
    const { body, headers } = await ask(port, '/metrics')
    assert.match(String(headers['content-type']), /^text\/plain; version=0\.0\.4/)
    assert.doesNotMatch(body, /secret/i)
    assert.doesNotMatch(body, new RegExp(`${lab.folder}|app\\.mjs|app\\.sock`))
    const head = await ask(port, '/metrics', 'HEAD')
    assert.deepEqual([head.code, head.body, Number(head.headers['content-length']) > 0], [200, '', true])
    for (const [method, asked, code] of [
      ['POST', '/readyz', 405],
      ['DELETE', '/metrics', 405],
      ['GET', '/status', 404],
      ['POST', '/stop', 404],
      ['GET', '/../metrics', 404],
    ] as const) {
      assert.equal((await ask(port, asked, method)).code, code, `${method} ${asked}`)
    }
    assert.equal((await operator.status('app')).phase, 'ready')
    await operator.does(['stop'])
  })

  test('a port that is taken is refused with its name before anything is started, and a word that is no port too', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    writeProgram(lab, 'app.mjs', 'one', "console.log('it runs')")
    const server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    for (const keep of [[], ['--no-keep']]) {
      const { code, stderr } = await operator.types(['start', 'app.mjs', '--admin', `${port}`, '--log', 'log', ...keep])
      assert.equal(code, 1)
      assert.match(stderr, new RegExp(`the admin port 127\\.0\\.0\\.1:${port} could not be opened: .*EADDRINUSE`))
    }
    assert.equal((await operator.types(['list'])).stdout.includes('app'), false)
    server.close()
    const wrong = await operator.types(['start', 'app.mjs', '--admin', 'web'])
    assert.equal(wrong.code, 2)
    assert.match(wrong.stderr, /must be a port, or HOST:PORT/)
  })

  test('a crash costs no answer: it is not ready until a worker serves again, and another keeper has the port too', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    writeProgram(lab, 'app.mjs', 'one')
    const port = await freePort()
    await operator.does(['start', 'app.mjs', '--admin', `${port}`])
    await using live = new Probe(port, '/livez')
    const { pid, startTime } = await operator.status('app')
    assert.ok(pid > 1)
    system.kill([pid, startTime], 'SIGKILL')
    await eventually('that nobody serves', async () => (await ask(port, '/readyz')).code === 503 || undefined)
    await eventually('another worker', async () => (await ask(port, '/readyz')).code === 200 || undefined)
    assert.deepEqual(await live.stop(), [])
    const before = await operator.status('app')
    system.kill(ownerOf(before), 'SIGKILL')
    await eventually('another keeper', async () => {
      const now = await operator.status('app').catch(() => undefined)
      return (now?.keeper !== undefined && now.keeper.pid !== before.keeper?.pid) || undefined
    })
    await eventually('its admin port', async () => {
      const answer = await ask(port, '/readyz').catch(() => undefined)
      return answer?.code === 200 || undefined
    })
    await operator.does(['stop'])
  })

  test('the option of the library opens it, without a keeper and under one', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    const port = await freePort()
    const file = writeProgram(lab, 'app.mjs', 'one')
    const written = lab.read('app.mjs').replace('port: 0 }', `port: 0, admin: ${port} }`)
    writeFileSync(file, written)
    for (const keep of [[], ['--no-keep']]) {
      await operator.does(['start', 'app.mjs', ...keep])
      await eventually('the port', async () => {
        const answer = await ask(port, '/readyz').catch(() => undefined)
        return answer?.code === 200 || undefined
      })
      await operator.does(['upgrade'])
      assert.equal((await ask(port, '/readyz')).code, 200)
      await operator.does(['stop'])
    }
  })
})
