/** Sockets that systemd has opened: served by their addresses, in every start until they go. */
import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { existsSync, writeFileSync } from 'node:fs'
import { get, type RequestOptions } from 'node:http'
import { text } from 'node:stream/consumers'
import { describe, test } from 'node:test'
import { isGone, system } from '../../src/node/system.ts'
import { Operator } from '../support/command.ts'
import { takesAll } from '../support/extent.ts'
import { fixturePath, Lab } from '../support/lab.ts'
import { eventually, within } from '../support/waiting.ts'
import { Witnesses } from '../support/witnesses.ts'

const udp4 = { udp: { type: 'udp4', address: '127.0.0.1' } } as const
const udp6 = { udp: { type: 'udp6', address: '::' } } as const
const named = { tcp: { host: '127.0.0.1', port: 0 }, name: 'named' } as const

/** What systemd opens: the first four and their order are those of the programs below. */
function socketsOf(lab: Lab, ...more: readonly object[]): readonly object[] {
  const tcp = ['127.0.0.1', '::1', '::'].map((host) => ({ tcp: { host, port: 0 } }))
  return [...tcp, { tcp: { path: lab.path('app.sock') } }, ...more]
}

/** How a program says where it listens; 0.0.0.0 is what many say for what ListenStream=PORT opens. */
const places = `const [v4, v6, any, , ...more] = JSON.parse(readFileSync('ports', 'utf8'))
const places = [{ host: '127.0.0.1', port: v4 }, { host: '0:0:0:0:0:0:0:1', port: v6 }, { host: '0.0.0.0', port: any }, { path: 'app.sock' }]
const answer = () => version + ' ' + process.pid
const make = () => createServer({ keepAliveTimeout: 60_000 }, (request, response) => {
  response.end(request.url === '/child' ? execFileSync('env', { encoding: 'utf8' }) : answer())
})`

function writeApp(lab: Lab, version: string, listens: string): void {
  writeFileSync(
    lab.path('app.mjs'),
    `import { execFileSync } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
const version = '${version}'
${places}
${listens}
`,
  )
}

const unmodified = `for (const place of places) make().listen(place)
for (const [type, address, port] of [['udp4', '127.0.0.1', more[0]], ['udp6', undefined, more[1]]]) {
  const socket = createSocket(type).bind(port, address)
  socket.on('message', (_, { port, address }) => socket.send(answer(), port, address))
}`

function withLibrary({ library }: Operator): string {
  return `const { createDaemon } = await import('${library}')
const daemon = await createDaemon({ name: 'app' })
for (const place of places) await daemon.listen(make(), place)
await daemon.listen(make(), { name: 'named', port: 0 })
await daemon.ready()`
}

/** `cook-daemon run`, or whatever is in its place, as systemd starts it. */
class Activated {
  readonly child: ChildProcess
  readonly #lab: Lab
  output = ''

