/** A connection that OpenSSL began and this library goes on with; the client is OpenSSL's. */
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import http from 'node:http'
import net from 'node:net'
import { buffer } from 'node:stream/consumers'
import { test } from 'node:test'
import tls from 'node:tls'
import { inspect } from 'node:util'
import v8 from 'node:v8'
import { WebSocket, WebSocketServer } from 'ws'
import { connectionOfHandle, startReading } from '../../src/node/connections.ts'
import { handleOf } from '../../src/node/tls-sockets.ts'
import { AdoptedTls } from '../../src/tls/adopted.ts'
import { decodeTlsState, encodeTlsState, type TlsState } from '../../src/tls/state.ts'
import { type SuiteName, suites } from '../../src/tls/suites.ts'
import { deferred } from '../../src/waiting.ts'
import { type Adopted, adopt, certificate, Sealer, stateOf, TlsClient, TlsRelay } from '../support/tls-relay.ts'
import { eventually, within } from '../support/waiting.ts'

const data = 23
const handshake = 22
const names = Object.keys(suites) as SuiteName[]
const proven = (state: TlsState): TlsState => ({ ...state, isProven: true })

/** One connection of a client, adopted. */
async function connect(
  use: (client: TlsClient, adopted: Adopted) => Promise<void>,
  options: ConstructorParameters<typeof TlsRelay>[1] & { client?: tls.ConnectionOptions } = {},
): Promise<void> {
  const come = deferred<Adopted>()
  await using relay = new TlsRelay((adopted) => come.resolve(adopted), options)
  using client = await TlsClient.connect(await relay.listen(), options.client)
  const adopted = await within('the connection', come.promise)
  adopted.socket.on('error', () => {})
  await use(client, adopted)
}

function heard(stream: NodeJS.ReadableStream, length: number): Promise<Buffer> {
  const parts: Buffer[] = []
  let count = 0
  return within(
    `${length} bytes`,
    new Promise((resolve, reject) => {
      stream.on('data', (part: Buffer) => {
        parts.push(part)
        count += part.length
        if (count >= length) resolve(Buffer.concat(parts))
      })
      stream.once('error', reject)
    }),
  )
}

async function until(name: string, isTrue: () => boolean): Promise<void> {
  await eventually(name, () => isTrue() || undefined)
}

for (const suite of names) {
  test(`${suite}: data of every size goes both ways, as it was`, async () => {
    const ciphers = { ciphers: suite }
    await connect(
      async (client, { socket, told, state }) => {
        assert.equal(state.suite, suite)
        for (const length of [1, 16_383, 16_384, 16_385, 300_000, 3_000_000]) {
          const sent = Buffer.alloc(length, `${length} bytes `)
          client.socket.write(sent)
          assert.ok((await heard(socket, length)).equals(sent))
          socket.removeAllListeners('data')
          socket.write(sent)
          assert.ok((await heard(client.socket, length)).equals(sent))
          client.socket.removeAllListeners('data')
        }
        assert.deepEqual(told, ['proven'])
        assert.equal(socket.bytesRead, 3_349_153)
        assert.equal(socket.bytesWritten, 3_349_153)
      },
      { server: ciphers, client: ciphers },
    )
  })
}

test('what a server writes before it hears a word is read, and settles whose connection it is', async () => {
  await connect(async (client, { socket, told }) => {
    socket.write('welcome')
    assert.equal(String(await heard(client.socket, 7)), 'welcome')
    assert.deepEqual(told, ['proven'])
  })
})

test('what a server writes before it hears a word waits for the rest of a record that began elsewhere, and is not sent if that comes', async () => {
  await connect(async (client, { socket, told, raw }) => {
    const before = raw.bytesWritten
    const written = new Promise<Error | null | undefined>((done) => void socket.write('welcome', done))
    socket.write('and more')
    const rest = client.seal(data, Buffer.alloc(300)).subarray(100)
    client.write(rest)
    await within('the end', once(socket, 'close'))
    assert.deepEqual(told, [rest])
    assert.equal(raw.bytesWritten, before)
    assert.equal(((await within('the write', written)) as NodeJS.ErrnoException).code, 'ERR_COOK_TLS')
  })
})

