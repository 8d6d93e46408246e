/**
 * The load that measures us is measured itself: it sees every loss, names it, and counts nothing
 * that was none.
 */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { WebSocketServer } from 'ws'
import { loadHandler, loadWebSocketHandler, nothingServed } from '../fixtures/load-server-handler.ts'
import { connectionClients } from '../support/load/connection-clients.ts'
import { type KeepAliveOptions, keepAliveClients } from '../support/load/keep-alive-clients.ts'
import type { Load } from '../support/load/load.ts'
import { mixed } from '../support/load/requests.ts'
import type { LoadResult } from '../support/load/tally.ts'
import { Timeline } from '../support/load/timeline.ts'
import { webSocketClients } from '../support/load/web-socket-clients.ts'
import {
  answerWith,
  rawServer,
  reset,
  resetWhenRead,
  type ScriptedMessage,
  type ScriptedRequest,
  scriptedServer,
  scriptedWebSocketServer,
} from '../support/scripted-server.ts'
import { eventually, within } from '../support/waiting.ts'

const clients = 3
const never = Number.POSITIVE_INFINITY
const quiet = { every: never, most: 0 }
const garbage = 'ceci n’est pas HTTP\r\n\r\n'

test('a server that accepts nobody is late for each client, also for those for which its queue has no room', async () => {
  const lines = `require('net').createServer().listen(0, '127.0.0.1', 1, function () {
    require('fs').writeSync(1, String(this.address().port))
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
  })`
  const server = spawn(process.execPath, ['-e', lines], { stdio: ['ignore', 'pipe', 'inherit'] })
  try {
    const [port] = await within('its port', once(server.stdout, 'data'))
    const where = { host: '127.0.0.1', port: Number(port) }
    await using fresh = connectionClients(where, { count: 6, deadline: 1_500 })
    await within('each client to give up', fresh.ready)
    const { failures, failedRequests } = await within('the end of the load', fresh.stop())
    assert.deepEqual([failures, failedRequests], [{ late: 6 }, 6])
  } finally {
    server.kill('SIGKILL')
  }
})

test('a good server has no failure, and its own counts are those of the clients', async () => {
  await using server = await goodServer()
  const { where, served } = server
  await using kept = keepAliveClients(where, { count: 20, pause: [0, 5], silence: { every: 4, most: 100 } })
  await using fresh = connectionClients(where, { count: 5, weights: mixed })
  await using sockets = webSocketClients(where, { count: 10, pause: [0, 5] })
  const loads = [kept, fresh, sockets]
  await Promise.all(loads.map(({ ready }) => ready))
  for (const kind of Object.keys(mixed) as (keyof typeof mixed)[]) {
    await eventually(`answers to ${kind}`, () => (kept.result().answersByKind[kind] ?? 0) > 3 || undefined)
  }
  await eventually('answers to all', () => loads.every((load) => load.result().answers > 300) || undefined)
  const [keptResult, freshResult, socketsResult] = [await kept.stop(), await fresh.stop(), await sockets.stop()]

  for (const result of [keptResult, freshResult, socketsResult]) {
    assert.deepEqual(result.faults, [])
    assert.deepEqual(result.failures, {})
    assert.deepEqual(result.closes, {})
    assert.deepEqual(result.answersByKind, result.requestsByKind)
    assert.deepEqual(result.generations, { good: result.requests })
    assert.equal(result.answers, result.requests)
    assert.equal(result.latency.answers, result.answers)
    assert.deepEqual([result.failedRequests, result.failedClients, result.reconnects], [0, 0, 0])
  }
  const requests = keptResult.requests + freshResult.requests
  assert.deepEqual(served, { requests, answers: requests, messages: socketsResult.requests })
  assert.equal(keptResult.connections, 20)
  assert.equal(socketsResult.connections, 10)
  assert.equal(server.connections, 20 + 10 + freshResult.connections)
})

