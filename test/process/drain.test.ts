/**
 * What was accepted is finished: each protocol in its way, at the latest at the deadline, and
 * counted.
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { type ClientHttp2Session, type ClientHttp2Stream, connect as connectHttp2 } from 'node:http2'
import { connect } from 'node:net'
import { test } from 'node:test'
import tls from 'node:tls'
import { makeCertificate } from '../support/certificate.ts'
import { counts, drained, fates, type Program, replace } from '../support/daemons.ts'
import { takesAll } from '../support/extent.ts'
import { askAll, HttpConnection, idleConnections } from '../support/http-connection.ts'
import { Http2Connection } from '../support/http2-connection.ts'
import { Lab, type Puppet } from '../support/lab.ts'
import { eventually, within } from '../support/waiting.ts'

// ---------------------------------------------------------------------------------------------- https

const https: Program = async ({ open, listen, fs, onRequest, kept }) => {
  const { createServer } = process.getBuiltinModule('node:https')
  await open({ drainTimeout: 3_000 })
  const server = createServer({ key: fs.readFileSync('key.pem'), cert: fs.readFileSync('cert.pem') }, onRequest)
  const port = await listen(server, { name: 'secure' })
  await kept.daemon?.ready()
  return port
}

test('https: the next answer closes, slow ones are served to the end, and idle connections stay until drainTimeout', async () => {
  await using lab = await Lab.open()
  makeCertificate(lab)
  const old = await lab.start()
  const port = Number(await old.run(https))
  const [asking, busy, silent] = [await secure(port), await secure(port), await secure(port)]
  for (const client of [asking, busy, silent]) assert.equal((await client.ask()).closes, false)
  busy.send('/slow')
  await old.event('asked')
  await replace(lab, old, https)
  await stopsAccepting(old)
  assert.deepEqual(await asking.ask(), answer(old, true))
  await old.run(({ finish }) => finish())
  assert.deepEqual(await busy.answer(), answer(old, true))
  assert.equal(silent.hasEnded, false)
  assert.deepEqual((await drained(old)).listeners, { secure: counts(0, 2, 1, 0) })
  await silent.closed
})

test('https: a client resumes its session with the new version', async () => {
  await using lab = await Lab.open()
  makeCertificate(lab)
  const old = await lab.start()
  const port = Number(await old.run(https))
  const first = tls.connect({ port, host: '127.0.0.1', rejectUnauthorized: false })
  const [session] = (await within('a session', once(first, 'session'))) as [Buffer]
  first.destroy()
  const young = await replace(lab, old, https)
  await drained(old)
  const again = tls.connect({ port, host: '127.0.0.1', rejectUnauthorized: false, session })
  await within('a handshake', once(again, 'secureConnect'))
  assert.equal(again.isSessionReused(), true)
  const client = new HttpConnection(again)
  assert.deepEqual(await client.ask(), answer(young))
  again.destroy()
})

async function secure(port: number): Promise<HttpConnection> {
  const socket = secureSocket(port)
  await within('a handshake', once(socket, 'secureConnect'))
  return new HttpConnection(socket)
}

function secureSocket(port: number, ALPNProtocols: string[] = []): tls.TLSSocket {
  return tls.connect({ port, host: '127.0.0.1', rejectUnauthorized: false, ALPNProtocols })
}

// ---------------------------------------------------------------------------------------------- http2

const clearHttp2: Program = async ({ open, listen, onRequest, kept }) => {
  const { createServer } = process.getBuiltinModule('node:http2')
  await open()
  const port = await listen(createServer(onRequest), { name: 'h2' })
  await kept.daemon?.ready()
  return port
}

const secureHttp2: Program = async ({ open, listen, onRequest, kept, fs }) => {
  const { createSecureServer } = process.getBuiltinModule('node:http2')
  await open()
  const options = { key: fs.readFileSync('key.pem'), cert: fs.readFileSync('cert.pem'), allowHTTP1: true }
  const server = createSecureServer(options)
  // Streams, where the other has requests.
  server.on('stream', (stream, headers) => onRequest({ url: headers[':path'] }, stream))
  const port = await listen(server, { name: 'h2' })
  await kept.daemon?.ready()
  return port
}

for (const [name, program, scheme] of [
  ['h2c, requests', clearHttp2, 'http'],
  ['h2 over TLS, streams', secureHttp2, 'https'],
] as const) {
  test(`http2 (${name}): sessions get GOAWAY, what is open is answered, and new sessions reach the new version`, async () => {
    await using lab = await Lab.open()
    makeCertificate(lab)
    const old = await lab.start()
    const port = Number(await old.run(program))
    const [busy, idle] = [session(scheme, port), session(scheme, port)]
    for (const client of [busy, idle]) assert.equal(await textOf(client.request({ ':path': '/' })), String(old.pid))
    const slow = [busy.request({ ':path': '/slow' }), busy.request({ ':path': '/slow' })]
    await old.event('asked')
    await old.event('asked')
    const goaways = Promise.all([busy, idle].map((client) => once(client, 'goaway')))
    const closes = Promise.all([busy, idle].map((client) => once(client, 'close')))
    const young = await replace(lab, old, program)
    await within('GOAWAY', goaways)
    const texts = Promise.all(slow.map(textOf))
    await old.run(({ finish }) => finish())
    assert.deepEqual(await texts, [String(old.pid), String(old.pid)])
    await within('the end of both sessions', closes)
    assert.deepEqual((await drained(old)).listeners, { h2: counts(0, 2, 0, 0) })
    const next = session(scheme, port)
    assert.equal(await textOf(next.request({ ':path': '/' })), String(young.pid))
    next.close()
  })
}

// With a client of our own, frame by frame: Node's refuses by itself what it has not sent yet when
// GOAWAY comes, and that is not the server's doing.

test('http2: the first GOAWAY refuses nothing: what a client sends that has not read it yet is answered', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const port = Number(await old.run(clearHttp2))
  const clients = await Promise.all(Array.from({ length: 20 }, () => Http2Connection.open(connect(port, '127.0.0.1'))))
  // By the clock, and not stopped by GOAWAY: to the server these have not read it. No more at once
  // than a slow machine can answer.
  const asking = setInterval(() => {
    for (const client of clients) if (client.unanswered < 30) client.request('/')
  }, 2)
  using _ = { [Symbol.dispose]: () => clearInterval(asking) }
  await eventually('some answers', () => clients.every(({ answers }) => answers.size > 10) || undefined)
  await replace(lab, old, clearHttp2)
  for (const client of clients) assert.equal(await client.goaway(), 2 ** 31 - 1)
  const sent = clients.map(({ lastStream }) => lastStream)
  // The second one comes while they still ask, and says up to where they are answered.
  const last = await Promise.all(clients.map((client) => client.goaway()))
  clearInterval(asking)
  for (const [at, client] of clients.entries()) await client.allAnswered(String(old.pid), last[at])
  assert.ok(last.some((one, at) => one > (sent[at] ?? 0)))
  await drained(old)
  for (const client of clients) await client.closed
})

test('http2 over TLS: clients that ask again when they have their answers lose none', async () => {
  await using lab = await Lab.open()
  makeCertificate(lab)
  const old = await lab.start()
  const port = Number(await old.run(secureHttp2))
  const clients = await Promise.all(Array.from({ length: 20 }, () => Http2Connection.open(secureSocket(port, ['h2']))))
  // As many at once as their number says; the first only when it is asked to, and stays idle.
  const asking = clients.map((client, count) => Promise.all(Array.from({ length: count }, () => askOn(client))))
  await eventually('some answers', () => clients.every(({ answers }, at) => at === 0 || answers.size > 30) || undefined)
  await replace(lab, old, secureHttp2)
  await within('the end of all requests', Promise.all(asking))
  for (const client of clients) await client.allAnswered(String(old.pid))
  assert.deepEqual((await drained(old)).listeners, { h2: counts(0, 20, 0, 0) })

  async function askOn(client: Http2Connection): Promise<void> {
    while (!client.hasGoaway) await client.answer(client.request('/'))
  }
})

test('http2: HTTP/1.1 on the same port drains as https does', async () => {
  await using lab = await Lab.open()
  makeCertificate(lab)
  const program: Program = async ({ open, listen, onRequest, kept, fs }) => {
    const { createSecureServer } = process.getBuiltinModule('node:http2')
    await open()
    const options = { key: fs.readFileSync('key.pem'), cert: fs.readFileSync('cert.pem'), allowHTTP1: true }
    const port = await listen(createSecureServer(options, onRequest), { name: 'both' })
    await kept.daemon?.ready()
    return port
  }
  const old = await lab.start()
  const port = Number(await old.run(program))
  const client = await secure(port)
  await client.ask()
  await replace(lab, old, program)
  await stopsAccepting(old)
  assert.deepEqual(await client.ask(), answer(old, true))
  assert.deepEqual((await drained(old)).listeners, { both: counts(0, 1, 0, 0) })
})

function session(scheme: string, port: number): ClientHttp2Session {
  return connectHttp2(`${scheme}://127.0.0.1:${port}`, { rejectUnauthorized: false }).on('error', () => {})
}

async function textOf(stream: ClientHttp2Stream): Promise<string> {
  let text = ''
  stream.setEncoding('utf8').on('data', (more) => {
    text += more
  })
  await within('the end of a stream', once(stream, 'close'))
  return text
}

// ---------------------------------------------------------------------------------------------- protocols of one's own

/** Counts the bytes of each connection, and takes the count along. */
const counter: Program = async ({ open, listen, net }) => {
  type Socket = import('node:net').Socket
  const daemon = await open()
  const sockets = new Map<Socket, { bytes: number }>()
  const serve = (socket: Socket, state = { bytes: 0 }) => {
    sockets.set(socket, state)
    socket.on('error', () => {}).once('close', () => sockets.delete(socket))
    socket.on('data', (data) => {
      state.bytes += data.length
      socket.write(`${process.pid} ${state.bytes}\n`)
    })
  }
  daemon.onDrain(() => Promise.all([...sockets].map(([socket, state]) => daemon.handOver('counter', socket, state))))
  daemon.onHandedOver('counter', (socket, state) => serve(socket, state as { bytes: number }))
  const port = await listen(
    net.createServer((socket) => serve(socket)),
    { name: 'raw' },
  )
  await daemon.ready()
  return port
}

