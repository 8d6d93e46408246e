/**
 * Each example does what it shows: it is started, used by a client that keeps its connection,
 * upgraded, and stopped.
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { Agent, type ClientRequest, get } from 'node:http'
import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2'
import { get as getSecurely, type RequestOptions, Agent as SecureAgent } from 'node:https'
import { connect, type Socket } from 'node:net'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import type { TLSSocket } from 'node:tls'
import { certificateFiles } from '../support/certificate.ts'
import { Example } from '../support/example.ts'
import { eventually, within } from '../support/waiting.ts'

const certificate = { TLS_KEY: certificateFiles.key, TLS_CERT: certificateFiles.cert }

test('examples/http: the connection of a client lives through upgrades', () => keepsConnections('http'))

test('examples/fastify: the connection of a client lives through upgrades', () => keepsConnections('fastify'))

test('examples/express: the connection of a client lives through upgrades', () => keepsConnections('express'))

test('examples/https: no answer is lost, and a client that connects again resumes its session', async () => {
  await using example = await Example.start('https', certificate)
  const agent = new SecureAgent({ keepAlive: true, maxSockets: 1, rejectUnauthorized: false })
  const where = { host: 'localhost', port: example.port, agent }
  assert.match((await ask(getSecurely, where)).body, /generation 1/)
  const during = await askWhile(() => ask(getSecurely, where), example.upgrade())
  assert.ok(during.every(({ body }) => /generation/.test(body)))
  const after = await ask(getSecurely, where)
  assert.match(after.body, /generation 2/)
  assert.equal((after.socket as TLSSocket).isSessionReused(), true)
  agent.destroy()
  assert.deepEqual(await example.stop(), [0, 0])
})

test('examples/http2: a session is told to go, loses no stream, and the next one is answered by the new version', async () => {
  await using example = await Example.start('http2', certificate)
  const url = `https://localhost:${example.port}`
  const session = connectHttp2(url, { rejectUnauthorized: false })
  assert.match(await askSession(session), /generation 1, HTTP\/2/)
  const closed = once(session, 'close')
  await Promise.all([example.upgrade(), within('the end of the session', closed)])
  const next = connectHttp2(url, { rejectUnauthorized: false })
  assert.match(await askSession(next), /generation 2, HTTP\/2/)
  next.close()
  const plain = await ask(getSecurely, {
    host: 'localhost',
    port: example.port,
    rejectUnauthorized: false,
  })
  assert.match(plain.body, /generation 2, HTTP\/1.1/)
  assert.deepEqual(await example.stop(), [0, 0])
})

test('examples/raw-net: a connection moves with its number of lines and its unfinished line', async () => {
  await using example = await Example.start('raw-net')
  const socket = connect(example.port, 'localhost')
  const lines = createInterface({ input: socket })[Symbol.asyncIterator]()
  socket.write('one\ntw')
  assert.match(await nextLine(lines), /^1 one .*generation 1/)
  await example.upgrade()
  socket.write('o\n')
  assert.match(await nextLine(lines), /^2 two .*generation 2/)
  await example.upgrade()
  socket.write('three\n')
  assert.match(await nextLine(lines), /^3 three .*generation 3/)
  assert.deepEqual(await example.stop(), [0, 0, 0])
  assert.equal((await lines.next()).done, true)
})

test('examples/graceful-cron: the job runs at each of its times once, whichever version is there', async () => {
  const interval = 50
  await using example = await Example.start('graceful-cron', { INTERVAL: String(interval) })
  const runs = () => [...example.output.matchAll(/^job of (\S+) by pid (\d+)$/gm)]
  const runsBy = (count: number) =>
    eventually(`runs by ${count} processes`, () => new Set(runs().map(([, , pid]) => pid)).size === count || undefined)
  await runsBy(1)
  await sameConnection(example, () => example.upgrade())
  await runsBy(2)
  assert.deepEqual(await example.stop(), [0, 0])
  const times = runs().map(([, time = '']) => Date.parse(time))
  const steps = times.slice(1).map((time, index) => time - (times[index] ?? 0))
  assert.deepEqual([...new Set(steps)], [interval], example.output)
})

async function keepsConnections(name: string): Promise<void> {
  await using example = await Example.start(name)
  await sameConnection(example, async () => {
    await example.upgrade()
    await example.upgrade()
  })
  assert.deepEqual(await example.stop(), [0, 0, 0])
}

/**
 * Asks before, all the time during and after the upgrades, on one connection that is never opened
 * again.
 */
async function sameConnection({ port }: Example, upgrades: () => Promise<void>): Promise<void> {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  const where = { host: 'localhost', port, agent }
  const before = await ask(get, where)
  const during = await askWhile(() => ask(get, where), upgrades())
  const after = await ask(get, where)
  assert.notEqual(after.body, before.body)
  assert.deepEqual([...new Set([before, ...during, after].map(({ status }) => status))], [200])
  assert.deepEqual([...new Set([before, ...during, after].map(({ socket }) => socket))], [before.socket])
  agent.destroy()
}

type Answer = { readonly status: number | undefined; readonly body: string; readonly socket: Socket }

/** Rejects on whatever a client would see as a failure: Node's agent never retries. */
async function ask(request: (options: RequestOptions) => ClientRequest, options: RequestOptions): Promise<Answer> {
  const asked = request(options)
  const [response] = await within('an answer', once(asked, 'response'))
  return { status: response.statusCode, body: await text(response), socket: response.socket ?? asked.socket }
}

async function askWhile(ask: () => Promise<Answer>, change: Promise<void>): Promise<Answer[]> {
  const answers: Answer[] = []
  let isOver = false
  const over = change.finally(() => {
    isOver = true
  })
  while (!isOver) answers.push(await ask())
  await over
  return answers
}

async function askSession(session: ClientHttp2Session): Promise<string> {
  return within('an answer of the session', text(session.request({ ':path': '/' })))
}

async function nextLine(lines: AsyncIterator<string>): Promise<string> {
  return String((await within('a line', lines.next())).value)
}