test('the same seed sends the same requests, another one others', async () => {
  const seen = await Promise.all([1, 1, 2].map((seed) => firstUrls(seed)))
  assert.deepEqual(seen[0], seen[1])
  assert.notDeepEqual(seen[0], seen[2])
})

test('where nobody accepts, every client is refused', async () => {
  const { where } = await goodServer().then(async (server) => {
    await server[Symbol.asyncDispose]()
    return server
  })
  for (const start of [keepAliveClients, connectionClients, webSocketClients]) {
    await using load = start(where, { count: clients })
    await load.ready
    const { failures, failedRequests, connections } = await load.stop()
    assert.deepEqual(
      { failures, failedRequests, connections },
      { failures: { refused: 3 }, failedRequests: 3, connections: 0 },
    )
  }
})

type HttpCase = {
  readonly server: string
  readonly script: (request: ScriptedRequest) => void
  /** Of one client. */
  readonly failures: LoadResult['failures']
  /** Of one client; else two requests are answered and the third is lost. */
  readonly answers?: number
  readonly lost?: number
  readonly options?: Partial<KeepAliveOptions>
}

const pipelined: Partial<KeepAliveOptions> = { weights: { pipelined: 1 } }

const httpCases: readonly HttpCase[] = [
  {
    server: 'resets instead of answering',
    script: third(({ socket }) => reset(socket)),
    failures: { reset: 1 },
  },
  {
    server: 'resets in the middle of an answer',
    script: third(({ socket, answer }) => {
      socket.write(answer.subarray(0, -1))
      resetWhenRead(socket)
    }),
    failures: { reset: 1 },
  },
  {
    server: 'resets a connection between two requests',
    script: ({ socket, answer }) => {
      socket.write(answer)
      resetWhenRead(socket)
    },
    failures: { reset: 1 },
    answers: 1,
    lost: 0,
    options: { pause: [never, never] },
  },
  {
    server: 'closes instead of answering',
    script: third(({ socket }) => void socket.end()),
    failures: { closed: 1 },
  },
  {
    server: 'closes a connection between two requests',
    script: ({ socket, answer }) => void socket.end(answer),
    failures: { closedIdle: 1 },
    answers: 1,
    lost: 0,
    options: { pause: [never, never] },
  },
  {
    server: 'announces in an answer that it will close',
    script: third(({ socket, id, body }) => void socket.write(answerWith({ id, body, more: 'connection: close\r\n' }))),
    failures: { toldToClose: 1 },
    answers: 3,
    lost: 0,
  },
  {
    server: 'closes in the head of an answer',
    script: third(({ socket, answer }) => void socket.end(answer.subarray(0, 20))),
    failures: { half: 1 },
  },
  {
    server: 'closes before the last byte of an answer',
    script: third(({ socket, answer }) => void socket.end(answer.subarray(0, -1))),
    failures: { half: 1 },
  },
  {
    server: 'closes before the last chunk of an answer',
    script: third(({ socket, id, body }) => void socket.end(inOneChunk(id, body).subarray(0, -5))),
    failures: { half: 1 },
  },
  {
    server: 'changes one bit of an answer',
    script: third(({ socket, answer }) => {
      const bytes = Buffer.from(answer)
      bytes.writeUInt8((bytes.at(-1) ?? 0) ^ 1, bytes.length - 1)
      socket.write(bytes)
    }),
    failures: { wrongBytes: 1 },
  },
  {
    server: 'answers one byte less and says so',
    script: third(({ socket, id, body }) => void socket.write(answerWith({ id, body: body.subarray(0, -1) }))),
    failures: { wrongBytes: 1 },
  },
  {
    server: 'answers one byte more and says so',
    script: third(({ socket, id, body }) => void socket.write(answerWith({ id, body: Buffer.concat([body, body]) }))),
    failures: { wrongBytes: 1 },
  },
  {
    server: 'answers in chunks that are longer than they say',
    script: third(({ socket, id, body }) => void socket.write(inOneChunk(id, body, body.length - 1))),
    failures: { wrongBytes: 1 },
  },
  {
    server: 'speaks no HTTP',
    script: third(({ socket }) => void socket.write(garbage)),
    failures: { wrongBytes: 1 },
  },
  {
    server: 'gives the answer to a request of another connection',
    script: third(({ socket, body }) => void socket.write(answerWith({ id: 'other', body }))),
    failures: { wrongBytes: 1 },
  },
  {
    server: 'answers 503',
    script: third(({ socket, id, body }) => void socket.write(answerWith({ status: '503 No', id, body }))),
    failures: { wrongStatus: 1 },
  },
  {
    server: 'never answers',
    script: third(() => {}),
    failures: { late: 1 },
    options: { deadline: 1_500 },
  },
  {
    server: 'never ends an answer',
    script: third(({ socket, answer }) => void socket.write(answer.subarray(0, -1))),
    failures: { late: 1 },
    options: { deadline: 1_500 },
  },
  {
    server: 'answers a request and then one that was not sent',
    script: third(({ socket, answer }) => {
      socket.write(Buffer.concat([answer, answerWith({ status: '408 Request Timeout' })]))
    }),
    failures: { unasked: 1 },
    answers: 3,
    lost: 0,
    options: { pause: [1, 1] },
  },
  {
    server: 'answers pipelined requests in another order',
    script: inTheOrder(1, 3, 2),
    failures: { wrongOrder: 1, closed: 1 },
    answers: 1,
    lost: 2,
    options: pipelined,
  },
  {
    server: 'leaves out one of three pipelined requests',
    script: inTheOrder(1, 3),
    failures: { wrongOrder: 1, closed: 1 },
    answers: 1,
    lost: 2,
    options: pipelined,
  },
  {
    server: 'closes after the first of three pipelined requests',
    script: inTheOrder(1, 'close'),
    failures: { closed: 2 },
    answers: 1,
    lost: 2,
    options: pipelined,
  },
  {
    server: 'resets after the first of three pipelined requests',
    script: inTheOrder(1, 'reset'),
    failures: { reset: 2 },
    answers: 1,
    lost: 2,
    options: pipelined,
  },
]