  constructor(lab: Lab, operator: Operator, sockets: readonly object[], shell?: string) {
    this.#lab = lab
    const order = { sockets, ports: lab.path('ports'), ...(shell !== undefined && { shell }) }
    const under = [process.execPath, fixturePath('activator'), JSON.stringify(order)]
    this.child = operator.begins(['run', 'app.mjs', '--keep'], { under })
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream?.setEncoding('utf8').on('data', (part: string) => {
        this.output += part
      })
    }
  }

  async ports(): Promise<readonly number[]> {
    await eventually('the sockets', () => existsSync(this.#lab.path('ports')) || undefined)
    return JSON.parse(this.#lab.read('ports')) as number[]
  }

  async end(): Promise<number | null> {
    if (this.child.exitCode === null) await within('the end of run', once(this.child, 'exit'))
    return this.child.exitCode
  }
}

async function ask(where: RequestOptions): Promise<string> {
  const [response] = await within('an answer', once(get({ host: '127.0.0.1', ...where, agent: false }), 'response'))
  return text(response)
}

async function askUdp(type: 'udp4' | 'udp6', port = 0): Promise<string> {
  const socket = createSocket(type)
  try {
    socket.send('?', port, type === 'udp4' ? '127.0.0.1' : '::1')
    const [message] = await within('an answer over UDP', once(socket, 'message'))
    return String(message)
  } finally {
    socket.close()
  }
}

/** What answers at each address. */
async function answers(lab: Lab, ports: readonly number[], isUnmodified: boolean): Promise<ReadonlySet<string>> {
  const [v4, v6, any, , fifth, sixth] = ports
  const all = [ask({ port: v4 }), ask({ host: '::1', port: v6 }), ask({ port: any }), ask({ host: '::1', port: any })]
  const others = isUnmodified ? [askUdp('udp4', fifth), askUdp('udp6', sixth)] : [ask({ port: sixth })]
  return new Set(await Promise.all([...all, ask({ socketPath: lab.path('app.sock') }), ...others]))
}

async function untilOther(operator: Operator, before: number) {
  return eventually('another process', async () => {
    const status = await operator.status('app').catch(() => undefined)
    return status?.phase === 'ready' && status.pid !== before ? status : undefined
  })
}

describe('socket activation', { concurrency: 2 }, () => {
  for (const isUnmodified of takesAll ? [true, false] : [true]) {
    const what = isUnmodified ? 'an unmodified program' : 'a program with the library'
    test(`${what} serves what systemd has opened through an upgrade, a crash and the end of its keeper, and nobody is refused`, async () => {
      await using lab = await Lab.open()
      await using operator = new Operator(lab)
      const listens = isUnmodified ? unmodified : withLibrary(operator)
      writeApp(lab, 'one', listens)
      const run = new Activated(lab, operator, socketsOf(lab, udp4, isUnmodified ? udp6 : named))
      const ports = await run.ports()
      await using clients = new Witnesses(ports[0] ?? 0)
      await clients.untilAnswered(/^one /)
      const first = await operator.status('app')
      assert.deepEqual(await answers(lab, ports, isUnmodified), new Set([`one ${first.pid}`]))
      assert.doesNotMatch(await ask({ port: ports[0], path: '/child' }), /^(LISTEN|NOTIFY|WATCHDOG)_/m)
      // The library takes no UDP socket by itself: what is not served is told.
      const doubts = first.warnings?.filter(({ about }) => about === 'activation').map((one) => one.text) ?? []
      assert.match(doubts.join(), isUnmodified ? /^$/ : new RegExp(`127\\.0\\.0\\.1:${ports[4]} \\(UDP\\)`))
      writeApp(lab, 'two', listens)
      await operator.does(['upgrade', 'app'])
      const second = await operator.status('app')
      assert.deepEqual(await answers(lab, ports, isUnmodified), new Set([`two ${second.pid}`]))
      assert.ok(second.pid > 1)
      system.kill([second.pid, second.startTime], 'SIGKILL')
      const third = await untilOther(operator, second.pid)
      assert.deepEqual(await answers(lab, ports, isUnmodified), new Set([`two ${third.pid}`]))
      // As of a unit: with its keeper everything ends, and is started again.
      const { keeper } = third
      assert.ok(keeper !== undefined && keeper.pid > 1 && third.pid > 1)
      system.kill([keeper.pid, keeper.startTime], 'SIGKILL')
      system.kill([third.pid, third.startTime], 'SIGKILL')
      await eventually('the end of the worker', () => isGone([third.pid, third.startTime]) || undefined)
      const fourth = await untilOther(operator, third.pid)
      assert.deepEqual(await answers(lab, ports, isUnmodified), new Set([`two ${fourth.pid}`]))
      const losses = await clients.stop()
      assert.deepEqual(
        losses.filter(({ how }) => how !== 'lost'),
        [],
      )
      await operator.does(['stop', 'app'])
      assert.equal(await run.end(), 0)
      assert.ok(existsSync(lab.path('app.sock')), 'the path of a socket of systemd was removed')
    })
  }

  test('a daemon without a keeper takes what systemd has opened, and hands it on', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    writeApp(lab, 'one', withLibrary(operator))
    // In the place of the command: node app.mjs.
    const shell = `export LISTEN_PID=$$; exec ${process.execPath} app.mjs`
    const run = new Activated(lab, operator, socketsOf(lab, udp4, named), shell)
    const ports = await run.ports()
    const first = await untilOther(operator, 0)
    assert.equal(first.keeper, undefined)
    assert.deepEqual(await answers(lab, ports, false), new Set([`one ${first.pid}`]))
    assert.doesNotMatch(await ask({ port: ports[0], path: '/child' }), /^LISTEN_/m)
    writeApp(lab, 'two', withLibrary(operator))
    await operator.does(['upgrade', 'app'])
    const second = await operator.status('app')
    assert.deepEqual(await answers(lab, ports, false), new Set([`two ${second.pid}`]))
    assert.doesNotMatch(await ask({ port: ports[0], path: '/child' }), /^LISTEN_/m)
    await operator.does(['stop', 'app'])
    assert.ok(existsSync(lab.path('app.sock')), 'the path of a socket of systemd was removed')
  })

  test('several workers share what systemd has opened', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    writeApp(lab, 'one', unmodified)
    const shell = `export LISTEN_PID=$$; set -- "$@" --workers 2`
    const run = new Activated(lab, operator, socketsOf(lab, udp4, udp6), shell)
    const [port = 0] = await run.ports()
    const seen = new Set<string>()
    await eventually('an answer of each', async () => {
      if (!existsSync(operator.socket('app'))) return undefined
      seen.add(await ask({ port }))
      return seen.size === 2 || undefined
    })
    await operator.does(['stop', 'app'])
    assert.equal(await run.end(), 0)
  })

  test('sockets that are for another process are told, and are not taken', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    writeFileSync(
      lab.path('app.mjs'),
      "import { createServer } from 'node:http'\ncreateServer().listen(0, '127.0.0.1')",
    )
    const run = new Activated(lab, operator, [{ tcp: { host: '127.0.0.1', port: 0 } }], 'export LISTEN_PID=1')
    await untilOther(operator, 0)
    assert.match(run.output, /systemd has opened 1 sockets?, but not for this process .*they are for pid 1/)
    await operator.does(['stop', 'app'])
    assert.equal(await run.end(), 0)
  })

  test('a connection or a file in the place of a listener is refused with what it is, and nothing is started', async () => {
    const port = { tcp: { host: '127.0.0.1', port: 0 } }
    for (const { socket, before, why } of [
      { socket: port, before: '; exec 3</dev/null', why: 'is neither a TCP, UDP nor Unix socket' },
      { socket: { isConnection: true }, before: '', why: 'is a connection, not a listener' },
    ]) {
      await using lab = await Lab.open()
      await using operator = new Operator(lab)
      writeFileSync(lab.path('app.mjs'), "console.log('it runs')")
      const run = new Activated(lab, operator, [socket], `export LISTEN_PID=$$${before}`)
      assert.equal(await run.end(), 1)
      assert.match(run.output, new RegExp(`descriptor 3 \\(app.socket\\) ${why}`))
      assert.doesNotMatch(run.output, /it runs/)
    }
  })
})
