/** What a service may be made of, under a keeper: each goes through upgrades and comes back. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { describe, test } from 'node:test'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import { fileURLToPath } from 'node:url'
import type { Status } from '../../src/control/status.ts'
import { isGone, system } from '../../src/node/system.ts'
import { type Callers, http2Callers, httpsCallers, webSocketCallers } from '../support/callers.ts'
import { certificateFiles } from '../support/certificate.ts'
import { askUdp } from '../support/clients.ts'
import { Operator, portOf, writeProgram } from '../support/command.ts'
import { control, statusOf } from '../support/control.ts'
import { onlyInMatrix, takesAll } from '../support/extent.ts'
import { processesOf } from '../support/faults/left.ts'
import { HttpConnection } from '../support/http-connection.ts'
import { Lab } from '../support/lab.ts'
import { eventually, within } from '../support/waiting.ts'
import { Witnesses } from '../support/witnesses.ts'

async function crash(operator: Operator): Promise<Status> {
  const { pid, startTime, generation } = await operator.status('app')
  assert.ok(pid > 1)
  system.kill([pid, startTime], 'SIGKILL')
  await eventually('its end', () => isGone([pid, startTime]) || undefined)
  return eventually('another worker', async () => {
    const status = await operator.status('app').catch(() => undefined)
    return status?.phase === 'ready' && status.generation > generation ? status : undefined
  })
}

const ws = createRequire(import.meta.url).resolve('ws')

/** A program that knows nothing of the library, with everything that it may listen on. */
function writeEverything(lab: Lab): void {
  writeFileSync(
    lab.path('app.cjs'),
    `const { readFileSync } = require('node:fs')
const { WebSocketServer } = require(${JSON.stringify(ws)})
const me = String(process.pid)
const tls = { key: readFileSync(${JSON.stringify(certificateFiles.key)}), cert: readFileSync(${JSON.stringify(certificateFiles.cert)}) }
const answer = (_, response) => response.setHeader('x-generation', me) && response.end(me)
const web = require('node:http').createServer(answer)
new WebSocketServer({ server: web }).on('connection', (socket) => socket.on('message', (text) => socket.send(me + ' ' + text)))
const udp = require('node:dgram').createSocket('udp4')
udp.on('message', (_, from) => udp.send(me, from.port, from.address))
const tell = (name, socket) => () => console.log('listens', name, socket.address().port)
web.listen(0, '127.0.0.1', tell('web', web))
const secure = require('node:https').createServer(tls, answer)
secure.listen(0, 'localhost', tell('https', secure))
const second = require('node:http2').createSecureServer(tls).on('stream', (stream) => stream.end(me))
second.listen(0, 'localhost', tell('http2', second))
require('node:http').createServer(answer).listen(${JSON.stringify(lab.path('app.sock'))})
udp.bind(Number(process.argv[2]), '127.0.0.1', tell('udp', udp))
process.send('ready')`,
  )
}

async function everyAnswer(lab: Lab, port: (name: string) => number): Promise<readonly string[]> {
  const unix = await HttpConnection.open({ path: lab.path('app.sock') })
  const { body } = await unix.ask()
  unix.socket.destroy()
  const all = [body, await askUdp(port('udp'))]
  const callers: readonly Callers[] = [
    webSocketCallers(port('web'), 1),
    httpsCallers(port('https'), 1),
    http2Callers(port('http2'), 1),
  ]
  for (const one of callers) {
    await eventually('an answer', () => one.all.every(({ answers }) => answers > 0) || undefined)
    await one.stop()
    assert.deepEqual(one.failures, [])
    all.push(...one.all.map(({ answer }) => String(answer).split(' ')[0] ?? ''))
  }
  return [...new Set(all)]
}

