/**
 * One probe for each private part of Node that src/node/ touches, in the situation in
 * which it is used: what a new Node changes fails here.
 */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import dgram from 'node:dgram'
import { once } from 'node:events'
import { existsSync, fstatSync, readlinkSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import http2 from 'node:http2'
import https from 'node:https'
import net from 'node:net'
import { test } from 'node:test'
import { Worker } from 'node:worker_threads'
import { watchChannel } from '../../src/node/channel.ts'
import {
  adoptConnection,
  connectionsOf,
  httpConnections,
  quietTime,
  receivingHttpConnections,
  releaseConnection,
  responseInProgress,
  serverOf,
  sparesFromTimeout,
  startReading,
  stopReading,
} from '../../src/node/connections.ts'
import { InFlight } from '../../src/node/in-flight.ts'
import {
  afterListenerClose,
  listenerDescriptor,
  listenWithoutAccepting,
  stopAccepting,
  udpDescriptor,
} from '../../src/node/listeners.ts'
import { isWorkerThread } from '../../src/node/system.ts'
import { ask } from '../support/clients.ts'
import { Lab } from '../support/lab.ts'
import { eventually, within } from '../support/waiting.ts'

/** The compiled file of src/node/, for a process of its own. */
const urlOf = (file: string) => JSON.stringify(new URL(`../../src/node/${file}.js`, import.meta.url).href)

test('server._handle.fd is the descriptor of the listener, for every kind of server', async () => {
  const servers = [net.createServer(), http.createServer(), https.createServer(), http2.createServer()]
  for (const server of servers) {
    assert.equal(listenerDescriptor(server), undefined)
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const fd = listenerDescriptor(server) ?? assert.fail('no descriptor')
    assert.ok(fstatSync(fd).isSocket())
    // Another process that listens on it answers on its port: it is that very listener.
    const { port } = server.address() as net.AddressInfo
    const child = listenElsewhere(fd)
    try {
      await once(child.stdout ?? assert.fail(), 'data')
      const closed = once(server, 'close')
      server.close()
      await closed
      assert.equal(listenerDescriptor(server), undefined)
      assert.equal(await ask({ port, host: '127.0.0.1' }), String(child.pid))
    } finally {
      child.kill('SIGKILL')
      await once(child, 'exit')
    }
  }
})

test('without listen() of its handle a server listens and accepts nobody: who connects is served by the others, until it goes on', async () => {
  await using lab = await Lab.open()
  for (const where of [{ port: 0, host: '127.0.0.1' }, { path: lab.path('sock') }]) {
    const first = net.createServer((socket) => socket.end('first'))
    first.listen(where)
    await once(first, 'listening')
    const address = first.address() as net.AddressInfo | string
    const served = async () => {
      const socket = net.connect((typeof address === 'string' ? { path: address } : address) as net.NetConnectOpts)
      return String((await within('an answer', once(socket, 'data')))[0])
    }
    const child = speak(
      `const server = require('node:net').createServer((socket) => socket.end('second'))
      const { accept } = module.listenWithoutAccepting(server)
      // Also where the real listen() comes in a later turn.
      setImmediate(() => server.listen({ fd: 4 }, () => process.send([server.listening, server.address()])))
      process.once('message', () => { accept(); process.send('accepts') })`,
      ['ignore', 'inherit', 'inherit', 'ipc', listenerDescriptor(first) ?? assert.fail('no descriptor')],
      'listeners',
    )
    try {
      assert.deepEqual((await within('that it listens', once(child, 'message')))[0], [
        true,
        typeof address === 'string' ? null : address,
      ])
      const answers = await Promise.all(Array.from({ length: 50 }, served))
      assert.deepEqual([...new Set(answers)], ['first'])
      child.send('accept')
      await within('that it accepts', once(child, 'message'))
      const closed = once(first, 'close')
      stopAccepting(first)
      await closed
      if (typeof address !== 'string') assert.equal(await served(), 'second')
    } finally {
      child.kill('SIGKILL')
      await once(child, 'exit')
    }
  }
})

test('handle.reading says whether Node reads a connection: one that it has paused is not read behind its back, which would end it when it goes on', async () => {
  const server = net.createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const client = net.connect((server.address() as net.AddressInfo).port, '127.0.0.1')
  const [socket] = (await within('a connection', once(server, 'connection'))) as [net.Socket]
  try {
    socket.on('data', () => {}).pause()
    client.write(Buffer.alloc(1_000_000))
    // Its buffer is full then, and nobody is told.
    const isPaused = () => !(socket as unknown as { _handle: { reading: boolean } })._handle.reading || undefined
    await eventually('that Node stops to read', isPaused)
    stopReading(socket)
    startReading(socket)
    const error = new Promise((failed) => socket.once('error', failed))
    socket.resume()
    const isWhole = eventually('all bytes', () => socket.bytesRead === 1_000_000 || undefined)
    assert.equal(await Promise.race([error, isWhole]), true)
    // One that it reads goes on.
    stopReading(socket)
    startReading(socket)
    client.end('more')
    await within('the end', once(socket, 'end'))
    assert.equal(socket.bytesRead, 1_000_004)
  } finally {
    client.destroy()
    socket.destroy()
    server.close()
  }
})

test("a cluster worker's server has a _handle without a usable descriptor", async () => {
  await using lab = await Lab.open()
  const script = lab.path('cluster.mjs')
  writeFileSync(
    script,
    `import cluster from 'node:cluster'
     import net from 'node:net'
     import { listenerDescriptor } from ${urlOf('listeners')}
     if (cluster.isPrimary) cluster.fork().on('exit', (code) => process.exit(code))
     else {
       const server = net.createServer().listen(0, '127.0.0.1', () => {
         process.exit(listenerDescriptor(server) === undefined ? 7 : 8)
       })
     }`,
  )
  assert.equal(spawnSync(process.execPath, [script]).status, 7)
})

test("dgram's state symbol leads to the descriptor of a bound socket", async () => {
  const socket = dgram.createSocket('udp4')
  assert.equal(udpDescriptor(socket), undefined)
  socket.bind(0, '127.0.0.1')
  await once(socket, 'listening')
  const fd = udpDescriptor(socket) ?? assert.fail('no descriptor')
  const child = spawn(
    process.execPath,
    [
      '-e',
      "const s = require('node:dgram').createSocket('udp4'); s.bind({ fd: 3 }, () => console.log(s.address().port))",
    ],
    { stdio: ['ignore', 'pipe', 'inherit', fd] },
  )
  try {
    const [said] = await once(child.stdout ?? assert.fail(), 'data')
    assert.equal(Number(said), socket.address().port)
  } finally {
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
  const closed = once(socket, 'close')
  socket.close()
  await closed
  assert.equal(udpDescriptor(socket), undefined)
})

test('handle.close removes the file of a Unix listener in the same turn, so that what follows it can put it back', async () => {
  await using lab = await Lab.open()
  const path = lab.path('socket')
  const server = net.createServer().listen(path)
  await once(server, 'listening')
  const seen: string[] = []
  afterListenerClose(server, () => seen.push(existsSync(path) ? 'the file is there' : 'the file is gone'))
  server.close()
  assert.deepEqual(seen, ['the file is gone'])
  await once(server, 'close')
  assert.deepEqual(seen, ['the file is gone'])
})

test('a close hook on a server that does not listen is nothing', () => {
  afterListenerClose(net.createServer(), () => assert.fail('called'))
})

test('process.channel.fd is the descriptor of the channel', async () => {
  const child = speak('console.log(String(module.channelDescriptor())); process.disconnect()', [
    'ignore',
    'pipe',
    'inherit',
    'ipc',
  ])
  const [said] = await once(child.stdout ?? assert.fail(), 'data')
  assert.equal(String(said).trim(), '3')
  await once(child, 'exit')
  const without = speak('console.log(String(module.channelDescriptor()))', ['ignore', 'pipe', 'inherit'])
  const [nothing] = await once(without.stdout ?? assert.fail(), 'data')
  assert.equal(String(nothing).trim(), 'undefined')
  await once(without, 'exit')
})

for (const [what, code] of [
  ['bytes that are no message', "require('node:fs').writeSync(3, 'this is no message\\n')"],
  ['a message on which Node itself chokes', 'require(\'node:fs\').writeSync(3, \'{"cmd":"NODE_HANDLE_ACK"}\\n\')'],
] as const) {
  test(`${what} on the channel do not kill the process that reads them (kChannelHandle.onread, emit)`, async () => {
    const child = speak(`${code}; setInterval(() => {}, 1_000)`, ['ignore', 'inherit', 'inherit', 'ipc'])
    try {
      const broken = new Promise((told) => watchChannel(child, { message: () => false, closed() {}, broken: told }))
      assert.ok((await within('a broken link', broken)) instanceof Error)
    } finally {
      child.kill('SIGKILL')
      await once(child, 'exit')
    }
  })
}

test('a message with a cmd of NODE_ is seen by the watch, in order, and by nobody else; so is the end', async () => {
  const child = speak(
    "for (const n of [1, 2, 3]) process.send({ cmd: 'NODE_COOK', n }); process.send('for the program'); process.disconnect()",
    ['ignore', 'inherit', 'inherit', 'ipc'],
  )
  const seen: unknown[] = []
  const told: unknown[] = []
  const exited = once(child, 'exit')
  child.on('message', (message) => told.push(message)).on('disconnect', () => told.push('disconnect'))
  await within(
    'the end of the channel',
    new Promise<void>((closed) => {
      const unwatch = watchChannel(child, {
        message: (raw) => (raw as { cmd: string }).cmd === 'NODE_COOK' && seen.push((raw as { n: number }).n) > 0,
        closed() {
          unwatch()
          closed()
        },
        broken: (error) => assert.fail(String(error)),
      })
    }),
  )
  assert.deepEqual(seen, [1, 2, 3])
  assert.deepEqual(told, ['for the program'])
  await exited
})

test('a hello over the channel and its answer meet, though the channel does not hold the process by itself', async () => {
  const child = speak(
    `const unwatch = module.watchChannel(process, {
       message: (raw) => { process.send({ cmd: 'NODE_COOK', heard: raw.said }); return true },
       closed: () => unwatch(),
       broken: () => process.exit(9),
     })
     process.channel.ref()
     process.send({ cmd: 'NODE_COOK', heard: 'hello' })`,
    ['ignore', 'inherit', 'inherit', 'ipc'],
  )
  const heard: unknown[] = []
  watchChannel(child, {
    message(raw) {
      const one = (raw as { heard: unknown }).heard
      heard.push(one)
      if (one === 'hello') child.send({ cmd: 'NODE_COOK', said: 'welcome' })
      else child.disconnect()
      return true
    },
    closed() {},
    broken: (error) => assert.fail(String(error)),
  })
  const [code] = await once(child, 'exit')
  assert.equal(code, 0)
  assert.deepEqual(heard, ['hello', 'welcome'])
})

for (const isKnown of [true, false]) {
  const title = isKnown
    ? 'without _handleQueue and _pendingMessage many handles are on their way at once, in order, each with its own message; a long one goes alone'
    : 'where _pendingMessage is not as expected, two handles are on their way, by the queue of Node'
  test(title, async () => {
    const child = speak(
      `process.on('message', (message, socket) => {
         process.send([message.n, socket?.remotePort])
         socket?.end(String(message.n))
       })`,
      ['ignore', 'inherit', 'inherit', 'ipc'],
    )
    const server = net.createServer({ pauseOnConnect: true }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const clients: net.Socket[] = []
    try {
      if (!isKnown) Object.assign(child, { _pendingMessage: undefined })
      const inFlight = new InFlight(child)
      const sockets: net.Socket[] = []
      for (let n = 0; n < 120; n++) {
        const client = net.connect((server.address() as net.AddressInfo).port, '127.0.0.1')
        clients.push(client)
        sockets.push(((await once(server, 'connection')) as [net.Socket])[0])
      }
      const ports = clients.map(({ localPort }) => localPort)
      let onTheWay = 0
      let most = 0
      let next = 0
      const pump = () => {
        const socket = sockets[next]
        if (socket === undefined) return
        const message = { n: next, long: 'x'.repeat(next % 20 === 19 ? 200_000 : 10) }
        if (!inFlight.hasRoom(32, () => JSON.stringify(message).length + 100)) return
        next++
        most = Math.max(most, ++onTheWay)
        assert.ok(message.long.length === 10 || onTheWay === 1 || !isKnown, 'a long one beside others')
        releaseConnection(socket)
        const arrived = () => {
          onTheWay--
          pump()
        }
        inFlight.send(() => child.send(message, socket), { arrived, refused: () => assert.fail('refused') })
        pump()
      }
      watchChannel(child, { message: () => false, closed() {}, broken: assert.fail }, undefined, inFlight)
      const seen: unknown[] = []
      const all = new Promise<void>((seenAll) => {
        child.on('message', (told) => seen.push(told) === sockets.length && seenAll())
      })
      const ends = clients.map((client) => once(client, 'data').then(([bytes]) => Number(bytes)))
      pump()
      await within('all connections', all)
      assert.deepEqual(
        seen,
        ports.map((port, n) => [n, port]),
      )
      assert.deepEqual(
        await within('an answer on each', Promise.all(ends)),
        ports.map((_, n) => n),
      )
      assert.equal(most, isKnown && process.platform === 'linux' ? 19 : 2)
    } finally {
      for (const client of clients) client.destroy()
      server.close()
      child.kill('SIGKILL')
      await once(child, 'exit')
    }
  })
}

test('a channel goes on to a third process by its descriptor and NODE_CHANNEL_FD, as a parent stage passes it on', async () => {
  const third = "process.send({ cmd: 'NODE_COOK', pid: process.pid }); process.channel.ref()"
  const child = speak(
    `require('node:child_process').spawn(process.execPath, ['-e', ${JSON.stringify(third)}], {
       stdio: ['ignore', 'inherit', 'inherit', module.channelDescriptor()],
       env: { ...process.env, NODE_CHANNEL_FD: '3' },
     }).on('spawn', () => process.exit(0))`,
    ['ignore', 'inherit', 'inherit', 'ipc'],
  )
  const pid = await within(
    'a message from the third process',
    new Promise<number>((said) => {
      watchChannel(child, {
        message(raw) {
          said((raw as { pid: number }).pid)
          return true
        },
        closed() {},
        broken: (error) => assert.fail(String(error)),
      })
    }),
  )
  assert.notEqual(pid, child.pid)
  child.disconnect()
  if (process.platform === 'linux') {
    await eventually('the end of the third process', () => (isThere(pid) ? undefined : true))
  }
})

test('process.chdir tells a worker thread from the main one', async () => {
  assert.equal(isWorkerThread(), false)
  const code = `import(${urlOf('system')}).then(({ isWorkerThread }) => {
    require('node:worker_threads').parentPort.postMessage(isWorkerThread())
  })`
  const [told] = await once(new Worker(code, { eval: true }), 'message')
  assert.equal(told, true)
})

test('a server whose listen() came to nothing listens elsewhere as any other', async () => {
  const server = net.createServer((socket) => socket.end('here'))
  listenWithoutAccepting(server).cancel()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as net.AddressInfo
  const [data] = await within('an answer', once(net.connect(port, '127.0.0.1'), 'data'))
  assert.equal(String(data), 'here')
  server.close()
})

/**
 * An HTTP server with one client in each state: idle, waiting for its answer, and in the middle of
 * its request.
 */
async function openHttp() {
  const waiting: http.ServerResponse[] = []
  const server = http.createServer((request, response) => {
    if (request.url === '/wait') waiting.push(response)
    else response.end('hello')
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as net.AddressInfo
  const clients = ['GET / HTTP/1.1\r\nHost: a\r\n\r\n', 'GET /wait HTTP/1.1\r\nHost: a\r\n\r\n', 'GET / HT'].map(
    (text) => {
      const client = net.connect(port, '127.0.0.1')
      client.on('error', () => {}).write(text)
      return client
    },
  )
  const [idle, asking, half] = clients
  if (idle === undefined || asking === undefined || half === undefined) throw new Error('no clients')
  await once(idle, 'data')
  await eventually('a request that waits', () => waiting[0])
  const ofClient = (client: net.Socket) =>
    [...connectionsOf([server]).values()].flat().find(({ remotePort }) => remotePort === client.localPort)
  await eventually('half a request', () => ((ofClient(half)?.bytesRead ?? 0) > 0 ? true : undefined))
  const sockets = [idle, asking, half].map((client) => ofClient(client) ?? assert.fail('no such connection'))
  const [idleSocket, askingSocket, halfSocket] = sockets as [net.Socket, net.Socket, net.Socket]
  return {
    server,
    clients: { idle, asking, half },
    sockets: { idle: idleSocket, asking: askingSocket, half: halfSocket },
    waiting,
    [Symbol.asyncDispose]: async () => {
      for (const client of clients) client.destroy()
      for (const socket of sockets) socket.destroy()
      if (server.listening) server.close()
    },
  }
}

test('process._getActiveHandles and _server tell the connections of a server, its list of parsers those of HTTP/1.1 and which are receiving', async () => {
  await using world = await openHttp()
  const { server, sockets } = world
  assert.deepEqual(new Set(connectionsOf([server]).get(server)), new Set(Object.values(sockets)))
  assert.ok(Object.values(sockets).every((socket) => serverOf(socket) === server))
  assert.deepEqual(new Set(httpConnections(server)), new Set(Object.values(sockets)))
  assert.deepEqual([...receivingHttpConnections(server)], [sockets.half])
})

test('the timer of a socket tells for how long nothing went over it', async () => {
  await using world = await openHttp()
  const begin = performance.now()
  await new Promise((done) => setTimeout(done, 30))
  const { idle, asking } = world.sockets
  assert.ok(quietTime(idle) >= 20, `${quietTime(idle)} ms`)
  assert.ok(quietTime(idle) <= performance.now() - begin + 1_000)
  asking.setTimeout(0)
  assert.equal(quietTime(asking), 0)
})

test('a server asks its list of connections which of them are late, and leaves alone those that are spared', async () => {
  await using world = await openHttp()
  const { server, clients, sockets } = world
  const late = () =>
    (checkedList(server).expired as (headers: number, request: number) => { socket: net.Socket }[])(1, 1)
  const silent = net.connect((server.address() as net.AddressInfo).port, '127.0.0.1').on('error', () => {})
  const accepted = await eventually('a silent connection', () =>
    [...httpConnections(server)].find(({ remotePort }) => remotePort === silent.localPort && remotePort !== undefined),
  )
  sparesFromTimeout(server, accepted)
  await new Promise((done) => setTimeout(done, 5))
  assert.ok(late().every(({ socket }) => socket !== accepted))
  // It is late again with a request that does not come to its end.
  silent.write('GET / HT')
  await eventually('what it says', () => accepted.bytesRead > 0 || undefined)
  await eventually('that it is late', () => late().some(({ socket }) => socket === accepted) || undefined)
  assert.ok(sockets.idle.writable && clients.idle.writable)
  silent.destroy()
})

function checkedList(server: net.Server): { readonly expired: unknown } {
  const symbol = Object.getOwnPropertySymbols(server).find((one) => one.description === 'http.server.connections')
  const list = (server as unknown as Record<symbol, object>)[symbol ?? Symbol.iterator]
  return { expired: (...times: number[]) => (list as { expired(...all: number[]): unknown }).expired(...times) }
}

test('_httpMessage is the answer that a connection waits for', async () => {
  await using world = await openHttp()
  assert.equal(responseInProgress(world.sockets.asking), world.waiting[0])
  assert.equal(responseInProgress(world.sockets.idle), undefined)
})

test('the close of net.Server stops accepting and leaves idle connections open', async () => {
  await using world = await openHttp()
  const { server, clients, sockets } = world
  stopAccepting(server)
  assert.equal(server.listening, false)
  clients.idle.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n')
  await within('an answer on the open connection', once(clients.idle, 'data'))
  assert.equal(sockets.idle.destroyed, false)
})

test('_handle.readStop leaves what arrives in the kernel until readStart', async () => {
  await using world = await openHttp()
  const { clients, sockets } = world
  const before = sockets.idle.bytesRead
  stopReading(sockets.idle)
  clients.idle.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n')
  // The other connection is read in a turn after the one in which this would have been.
  clients.half.write('TP/1.1\r\nHost: a\r\n\r\n')
  await within('an answer to the other client', once(clients.half, 'data'))
  assert.equal(sockets.idle.bytesRead, before)
  startReading(sockets.idle)
  await within('an answer', once(clients.idle, 'data'))
})

test('a connection that is sent away leaves its server, whose close comes, and is one of the server that adopts it', async () => {
  const child = spawn(
    process.execPath,
    [
      '-e',
      `import(${urlOf('connections')}).then(({ adoptConnection }) => {
        const server = require('node:http').createServer((_, response) => {
          server.getConnections((_, count) => response.end(process.pid + ' ' + count))
        })
        process.on('message', (_, socket) => adoptConnection(server, socket))
        process.send('ready')
      })`,
    ],
    { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] },
  )
  try {
    await once(child, 'message')
    await using world = await openHttp()
    const { server, clients, sockets } = world
    clients.asking.destroy()
    clients.half.destroy()
    const closed = once(server, 'close')
    stopReading(sockets.idle)
    releaseConnection(sockets.idle)
    child.send('a connection', sockets.idle, () => sockets.idle.destroy())
    stopAccepting(server)
    clients.idle.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n')
    const [answer] = await within('an answer of the other process', once(clients.idle, 'data'))
    assert.match(String(answer), new RegExp(`${child.pid} 1`))
    await within('the close of the server', closed)
  } finally {
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
})

test('an adopted connection is counted, and the close of the server waits for it', async () => {
  const server = net.createServer()
  const other = net.createServer((socket) => {
    releaseConnection(socket)
    adoptConnection(server, socket)
  })
  server.listen(0, '127.0.0.1')
  other.listen(0, '127.0.0.1')
  await Promise.all([once(server, 'listening'), once(other, 'listening')])
  const client = net.connect((other.address() as net.AddressInfo).port, '127.0.0.1')
  const [socket] = (await once(server, 'connection')) as [net.Socket]
  assert.equal(serverOf(socket), server)
  assert.equal(await new Promise((told) => server.getConnections((_, count) => told(count))), 1)
  let isClosed = false
  server.close(() => {
    isClosed = true
  })
  other.close()
  await new Promise((done) => setImmediate(done))
  assert.equal(isClosed, false)
  client.destroy()
  socket.destroy()
  await within('the close of the server', once(server, 'close'))
})

function isThere(pid: number): boolean {
  try {
    return readlinkSync(`/proc/${pid}/exe`) !== ''
  } catch {
    // A zombie, or nobody.
    return false
  }
}

/**
 * A process that answers each connection on this listener with its pid, and says so when it does.
 */
function listenElsewhere(fd: number): ChildProcess {
  const code = `require('node:net').createServer((socket) => socket.end(process.pid + '\\n'))
    .listen({ fd: 3 }, () => console.log('listening'))`
  return spawn(process.execPath, ['-e', code], { stdio: ['ignore', 'pipe', 'inherit', fd] })
}

/** A process that runs this code with a compiled file of src/node/ as `module`. */
function speak(
  code: string,
  stdio: ('ignore' | 'inherit' | 'pipe' | 'ipc' | number)[],
  file = 'channel',
): ChildProcess {
  const program = `import(${urlOf(file)}).then((module) => { ${code} })`
  return spawn(process.execPath, ['-e', program], { stdio })
}
