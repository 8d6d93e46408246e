/**
 * Whoever holds the other end of a link or of a control socket may write what he likes: it costs no
 * crash, no hang, and no upgrade of others.
 */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { test } from 'node:test'
import fc from 'fast-check'
import { type LinkEvent, openLink } from '../../src/upgrade/link.ts'
import { control, linesOf, statusOf } from '../support/control.ts'
import { drained, replace } from '../support/daemons.ts'
import { Lab } from '../support/lab.ts'
import { within } from '../support/waiting.ts'

const json = fc.oneof(
  fc.record(
    {
      cmd: fc.constantFrom('NODE_COOK', 'NODE_HANDLE', 'NODE_HANDLE_ACK', 'NODE_HANDLE_NACK', 'NODE_CLUSTER', 'NODE_'),
      type: fc.constantFrom(
        'hello',
        'done',
        'value',
        'welcome',
        'news',
        'net.Socket',
        'net.Server',
        'dgram.Socket',
        '__proto__',
      ),
      ack: fc.nat(3),
      seq: fc.nat(3),
      act: fc.constantFrom('online', 'queryServer', 'close'),
      key: fc.constantFrom('__proto__', 'constructor'),
      names: fc.jsonValue(),
      msg: fc.jsonValue(),
    },
    { requiredKeys: ['cmd'] },
  ),
  fc.jsonValue(),
  fc.constantFrom({ toString: 1 }, [[]], {
    cmd: 'NODE_COOK',
    type: 'value',
    names: [{ toString: 1, valueOf: 1 }],
    name: 'x',
    version: 0,
    part: '',
  }),
)

/** A line as it may stand on the channel: a message, a piece of one, or bytes. */
const line = fc.oneof(
  { weight: 3, arbitrary: json.map((value) => Buffer.from(JSON.stringify(value))) },
  json.map((value) => Buffer.from(JSON.stringify(value).slice(0, -1))),
  fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
)

test('2,500 lines of hostile new versions, on real channels: each is heard, not heard, or told as broken, and every channel ends', async () => {
  await using lab = await Lab.open()
  const seen = { message: 0, broken: 0, closed: 0 }
  // Behind a broken line Node may read nothing right on a channel any more.
  for (let channel = 0; channel < 25; channel++) {
    // One that is well-formed, so that something is heard whatever the samples are.
    const lines = [Buffer.from('{"cmd":"NODE_COOK","type":"bye"}'), ...fc.sample(line, 99)]
    writeFileSync(lab.path('lines'), Buffer.concat(lines.flatMap((one) => [one, Buffer.from('\n')])))
    // Line by line: what stands behind a broken one in the same read is lost to Node.
    const code = `
      const fs = require('fs'), lines = fs.readFileSync('lines', 'latin1').split('\\n')
      const write = () => { if (lines.length > 0) { fs.writeSync(3, Buffer.from(lines.shift() + '\\n', 'latin1')); setImmediate(write) } }
      write()`
    const child = spawn(process.execPath, ['-e', code], {
      cwd: lab.folder,
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    })
    try {
      const ended = new Promise<void>((done) => {
        openLink(child, ({ type }: LinkEvent) => {
          seen[type]++
          if (type === 'closed') done()
        })
      })
      const exited = once(child, 'exit')
      await within('the end of the channel', ended)
      await exited
    } finally {
      child.kill('SIGKILL')
    }
  }
  assert.ok(seen.message >= 25 && seen.broken > 0 && seen.closed === 25, JSON.stringify(seen))
})

test('a new version that writes without a line end is told as broken before it fills the memory of the old one', async () => {
  await using lab = await Lab.open()
  const code = `
    const fs = require('fs'), bytes = Buffer.alloc(1024 * 1024, 0x78)
    const write = () => { try { fs.writeSync(3, bytes) } catch (error) { if (error.code !== 'EAGAIN') process.exit() } setImmediate(write) }
    write()`
  const child = spawn(process.execPath, ['-e', code], { cwd: lab.folder, stdio: ['ignore', 'ignore', 'ignore', 'ipc'] })
  try {
    const detail = await within(
      'the end of what is kept',
      new Promise<string>((done) => {
        openLink(child, (event) => event.type === 'broken' && done(event.detail))
      }),
    )
    assert.match(detail, /a message of more than/)
  } finally {
    child.kill('SIGKILL')
  }
  await once(child, 'exit')
})

