/**
 * WebSockets live through upgrades: no message is lost, doubled or overtaken, and none is closed
 * that can move.
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { unlinkSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { type ClientOptions, WebSocket } from 'ws'
import type { WebSocketServerPlan } from '../fixtures/web-socket-server.ts'
import { makeCertificate } from '../support/certificate.ts'
import { counts, fates } from '../support/daemons.ts'
import { takesAll } from '../support/extent.ts'
import { Lab, type Puppet } from '../support/lab.ts'
import { webSocketClients } from '../support/load/web-socket-clients.ts'
import { type Report, upgradeBySignal } from '../support/steps.ts'
import { eventually, within } from '../support/waiting.ts'

test('100 busy WebSockets stay open through five upgrades: no message is lost, doubled or out of order, and the count of each is right', async () => {
  await using lab = await Lab.open()
  let { server, port } = await startServer(lab)
  await using load = webSocketClients({ host: '127.0.0.1', port }, { count: 100, inFlight: 3, pause: [0, 20] })
  await load.ready
  for (let upgrades = 0; upgrades < 5; upgrades++) {
    const { young, report } = await upgradeBySignal(lab, server)
    assert.deepEqual(
      { ...fates(report), listeners: null },
      { handedOver: 100, served: 0, closed: 0, cut: 0, listeners: null },
    )
    server = young
  }
  const { failures, faults, closes, connections, answers, generations } = await load.stop()
  assert.deepEqual(failures, {}, JSON.stringify(faults.slice(0, 3)))
  assert.deepEqual(closes, {})
  assert.equal(connections, 100)
  assert.ok(answers > 1_000, `${answers} answers`)
  assert.ok(Object.keys(generations).length > 3, 'the clients were answered by one generation after the other')
})

test('messages of 1 MB in pieces and what the server pushes arrive whole and in order over upgrades', async () => {
  await using lab = await Lab.open()
  let { server, port } = await startServer(lab, { pushEvery: 2 })
  const clients = await Promise.all(Array.from({ length: 10 }, () => PieceClient.open(port)))
  const running = clients.map((client) => client.run())
  for (let upgrades = 0; upgrades < (takesAll ? 5 : 2); upgrades++) {
    const { young, report } = await upgradeBySignal(lab, server)
    assert.equal(report.handedOver, 10)
    server = young
    const before = clients.map(({ echoes }) => echoes)
    await eventually('two more messages of each client', () => {
      return clients.every(({ echoes }, index) => echoes >= (before[index] ?? 0) + 2) || undefined
    })
  }
  for (const client of clients) client.isStopping = true
  await within('the last answers', Promise.all(running))
  for (const { faults, pushes } of clients) {
    assert.deepEqual(faults, [])
    assert.ok(pushes > 20, `${pushes} pushes`)
  }
})

test('a WebSocket that moved is the same for the program: url, headers, state, and its pings are answered', async () => {
  await using lab = await Lab.open()
  const { server, port } = await startServer(lab)
  await using client = await openClient(port, '/room?name=ann')
  const before = await client.ask('who?')
  assert.equal(before.count, 1)
  await upgradeBySignal(lab, server)
  const after = await client.ask('who?')
  assert.deepEqual(after, { ...before, generation: '2', count: 2 })
  client.socket.ping('alive?')
  const [pong] = await within('a pong', once(client.socket, 'pong'))
  assert.equal(String(pong), 'alive?')
  client.socket.close(1000)
  const [code] = await within('the close', once(client.socket, 'close'))
  assert.equal(code, 1000)
})

test('the old program hears of no close: its own objects for what moved are closed without a word', async () => {
  await using lab = await Lab.open()
  const { server, port } = await startServer(lab)
  await using client = await openClient(port)
  await client.ask('who?')
  await upgradeBySignal(lab, server)
  assert.deepEqual(
    server.events.filter(({ event }) => event === 'ws-closed'),
    [],
  )
})

for (const waits of ['listener', 'saveState'] as const) {
  test(`an answer that is still worked on goes out before its connection moves, if the promise of ${waits === 'listener' ? 'the message listener' : waits} waits for it`, async () => {
    await using lab = await Lab.open()
    let { server, port } = await startServer(lab, { work: 30, waits })
    await using load = webSocketClients({ host: '127.0.0.1', port }, { count: 20, inFlight: 1, pause: [0, 5] })
    await load.ready
    for (let upgrades = 0; upgrades < 3; upgrades++) {
      const { young, report } = await upgradeBySignal(lab, server)
      assert.equal(report.handedOver, 20)
      server = young
    }
    const { failures, faults } = await load.stop()
    assert.deepEqual(failures, {}, JSON.stringify(faults.slice(0, 3)))
  })
}

test('a message listener that waits for a later message of its client gets it in the old version, and the connection moves then', async () => {
  await using lab = await Lab.open()
  const { server, port } = await startServer(lab, { waits: 'listener', serve: { drainTimeout: 4_000 } })
  const client = await openClient(port)
  await client.ask('who?')
  client.socket.send('wait')
  client.socket.ping()
  await within('a pong', once(client.socket, 'pong'))
  server.kill('SIGUSR2')
  const young = await lab.next()
  await young.event('serving')
  const answers: string[] = []
  client.socket.on('message', (answer: Buffer) => answers.push(answer.toString('latin1', 5, 6)))
  client.socket.send('go on')
  await eventually('both answers', () => answers.length === 2 || undefined)
  assert.deepEqual(answers, ['1', '1'])
  const { report } = (await server.event('drained')) as { report: Report }
  assert.equal(report.handedOver, 1)
  assert.equal((await client.ask('who?')).count, 4)
  await client[Symbol.asyncDispose]()
})

test('an answer that a message listener still works on goes out before a connection that cannot move is closed', async () => {
  await using lab = await Lab.open()
  const plan = { waits: 'listener', work: 500, ws: { perMessageDeflate: { threshold: 0 } } } as const
  const { server, port } = await startServer(lab, plan)
  const { socket, ask } = await openClient(port, '/', { perMessageDeflate: true })
  await ask('who?')
  const events: string[] = []
  socket.on('message', () => events.push('answer'))
  const closed = new Promise<void>((close) => {
    socket.on('close', (code) => {
      events.push(`close ${code}`)
      close()
    })
  })
  socket.send('work')
  socket.ping()
  await within('a pong', once(socket, 'pong'))
  await upgradeBySignal(lab, server)
  await within('the close', closed)
  assert.deepEqual(events, ['answer', 'close 1012'])
})

test('a message that is sent on a WebSocket that has moved is lost, and the old version says so once', async () => {
  await using lab = await Lab.open()
  const { server, port } = await startServer(lab)
  const clients = await Promise.all([openClient(port), openClient(port)])
  const hold = await openClient(port)
  for (const { socket } of clients) socket.send('send late')
  hold.socket.send('half a ', { fin: false })
  for (const { socket } of [...clients, hold]) {
    socket.ping()
    await within('a pong', once(socket, 'pong'))
  }
  server.kill('SIGUSR2')
  await (await lab.next()).event('serving')
  for (const { ask } of clients) {
    await eventually('an answer of the new version', async () => (await ask('who?')).generation === '2' || undefined)
  }
  server.kill('SIGHUP')
  const { hook, code } = (await server.event('hook-failed')) as { hook: string; code: string }
  assert.deepEqual([hook, code], ['handOverWebSockets', 'ERR_COOK_WS_LATE'])
  hold.socket.send('whole', { fin: true })
  await server.event('drained')
  assert.deepEqual(
    server.events.filter(({ event }) => event === 'hook-failed'),
    [],
  )
  for (const client of [...clients, hold]) await client[Symbol.asyncDispose]()
})

test('compression with context takeover cannot move: those are closed with 1012, over time, and counted', async () => {
  await using lab = await Lab.open()
  const plan = { ws: { perMessageDeflate: { threshold: 0 } }, module: { spread: 400 } }
  const { server, port } = await startServer(lab, plan)
  await using load = webSocketClients({ host: '127.0.0.1', port }, { count: 50, compress: true, mostBytes: 2_000 })
  await load.ready
  await eventually('a message of each', () => load.result().answers >= 200 || undefined)
  const began = performance.now()
  const { report } = await upgradeBySignal(lab, server)
  const took = performance.now() - began
  const { closes } = await load.stop()
  assert.deepEqual(closes, { 1012: 50 })
  assert.equal(report.closed, 50)
  assert.equal(report.cut, 0)
  assert.ok(took >= 300, `closed within ${took} ms`)
})

test('compression without context takeover moves, and compresses as agreed afterwards', async () => {
  await using lab = await Lab.open()
  const perMessageDeflate = { threshold: 0, serverNoContextTakeover: true, clientNoContextTakeover: true }
  let { server, port } = await startServer(lab, { ws: { perMessageDeflate } })
  await using load = webSocketClients({ host: '127.0.0.1', port }, { count: 30, compress: true, mostBytes: 50_000 })
  await load.ready
  for (let upgrades = 0; upgrades < (takesAll ? 4 : 2); upgrades++) {
    const { young, report } = await upgradeBySignal(lab, server)
    assert.equal(report.handedOver, 30)
    server = young
  }
  await eventually('two hundred answers', () => load.result().answers > 200 || undefined)
  const { failures, faults } = await load.stop()
  assert.deepEqual(failures, {}, JSON.stringify(faults.slice(0, 3)))
})

test('a compressed WebSocket that has compressed nothing yet moves', async () => {
  await using lab = await Lab.open()
  const { server, port } = await startServer(lab, { ws: { perMessageDeflate: { threshold: 0 } } })
  await using client = await openClient(port, '/', { perMessageDeflate: true })
  assert.equal(client.socket.extensions, 'permessage-deflate')
  const { report } = await upgradeBySignal(lab, server)
  assert.equal(report.handedOver, 1)
  assert.equal((await client.ask('who?')).generation, '2')
  assert.equal((await client.ask('who?')).count, 2)
})

test('without the module, WebSockets stay with the old version until its deadline, and are counted as cut', async () => {
  await using lab = await Lab.open()
  const { server, port } = await startServer(lab, { module: false, serve: { drainTimeout: 700 } })
  await using client = await openClient(port)
  await client.ask('who?')
  const closed = once(client.socket, 'close')
  server.kill('SIGUSR2')
  const young = await lab.next()
  await young.event('serving')
  assert.equal((await client.ask('who?')).generation, '1')
  const { report } = (await server.event('drained')) as { report: Report }
  assert.equal(report.cut, 1)
  const [code] = await within('the cut', closed)
  assert.equal(code, 1006)
})

test('a message that never ends holds the old version until its deadline, and is counted as cut', async () => {
  await using lab = await Lab.open()
  const { server, port } = await startServer(lab, { serve: { drainTimeout: 700 } })
  await using client = await openClient(port)
  await client.ask('who?')
  client.socket.send('half a ', { fin: false })
  client.socket.ping()
  await within('a pong', once(client.socket, 'pong'))
  const { report } = await upgradeBySignal(lab, server)
  assert.deepEqual(
    { ...fates(report), listeners: null },
    { handedOver: 0, served: 0, closed: 0, cut: 1, listeners: null },
  )
})

test('a stop closes with 1001', async () => {
  await using lab = await Lab.open()
  const { server, port } = await startServer(lab)
  const clients = await Promise.all(Array.from({ length: 20 }, () => openClient(port)))
  const closes = clients.map(({ socket }) => once(socket, 'close'))
  server.kill('SIGTERM')
  const codes = (await within('the closes', Promise.all(closes))).map(([code]) => code)
  assert.deepEqual(new Set(codes), new Set([1001]))
  const { report } = (await server.event('drained')) as { report: Report }
  assert.equal(report.closed, 20)
  await server.gone
})

test('a new version that does not take WebSockets costs those that were on their way at most; the others are closed with 1012', async () => {
  await using lab = await Lab.open()
  const { server, port } = await startServer(lab, { isModuleInFirstOnly: true })
  const clients = await Promise.all(Array.from({ length: 20 }, () => openClient(port)))
  const closes = clients.map(({ socket }) => once(socket, 'close'))
  const { report } = await upgradeBySignal(lab, server)
  const codes = (await within('the closes', Promise.all(closes))).map(([code]) => code)
  assert.equal(report.closed, 20)
  assert.ok(codes.filter((code) => code === 1012).length >= 16, codes.join())
})

test('over TLS they cannot move: those are closed with 1012, over time, and counted', async () => {
  await using lab = await Lab.open()
  makeCertificate(lab)
  const { server, port } = await startServer(lab, { isSecure: true, module: { spread: 300 } })
  const secure = { protocol: 'wss:', rejectUnauthorized: false }
  const clients = await Promise.all(Array.from({ length: 30 }, () => openClient(port, '/', secure)))
  for (const client of clients) assert.equal((await client.ask('who?')).generation, '1')
  const closes = clients.map(({ socket }) => once(socket, 'close'))
  const began = performance.now()
  const { report } = await upgradeBySignal(lab, server)
  const took = performance.now() - began
  const codes = (await within('the closes', Promise.all(closes))).map(([code]) => code)
  assert.deepEqual(new Set(codes), new Set([1012]))
  assert.deepEqual(fates(report), { ...counts(0, 0, 30, 0), listeners: { 'tcp:127.0.0.1:0': counts(0, 0, 30, 0) } })
  assert.ok(took >= 250, `closed within ${took} ms`)
})

for (const isSecure of [false, true]) {
  test(`a WebSocket ${isSecure ? 'over TLS ' : ''}that was told to close and does not answer is ended at the deadline, and counted once`, async () => {
    await using lab = await Lab.open()
    makeCertificate(lab)
    // Compressed in a way that cannot move.
    const ws = { perMessageDeflate: { threshold: 0 } }
    const { server, port } = await startServer(lab, { isSecure, ws, serve: { drainTimeout: 700 } })
    const options = { perMessageDeflate: true, rejectUnauthorized: false, protocol: isSecure ? 'wss:' : 'ws:' }
    await using client = await openClient(port, '/', options)
    await client.ask('who?')
    client.socket.pause()
    const { report } = await upgradeBySignal(lab, server)
    assert.deepEqual(fates(report), { ...counts(0, 0, 1, 0), listeners: { 'tcp:127.0.0.1:0': counts(0, 0, 1, 0) } })
  })
}

test('WebSockets that could not move in two thirds of the time are closed with 1012, and none is cut', async () => {
  await using lab = await Lab.open()
  // It would take twice the time.
  const { server, port } = await startServer(lab, { busyFor: 40, serve: { drainTimeout: 4_000 } })
  const clients = await Promise.all(Array.from({ length: 150 }, () => openClient(port)))
  const closes: number[] = []
  for (const { socket } of clients) socket.once('close', (code) => closes.push(code))
  let turn = 0
  const sending = setInterval(() => {
    for (let count = 0; count < 5; count++) {
      const { socket } = clients[turn++ % clients.length] as Client
      if (socket.readyState === socket.OPEN) socket.send('a word')
    }
  }, 10)
  using _ = { [Symbol.dispose]: () => clearInterval(sending) }
  const { report } = await upgradeBySignal(lab, server)
  assert.equal(report.cut, 0)
  assert.ok(report.closed > 20 && report.handedOver > 20, JSON.stringify(report))
  await eventually('the closes', () => closes.length >= report.closed || undefined)
  assert.deepEqual(new Set(closes), new Set([1012]))
  assert.ok(report.times.toldToEnd !== undefined, 'the report says that they were told to end')
  for (const client of clients) await client[Symbol.asyncDispose]()
})

test('a new version that is killed while it gets WebSockets costs those that had moved, and 32 on their way at most; the others stay open', async () => {
  await using lab = await Lab.open()
  const { server: old, port } = await startServer(lab, { diesAt: 200, serve: { pidFile: 'pid' } })
  const clients = await Promise.all(Array.from({ length: 500 }, () => openClient(port)))
  for (const client of clients) assert.equal((await client.ask('who?')).count, 1)
  writeFileSync(lab.path('die'), '')
  old.kill('SIGUSR2')
  const young = await lab.next()
  assert.deepEqual(await old.event('successor-lost'), { type: 'successor-lost', generation: 2 })
  await young.gone
  const { report } = (await old.event('drained')) as { report: Report }
  const { handedOver, cut } = report
  assert.ok(handedOver >= 190 && handedOver <= 200, `${handedOver} had moved`)
  assert.ok(cut <= 32, `${cut} were on their way`)
  assert.deepEqual(report.listeners, { 'tcp:127.0.0.1:0': counts(handedOver, 0, 0, cut) })
  const lost = handedOver + cut
  const isOpen = ({ socket }: Client) => socket.readyState === socket.OPEN
  await eventually('the ends of what was lost', () => clients.filter(isOpen).length === 500 - lost || undefined)
  assert.equal(lab.read('pid'), `${old.pid}\n`)
  const stayed = clients.filter(isOpen)
  for (const client of stayed) assert.deepEqual(await briefly(client), { generation: '1', count: 2 })
  unlinkSync(lab.path('die'))
  const next = await upgradeBySignal(lab, old)
  assert.deepEqual(next.report.listeners, { 'tcp:127.0.0.1:0': counts(500 - lost, 0, 0, 0) })
  for (const client of stayed) assert.deepEqual(await briefly(client), { generation: '2', count: 3 })

  async function briefly(client: Client): Promise<Pick<Who, 'generation' | 'count'>> {
    const { generation, count } = await client.ask('who?')
    return { generation, count }
  }
})

test('WebSockets reach the newest of three generations that drain at once', async () => {
  await using lab = await Lab.open()
  const { server, port } = await startServer(lab)
  await using load = webSocketClients({ host: '127.0.0.1', port }, { count: 50, inFlight: 2, pause: [0, 10] })
  await load.ready
  // A message in the middle keeps each generation from leaving.
  const stuck: Client[] = []
  let newest = server
  for (let upgrades = 0; upgrades < 3; upgrades++) {
    const client = await openClient(port)
    await client.ask('who?')
    client.socket.send('half ', { fin: false })
    client.socket.ping()
    await within('a pong', once(client.socket, 'pong'))
    stuck.push(client)
    newest.kill('SIGUSR2')
    newest = await lab.next()
    await newest.event('serving')
  }
  for (const client of stuck) {
    const answer = once(client.socket, 'message')
    client.socket.send('whole', { fin: true })
    await within('the echo of what was in the middle', answer)
    await eventually('the newest generation', async () => (await client.ask('who?')).generation === '4' || undefined)
  }
  await server.gone
  const { failures, faults } = await load.stop()
  assert.deepEqual(failures, {}, JSON.stringify(faults.slice(0, 3)))
  for (const client of stuck) await client[Symbol.asyncDispose]()
})

async function startServer(lab: Lab, plan: WebSocketServerPlan = {}): Promise<{ server: Puppet; port: number }> {
  const server = await lab.start('web-socket-server', { env: { WEB_SOCKET_SERVER: JSON.stringify(plan) } })
  const { port } = (await server.event('serving')) as { port: number }
  return { server, port }
}

type Who = { readonly generation: string; readonly url: string; readonly count: number }

type Client = AsyncDisposable & { readonly socket: WebSocket; ask(question: string): Promise<Who> }

async function openClient(
  port: number,
  path = '/',
  { protocol = 'ws:', ...options }: ClientOptions & { protocol?: string } = {},
): Promise<Client> {
  const socket = new WebSocket(`${protocol}//127.0.0.1:${port}${path}`, {
    perMessageDeflate: false,
    headers: { 'user-agent': 'test' },
    ...options,
  })
  await within('a WebSocket', once(socket, 'open'))
  // A close that nobody waits for is seen in what follows it.
  socket.on('error', () => {})
  return {
    socket,
    async ask(question) {
      const answer = once(socket, 'message')
      socket.send(question)
      const [text] = await within(`an answer to ${question}`, answer)
      return JSON.parse(String(text)) as Who
    },
    async [Symbol.asyncDispose]() {
      socket.terminate()
    },
  }
}

/**
 * Sends messages of 1 MB in pieces, one after the other, and checks each echo and each number that
 * is pushed.
 */
