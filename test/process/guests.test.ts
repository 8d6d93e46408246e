/**
 * HTTP/1.1 connections that another server accepted and gave to an HTTP server: they end with an
 * answer that says so.
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test } from 'node:test'
import tls from 'node:tls'
import { WebSocket } from 'ws'
import { makeCertificate } from '../support/certificate.ts'
import { counts, drained, type Program as PuppetProgram, replace } from '../support/daemons.ts'
import { HttpConnection } from '../support/http-connection.ts'
import { Lab } from '../support/lab.ts'
import { Program } from '../support/program.ts'
import { eventually, within } from '../support/waiting.ts'

/** The ways in which programs do that; each listener has the name of its own. */
const program: PuppetProgram = async ({ open, listen, kept, net, http, fs, onRequest }, drainTimeout = 30_000) => {
  const https = process.getBuiltinModule('node:https')
  const { createServer, TLSSocket } = process.getBuiltinModule('node:tls')
  const certificate = { key: fs.readFileSync('key.pem'), cert: fs.readFileSync('cert.pem') }
  const options = { keepAliveTimeout: 60_000 }
  const web = http.createServer(options, onRequest)
  const secure = https.createServer({ ...options, ...certificate }, onRequest)
  const listening = http.createServer(options, onRequest)
  await open({ drainTimeout })
  const servers = {
    // A port for several protocols looks at the first bytes.
    sniffed: net.createServer((socket) => {
      socket
        .on('error', () => {})
        .once('readable', () => {
          const bytes = socket.read()
          if (bytes === null) return
          socket.unshift(bytes)
          web.emit('connection', socket)
        })
    }),
    listening,
    given: net.createServer((socket) => void listening.emit('connection', socket)),
    wrapped: net.createServer((socket) => {
      web.emit(
        'connection',
        new TLSSocket(socket, { isServer: true, ...certificate }).on('error', () => {}),
      )
    }),
    secure: net.createServer((socket) => void secure.emit('connection', socket)),
    ended: createServer(certificate, (socket) => void web.emit('connection', socket)),
  }
  const ports: Record<string, number> = {}
  for (const [name, server] of Object.entries(servers)) ports[name] = await listen(server, { name })
  await kept.daemon?.ready()
  return ports
}

async function connectTo(ports: Record<string, number>, name: string): Promise<HttpConnection> {
  const port = ports[name] ?? 0
  if (!['wrapped', 'secure', 'ended'].includes(name)) return HttpConnection.open(port)
  const socket = tls.connect({ port, host: '127.0.0.1', rejectUnauthorized: false })
  await within('a handshake', once(socket, 'secureConnect'))
  return new HttpConnection(socket)
}

test('a WebSocket on a connection that another server accepted is closed with 1012 when an unmodified program is upgraded', async () => {
  const lines = `
    const { WebSocketServer } = await given.load('ws')
    const { createServer } = process.getBuiltinModule('node:net')
    const web = given.web()
    new WebSocketServer({ server: web }).on('connection', (socket) => {
      socket.on('message', (message) => socket.send(String(message)))
    })
    const server = createServer((socket) => {
      socket.on('error', () => {}).once('readable', () => {
        const bytes = socket.read()
        if (bytes === null) return
        socket.unshift(bytes)
        web.emit('connection', socket)
      })
    })
    server.listen(process.env.PORT, () => given.serving(server))`
  await using program = await Program.start('scripted.mjs', { env: { LINES: lines } })
  const socket = new WebSocket(`ws://127.0.0.1:${program.port}`)
  await within('a WebSocket', once(socket, 'open'))
  const echo = once(socket, 'message')
  socket.send('a word')
  await within('an echo', echo)
  const closed = once(socket, 'close')
  await program.upgrade()
  const [code] = await within('the close', closed)
  assert.equal(code, 1012)
})

type Clients = { readonly name: string; readonly idle: HttpConnection; readonly busy: HttpConnection }

/** To each listener one connection that has had an answer, and one that waits for it. */
async function clientsOf(ports: Record<string, number>): Promise<readonly Clients[]> {
  const clients: Clients[] = []
  for (const name of Object.keys(ports)) {
    const [idle, busy] = [await connectTo(ports, name), await connectTo(ports, name)]
    for (const client of [idle, busy]) assert.equal((await client.ask()).closes, false)
    busy.send('/slow')
    clients.push({ name, idle, busy })
  }
  return clients
}

test('connections that another server gave to an HTTP server end with their next answer, and the idle ones at the deadline', async () => {
  await using lab = await Lab.open()
  makeCertificate(lab)
  const old = await lab.start()
  const ports = (await old.run(program, 2_000)) as Record<string, number>
  const clients = await clientsOf(ports)
  const asking: HttpConnection[] = []
  for (const { name } of clients) {
    const client = await connectTo(ports, name)
    await client.ask()
    asking.push(client)
    await old.event('asked')
  }
  await replace(lab, old, program)
  const last = { status: 200, body: String(old.pid), closes: true }
  await eventually('an old version that accepts no more', async () =>
    (await old.run(({ kept }) => kept.server?.listening)) ? undefined : true,
  )
  for (const [at, client] of asking.entries()) {
    if (clients[at]?.name !== 'listening') assert.deepEqual(await client.ask(), last)
  }
  await old.run(({ finish }) => finish())
  for (const { name, busy } of clients) assert.equal((await busy.answer()).closes, name !== 'listening', name)
  const { listeners } = await drained(old)
  for (const { name } of clients) {
    // Of its own, those of the one that listens move.
    assert.deepEqual([name, listeners[name]], [name, name === 'listening' ? counts(3, 0, 0, 0) : counts(0, 2, 1, 0)])
  }
})

test('at a stop, of connections that another server gave to an HTTP server the idle ones are closed at once, and what is asked is answered', async () => {
  await using lab = await Lab.open()
  makeCertificate(lab)
  const old = await lab.start()
  const clients = await clientsOf((await old.run(program)) as Record<string, number>)
  for (const _ of clients) await old.event('asked')
  const report = drained(old)
  void old.run(({ kept }) => void kept.daemon?.stop())
  for (const { idle } of clients) await idle.closed
  await old.run(({ finish }) => finish())
  for (const { name, busy } of clients) assert.equal((await busy.answer()).closes, true, name)
  const { listeners } = await report
  for (const { name } of clients) assert.deepEqual([name, listeners[name]], [name, counts(0, 1, 1, 0)])
})
