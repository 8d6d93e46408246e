/** A service that is told to end while clients still come: it announces its end, and then drains. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { test } from 'node:test'
import { WebSocket } from 'ws'
import type { Identity } from '../../src/contract/environment.ts'
import type { Status } from '../../src/control/status.ts'
import { isGone, system } from '../../src/node/system.ts'
import { Operator, portOf, writeProgram } from '../support/command.ts'
import { HttpConnection } from '../support/http-connection.ts'
import { Http2Connection } from '../support/http2-connection.ts'
import { Lab } from '../support/lab.ts'
import { eventually, within } from '../support/waiting.ts'

/** Longer than any test: the second SIGTERM ends it. */
const long = '600000'

/** Who is signalled by whoever ends a service. */
function ownerOf({ keeper, pid, startTime }: Status): Identity {
  const identity = keeper === undefined ? ([pid, startTime] as const) : ([keeper.pid, keeper.startTime] as const)
  assert.ok(identity[0] > 1)
  return identity
}

async function untilLame(operator: Operator): Promise<Status> {
  return eventually('the lame duck', async () => {
    const status = await operator.status('app')
    return status.phase === 'lame' ? status : undefined
  })
}

/** Until it counts: what comes within a second is the same stop. */
async function untilGone(owner: Identity): Promise<void> {
  await eventually('the end', () => {
    if (isGone(owner)) return true
    system.kill(owner, 'SIGTERM')
    return undefined
  })
}

for (const how of ['serve() without a keeper', 'a keeper', 'two workers'] as const) {
  test(`${how}: at SIGTERM it goes on serving, each answer closes its connection, and a second SIGTERM ends that`, async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    writeProgram(lab, 'app.mjs', 'one')
    const more = how === 'a keeper' ? [] : how === 'two workers' ? ['--workers', '2'] : ['--no-keep']
    await operator.does(['start', 'app.mjs', '--lame-duck', long, ...more])
    const status = await operator.status('app')
    const owner = ownerOf(status)
    const port = portOf(status)
    const idle = await HttpConnection.open(port)
    idle.send()
    assert.equal((await idle.answer()).closes, false)
    system.kill(owner, 'SIGTERM')
    await untilLame(operator)
    // Both who was there and who comes now.
    idle.send()
    assert.deepEqual([(await idle.answer()).closes, idle.hasEnded || (await idle.closed) === undefined], [true, true])
    for (let client = 0; client < 5; client++) {
      const connection = await HttpConnection.open(port)
      connection.send()
      const { status: code, closes } = await connection.answer()
      assert.deepEqual([code, closes], [200, true])
      connection.socket.destroy()
    }
    const { code, stderr } = await operator.types(['upgrade'])
    assert.equal(code, 1)
    assert.match(stderr, /is stopping and starts no new version/)
    await untilGone(owner)
  })
}

test('an unmodified program hears of SIGTERM when the lame duck is over, and what is being answered then is answered', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeFileSync(
    lab.path('app.mjs'),
    `import { createServer } from 'node:http'
const server = createServer((request, response) => request.url === '/slow' ? process.once('SIGTERM', () => response.end('slow')) : response.end('one')).listen(0, '127.0.0.1')
process.on('SIGTERM', () => { console.log('told'); server.close(() => process.exit(0)) })
`,
  )
  await operator.does(['start', 'app.mjs'], { env: { COOK_DAEMON_LAME_DUCK: long } })
  const status = await operator.status('app')
  const slow = await HttpConnection.open(portOf(status))
  slow.send('/slow')
  await eventually('the request', async () => ((await operator.status('app')).connections === 1 ? true : undefined))
  system.kill(ownerOf(status), 'SIGTERM')
  await untilLame(operator)
  const next = await HttpConnection.open(portOf(status))
  next.send()
  assert.deepEqual(await next.answer(), { status: 200, body: 'one', closes: true })
  assert.doesNotMatch(lab.read('run/app.log'), /told/)
  await untilGone(ownerOf(status))
  assert.equal((await slow.answer()).body, 'slow')
  assert.match(lab.read('run/app.log'), /told/)
})