class PieceClient {
  readonly #socket: WebSocket
  readonly faults: string[] = []
  echoes = 0
  pushes = 0
  isStopping = false
  #onEcho: (echo: Buffer) => void = () => {}

  static async open(port: number): Promise<PieceClient> {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/`, { perMessageDeflate: false })
    const client = new PieceClient(socket)
    await within('a WebSocket', once(socket, 'open'))
    return client
  }

  private constructor(socket: WebSocket) {
    this.#socket = socket
    socket.on('message', (data: Buffer, isBinary) => {
      if (isBinary) this.#onEcho(data)
      else if (String(data) !== `push ${++this.pushes}`) this.faults.push(`${data} instead of push ${this.pushes}`)
    })
    socket.on('close', (code) => {
      if (code !== 1000) this.faults.push(`closed with ${code}`)
      this.#onEcho(Buffer.alloc(0))
    })
  }

  async run(): Promise<void> {
    while (!this.isStopping && this.faults.length === 0) {
      const message = Buffer.alloc(1_000_000, `message ${this.echoes} `)
      const echo = new Promise<Buffer>((come) => {
        this.#onEcho = come
      })
      for (let from = 0; from < message.length; from += 100_000) {
        const piece = message.subarray(from, from + 100_000)
        this.#socket.send(piece, { fin: from + 100_000 >= message.length, binary: true })
        await new Promise((next) => setTimeout(next, 3))
      }
      const answer = await within('an echo', echo)
      const count = answer.length < 5 ? -1 : answer.readUInt32LE()
      if (count !== ++this.echoes) this.faults.push(`count ${count} instead of ${this.echoes}`)
      if (!answer.subarray(answer.length - message.length).equals(message)) this.faults.push('other bytes')
    }
    this.#socket.close(1000)
  }
}