describe('kinds of services under a keeper', { concurrency: 3 }, () => {
  test('WebSockets, HTTPS, HTTP/2, UDP and a Unix path go through an upgrade without a failure, and are there again after a crash, at the same addresses', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    writeEverything(lab)
    await operator.does(['start', 'app.cjs', '--wait-ready', '--', String(await freeUdpPort())])
    const log = readFileSync(lab.path('run/app.log'), 'utf8')
    const port = (name: string) => Number(new RegExp(`listens ${name} (\\d+)`).exec(log)?.[1])
    const session = await sessionAt(port('https'))
    await using sockets = webSocketCallers(port('web'), 2)
    await using https = httpsCallers(port('https'), 2)
    await using http2 = http2Callers(port('http2'), 2)
    await using unix = new Witnesses({ path: lab.path('app.sock') }, 4)
    await operator.does(['upgrade', 'app'])
    const { pid } = await operator.status('app')
    for (const callers of [sockets, https, http2]) {
      await eventually('all at the new version', () => callers.haveReached(pid) || undefined)
      await callers.stop()
      assert.deepEqual(callers.failures.filter(isFailure), [])
    }
    await unix.untilAnswered(new RegExp(`^${pid}$`))
    assert.deepEqual(await unix.stop(), [])
    assert.deepEqual(await everyAnswer(lab, port), [String(pid)])
    // The ticket keys have come along.
    const again = connectTls({ port: port('https'), host: 'localhost', session, rejectUnauthorized: false })
    await within('a secure connection', once(again, 'secureConnect'))
    assert.equal(again.isSessionReused(), true)
    again.destroy()
    for (let crashes = 0; crashes < 2; crashes++) {
      const next = await crash(operator)
      assert.deepEqual(await everyAnswer(lab, port), [String(next.pid)])
    }
    await operator.does(['upgrade', 'app'])
    assert.deepEqual(await everyAnswer(lab, port), [String((await operator.status('app')).pid)])
    await operator.does(['stop', 'app'])
  })

  test('a state of several MB goes from worker to worker, and after a crash there is none', onlyInMatrix, async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    const size = (takesAll ? 32 : 6) * 1024 * 1024
    writeFileSync(
      lab.path('app.mjs'),
      `import { createServer } from 'node:http'
import { createDaemon } from '${operator.library}'
let state
const daemon = await createDaemon({ saveState: { sessions: { save: () => state } } })
state = (await daemon.inherited('sessions')) ?? { bytes: Buffer.alloc(${size}, 7), of: process.pid }
const isWhole = state.bytes.length === ${size} && state.bytes.every((byte) => byte === 7)
const server = createServer((_, response) => response.end(isWhole + ' ' + state.of))
await daemon.listen(server, { name: 'web', host: '127.0.0.1', port: 0 })
await daemon.ready()
void daemon.gone.then(() => process.exit(0))`,
    )
    await operator.does(['start', 'app.mjs'])
    const first = await operator.status('app')
    for (let upgrades = 0; upgrades < 2; upgrades++) await operator.does(['upgrade', 'app'])
    assert.equal(await operator.asks('app'), `true ${first.pid}`)
    const { keeper } = await operator.status('app')
    // It did not go through the keeper.
    const peak = Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${keeper?.pid}/status`, 'utf8'))?.[1]) * 1024
    assert.ok(peak < 100 * 1024 * 1024, `the keeper had ${peak} bytes`)
    const crashed = await crash(operator)
    assert.equal(await operator.asks('app'), `true ${crashed.pid}`)
    await operator.does(['stop', 'app'])
  })

  test('a program that calls process.disconnect or replaces process.send keeps its keeper', onlyInMatrix, async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    const server = `require('node:http').createServer((_, response) => response.end('one ' + process.pid)).listen(0, '127.0.0.1')`
    const ways = {
      disconnects: 'process.disconnect?.(); process.channel?.unref()',
      replaces: `process.send = () => { throw new Error('not yours') }; process.disconnect = process.send; process.on('message', () => process.exit(9)); process.on('disconnect', () => process.exit(9))`,
    }
    for (const [name, way] of Object.entries(ways)) {
      writeFileSync(lab.path('app.cjs'), `${way}\n${server}`)
      await operator.does(['start', 'app.cjs'])
      const { keeper } = await operator.status('app')
      await operator.does(['upgrade', 'app'])
      await crash(operator)
      await operator.does(['upgrade', 'app'])
      const status = await operator.status('app')
      assert.deepEqual([status.keeper?.pid, status.generation], [keeper?.pid, 4], name)
      assert.equal(await operator.asks('app'), `one ${status.pid}`)
      await operator.does(['stop', 'app'])
    }
  })

  test('crashes at random times, of the worker and of the keeper, end in one of each, and nobody is refused or hangs', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    writeProgram(lab, 'app.mjs', 'one')
    await operator.does(['start', 'app.mjs'])
    await using clients = new Witnesses(portOf(await operator.status('app')))
    const untilReady = (generation: number) =>
      eventually(`generation ${generation}`, async () => {
        const status = await operator.status('app').catch(() => undefined)
        return status?.phase === 'ready' && status.generation >= generation ? status : undefined
      })
    const { listeners } = await operator.status('app')
    const crashes = takesAll ? 100 : 8
    for (let count = 1; count <= crashes; count++) {
      await new Promise((done) => setTimeout(done, Math.random() * 400))
      const isKeeper = count % 5 === 0
      // With both gone nobody is left to start anything.
      const before = isKeeper ? await untilReady(1) : undefined
      // Whoever is there now, as it is seen from outside.
      const workers = processesOf(lab.folder).filter(({ words }) => words.includes('app.mjs'))
      const keepers = processesOf(lab.folder).filter(({ words }) => words.includes('keeper.js'))
      for (const { pid } of isKeeper ? keepers : workers) {
        if (pid > 1) system.kill([pid, system.startTime(pid) ?? ''], 'SIGKILL')
      }
      // The next one has the listeners when it has replaced the worker: until then only that had.
      if (before !== undefined) await untilReady(before.generation + 1)
      // Else the pauses would grow to half a minute.
      if (count % 4 === 0) await control(operator.socket('app'), 'POST /restart', {}).catch(() => {})
    }
    const now = await eventually('one that serves', async () => {
      const status = await operator.status('app').catch(() => undefined)
      if (status?.keeper === undefined || status.phase !== 'ready' || status.pid <= 1) return undefined
      const left = processesOf(lab.folder).map(({ pid }) => pid)
      return String(left.sort()) === String([status.keeper.pid, status.pid].sort()) ? status : undefined
    }).catch((error: Error) => {
      const left = processesOf(lab.folder).map(({ words }) => words)
      throw new Error(`${error.message}: ${left.join('; ')}\n${readFileSync(lab.path('run/app.log'), 'utf8')}`)
    })
    assert.equal(now.listeners[0]?.address, listeners[0]?.address)
    await clients.untilAnswered(new RegExp(`^one ${now.pid}$`))
    await clients.stop()
    assert.deepEqual(clients.of('hung'), [])
    // A worker without a keeper is the only one that has the listener.
    assert.deepEqual(clients.of('refused'), [])
    assert.equal((await operator.status('app')).generation, now.generation)
  })
})

/**
 * What is asked while the one GOAWAY of TLS is on its way may be refused, and asked again
 * (docs/drain-and-deadlines.md); how seldom that is, test/process/frameworks.test.ts holds.
 */
function isFailure(words: string): boolean {
  return !words.includes('NGHTTP2_REFUSED_STREAM')
}

/** One that the system chooses is another one for each process. */
async function freeUdpPort(): Promise<number> {
  const socket = createSocket('udp4').bind(0, '127.0.0.1')
  await once(socket, 'listening')
  const { port } = socket.address()
  await new Promise<void>((closed) => void socket.close(closed))
  return port
}

async function sessionAt(port: number): Promise<Buffer> {
  const socket: TLSSocket = connectTls({ port, host: 'localhost', rejectUnauthorized: false })
  socket.write('GET / HTTP/1.1\r\nhost: localhost\r\n\r\n')
  socket.resume()
  const [session] = await within('a session', once(socket, 'session'))
  socket.destroy()
  return session as Buffer
}

const bin = fileURLToPath(new URL('../../bin/cook-daemon.js', import.meta.url))
const namespace = ['--pid', '--fork', '--mount-proc', '--kill-child']
const noNamespaces = spawnSync('unshare', [...namespace, 'true']).status !== 0 && 'pid namespaces are for root'

test('as pid 1 a keeper leaves no zombie, through upgrades and crashes, and ends with the exit code of its worker', {
  skip: noNamespaces,
}, async () => {
  await using lab = await Lab.open()
  writeProgram(
    lab,
    'app.mjs',
    'one',
    `import { readdirSync, readFileSync } from 'node:fs'
process.on('exit', () => { process.exitCode = 5 })
server.prependListener('request', (request, response) => {
  if (request.url === '/crash') process.kill(process.pid, 'SIGKILL')
  if (request.url !== '/states') return
  const stats = readdirSync('/proc').filter(Number).map((pid) => { try { return readFileSync('/proc/' + pid + '/stat', 'utf8') } catch { return '' } })
  const end = response.end.bind(response)
  response.end = () => end(JSON.stringify(stats.map((stat) => stat.replace(/^.*\\) (.).*$/s, '$1'))))
})`,
  )
  const child: ChildProcess = spawn(
    'unshare',
    [...namespace, process.execPath, bin, 'run', 'app.mjs', '--keep', '--log', 'log'],
    {
      cwd: lab.folder,
      env: { ...process.env, ...lab.environment() },
      stdio: 'ignore',
    },
  )
  try {
    // Its pids are those of the namespace: nobody here may signal them.
    const socket = lab.path('run/app.sock')
    const untilServes = (generation: number) =>
      eventually(`generation ${generation}`, async () => {
        const status = await statusOf(socket).catch(() => undefined)
        return status?.phase === 'ready' && status.generation >= generation ? status : undefined
      })
    let status = await untilServes(1)
    assert.equal(status.keeper?.pid, 1)
    const port = portOf(status)
    const asks = (path: string) =>
      within(
        path,
        fetch(`http://127.0.0.1:${port}${path}`).then((answer) => answer.text()),
      )
    for (let upgrades = 0; upgrades < (takesAll ? 100 : 3); upgrades++) {
      await control(socket, 'POST /upgrade', {})
      status = await untilServes(status.generation + 1)
    }
    for (let crashes = 0; crashes < 3; crashes++) {
      await asks('/crash').catch(() => {})
      status = await untilServes(status.generation + 1)
    }
    assert.equal(status.workers?.[0]?.restarts.crash, 3)
    await eventually('a keeper, a worker and nothing else', async () => {
      const states = JSON.parse(await asks('/states')) as string[]
      return (states.length === 2 && !states.includes('Z')) || undefined
    })
    const ended = once(child, 'exit')
    await control(socket, 'POST /stop')
    assert.deepEqual(await within('the end of run', ended), [5, null])
  } finally {
    // The first process of a namespace takes all others along.
    child.kill('SIGKILL')
  }
})