test('nothing is sent, and a connection does not move on, before the other process is sure to hear whose it is', async () => {
  await connect(async (client, { raw, state }) => {
    const told = deferred<() => void>()
    const before = raw.bytesWritten
    raw.removeAllListeners()
    const socket = new AdoptedTls(raw, state, {
      proven: told.resolve,
      passing() {},
      returned() {},
      mayReturn: () => true,
    })
    socket.on('data', () => socket.write('answer'))
    // Nor while it could go back.
    assert.deepEqual([socket.mayLeave, socket.exportState()], [false, undefined])
    client.write(client.seal(data, Buffer.from('question')))
    const tell = await within('the question', told.promise)
    await new Promise((turn) => setImmediate(turn))
    assert.ok(socket.writableLength > 0)
    assert.equal(raw.bytesWritten, before)
    assert.equal(socket.mayLeave, false)
    assert.equal(socket.exportState(), undefined)
    tell()
    assert.equal(String(await heard(client.socket, 6)), 'answer')
  })
})

test('a client that updates its keys, and asks for ours, is understood and gets them once', async () => {
  await connect(async (client, { socket }) => {
    const asks = client.seal(handshake, [24, 0, 0, 1, 1])
    client.write(asks)
    client.updated()
    // More than once before there is anything to answer with.
    client.write(client.seal(handshake, [24, 0, 0, 1, 1]))
    client.updated()
    client.write(client.seal(data, Buffer.from('new keys')))
    assert.equal(String(await heard(socket, 8)), 'new keys')
    socket.write('ours too')
    assert.equal(String(await heard(client.socket, 8)), 'ours too')
    socket.write(' and on')
    assert.equal(String(await heard(client.socket, 7)), ' and on')
    assert.equal(socket.exportState()?.sendNumber, 2)
  })
})

test('openssl s_client, which updates its keys and asks for ours, and a client in Python are answered as before', async (t) => {
  const echo = ({ socket }: Adopted) => {
    socket.on('error', () => {})
    socket.on('data', (bytes: Buffer) => socket.write(`<${bytes}>`))
  }
  await using relay = new TlsRelay(echo)
  const port = await relay.listen()
  const python = [
    'import socket, ssl, sys',
    'context = ssl._create_unverified_context()',
    `link = context.wrap_socket(socket.create_connection(("127.0.0.1", ${port})))`,
    'for line in ["one", "two", "three"]:',
    '    link.sendall(line.encode()); print(link.recv(100).decode(), flush=True)',
  ].join('\n')
  const peers = [
    {
      command: 'openssl',
      args: ['s_client', '-connect', `127.0.0.1:${port}`, '-quiet', '-nocommands'],
      say: ['one', 'two', 'three'],
    },
    { command: 'openssl', args: ['s_client', '-connect', `127.0.0.1:${port}`], say: ['one', 'K', 'two', 'k', 'three'] },
    { command: 'python3', args: ['-c', python], say: [] },
  ]
  for (const { command, args, say } of peers) {
    if (spawnSync(command, ['--version']).error !== undefined) {
      t.diagnostic(`${command} is not here`)
      continue
    }
    const child = spawn(command, args, { stdio: 'pipe' })
    try {
      let said = ''
      for (const output of [child.stdout, child.stderr])
        output.on('data', (bytes: Buffer) => {
          said += bytes
        })
      for (const line of say) {
        const before = said.length
        child.stdin.write(`${line}\n`)
        if (line.toLowerCase() === 'k') await until('the update', () => said.includes('KEYUPDATE', before))
        else await until(line, () => said.includes(`<${line}`))
      }
      if (say.length === 0) await until('three', () => said.includes('<three>'))
    } finally {
      child.kill()
      await once(child, 'exit')
    }
  }
})