test("connections of the program's own protocol move with their state, through three versions", async () => {
  await using lab = await Lab.open()
  let puppet = await lab.start()
  const port = Number(await puppet.run(counter))
  const clients = [await HttpConnection.open(port), await HttpConnection.open(port)]
  let bytes = 0
  for (let upgrades = 0; upgrades < 3; upgrades++) {
    bytes += 5
    for (const client of clients) assert.equal(await echoOf(client, 'bytes'), `${puppet.pid} ${bytes}\n`)
    const young = await replace(lab, puppet, counter)
    assert.deepEqual((await drained(puppet)).listeners, { raw: counts(2, 0, 0, 0) })
    puppet = young
  }
  for (const client of clients) client.socket.destroy()
})

test('what was sent to a connection that the program had paused goes along', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const port = await old.run(async ({ open, listen, net, kept, tell }) => {
    const daemon = await open()
    const server = net.createServer((socket) => {
      socket.on('error', () => {}).once('readable', () => tell('readable'))
      kept.socket = socket
    })
    daemon.onDrain(() => daemon.handOver('mine', kept.socket as never))
    const at = await listen(server, { name: 'raw' })
    await daemon.ready()
    return at
  })
  const client = await HttpConnection.open(port)
  client.socket.write('read by Node, and by nobody')
  await old.event('readable')
  await replace(lab, old, async ({ open, listen, net, kept }) => {
    const daemon = await open()
    daemon.onHandedOver('mine', (socket) => {
      socket.on('data', (data) => socket.write(`new: ${data}`))
    })
    await listen(net.createServer(), { name: 'raw' })
    await kept.daemon?.ready()
  })
  await eventually('all of it', () => client.text === 'new: read by Node, and by nobody' || undefined)
  client.socket.destroy()
})