for (const { server, script, failures, answers = 2, lost = 1, options = {} } of httpCases) {
  test(`a server that ${server} is told as ${words(failures)}`, async () => {
    await using bad = await scriptedServer(script)
    const small = { weights: { small: 1 }, silence: quiet }
    await using load = keepAliveClients(bad.where, { count: clients, ...small, ...options })
    const result = await allFailed(load)
    assert.deepEqual(result.failures, times(clients, failures), JSON.stringify(result.faults))
    assert.equal(result.failedRequests, lost * clients)
    assert.equal(result.answers, answers * clients)
    assert.equal(result.requests, (answers + lost) * clients)
    assert.equal(result.connections, clients)
    assert.equal(result.reconnects, 0)
  })
}

test('a connection that is closed before its first request is told as closedIdle', async () => {
  await using bad = await rawServer((socket) => socket.end())
  await using load = keepAliveClients(bad.where, { count: clients, silence: { every: 1, most: never } })
  const { failures, requests } = await allFailed(load)
  assert.deepEqual({ failures, requests }, { failures: { closedIdle: clients }, requests: 0 })
})

test('a connection that is closed in the middle of a request is told as closed', async () => {
  await using bad = await rawServer((socket) => {
    let received = 0
    socket.on('data', (bytes) => {
      received += bytes.length
      if (received >= 20) socket.end()
    })
  })
  for (const weights of [{ byteByByte: 1 }, { inSevens: 1 }]) {
    await using load = keepAliveClients(bad.where, { count: clients, weights, silence: quiet })
    const { failures, failedRequests } = await allFailed(load)
    assert.deepEqual({ failures, failedRequests }, { failures: { closed: clients }, failedRequests: clients })
  }
})