test('after 2^24 records with one key a client gets new ones', async () => {
  const server = net.createServer()
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const accepted = once(server, 'connection') as Promise<[net.Socket]>
  const client = net.connect((server.address() as net.AddressInfo).port, '127.0.0.1')
  const [raw] = await within('the connection', accepted)
  try {
    const state = stateOf('TLS_CHACHA20_POLY1305_SHA256', { sendNumber: 2 ** 24 - 1 })
    const sealer = new Sealer(state.suite, state.serverSecret, 2 ** 24 - 1)
    const { socket } = adopt(raw, state)
    socket.write('last')
    socket.write('first')
    const length = { last: 22 + 4, update: 22 + 5, first: 22 + 5 }
    const sent = await heard(client, length.last + length.update + length.first)
    assert.equal(String(sealer.open(sent.subarray(0, length.last)).content), 'last')
    const update = sealer.open(sent.subarray(length.last, length.last + length.update))
    assert.deepEqual([update.type, ...update.content], [handshake, 24, 0, 0, 1, 0])
    sealer.update()
    assert.equal(String(sealer.open(sent.subarray(-length.first)).content), 'first')
    assert.equal(socket.exportState()?.sendNumber, 1)
  } finally {
    client.destroy()
    raw.destroy()
    server.close()
  }
})

test('a client with a smaller max_fragment_length gets records of that size, and may send no longer ones', async () => {
  const change = (state: TlsState) => ({ ...proven(state), longestRecord: 512 })
  await connect(
    async (client, { socket, raw }) => {
      const before = raw.bytesWritten
      socket.write(Buffer.alloc(5_000))
      await heard(client.socket, 5_000)
      assert.equal(raw.bytesWritten - before, 5_000 + 10 * 22)
      const failed = once(socket, 'error')
      client.write(client.seal(data, Buffer.alloc(513)))
      const [error] = (await within('the error', failed)) as [NodeJS.ErrnoException]
      assert.equal(error.code, 'ERR_SSL_DATA_LENGTH_TOO_LONG')
    },
    { change },
  )
})

test('a connection moves on from process to process, with what was read and not opened', async () => {
  await connect(async (client, first) => {
    let current = first
    for (let generation = 0; generation < 5; generation++) {
      const { socket, raw } = current
      client.write(client.seal(data, Buffer.from(`ping ${generation}`)))
      assert.equal(String(await heard(socket, 6)), `ping ${generation}`)
      socket.removeAllListeners('data')
      const record = client.seal(data, Buffer.from(`half ${generation}`))
      const before = raw.bytesRead
      client.write(record.subarray(0, 9))
      await until('half a record', () => raw.bytesRead === before + 9)
      const state = socket.exportState()
      assert.ok(state)
      assert.equal(state.isProven, true)
      assert.equal(state.unread.length, 9)
      raw.removeAllListeners()
      startReading(raw)
      const moved = decodeTlsState(encodeTlsState(state))
      assert.ok(moved)
      current = adopt(raw, moved)
      client.write(record.subarray(9))
      assert.equal(String(await heard(current.socket, 6)), `half ${generation}`)
      current.socket.write(`pong ${generation}`)
      assert.equal(String(await heard(client.socket, 6)), `pong ${generation}`)
      client.socket.removeAllListeners('data')
      current.socket.removeAllListeners('data')
      assert.deepEqual(current.told, [])
    }
  })
})

