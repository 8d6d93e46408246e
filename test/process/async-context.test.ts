/**
 * What the program is called with after an upgrade sees its AsyncLocalStorage as before: that of
 * listen(), and hooks that of the call that gave them.
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect } from 'node:net'
import { test } from 'node:test'
import { WebSocket } from 'ws'
import { HttpConnection } from '../support/http-connection.ts'
import { type Lines, start } from '../support/scripted.ts'
import { eventually, within } from '../support/waiting.ts'

// On a slow machine a client may be silent for longer than Node's five seconds.
const runs: Lines = ({ serving }) => {
  const { AsyncLocalStorage } = process.getBuiltinModule('node:async_hooks')
  const store = new AsyncLocalStorage()
  const { createServer } = process.getBuiltinModule('node:http')
  const server = createServer({ keepAliveTimeout: 120_000 }, (_request, response) =>
    response.end(`${process.pid} ${store.getStore()}`),
  )
  store.run('A', () => server.listen(process.env.PORT, () => serving(server)))
}

const enters: Lines = ({ serving }) => {
  const { AsyncLocalStorage } = process.getBuiltinModule('node:async_hooks')
  const store = new AsyncLocalStorage()
  const { createServer } = process.getBuiltinModule('node:http')
  store.enterWith('A')
  const server = createServer({ keepAliveTimeout: 120_000 }, (_request, response) =>
    response.end(`${process.pid} ${store.getStore()}`),
  )
  server.listen(process.env.PORT, () => serving(server))
}

for (const [what, lines] of [
  ['run() around listen()', runs],
  ['enterWith() before listen()', enters],
] as const) {
  test(`an unmodified program with ${what} finds its store in requests of connections that were handed over`, async () => {
    await using program = await start(lines)
    const moved = await HttpConnection.open(program.port)
    assert.equal((await moved.ask()).body, `${program.pid} A`)
    await program.upgrade()
    assert.equal((await moved.ask()).body, `${program.pid} A`)
    const fresh = await HttpConnection.open(program.port)
    assert.equal((await fresh.ask()).body, `${program.pid} A`)
    for (const { socket } of [moved, fresh]) socket.destroy()
    await program.stop()
  })
}

/** Prints what it finds in its store, wherever it is called. */
const looks: Lines = async ({ load, log, serving }) => {
  const { AsyncLocalStorage } = process.getBuiltinModule('node:async_hooks')
  const { serve } = await load('cook-daemon')
  const { handOverWebSockets } = (await load('cook-daemon/ws')) as unknown as typeof import('cook-daemon/ws')
  const { WebSocketServer } = (await load('ws')) as unknown as typeof import('ws')
  const store = new AsyncLocalStorage<string>()
  const look = (where: string) => log(where, store.getStore())
  const { createServer } = process.getBuiltinModule('node:http')
  const server = createServer({ keepAliveTimeout: 120_000 }, (_request, response) =>
    response.end(`${process.pid} ${store.getStore()}`),
  )
  const webSockets = new WebSocketServer({ noServer: true })
  const own = new Set<import('node:net').Socket>()
  server.on('upgrade', (request, socket, head) => {
    webSockets.handleUpgrade(request, socket, head, (webSocket) => webSockets.emit('connection', webSocket, request))
  })
  webSockets.on('connection', (_webSocket, _request, state?: string) => {
    if (state !== undefined) look('WebSocket')
  })
  server.on('connect', (_request, socket) => {
    own.add(socket as import('node:net').Socket)
    socket.write('HTTP/1.1 200 OK\r\n\r\n')
  })
  await store.run('A', () =>
    serve(server, {
      host: '127.0.0.1',
      port: Number(process.env.PORT),
      saveState: { value: { save: () => look('saveState') } },
      onRelease: () => look('onRelease'),
      onTakeover: () => look('onTakeover'),
      moveConnections() {
        look('moveConnections')
        return true
      },
      onEvent({ type }) {
        if (store.getStore() !== 'A') look(`onEvent ${type}`)
      },
      async prepare(daemon) {
        await daemon.inherited('value')
        store.run('B', () => {
          daemon.onDrain(() => {
            look('onDrain')
            for (const socket of own) void daemon.handOver('own', socket)
          })
          handOverWebSockets(daemon, webSockets, {
            saveState() {
              look('saveState of a WebSocket')
              return 'kept'
            },
          })
        })
        daemon.onHandedOver('own', (socket) => {
          look('own connection')
          socket.resume().on('end', () => socket.end())
        })
      },
    }),
  )
  serving(server)
}

test('hooks, WebSockets and connections of an own protocol see the store that they belong to, in both versions', async () => {
  await using program = await start(looks, { preload: [] })
  const { port, pid: old } = program
  const http = await HttpConnection.open(port)
  await http.ask()
  const webSocket = new WebSocket(`ws://127.0.0.1:${port}`)
  await within('a WebSocket', once(webSocket, 'open'))
  const tunnel = connect(port, '127.0.0.1')
  tunnel.write('CONNECT own:1 HTTP/1.1\r\nhost: own\r\n\r\n')
  await within('a tunnel', once(tunnel, 'data'))
  await program.upgrade()
  assert.equal((await http.ask()).body, `${program.pid} A`)
  const expected = [
    ...['onTakeover A', 'saveState A', 'onRelease A', 'moveConnections A'].map((line) => `${old}: ${line}`),
    ...['onDrain B', 'saveState of a WebSocket B'].map((line) => `${old}: ${line}`),
    ...['onTakeover A', 'WebSocket A', 'own connection A'].map((line) => `${program.pid}: ${line}`),
  ]
  const lines = () => program.output.split('\n').filter((line) => /^\d+: /.test(line))
  await eventually('all lines', () => lines().length >= expected.length || undefined)
  assert.deepEqual(lines().sort(), expected.sort())
  for (const client of [http.socket, tunnel]) client.destroy()
  webSocket.terminate()
  await program.stop()
})