test('connections that nobody hands over stay until drainTimeout, are cut then, and counted', async () => {
  await using lab = await Lab.open()
  const program: Program = async ({ open, listen, net, kept }) => {
    await open({ drainTimeout: 1_000 })
    const server = net.createServer((socket) => {
      socket.on('error', () => {}).on('data', (data) => socket.write(data))
    })
    const port = await listen(server, { name: 'raw' })
    await kept.daemon?.ready()
    return port
  }
  const old = await lab.start()
  const port = Number(await old.run(program))
  const [leaves, stays] = [await HttpConnection.open(port), await HttpConnection.open(port)]
  for (const client of [leaves, stays]) await echoOf(client, 'hello')
  await replace(lab, old, program)
  assert.equal(await echoOf(stays, 'still served'), 'still served')
  leaves.socket.end()
  await stays.closed
  assert.deepEqual(fates(await drained(old)), { ...counts(0, 1, 0, 1), listeners: { raw: counts(0, 1, 0, 1) } })
})

async function echoOf(client: HttpConnection, text: string): Promise<string> {
  client.text = ''
  client.socket.write(text)
  return eventually(`an echo of ${text}`, () => (/\n$|^still|^hello/.test(client.text) ? client.text : undefined))
}

// ---------------------------------------------------------------------------------------------- the deadline, the report