test('many connections by their handles, cut anywhere, read what is theirs, and go on when a listener throws', async () => {
  const server = net.createServer({ pauseOnConnect: true })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const ends: { client: net.Socket; socket: AdoptedTls; sealer: Sealer; heard: Buffer[] }[] = []
  try {
    for (const suite of names) {
      const accepted = once(server, 'connection') as Promise<[net.Socket]>
      const client = net.connect((server.address() as net.AddressInfo).port, '127.0.0.1')
      const [raw] = await within('the connection', accepted)
      const state = stateOf(suite, { receiveNumbers: [0] })
      const sealer = new Sealer(suite, state.clientSecret)
      const { socket } = adopt(connectionOfHandle(handleOf(raw) ?? raw), state)
      const parts: Buffer[] = []
      socket.on('data', (part: Buffer) => {
        parts.push(part)
        if (part.length === 1) throw new Error('of the program')
      })
      ends.push({ client, socket, sealer, heard: parts })
    }
    const thrown: unknown[] = []
    process.setUncaughtExceptionCaptureCallback((error) => thrown.push(error))
    const wanted = ends.map(() => [] as Buffer[])
    for (let turn = 0; turn < 60; turn++) {
      for (const [at, { client, sealer }] of ends.entries()) {
        const content = Buffer.alloc(turn % 10 === 9 ? 1 : 10 + turn * 7, at + turn)
        wanted[at]?.push(content)
        const record = sealer.seal(data, content)
        // Whole ones, and the begin of the next: what is left of each stands in one buffer first.
        const cut = turn % 3 === 0 ? record.length : 1 + ((turn * 5) % (record.length - 1))
        // Now and then several in one piece.
        if (turn % 20 >= 8) client.cork()
        else while (client.writableCorked > 0) client.uncork()
        client.write(record.subarray(0, cut))
        await new Promise((next) => setImmediate(next))
        client.write(record.subarray(cut))
      }
    }
    for (const { client } of ends) while (client.writableCorked > 0) client.uncork()
    const all = (parts: readonly Buffer[] = []) => Buffer.concat(parts)
    for (const [at, { heard: parts }] of ends.entries()) {
      await until('all of it', () => all(parts).length === all(wanted[at]).length)
      assert.ok(all(parts).equals(all(wanted[at])))
    }
    assert.equal(thrown.length, 6 * ends.length)
  } finally {
    process.setUncaughtExceptionCaptureCallback(null)
    for (const { client, socket } of ends) [client.destroy(), socket.destroy()]
    server.close()
  }
})

test('a connection on which something is under way does not move', async () => {
  await connect(async (client, { socket, raw }) => {
    // Read, and not yet taken by the program.
    client.socket.write('unread')
    socket.pause()
    await until('the data', () => socket.readableLength > 0)
    assert.equal(socket.exportState(), undefined)
    socket.resume()
    await until('the program', () => socket.readableLength === 0)
    // Written, and not yet with the kernel.
    client.socket.pause()
    socket.write(Buffer.alloc(15_000_000))
    await until('the kernel takes no more', () => raw.writableLength > 0)
    assert.equal(socket.exportState(), undefined)
    client.socket.resume()
    await until('all is written', () => raw.writableLength === 0 && socket.writableLength === 0)
    // It is read as before.
    client.socket.write('goes on')
    assert.equal(String(await heard(socket, 7)), 'goes on')
  })
  await connect(async (client, { socket, raw }) => {
    const before = raw.bytesRead
    const half = client.seal(handshake, [24, 0, 0])
    client.write(half)
    await until('half a message', () => raw.bytesRead === before + half.length)
    assert.equal(socket.exportState(), undefined)
    client.write(client.seal(handshake, [1, 0]))
    client.updated()
    client.write(client.seal(data, [1]))
    await heard(socket, 1)
    assert.equal(socket.exportState()?.receiveNumbers[0], 1)
  })
})

test('after a connection has left, nothing can be written on it here', async () => {
  await connect(async (client, { socket, raw }) => {
    client.socket.write('x')
    await heard(socket, 1)
    const sent = raw.bytesWritten
    const state = socket.exportState()
    assert.ok(state)
    assert.equal(socket.exportState(), undefined)
    const failed = once(socket, 'error')
    socket.write('too late')
    const [error] = (await within('the error', failed)) as [NodeJS.ErrnoException]
    assert.equal(error.code, 'ERR_COOK_TLS')
    assert.equal(raw.bytesWritten, sent)
  })
  await connect(async (client, { socket, raw }) => {
    client.socket.write('x')
    await heard(socket, 1)
    const sent = raw.bytesWritten
    assert.ok(socket.exportState())
    socket.end()
    await within('the end', once(socket, 'finish'))
    socket.destroy()
    await within('the close', once(socket, 'close'))
    assert.equal(raw.bytesWritten, sent)
  })
})

