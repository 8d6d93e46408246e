/**
 * A connection that was handed over is like one that was accepted, and one that stays is finished
 * as it should be.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { beginReplace, counts, drained, type Program, replace } from '../support/daemons.ts'
import { HttpConnection } from '../support/http-connection.ts'
import { Lab, type Puppet } from '../support/lab.ts'
import { eventually } from '../support/waiting.ts'

// ---------------------------------------------------------------------------------------------- the new side

test('a connection that was handed over is counted by its new server until it closes', async () => {
  await using lab = await Lab.open()
  const { client, young } = await adopted(lab)
  assert.equal(await connections(young), 1)
  assert.equal((await client.ask()).body, String(young.pid))
  assert.equal(await connections(young), 1)
  client.socket.destroy()
  await eventually('no connection', async () => ((await connections(young)) === 0 ? true : undefined))
})

test('server.close() waits for a request on a connection that was handed over', async () => {
  await using lab = await Lab.open()
  const { client, young } = await adopted(lab)
  client.send('/slow')
  await young.event('asked')
  await young.run(({ kept, tell }) => void kept.server?.close(() => tell('closed')))
  await young.run(() => new Promise((done) => setTimeout(done, 100)))
  assert.equal(
    young.events.some(({ event }) => event === 'closed'),
    false,
  )
  await young.run(({ finish }) => finish())
  assert.equal((await client.answer()).body, String(young.pid))
  await young.event('closed')
})

test('the keep-alive time of the new server closes a connection that was handed over and says nothing', async () => {
  await using lab = await Lab.open()
  const { client } = await adopted(lab, async ({ open, listen, http, onRequest, kept }) => {
    await open()
    await listen(http.createServer({ keepAliveTimeout: 300 }, onRequest))
    await kept.daemon?.ready()
  })
  await client.closed
  assert.equal(client.text, '')
})

for (const [what, times] of [
  ['the time for headers', { headersTimeout: 400, connectionsCheckingInterval: 50 }],
  ['the timeout of the server', { timeout: 400 }],
] as const) {
  test(`a connection that was handed over between two requests lives for its keep-alive time, longer than ${what}`, async () => {
    await using lab = await Lab.open()
    const { client, young } = await adopted(
      lab,
      async ({ open, listen, http, onRequest, kept }) => {
        const { timeout = 0, ...options } = JSON.parse(process.env.TIMES ?? '{}') as { timeout?: number }
        await open()
        await listen(Object.assign(http.createServer({ keepAliveTimeout: 60_000, ...options }, onRequest), { timeout }))
        await kept.daemon?.ready()
      },
      { TIMES: JSON.stringify(times) },
    )
    // One that is accepted and says nothing is the clock: it came later, and its time is over.
    const accepted = await HttpConnection.open(await portOf(young))
    await accepted.closed
    assert.equal(accepted.text.startsWith('HTTP/1.1 408'), what === 'the time for headers')
    assert.deepEqual([client.hasEnded, client.text], [false, ''])
    assert.deepEqual(await client.ask(), answer(young))
    client.socket.destroy()
  })
}

test('a connection that was handed over before it said anything gets the time of one that was accepted', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const client = await HttpConnection.open(await old.run(({ start }) => start()))
  const young = await replace(lab, old, async ({ open, listen, http, onRequest, kept }) => {
    const times = { keepAliveTimeout: 100, headersTimeout: 1_500, connectionsCheckingInterval: 50 }
    await open()
    await listen(http.createServer(times, onRequest))
    await kept.daemon?.ready()
  })
  assert.equal((await drained(old)).handedOver, 1)
  // Longer than one between two requests would live.
  const asked = await idle(await portOf(young))
  await asked.closed
  assert.equal(client.hasEnded, false)
  await client.closed
  assert.match(client.text, /^HTTP\/1.1 408/)
})

test('a slow answer or a slow request on a connection that was handed over is not cut by the keep-alive time', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const port = await old.run(({ start }) => start())
  const [slow, half] = [await idle(port), await idle(port)]
  const young = await replace(lab, old, async ({ open, listen, http, onRequest, kept }) => {
    await open()
    await listen(http.createServer({ keepAliveTimeout: 400 }, onRequest))
    await kept.daemon?.ready()
  })
  await drained(old)
  slow.send('/slow')
  half.socket.write('GET / HT')
  await young.event('asked')
  // The time for which the timer would have to run, if it ran.
  await young.run(() => new Promise((done) => setTimeout(done, 2_000)))
  half.socket.write('TP/1.1\r\nhost: test\r\n\r\n')
  assert.equal((await half.answer()).body, String(young.pid))
  await young.run(({ finish }) => finish())
  assert.equal((await slow.answer()).body, String(young.pid))
})

test('a client that ends its half of a connection that was handed over still gets its answer', async () => {
  await using lab = await Lab.open()
  const { client, young } = await adopted(lab, async ({ open, listen, web, kept }) => {
    await open()
    // Of the HTTP server; the connection's own half is what was handed over.
    await listen(Object.assign(web(), { httpAllowHalfOpen: true }))
    await kept.daemon?.ready()
  })
  client.socket.end('GET /slow HTTP/1.1\r\nhost: test\r\n\r\n')
  await young.event('asked')
  await young.run(() => new Promise((done) => setTimeout(done, 100)))
  await young.run(({ finish }) => finish())
  assert.equal((await client.answer()).body, String(young.pid))
})

test('the program sees the address of the client of a connection that was handed over', async () => {
  await using lab = await Lab.open()
  const { client } = await adopted(lab, async ({ open, listen, http, kept }) => {
    await open()
    await listen(
      http.createServer(({ socket }, response) => response.end(`${socket.remoteAddress}:${socket.remotePort}`)),
    )
    await kept.daemon?.ready()
  })
  const { localPort } = client.socket
  assert.equal((await client.ask()).body, `127.0.0.1:${localPort}`)
})

// ---------------------------------------------------------------------------------------------- the old side

test('on the old side the sockets that have moved and the server say that they are closed', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const port = await old.run(async ({ open, listen, web, kept, tell }) => {
    await open()
    const server = web()
    server.on('connection', (socket) => socket.once('close', () => tell('socket closed')))
    server.once('close', () => tell('server closed', server.listening))
    const at = await listen(server)
    await kept.daemon?.ready()
    return at
  })
  const clients = [await idle(port), await HttpConnection.open(port)]
  await until(old, 2)
  const young = await replace(lab, old)
  for (const _ of clients) await old.event('socket closed')
  assert.equal(await old.event('server closed'), false)
  assert.equal(await connections(old), 0)
  assert.deepEqual((await drained(old)).listeners, { web: counts(2, 0, 0, 0) })
  for (const client of clients) assert.deepEqual(await client.ask(), answer(young))
})

test('a request in flight or half received at the switch is served by the old version, and then its connection moves', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const port = await old.run(({ start }) => start())
  const [busy, head, body] = [await idle(port), await idle(port), await idle(port)]
  busy.send('/slow')
  head.socket.write('GET / HTTP/1.1\r\nho')
  body.socket.write('POST /slow HTTP/1.1\r\nhost: test\r\ncontent-length: 4\r\n\r\nab')
  await old.event('asked')
  await old.event('asked')
  const young = await replace(lab, old)
  head.socket.write('st: test\r\n\r\n')
  assert.deepEqual(await head.answer(), answer(old))
  body.socket.write('cd')
  await old.run(({ finish }) => finish())
  for (const client of [busy, body]) assert.deepEqual(await client.answer(), answer(old))
  for (const client of [busy, head, body]) assert.deepEqual(await client.ask(), answer(young))
  assert.deepEqual((await drained(old)).listeners, { web: counts(3, 0, 0, 0) })
})

test('pipelined requests are all answered in their order, and then the connection moves', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const port = await old.run(({ start }) => start())
  const client = await idle(port)
  client.send('/slow')
  client.send('/')
  client.send('/slow')
  await old.event('asked')
  await old.event('asked')
  const young = await replace(lab, old)
  await old.run(({ finish }) => finish())
  for (let answers = 0; answers < 3; answers++) assert.deepEqual(await client.answer(), answer(old))
  assert.deepEqual(await client.ask(), answer(young))
})

test('with moveConnections: false the next answer closes, one in flight included, and who says nothing stays until drainTimeout', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const port = await old.run(({ start }) => start({ moveConnections: false, drainTimeout: 3_000 }))
  const [asking, busy, silent] = [await idle(port), await idle(port), await idle(port)]
  busy.send('/slow')
  await old.event('asked')
  await replace(lab, old)
  await stopsAccepting(old)
  assert.deepEqual(await asking.ask(), answer(old, true))
  await asking.closed
  await old.run(({ finish }) => finish())
  assert.deepEqual(await busy.answer(), answer(old, true))
  assert.equal(silent.hasEnded, false)
  await silent.closed
  assert.deepEqual((await drained(old)).listeners, { web: counts(0, 2, 1, 0) })
})

test('where connections stay, pipelined requests are all answered before the close', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const port = await old.run(({ start }) => start({ moveConnections: false }))
  const client = await idle(port)
  await replace(lab, old)
  await stopsAccepting(old)
  client.send('/slow')
  client.send('/slow')
  await old.event('asked')
  await old.event('asked')
  await old.run(({ finish }) => finish())
  assert.deepEqual(await client.answer(), answer(old))
  assert.deepEqual(await client.answer(), answer(old, true))
  await client.closed
  assert.deepEqual((await drained(old)).listeners, { web: counts(0, 1, 0, 0) })
})

test('a handOver function says of each connection whether it moves', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const port = await old.run(({ start, kept }) => {
    const stays = new Set<unknown>()
    kept.stays = stays
    return start({ moveConnections: (socket) => !stays.has(socket.remotePort) })
  })
  const [stays, moves] = [await idle(port), await idle(port)]
  await old.run(({ kept }, remotePort) => void (kept.stays as Set<unknown>).add(remotePort), stays.socket.localPort)
  const young = await replace(lab, old)
  await stopsAccepting(old)
  assert.deepEqual(await stays.ask(), answer(old, true))
  assert.deepEqual(await moves.ask(), answer(young))
  assert.deepEqual((await drained(old)).listeners, { web: counts(1, 1, 0, 0) })
})

test('a client that leaves while its connection waits to move is counted as served', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const port = await old.run(({ start }) => start())
  const client = await idle(port)
  client.send('/slow')
  await old.event('asked')
  await replace(lab, old)
  client.socket.destroy()
  assert.deepEqual((await drained(old)).listeners, { web: counts(0, 1, 0, 0) })
})

test('a connection that the new version has no server for is closed', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const port = await old.run(({ start }) => start())
  const client = await idle(port)
  await replace(lab, old, async ({ open, kept }) => {
    await open()
    await kept.daemon?.ready()
  })
  await client.closed
  assert.deepEqual((await drained(old)).listeners, { web: counts(0, 0, 1, 0) })
})

/** A connection that had an answer of the old version and was handed over since. */
async function adopted(
  lab: Lab,
  program?: Program,
  env: Readonly<Record<string, string>> = {},
): Promise<{ client: HttpConnection; young: Puppet }> {
  const old = await lab.start('puppet', { env })
  const port = await old.run(({ start }) => start())
  const client = await idle(port)
  const { young, upgrading } = await beginReplace(lab, old)
  await young.run(program ?? (({ start }) => start()))
  await upgrading
  assert.equal((await drained(old)).handedOver, 1)
  return { client, young }
}

async function idle(port: number): Promise<HttpConnection> {
  const client = await HttpConnection.open(port)
  await client.ask()
  return client
}

function answer(puppet: Puppet, closes = false) {
  return { status: 200, body: String(puppet.pid), closes }
}

function portOf(puppet: Puppet): Promise<number> {
  return puppet.run(({ kept }) => {
    const address = kept.server?.address()
    return typeof address === 'object' && address !== null ? address.port : 0
  })
}

function connections(puppet: Puppet): Promise<number> {
  return puppet.run(({ kept }) => new Promise<number>((told) => kept.server?.getConnections((_, count) => told(count))))
}

/** From then on answers say what becomes of their connection. */
async function stopsAccepting(puppet: Puppet): Promise<void> {
  await eventually('an old version that accepts no more', async () =>
    (await puppet.run(({ kept }) => kept.server?.listening)) ? undefined : true,
  )
}

async function until(puppet: Puppet, count: number): Promise<void> {
  await eventually(`${count} connections`, async () => ((await connections(puppet)) === count ? true : undefined))
}