test('at drainTimeout what is unanswered is cut, and the report says of each listener what became of its connections', async () => {
  await using lab = await Lab.open()
  const program: Program = async ({ open, listen, web, kept, net }) => {
    await open({ drainTimeout: 1_000 })
    const one = await listen(web(), { name: 'one' })
    const two = await listen(web(), { name: 'two' })
    const raw = await listen(net.createServer(), { name: 'raw' })
    await kept.daemon?.ready()
    return { one, two, raw }
  }
  const old = await lab.start()
  const { one, two, raw } = (await old.run(program)) as { one: number; two: number; raw: number }
  const idle = [await HttpConnection.open(one), await HttpConnection.open(one), await HttpConnection.open(two)]
  for (const client of idle) await client.ask()
  const [busy, stuck, held] = [
    await HttpConnection.open(one),
    await HttpConnection.open(two),
    await HttpConnection.open(raw),
  ]
  busy.send('/slow')
  await old.event('asked')
  await replace(lab, old, program)
  await old.run(({ finish }) => finish())
  await busy.answer()
  // New ones reach the new version only, so this one was accepted before.
  assert.equal(stuck.hasEnded, false)
  await held.closed
  assert.deepEqual(fates(await drained(old)), {
    ...counts(5, 0, 0, 1),
    listeners: { one: counts(3, 0, 0, 0), two: counts(2, 0, 0, 0), raw: counts(0, 0, 0, 1) },
  })
})

test('the report of an upgrade and that of its drain can be read as text', async () => {
  await using lab = await Lab.open()
  const program: Program = async ({ open, listen, web, kept }) => {
    await open()
    const ports = [await listen(web(), { name: 'one' }), await listen(web(), { name: 'two' })]
    await kept.daemon?.ready()
    return ports
  }
  const old = await lab.start()
  const [one = 0] = (await old.run(program)) as number[]
  const client = await HttpConnection.open(one)
  await client.ask()
  const texts = old.run(async ({ kept }) => {
    const report = await kept.daemon?.upgrade()
    return [`${report}`, `${await report?.drained}`, JSON.stringify(await report?.drained)]
  })
  const young = await lab.next()
  await young.run(program)
  const [upgraded = '', drain, json = ''] = await texts
  const phases = 'spawn \\d+, boot \\d+, ready \\d+, commit \\d+'
  assert.match(upgraded, new RegExp(`^generation 2 \\(pid ${young.pid}\\) serves after \\d+ ms: ${phases}$`))
  assert.equal(drain, 'connections: 1 handed over; one: 1 handed over; two: none')
  assert.deepEqual(JSON.parse(json).listeners, { one: counts(1, 0, 0, 0), two: counts(0, 0, 0, 0) })
  client.socket.destroy()
})

test('connections that cannot move in time end with an answer that says so, and not in the middle of a request', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const port = await old.run(({ serve, http, onRequest }) => {
    // Each answer takes its time, as of a server that has much to do.
    const server = http.createServer((request, response) => {
      if (request.url === '/slow') onRequest(request, response)
      else setTimeout(() => response.end(), 200)
    })
    return serve({ drainTimeout: 3_000 }, server)
  })
  const clients = await Promise.all(Array.from({ length: 30 }, () => HttpConnection.open(port)))
  for (const client of clients) client.send('/slow')
  for (const _ of clients) await old.event('asked')
  const young = await replace(lab, old, ({ serve }) => serve())
  await eventually('the end of accepting', async () => {
    return (await old.run(({ kept }) => kept.server?.listening)) === false ? true : undefined
  })
  // It takes two, a few more are held for their turn, and the others go on being served.
  young.kill('SIGSTOP')
  let isBack = false
  const ends = clients.map(async (client) => {
    try {
      for (let answer = await client.answer(); !answer.closes; answer = await client.ask()) if (isBack) return 'stayed'
      return 'told'
    } catch {
      return 'cut'
    }
  })
  await old.run(({ finish }) => finish())
  await old.event('successor-lost')
  isBack = true
  const all = await Promise.all(ends)
  const count = (end: string) => all.filter((one) => one === end).length
  assert.ok(count('told') >= 15, `${count('told')} were told`)
  assert.ok(count('cut') <= 2, `${count('cut')} were cut`)
})