test('a connection that comes back goes on, with what the other process has read', async () => {
  await connect(async (client, { socket, told }) => {
    await socket.untilAnnounced()
    const state = socket.exportState()
    assert.equal(state?.isProven, false)
    socket.takeBack(client.seal(data, Buffer.from('read elsewhere')))
    assert.equal(String(await heard(socket, 14)), 'read elsewhere')
    client.write(client.seal(data, Buffer.from(', and here')))
    assert.equal(String(await heard(socket, 10)), ', and here')
    socket.write('fine')
    assert.equal(String(await heard(client.socket, 4)), 'fine')
    assert.deepEqual(told, ['proven'])
  })
})

const noFit: Record<string, (client: TlsClient) => Buffer> = {
  'the end of a record that began in the other process': (client) =>
    Buffer.concat([client.seal(data, Buffer.alloc(300)).subarray(100), client.seal(data, [1])]),
  'a record that does not open': (client) => client.seal(data, Buffer.alloc(9)).fill(7, 8, 9),
  'a byte that begins no record': () => Buffer.from([99]),
  'half a record, and nothing more for 100 ms': (client) => client.seal(data, Buffer.alloc(300)).subarray(0, 200),
}

for (const [what, bytes] of Object.entries(noFit)) {
  test(`${what} goes back, byte for byte, and nothing was sent`, async () => {
    await connect(async (client, { socket, told, raw }) => {
      const before = raw.bytesWritten
      const sent = bytes(client)
      client.write(sent)
      await within('the end', once(socket, 'close'))
      assert.deepEqual(told, [sent])
      assert.equal(raw.bytesWritten, before)
    })
  })
}

test('half a record of a client that then closes goes back too', async () => {
  await connect(async (client, { socket, told }) => {
    const sent = client.seal(data, Buffer.alloc(300)).subarray(0, 200)
    client.write(sent)
    client.end()
    await within('the end', once(socket, 'close'))
    assert.deepEqual(told, [sent])
  })
})

test('the number of the next record is found among several, and one that ends unheard lets go', async () => {
  const receiveNumbers = [7, 3, 0, 1]
  await connect(
    async (client, { socket, told }) => {
      client.socket.write('hello')
      assert.equal(String(await heard(socket, 5)), 'hello')
      assert.deepEqual(told, ['proven'])
      assert.deepEqual(socket.exportState()?.receiveNumbers, [1])
    },
    { change: (state) => ({ ...state, receiveNumbers }) },
  )
  await connect(async (_client, { socket, told }) => {
    socket.destroy()
    await once(socket, 'close')
    assert.deepEqual(told, ['proven'])
  })
})

test('nothing of a secret is in what a program sees, logs or takes a heap snapshot of, and it is wiped at the end', async () => {
  await connect(async (client, { socket, state }) => {
    client.socket.write('hello')
    await heard(socket, 5)
    const secrets = [state.clientSecret, state.serverSecret].map((secret) => Buffer.from(secret))
    const texts = secrets.flatMap((secret) => [secret.toString('hex'), secret.toString('base64').replace(/=+$/, '')])
    const shown = inspect(socket, { showHidden: true, depth: 20, maxArrayLength: null, getters: true })
    const moved = socket.exportState()
    const snapshot = (await buffer(v8.getHeapSnapshot())).toString('latin1')
    const failed = once(socket, 'error')
    socket.write('too late')
    const [error] = (await failed) as [Error]
    // Not looked for in the snapshot: the relay's own key log is a text.
    for (const text of texts) assert.ok(!shown.includes(text) && !inspect(error).includes(text))
    for (const secret of secrets) assert.ok(!shown.includes(inspect(secret).slice(8, 40)))
    assert.ok(!snapshot.includes(secrets[0]?.toString('latin1') ?? ''))
    assert.ok(moved && moved.clientSecret.length === state.clientSecret.length)
    assert.ok([...state.clientSecret, ...state.serverSecret].every((byte) => byte === 0))
  })
})