test('a lame duck tells HTTP/2 clients by GOAWAY, answers those that come, and closes WebSockets with 1012 at its end', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeFileSync(
    lab.path('app.mjs'),
    `import { createServer } from 'node:http'
import { createServer as createHttp2 } from 'node:http2'
import { serve } from '${operator.library}'
import { handOverWebSockets } from '${import.meta.resolve('cook-daemon/ws')}'
import { WebSocketServer } from '${import.meta.resolve('ws')}'
const server = createServer()
const sockets = new WebSocketServer({ server })
sockets.on('connection', (socket) => socket.on('message', (text) => socket.send(String(text))))
const host = '127.0.0.1'
await serve(server, {
  host,
  port: 0,
  async prepare(daemon) {
    handOverWebSockets(daemon, sockets)
    await daemon.listen(createHttp2((request, response) => response.end('h2')), { host, port: 0, name: 'h2' })
  },
})
`,
  )
  await operator.does(['start', 'app.mjs', '--lame-duck', long])
  const status = await operator.status('app')
  const [http2, http1] = ['h2', 'tcp'].map((name) =>
    Number(
      status.listeners
        .find((one) => one.name.startsWith(name))
        ?.address.split(':')
        .at(-1),
    ),
  )
  const before = await Http2Connection.open(connect(http2 ?? 0, '127.0.0.1'))
  assert.equal(await before.answer(before.request('/')), 'h2')
  const webSocket = new WebSocket(`ws://127.0.0.1:${http1}`)
  await within('the handshake', once(webSocket, 'open'))
  system.kill(ownerOf(status), 'SIGTERM')
  await untilLame(operator)
  // It refuses no stream, neither here nor on a new connection.
  assert.equal(await within('GOAWAY', before.goaway()), 2 ** 31 - 1)
  assert.equal(await before.answer(before.request('/')), 'h2')
  const after = await Http2Connection.open(connect(http2 ?? 0, '127.0.0.1'))
  assert.equal(await after.answer(after.request('/')), 'h2')
  assert.equal(await within('GOAWAY', after.goaway()), 2 ** 31 - 1)
  webSocket.send('still here')
  const [echo] = await within('the echo', once(webSocket, 'message'))
  assert.equal(String(echo), 'still here')
  const closed = once(webSocket, 'close')
  await untilGone(ownerOf(status))
  const [code] = await within('the close', closed)
  assert.equal(code, 1012)
})

test('a lame duck that is no time is refused by its name, and a stop by the command is none', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeProgram(lab, 'app.mjs', 'one')
  const { code, stderr } = await operator.types(['start', 'app.mjs'], { env: { COOK_DAEMON_LAME_DUCK: 'ten' } })
  assert.equal(code, 1)
  assert.match(stderr, /lameDuck/)
  await operator.does(['start', 'app.mjs', '--lame-duck', long])
  const status = await operator.status('app')
  await operator.does(['restart'])
  await operator.does(['stop'])
  assert.equal(isGone(ownerOf(status)), true)
})

test('a lame duck that is longer than whoever ends the service waits is a warning at the start, and nothing else', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeProgram(lab, 'app.mjs', 'one')
  const starts = async (COOK_DAEMON_GRACE_PERIOD: string) => {
    await operator.does(['start', 'app.mjs', '--lame-duck', '10000'], { env: { COOK_DAEMON_GRACE_PERIOD } })
    const { warnings = [] } = await operator.status('app')
    await operator.does(['stop'])
    return warnings.map(({ text }) => text)
  }
  assert.deepEqual(await starts('45000'), [])
  const [tooLong, ...others] = await starts('40000')
  assert.deepEqual(others, [])
  assert.match(tooLong ?? '', /lame duck of 10000 ms and a drain timeout of 30000 ms.* is killed after 40000 ms/)
  assert.match(lab.read('run/app.log'), /is killed after 40000 ms/)
  const [noTime = ''] = await starts('45s')
  assert.match(noTime, /COOK_DAEMON_GRACE_PERIOD must be a number of milliseconds/)
})