test('an old version stops accepting long before its deadline: what it accepted last is answered, however slow its moves are', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const port = await old.run(({ serve, http }) => {
    const server = http.createServer({ keepAliveTimeout: 60_000 }, (request, response) => {
      if (request.url === '/late') setTimeout(() => response.end(`${process.pid}`), 500)
      else response.end(`${process.pid}`)
    })
    return serve({ drainTimeout: 4_000 }, server)
  })
  await idleConnections(port, 300)
  const young = await replace(lab, old, ({ serve, http }) => {
    const server = http.createServer((_, response) => response.end(`${process.pid}`))
    // All of them would take it longer than the whole drain.
    server.on('connection', () => {
      for (const end = performance.now() + 20; performance.now() < end; );
    })
    return serve({}, server)
  })
  const answers = new Set<string>()
  let isOver = false
  const asking = Array.from({ length: 10 }, async () => {
    while (!isOver) {
      const client = await HttpConnection.open(port)
      answers.add((await client.ask('/late')).body)
      client.socket.destroy()
    }
  })
  const { cut, times } = await drained(old)
  isOver = true
  await Promise.all(asking)
  assert.equal(cut, 0)
  assert.deepEqual(answers, new Set([`${old.pid}`, `${young.pid}`]))
  const { stoppedAccepting = Infinity, toldToEnd = 0 } = times
  assert.ok(stoppedAccepting < toldToEnd, JSON.stringify(times))
})

test('a new version that does not respond at the end of the moves is not left alone with the service', {
  skip: !takesAll,
}, async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const port = await old.run(({ serve, web }) => serve({ drainTimeout: 1_500 }, web({ keepAliveTimeout: 60_000 })))
  await idleConnections(port, 300)
  const young = await replace(lab, old, haltsAt50)
  await halted(young)
  // For longer than two thirds of the time.
  let last = performance.now()
  for (const end = last + 1_200; last < end; last = performance.now()) {
    const client = await HttpConnection.open(port)
    assert.deepEqual(await client.ask(), answer(old))
    client.socket.destroy()
  }
  young.kill('SIGCONT')
  await drained(old)
})

test('a request that is not answered by drainTimeout is cut', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const port = await old.run(({ start }) => start({ drainTimeout: 500 }))
  const client = await HttpConnection.open(port)
  client.send('/slow')
  await old.event('asked')
  await replace(lab, old)
  await client.closed
  assert.deepEqual((await drained(old)).listeners, { web: counts(0, 0, 0, 1) })
})

// ---------------------------------------------------------------------------------------------- signals

test('whoever hears that an upgrade failed can try again at once', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  await old.run(({ serve, kept, tell }) => {
    const { subscribe } = process.getBuiltinModule('node:diagnostics_channel')
    let tries = 0
    subscribe('cook-daemon', (event) => {
      const { type, error } = event as { readonly type: string; readonly error?: { readonly code: string } }
      if (type !== 'upgrade-failed') return
      tell('failed', [error?.code])
      if (++tries < 2) kept.daemon?.upgrade().catch(() => {})
    })
    return serve()
  })
  old.kill('SIGUSR2')
  for (let turn = 0; turn < 2; turn++) {
    const young = await lab.next()
    young.run(() => process.exit(3)).catch(() => {})
    assert.match(String(await old.event('failed')), /ERR_COOK_SUCCESSOR_EXITED/)
  }
  await replace(lab, old)
})