test('it has every method of a TLSSocket, and its answers', async () => {
  /** Of a client's end, or of what only Node itself calls. */
  const left = ['connect', 'setServername', 'setSession', 'setKeyCert', 'bufferSize', 'constructor']
  const wanted = [tls.TLSSocket.prototype, net.Socket.prototype].flatMap((one) =>
    Object.getOwnPropertyNames(one).filter((name) => !name.startsWith('_') && !left.includes(name)),
  )
  const alpn = ['http/1.1']
  const client = { servername: 'localhost', ALPNProtocols: alpn }
  await connect(
    async ({ socket: peer }, { socket, raw }) => {
      assert.deepEqual(
        wanted.filter((name) => !(name in socket)),
        [],
      )
      assert.equal(socket.encrypted, true)
      assert.deepEqual(socket.getCipher(), peer.getCipher())
      assert.equal(socket.getProtocol(), peer.getProtocol())
      assert.equal(socket.alpnProtocol, 'http/1.1')
      assert.equal(socket.servername, 'localhost')
      assert.equal(socket.isSessionReused(), false)
      assert.equal(socket.authorized, false)
      assert.equal(socket.authorizationError, null)
      assert.deepEqual(socket.getPeerCertificate(), {})
      assert.equal(socket.remoteAddress, '127.0.0.1')
      assert.equal(socket.remotePort, peer.localPort)
      assert.equal(socket.localPort, peer.remotePort)
      assert.deepEqual(socket.address(), raw.address())
      assert.equal(socket.readyState, 'open')
      assert.equal(socket.setTimeout(9_000).setNoDelay(true).setKeepAlive(true).ref(), socket)
      assert.equal(socket.timeout, 9_000)
      assert.equal(socket.setMaxSendFragment(100), false)
      assert.equal(socket.setMaxSendFragment(1_000), true)
      assert.throws(() => socket.exportKeyingMaterial(), { code: 'ERR_COOK_TLS' })
      const refused = deferred<NodeJS.ErrnoException>()
      assert.equal(
        socket.renegotiate({}, (error) => refused.resolve(error)),
        false,
      )
      assert.equal((await refused.promise).code, 'ERR_COOK_TLS')
    },
    { alpn, client, change: (state) => ({ ...state, servername: 'localhost' }) },
  )
})

test('the certificate of a client comes along', async () => {
  const { raw } = new (await import('node:crypto')).X509Certificate(certificate.cert)
  await connect(
    async (_client, { socket }) => {
      assert.equal(socket.authorized, true)
      const { subject } = socket.getPeerCertificate() as tls.PeerCertificate
      assert.equal(subject.CN, 'localhost')
      assert.ok(socket.getPeerX509Certificate()?.raw.equals(raw))
    },
    { change: (state) => ({ ...state, authorized: true, peerCertificate: raw }) },
  )
})

/** A server of HTTP whose connections are all adopted. */
async function serve(
  listener: http.RequestListener,
  use: (port: number, server: http.Server) => Promise<void>,
): Promise<void> {
  const server = http.createServer({ keepAliveTimeout: 60_000 }, listener)
  // Only one that listens counts its connections.
  await once(server.listen(0, '127.0.0.1'), 'listening')
  await using relay = new TlsRelay(({ socket }) => server.emit('connection', socket))
  try {
    await use(await relay.listen(), server)
  } finally {
    server.close()
    server.closeAllConnections()
  }
}