const method = fc.constantFrom('GET', 'POST', 'HEAD', 'PUT', 'OPTIONS', 'CONNECT', 'TRACE', 'PRI', 'get', 'G\0T', '')
const target = fc.constantFrom(
  ...[
    '/status',
    '/metrics',
    '/../status',
    '/%2e%2e/upgrade',
    '//stop',
    '/upgrade/../stop',
    '*',
    'http://evil/status',
    '/status?x',
    '/',
    '',
    '/__proto__',
  ],
)
const header = fc.constantFrom(
  ...[
    'host: evil.example',
    'host: x\r\nhost: y',
    'content-length: 5',
    'content-length: 5\r\ncontent-length: 6',
    'content-length: -1',
    'content-length: 99999999999999',
  ],
  ...[
    'transfer-encoding: chunked',
    'transfer-encoding: chunked\r\ncontent-length: 4',
    'transfer-encoding: xchunked',
    'expect: 100-continue',
    'expect: x',
  ],
  ...[
    'connection: upgrade\r\nupgrade: websocket',
    'connection: upgrade\r\nupgrade: h2c',
    'connection: keep-alive',
    ' folded',
    'bad header',
    ': empty',
    `x: ${'y'.repeat(9_000)}`,
    '\0: x',
  ],
)
/** Broken JSON: a whole one would begin an upgrade. */
const body = fc.constantFrom(
  '',
  '{',
  '[',
  '5\r\n{"a":\r\n0\r\n\r\n',
  'ffffffff\r\n',
  '{"__proto__":{"polluted":1}}',
  '{"env":5}',
  '{"constructor":1}',
  'GET /status HTTP/1.1\r\nhost: x\r\n\r\n',
)

const request = fc.oneof(
  {
    weight: 4,
    arbitrary: fc
      .tuple(
        method,
        target,
        fc.constantFrom('HTTP/1.1', 'HTTP/1.0', 'HTTP/2.0', 'HTTP/9', ''),
        fc.array(header, { maxLength: 3 }),
        body,
      )
      .map(([how, what, version, headers, rest]) =>
        Buffer.from(`${how} ${what} ${version}\r\n${headers.map((one) => `${one}\r\n`).join('')}\r\n${rest}`),
      ),
  },
  fc
    .tuple(
      header,
      fc.constantFrom('{', '[', '{"__proto__":{"polluted":1}}', '{"env":5}', '{"release":[1]}', '{"overlap":1e999}'),
    )
    .map(([one, rest]) =>
      Buffer.from(`POST /upgrade HTTP/1.1\r\nhost: x\r\ncontent-length: ${rest.length}\r\n${one}\r\n\r\n${rest}`),
    ),
  fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
)

test('2,500 requests, malformed, smuggled, pipelined or no HTTP at all: each connection ends, and the daemon is as it was', async () => {
  await using lab = await Lab.open()
  const daemon = await lab.start()
  await daemon.run(({ start }) => start({ name: 'web' }))
  const path = lab.path('run', 'web.sock')
  const memory = async () => daemon.run(() => process.memoryUsage.rss())
  await statusOf(path)
  const before = await memory()
  const requests = fc.sample(request, 2_500)
  const client = async () => {
    for (let bytes = requests.pop(); bytes !== undefined; bytes = requests.pop()) {
      const socket = connect(path)
      socket.on('error', () => {}).resume()
      socket.end(bytes)
      await within(
        `the end of ${JSON.stringify(String(bytes))}`,
        once(socket, 'close').catch(() => {}),
      )
    }
  }
  await Promise.all(Array.from({ length: 16 }, client))
  const { phase, pid, upgrades } = await statusOf(path)
  assert.deepEqual([phase, pid, upgrades], ['ready', daemon.pid, { succeeded: 0, failed: 0 }])
  assert.equal(await daemon.run(() => ({}) as { polluted?: unknown }).then(({ polluted }) => polluted), undefined)
  assert.ok((await memory()) - before < 150 * 1024 * 1024)
})