test('a connection that says nothing is asked at the end whether it still lives', async () => {
  await using server = await goodServer()
  await using load = keepAliveClients(server.where, {
    count: clients,
    weights: { small: 1 },
    silence: { every: 1, most: never },
  })
  await load.ready
  assert.equal(load.result().requests, 0)
  const { requests, answers } = await load.stop()
  assert.deepEqual({ requests, answers }, { requests: clients, answers: clients })
})

test('a client that may reconnect goes on after a failure, and each new connection is counted', async () => {
  await using bad = await scriptedServer(third(({ socket }) => void socket.end()))
  await using load = keepAliveClients(bad.where, { count: clients, weights: { small: 1 }, reconnect: true })
  await eventually('reconnects', () => load.result().reconnects > 10 || undefined)
  const result = await load.stop()
  assert.deepEqual(Object.keys(result.failures), ['closed'])
  assert.equal(result.failures.closed, result.failedRequests)
  assert.equal(result.requests, result.answers + result.failedRequests)
  assert.equal(result.connections, clients + result.reconnects)
  assert.equal(result.failedClients, clients)
})

test('clients that open a connection for each request see what happens to it', async () => {
  const cases: [(request: ScriptedRequest) => void, LoadResult['failures'], number, number][] = [
    [({ socket }) => void socket.end(), { closed: clients }, 0, clients],
    [({ socket, answer }) => void socket.end(answer.subarray(0, -1)), { half: clients }, 0, clients],
    [({ socket }) => reset(socket), { reset: clients }, 0, clients],
    // Answered, but then the connection stays: the request is none that was lost.
    [({ socket, answer }) => void socket.write(answer), { late: clients }, clients, 0],
  ]
  for (const [script, expected, answered, lost] of cases) {
    await using bad = await scriptedServer(script)
    await using load = connectionClients(bad.where, { count: clients, deadline: 1_500 })
    const { failures, answers, failedRequests } = await allFailed(load)
    assert.deepEqual(
      { failures, answers, failedRequests },
      { failures: expected, answers: answered, failedRequests: lost },
    )
  }
})

test('a pause of the server is told as the longest gap, and so is one that has not ended', async () => {
  await using bad = await scriptedServer(({ nth, socket, answer }) => {
    if (nth === 3) setTimeout(() => socket.write(answer), 200)
    else if (nth < 6) socket.write(answer)
  })
  await using load = keepAliveClients(bad.where, { count: 1, weights: { small: 1 } })
  await eventually('5 answers', () => load.result().answers === 5 || undefined)
  // The timer of the server may be a millisecond early.
  const { longestGap } = load.result()
  assert.ok(longestGap >= 199, `${longestGap}`)
  await eventually('a longer gap', () => load.result().longestGap > longestGap + 50 || undefined)
})

test('percentiles and gaps can be asked for a part of the run and for one kind', () => {
  const timeline = new Timeline()
  for (let at = 1; at <= 3_000; at++) timeline.add(at % 2 === 0 ? 'small' : 'post', at, at < 2_000 ? at : at + 50)
  assert.deepEqual(timeline.latency(), { answers: 3_000, p50: 1_500, p99: 2_970, p999: 2_997, max: 3_000 })
  assert.deepEqual(timeline.latency({ to: 1_001 }), { answers: 1_000, p50: 500, p99: 990, p999: 999, max: 1_000 })
  assert.equal(timeline.latency({ kind: 'small' }).answers, 1_500)
  assert.equal(timeline.latency({ kind: 'late' }).answers, 0)
  assert.equal(timeline.longestGap, 51)
  assert.equal(timeline.longestGapIn({ to: 2_000 }), 1)
  assert.equal(timeline.longestGapIn({ from: 2_000, to: 2_100 }), 51)
})

test('answers can be asked for by generation', () => {
  const timeline = new Timeline()
  for (let at = 0; at < 3_000; at++) timeline.add('small', 1, at, at < 500 ? '1' : '2')
  assert.equal(timeline.firstAnswerOf('2'), 500)
  assert.equal(timeline.firstAnswerOf('3'), undefined)
  assert.deepEqual(timeline.answersByGeneration({ from: 100, to: 1_100, step: 300 }), [
    { generation: '1', counts: [300, 100, 0, 0] },
    { generation: '2', counts: [0, 200, 300, 100] },
  ])
})