test('HTTP: keep-alive, pipelined requests, bodies of a mebibyte both ways, and idle connections that are closed', async () => {
  await serve(
    async (request, response) => {
      const body = await buffer(request)
      response.setHeader('x-secure', String((request.socket as tls.TLSSocket).encrypted))
      response.end(request.method === 'POST' ? body : `answer to ${request.url}`)
    },
    async (port, server) => {
      using client = await TlsClient.connect(port)
      const pipelined = Array.from({ length: 20 }, (_, at) => `GET /${at} HTTP/1.1\r\nhost: a\r\n\r\n`)
      client.socket.write(pipelined.join(''))
      let answers = ''
      client.socket.on('data', (bytes) => {
        answers += bytes
      })
      await until('all answers', () => answers.match(/answer to \/\d+/g)?.length === 20)
      assert.deepEqual(
        answers.match(/answer to \/(\d+)/g),
        pipelined.map((_, at) => `answer to /${at}`),
      )
      assert.match(answers, /x-secure: true/)
      const body = Buffer.alloc(2 ** 20, 'body ')
      client.socket.removeAllListeners('data')
      client.socket.write(`POST / HTTP/1.1\r\nhost: a\r\ncontent-length: ${body.length}\r\n\r\n`)
      client.socket.write(body)
      const answer = await heard(client.socket, body.length + 100)
      assert.ok(answer.subarray(-body.length).equals(body))
      await until('the close', () => {
        server.closeIdleConnections()
        return client.socket.destroyed
      })
    },
  )
})

test('HTTP: a connection that has said nothing for keepAliveTimeout is closed, and one that ends is answered', async () => {
  await serve(
    (_request, response) => void response.end('bye'),
    async (port, server) => {
      server.keepAliveTimeout = 50
      using client = await TlsClient.connect(port)
      client.socket.write('GET / HTTP/1.1\r\nhost: a\r\n\r\n')
      await within('the answer', once(client.socket, 'data'))
      // With a close_notify: Node's client calls anything else an error of the connection.
      await within('the end', once(client.socket, 'end'))
      using last = await TlsClient.connect(port)
      last.socket.end('GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n')
      assert.match(String(await within('the last answer', buffer(last.socket))), /bye$/)
    },
  )
})

test('a WebSocket opens on it, and its messages go both ways', async () => {
  const server = http.createServer()
  const sockets = new WebSocketServer({ server })
  sockets.on('connection', (socket) => socket.on('message', (message) => socket.send(message)))
  await using relay = new TlsRelay(({ socket }) => server.emit('connection', socket))
  const port = await relay.listen()
  const client = new WebSocket(`wss://127.0.0.1:${port}`, { rejectUnauthorized: false })
  await within('the handshake', once(client, 'open'))
  for (const length of [1, 200, 70_000, 1_000_000]) {
    const message = Buffer.alloc(length, 'm')
    client.send(message)
    const [answer] = (await within('the answer', once(client, 'message'))) as [Buffer]
    assert.ok(answer.equals(message))
  }
  const closed = once(client, 'close')
  client.close(4000, 'done')
  assert.deepEqual((await within('the close', closed)).map(String), ['4000', 'done'])
})

test('a client that does not read holds the server back, and a server that does not read the client', async () => {
  await connect(async (client, { socket, raw }) => {
    client.socket.pause()
    assert.equal(socket.write(Buffer.alloc(30_000_000)), false)
    await until('the kernel takes no more', () => raw.writableLength > 0)
    // Of a large write a part is sealed at a time.
    assert.ok(raw.writableLength < 2 ** 21, String(raw.writableLength))
    socket.pause()
    assert.equal(client.socket.write(Buffer.alloc(15_000_000)), false)
    await until('the server takes no more', () => raw.isPaused())
    assert.ok(socket.readableLength < 2 ** 18, String(socket.readableLength))
    const all = heard(socket, 15_000_000)
    socket.resume()
    assert.equal((await all).length, 15_000_000)
    const answer = heard(client.socket, 30_000_000)
    client.socket.resume()
    assert.equal((await answer).length, 30_000_000)
  })
})