test('a stop at the very commit answers what is in flight, and leaves the service to the new version', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const port = await old.run(({ serve, kept }) => {
    process.getBuiltinModule('node:diagnostics_channel').subscribe('cook-daemon', (event) => {
      const { type, phase: at } = event as { readonly type: string; readonly phase?: string }
      if (type === 'phase' && at === 'draining') void kept.daemon?.stop()
    })
    return serve({ moveConnections: false })
  })
  const busy = await HttpConnection.open(port)
  const asked = busy.ask('/slow')
  await old.event('asked')
  const next = await replace(lab, old, ({ serve }) => serve())
  await old.run(({ finish }) => finish())
  assert.equal((await asked).body, String(old.pid))
  await old.gone
  assert.deepEqual(await (await HttpConnection.open(port)).ask(), answer(next))
})

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  test(`${signal} finishes what is in flight, closes what is idle, and ends the process with 0`, async () => {
    await using lab = await Lab.open()
    const child = lab.spawn('puppet')
    const puppet = await lab.next()
    const port = await puppet.run(({ serve }) => serve({ pidFile: 'pid' }))
    const [idle, busy] = [await HttpConnection.open(port), await HttpConnection.open(port)]
    await idle.ask()
    busy.send('/slow')
    await puppet.event('asked')
    puppet.kill(signal)
    await idle.closed
    await assert.rejects(HttpConnection.open(port), { code: 'ECONNREFUSED' })
    await puppet.run(({ finish }) => finish())
    assert.deepEqual(await busy.answer(), answer(puppet, true))
    assert.deepEqual((await drained(puppet)).listeners, { 'tcp:127.0.0.1:0': counts(0, 1, 1, 0) })
    await puppet.gone
    assert.equal(child.exitCode ?? (await once(child, 'exit'))[0], 0)
    assert.throws(() => lab.read('pid'), { code: 'ENOENT' })
  })

  test(`${signal} while the first version starts ends it, and its exit code says what ended it`, async () => {
    await using lab = await Lab.open()
    const child = lab.spawn('puppet')
    const puppet = await lab.next()
    puppet
      .run(({ serve, tell }) => {
        const prepare = () => new Promise(() => tell('preparing'))
        return serve({ pidFile: 'pid', prepare })
      })
      .catch(() => {})
    await puppet.event('preparing')
    puppet.kill(signal)
    await puppet.gone
    assert.equal(child.exitCode ?? (await once(child, 'exit'))[0], signal === 'SIGTERM' ? 143 : 130)
    assert.throws(() => lab.read('pid'), { code: 'ENOENT' })
  })

  test(`${signal} in an upgrade ends that, kills the new version, and then ends the old one`, async () => {
    await using lab = await Lab.open()
    const old = await lab.start()
    await old.run(({ serve }) => serve())
    old.kill('SIGUSR2')
    const young = await lab.next()
    old.kill(signal)
    assert.match(String((await failure(old)).error), /the upgrade was aborted because the service is being stopped/)
    await young.gone
    await old.gone
  })

  test(`${signal} while both versions accept ends the upgrade, kills the new one, and then ends the old one`, async () => {
    await using lab = await Lab.open()
    const old = await lab.start()
    await old.run(({ serve }) => serve({ overlap: 20_000 }))
    old.kill('SIGUSR2')
    const young = await lab.next()
    young.run(({ serve }) => serve()).catch(() => {})
    await phase(old, 'overlapping')
    old.kill(signal)
    assert.match(String((await failure(old)).error), /the upgrade was aborted because the service is being stopped/)
    await young.gone
    await old.gone
  })

  test(`${signal} to a new version that was not accepted yet ends that alone`, async () => {
    await using lab = await Lab.open()
    const old = await lab.start()
    const port = await old.run(({ serve }) => serve({ overlap: 20_000 }))
    old.kill('SIGUSR2')
    const young = await lab.next()
    young.run(({ serve }) => serve()).catch(() => {})
    await phase(old, 'overlapping')
    young.kill(signal)
    assert.match(String((await failure(old)).error), signal === 'SIGTERM' ? /exit code 143/ : /exit code 130/)
    const client = await HttpConnection.open(port)
    assert.deepEqual(await client.ask(), answer(old))
  })

  test(`in an old version that drains, the first ${signal} closes what is idle and the second cuts the rest`, async () => {
    await using lab = await Lab.open()
    const old = await lab.start()
    const port = await old.run(({ serve }) => serve({ moveConnections: false }))
    const [idle, busy] = [await HttpConnection.open(port), await HttpConnection.open(port)]
    await idle.ask()
    busy.send('/slow')
    await old.event('asked')
    await replace(lab, old, ({ serve }) => serve())
    await stopsAccepting(old)
    assert.equal(idle.hasEnded, false)
    old.kill(signal)
    await idle.closed
    assert.equal(busy.hasEnded, false)
    await untilCut(old, signal, busy.closed)
    assert.deepEqual((await drained(old)).listeners, { 'tcp:127.0.0.1:0': counts(0, 0, 1, 1) })
    await old.gone
  })
}