type MessageCase = {
  readonly server: string
  readonly script: (message: ScriptedMessage) => void
  readonly failures: LoadResult['failures']
  readonly lost: number
}

/** What goes wrong with one message; everything else of the connection goes on. */
const messageCases: readonly MessageCase[] = [
  {
    server: 'never sees a message',
    script: fifth(() => {}),
    failures: { lost: 1 },
    lost: 1,
  },
  {
    server: 'takes a message and loses its answer',
    script: fifth(({ take }) => void take()),
    failures: { lost: 1 },
    lost: 1,
  },
  {
    server: 'answers a message twice',
    script: fifth(({ socket, take }) => {
      const answer = take()
      socket.send(answer)
      socket.send(answer)
    }),
    failures: { doubled: 1 },
    lost: 0,
  },
  {
    server: 'takes a message twice',
    script: fifth(({ socket, take }) => {
      socket.send(take())
      socket.send(take())
    }),
    failures: { doubled: 1 },
    lost: 0,
  },
  {
    server: 'lets an answer overtake another',
    script: (() => {
      const held = new Map<unknown, Buffer>()
      return ({ nth, socket, take }: ScriptedMessage) => {
        const answer = take()
        if (nth === 5) held.set(socket, answer)
        else socket.send(answer)
        if (nth === 6) socket.send(held.get(socket) ?? '')
      }
    })(),
    failures: { wrongOrder: 1 },
    lost: 0,
  },
  {
    server: 'changes one bit of a message',
    script: fifth(({ socket, take }) => {
      const answer = take()
      answer.writeUInt8((answer.at(-1) ?? 0) ^ 1, answer.length - 1)
      socket.send(answer)
    }),
    failures: { wrongBytes: 1 },
    lost: 1,
  },
  {
    server: 'forgets the state of a connection',
    script: fifth(({ socket, take, forget }) => {
      forget()
      socket.send(take())
    }),
    failures: { wrongState: 1 },
    lost: 0,
  },
]

for (const { server, script, failures, lost } of messageCases) {
  test(`a WebSocket server that ${server} is told as ${words(failures)}`, async () => {
    await using bad = await scriptedWebSocketServer(script)
    await using load = webSocketClients(bad.where, { count: clients, pause: [0, 0] })
    await eventually('messages', () => load.result().answers > 100 || undefined)
    const result = await load.stop()
    assert.deepEqual(result.failures, times(clients, failures), JSON.stringify(result.faults))
    assert.equal(result.failedRequests, lost * clients)
    assert.equal(result.requests, result.answers + result.failedRequests)
    assert.deepEqual(result.closes, {})
  })
}

test('a WebSocket that the server closes is told with its code, and what it had not answered as lost', async () => {
  const closings: [(message: ScriptedMessage) => void, number][] = [
    [fifth(({ socket }) => socket.close(1012)), 1012],
    [fifth(({ socket }) => socket.terminate()), 1006],
  ]
  for (const [script, code] of closings) {
    await using bad = await scriptedWebSocketServer(script)
    await using load = webSocketClients(bad.where, { count: clients, pause: [0, 0], inFlight: 1 })
    const { failures, closes, answers, failedRequests } = await allFailed(load)
    assert.deepEqual(
      { failures, closes, answers, failedRequests },
      {
        failures: { closed: clients, lost: clients },
        closes: { [code]: clients },
        answers: 4 * clients,
        failedRequests: clients,
      },
    )
  }
})