/** Binaries by line; scripts/test-matrix.ts gives all, and without it there is the running one. */
const nodes: Readonly<Record<string, string>> = JSON.parse(process.env.COOK_TEST_NODES ?? '{}')
const own = String(process.versions.node.split('.')[0])
const others = Object.entries(nodes).filter(([line]) => line !== own)

for (const [line, binary] of others) {
  test(`a keeper on Node ${own} keeps workers on Node ${line}, through upgrades to its own line and back, and a crash`, async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    writeProgram(lab, 'app.mjs', 'one')
    await operator.does(['start', 'app.mjs', '--node', binary])
    await using clients = new Witnesses(portOf(await operator.status('app')))
    const versions: string[] = []
    for (const to of [process.execPath, binary, binary]) {
      await operator.does(['upgrade', 'app', '--node', to])
      const { node, pid } = await operator.status('app')
      versions.push(String(/\d+/.exec(node)))
      await clients.untilAnswered(new RegExp(`^one ${pid}$`))
    }
    assert.deepEqual(versions, [own, line, line])
    assert.deepEqual(await clients.stop(), [])
    const { node, keeper } = await crash(operator)
    assert.deepEqual([String(/\d+/.exec(node)), String(/\d+/.exec(keeper?.node ?? ''))], [line, own])
    await operator.does(['stop', 'app'])
  })
}