/** Stands still, and says so, when it has got 50 connections. */
const haltsAt50: Program = ({ serve, web, tell }) => {
  const server = web({ keepAliveTimeout: 60_000 })
  let got = 0
  server.on('connection', () => {
    if (++got !== 50) return
    tell('halted')
    setImmediate(() => process.kill(process.pid, 'SIGSTOP'))
  })
  return serve({ pidFile: 'pid' }, server)
}

async function halted(puppet: Puppet): Promise<void> {
  await puppet.event('halted')
  // It says so a moment before: what woke it then would come too early.
  await eventually('a process that stands still', () => {
    return / T /.test(readFileSync(`/proc/${puppet.pid}/stat`, 'latin1')) || undefined
  })
}

test('SIGTERM to an old version whose connections are moving costs none of them: it ends when all have moved', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const port = await old.run(({ serve, web }) => serve({}, web({ keepAliveTimeout: 60_000 })))
  const clients = await idleConnections(port, 300)
  const young = await replace(lab, old, haltsAt50)
  await halted(young)
  old.kill('SIGTERM')
  // Heard before the new version goes on.
  await old.run(() => {})
  young.kill('SIGCONT')
  assert.deepEqual((await drained(old)).listeners, { 'tcp:127.0.0.1:0': counts(300, 0, 0, 0) })
  await old.gone
  assert.deepEqual(await askAll(clients), [answer(young)])
})

test('a second SIGTERM to an old version whose connections are moving ends it, even if the new one stands still', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const port = await old.run(({ serve, web }) => serve({ drainTimeout: 600_000 }, web({ keepAliveTimeout: 60_000 })))
  const clients = await idleConnections(port, 300)
  const young = await replace(lab, old, haltsAt50)
  await halted(young)
  const { handedOver, served, closed, cut } = await untilCut(old, 'SIGTERM', drained(old))
  assert.equal(handedOver + closed + cut, 300)
  assert.equal(served, 0)
  await old.gone
  young.kill('SIGCONT')
  // What was on its way and counted as cut may arrive all the same: each is there, or has ended.
  await eventually('the ends of what was left', async () => {
    const here = await young.run(
      ({ kept }) => new Promise<number>((told) => kept.server?.getConnections((_, found) => told(found))),
    )
    return clients.filter(({ hasEnded }) => hasEnded).length + here === 300 || undefined
  })
  const stayed = clients.filter(({ hasEnded }) => !hasEnded)
  assert.ok(stayed.length >= handedOver && stayed.length <= handedOver + cut)
  assert.deepEqual(await askAll(stayed), [answer(young)])
})

test('SIGTERM to a new version that is getting connections ends both, and closes what is idle', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const port = await old.run(({ serve, web }) =>
    serve({ pidFile: 'pid', drainTimeout: 600_000 }, web({ keepAliveTimeout: 60_000 })),
  )
  const clients = await idleConnections(port, 300)
  const young = await replace(lab, old, haltsAt50)
  await halted(young)
  young.kill('SIGTERM')
  young.kill('SIGCONT')
  for (const puppet of [old, young]) await puppet.gone
  for (const client of clients) await client.closed
  const [before, after] = [await drained(old), await drained(young)]
  assert.equal(before.handedOver + before.closed, 300)
  assert.deepEqual([before.served, before.cut], [0, 0])
  assert.deepEqual(after.listeners, { 'tcp:127.0.0.1:0': counts(0, 0, before.handedOver, 0) })
  assert.throws(() => lab.read('pid'), { code: 'ENOENT' })
})