test('a WebSocket message without an answer is late, and a handshake that is turned down has the wrong status', async () => {
  await using silent = await scriptedWebSocketServer(fifth(() => {}))
  await using load = webSocketClients(silent.where, { count: clients, deadline: 1_500, inFlight: 1, pause: [0, 0] })
  const late = await allFailed(load)
  assert.deepEqual([late.failures, late.answers, late.failedRequests], [{ late: clients }, 4 * clients, clients])

  await using unwilling = await rawServer((socket) => {
    socket.once('data', () => socket.end(answerWith({ status: '503 No', more: 'connection: close\r\n' })))
  })
  await using others = webSocketClients(unwilling.where, { count: clients })
  assert.deepEqual((await allFailed(others)).failures, { wrongStatus: clients })
})

test('a load that is cut ends at once, whatever the server does', async () => {
  await using bad = await scriptedServer(() => {})
  const load = keepAliveClients(bad.where, { count: clients, weights: { small: 1 } })
  await load.ready
  await load[Symbol.asyncDispose]()
  assert.deepEqual(load.result().failures, {})
})

function third(fault: (request: ScriptedRequest) => void): (request: ScriptedRequest) => void {
  return (request) => {
    if (request.nth === 3) fault(request)
    else request.socket.write(request.answer)
  }
}

function fifth(fault: (message: ScriptedMessage) => void): (message: ScriptedMessage) => void {
  return (message) => {
    if (message.nth === 5) fault(message)
    else message.socket.send(message.take())
  }
}

/** Waits for three pipelined requests, then does this. */
function inTheOrder(...steps: readonly (number | 'close' | 'reset')[]): (request: ScriptedRequest) => void {
  const waiting = new Map<unknown, ScriptedRequest[]>()
  return (request) => {
    const { socket } = request
    const requests = [...(waiting.get(socket) ?? []), request]
    waiting.set(socket, requests)
    if (requests.length < 3) return
    const answers = steps.map((step) => (typeof step === 'number' ? requests[step - 1]?.answer : undefined))
    socket.write(Buffer.concat(answers.filter((answer) => answer !== undefined)), () => {
      if (steps.includes('reset')) resetWhenRead(socket)
      else if (steps.includes('close')) socket.end()
    })
  }
}

function inOneChunk(id: string, body: Buffer, length = body.length): Buffer {
  const head = answerWith({ id, length: 'transfer-encoding: chunked' })
  return Buffer.concat([head, Buffer.from(`${length.toString(16)}\r\n`), body, Buffer.from('\r\n0\r\n\r\n')])
}

async function allFailed(load: Load): Promise<LoadResult> {
  await eventually('all clients to fail', () => load.result().failedClients === clients || undefined)
  return load.stop()
}

function times(factor: number, failures: LoadResult['failures']): LoadResult['failures'] {
  return Object.fromEntries(Object.entries(failures).map(([kind, count]) => [kind, count * factor]))
}

function words(failures: LoadResult['failures']): string {
  return Object.entries(failures)
    .map(([kind, count]) => (count === 1 ? kind : `${kind} (${count})`))
    .join(' and ')
}

async function firstUrls(seed: number): Promise<readonly string[]> {
  await using server = await goodServer()
  const urls: string[] = []
  server.http.on('request', ({ url = '' }) => urls.push(url))
  await using load = keepAliveClients(server.where, { count: 1, seed, silence: quiet })
  await eventually('20 requests', () => urls.length >= 20 || undefined)
  await load.stop()
  return urls.slice(0, 20)
}

async function goodServer() {
  const served = nothingServed()
  let connections = 0
  const http = createServer(loadHandler('good', served)).on('connection', () => connections++)
  const webSockets = new WebSocketServer({ server: http })
  const onWebSocket = loadWebSocketHandler('good', served)
  webSockets.on('connection', (socket) => onWebSocket(socket))
  http.listen(0, '127.0.0.1')
  await once(http, 'listening')
  return {
    http,
    served,
    where: { host: '127.0.0.1', port: (http.address() as AddressInfo).port },
    get connections() {
      return connections
    },
    async [Symbol.asyncDispose]() {
      if (!http.listening) return
      http.closeAllConnections()
      for (const socket of webSockets.clients) socket.terminate()
      http.close()
      await once(http, 'close')
    },
  }
}