/** Clients that do not behave, all there are places for and more. */
async function badClients(path: string): Promise<AsyncDisposable> {
  const sockets: Socket[] = []
  const add = (bytes: string, isRead = true) => {
    const socket = connect(path).on('error', () => {})
    socket.write(bytes)
    if (isRead) socket.resume()
    sockets.push(socket)
  }
  for (let count = 0; count < 15; count++) {
    add('GET /sta')
    add('')
    add('POST /upgrade HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n{')
    add('GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n'.repeat(20), false)
  }
  await Promise.all(
    sockets.map((socket) =>
      socket.connecting ? Promise.race([once(socket, 'connect'), once(socket, 'close')]) : undefined,
    ),
  )
  return {
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy()
    },
  }
}

test('clients that send half a request, or read no answer, hold neither an upgrade nor a stop', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  await old.run(({ start }) => start({ name: 'web', drainTimeout: 600_000 }))
  const path = lab.path('run', 'web.sock')
  await using _ = await badClients(path)
  // Accepted in their order: all those before this one are the old version's, and take no place of
  // the new one's.
  assert.equal((await statusOf(path)).pid, old.pid)
  const young = await replace(lab, old, ({ start }) => start({ name: 'web', drainTimeout: 600_000 }))
  await drained(old)
  await using __ = await badClients(path)
  assert.equal((await statusOf(path)).pid, young.pid)
  const stopping = young.run(async ({ kept }) => void (await kept.daemon?.stop()))
  await stopping
})

test('2,000 connections at once are let in or sent away, and when they are gone the socket answers and upgrades as before', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  await old.run(({ start }) => start({ name: 'web' }))
  const path = lab.path('run', 'web.sock')
  const sockets = Array.from({ length: 2_000 }, () =>
    connect(path)
      .on('error', () => {})
      .resume(),
  )
  await Promise.all(
    sockets.map((socket) => Promise.race([once(socket, 'connect'), once(socket, 'close')]).catch(() => {})),
  )
  const open = await old.run(({ fs }) => (process.platform === 'linux' ? fs.readdirSync('/proc/self/fd').length : 0))
  assert.ok(open < 150, `${open} descriptors`)
  for (const socket of sockets) socket.destroy()
  await within('every end', Promise.all(sockets.map((socket) => socket.closed || once(socket, 'close'))))
  const upgrading = control(path, 'POST /upgrade')
  const young = await lab.next()
  await young.run(({ start }) => start({ name: 'web' }))
  assert.equal(
    linesOf(await upgrading).some(({ type }) => type === 'serves'),
    true,
  )
})

test('whoever asks is heard at once, however many others are connected and silent, or stop in their request', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  await old.run(({ start }) => start({ name: 'web' }))
  const path = lab.path('run', 'web.sock')
  const sockets: Socket[] = []
  for (const text of ['', 'GET /status HT', 'POST /upgrade HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{']) {
    const silent = Array.from({ length: 80 }, () =>
      connect(path)
        .on('error', () => {})
        .resume(),
    )
    sockets.push(...silent)
    for (const socket of silent) socket.write(text)
    await Promise.all(silent.map((socket) => once(socket, 'connect')))
    assert.equal((await statusOf(path)).pid, old.pid)
  }
  // The upgrade is heard, and its answer is not what makes room for more of them.
  const upgrading = control(path, 'POST /upgrade')
  const young = await lab.next()
  const more = Array.from({ length: 200 }, () =>
    connect(path)
      .on('error', () => {})
      .resume(),
  )
  sockets.push(...more)
  await Promise.all(more.map((socket) => once(socket, 'connect')))
  assert.equal((await statusOf(path)).phase, 'upgrading')
  await young.run(({ start }) => start({ name: 'web' }))
  assert.equal(linesOf(await upgrading).at(-1)?.type, 'drained')
  assert.equal((await statusOf(path)).pid, young.pid)
  for (const socket of sockets) socket.destroy()
})