test('SIGTERM to the middle one of three generations ends neither of the others, and costs no connection', async () => {
  await using lab = await Lab.open()
  const first = await lab.start()
  const port = await first.run(({ serve }) => serve())
  const one = await HttpConnection.open(port)
  one.send('/slow')
  await first.event('asked')
  const second = await replace(lab, first, ({ serve }) => serve())
  await stopsAccepting(first)
  const two = await HttpConnection.open(port)
  two.send('/slow')
  await second.event('asked')
  const third = await replace(lab, second, ({ serve }) => serve())
  await stopsAccepting(second)
  second.kill('SIGTERM')
  for (const [puppet, client] of [
    [second, two],
    [first, one],
  ] as const) {
    await puppet.run(({ finish }) => finish())
    assert.deepEqual(await client.answer(), answer(puppet))
    assert.deepEqual(await client.ask(), answer(third))
  }
  for (const puppet of [first, second]) {
    assert.deepEqual((await drained(puppet)).listeners, { 'tcp:127.0.0.1:0': counts(1, 0, 0, 0) })
    await puppet.gone
  }
  assert.equal(await third.run(({ kept }) => kept.daemon?.phase), 'ready')
})

for (const signal of ['SIGHUP', 'SIGUSR1'] as const) {
  test(`${signal} upgrades where it is told to`, async () => {
    await using lab = await Lab.open()
    let puppet = await lab.start()
    const port = await puppet.run(({ serve }, upgrade) => serve({ signals: { upgrade } }), signal)
    for (let upgrades = 0; upgrades < 2; upgrades++) {
      puppet.kill(signal)
      const young = await lab.next()
      await young.run(({ serve }, upgrade) => serve({ signals: { upgrade } }), signal)
      await puppet.gone
      puppet = young
    }
    const client = await HttpConnection.open(port)
    assert.deepEqual(await client.ask(), answer(puppet))
  })
}

// ---------------------------------------------------------------------------------------------- the stop of all generations

test('a stop of the newest version closes what is idle in older ones too, and it leaves after them', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const port = await old.run(({ serve }) => serve({ moveConnections: false }))
  const [idle, busy] = [await HttpConnection.open(port), await HttpConnection.open(port)]
  await idle.ask()
  busy.send('/slow')
  await old.event('asked')
  const young = await replace(lab, old, ({ serve }) => serve())
  await stopsAccepting(old)
  young.kill('SIGTERM')
  await idle.closed
  assert.equal(busy.hasEnded, false)
  assert.equal(await young.run(({ kept }) => kept.daemon?.phase), 'draining')
  await old.run(({ finish }) => finish())
  assert.deepEqual(await busy.answer(), answer(old, true))
  await old.gone
  await young.gone
})

test('a stop ends all generations within the drainTimeout of the newest', async () => {
  await using lab = await Lab.open()
  const first = await lab.start()
  const port = await first.run(({ serve }) => serve({ drainTimeout: 600_000 }))
  const one = await HttpConnection.open(port)
  one.send('/slow')
  await first.event('asked')
  const second = await replace(lab, first, ({ serve }) => serve({ drainTimeout: 600_000 }))
  await stopsAccepting(first)
  const two = await HttpConnection.open(port)
  two.send('/slow')
  await second.event('asked')
  const third = await replace(lab, second, ({ serve }) => serve({ drainTimeout: 1_000 }))
  third.kill('SIGTERM')
  for (const puppet of [third, second, first]) await puppet.gone
  for (const client of [one, two]) await client.closed
})

// ---------------------------------------------------------------------------------------------- what these tests share

function answer(puppet: Puppet, closes = false) {
  return { status: 200, body: String(puppet.pid), closes }
}

/** Signals until it is another stop than the first, and no other way of the same. */
async function untilCut<Result>(puppet: Puppet, signal: NodeJS.Signals, end: Promise<Result>): Promise<Result> {
  const signalling = setInterval(() => puppet.kill(signal), 100)
  try {
    return await within('the cut', end)
  } finally {
    clearInterval(signalling)
  }
}

async function failure(puppet: Puppet): Promise<{ error: string }> {
  return (await puppet.event('upgrade-failed')) as { error: string }
}

async function phase(puppet: Puppet, name: string): Promise<void> {
  await eventually(`the phase ${name}`, () =>
    puppet.events.some(({ value }) => (value as { phase?: string } | undefined)?.phase === name) ? true : undefined,
  )
}

/** From then on answers say what becomes of their connection. */
async function stopsAccepting(puppet: Puppet): Promise<void> {
  await eventually('an old version that accepts no more', async () =>
    (await puppet.run(({ kept }) => kept.server?.listening)) ? undefined : true,
  )
}
