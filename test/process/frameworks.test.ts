/**
 * Programs as people write them, with the packages as they are in the registry and without a word
 * of this library: no request is lost by upgrades.
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { get, type IncomingMessage } from 'node:http'
import { constants } from 'node:os'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import { type Callers, http2Callers, httpsCallers, socketIoCallers, webSocketCallers } from '../support/callers.ts'
import { onlyInMatrix, takesAll } from '../support/extent.ts'
import { freePort } from '../support/free-port.ts'
import { HttpConnection } from '../support/http-connection.ts'
import { keepAliveClients } from '../support/load/keep-alive-clients.ts'
import type { Weights } from '../support/load/requests.ts'
import { nextServer } from '../support/next-site.ts'
import { Program } from '../support/program.ts'
import { eventually, within } from '../support/waiting.ts'

/** How often each is upgraded, in words as the titles have it. */
type Times = 'two' | 'five'
const usual: Times = takesAll ? 'five' : 'two'
const counts: Readonly<Record<Times, number>> = { two: 2, five: 5 }

/** What a framework answers here; the others need a body, or pieces of their own making. */
const gets: Weights = { small: 60, large: 6, late: 6, pipelined: 8, byteByByte: 2, slowReader: 1 }

const programs: readonly (readonly [name: string, file: string, weights?: Weights, times?: Times])[] = [
  ['plain http, an ES module', 'http.mjs'],
  ['plain http, CommonJS', 'http.cjs'],
  ['Express', 'express.mjs', gets, 'five'],
  ['Fastify', 'fastify.mjs', gets],
  ['Koa', 'koa.mjs', gets],
  ['Hapi', 'hapi.mjs', gets],
  ['Hono with its node server', 'hono.mjs', gets],
  ['Polka', 'polka.cjs'],
  ['Nest with its Express adapter', 'nest-express.mjs', gets],
  ['Nest with its Fastify adapter', 'nest-fastify.mjs', gets],
]

/** The others in npm run test:matrix. */
const inEach = [
  'plain http, CommonJS',
  'Express',
  'Fastify',
  'Nest with its Express adapter',
  'https',
  'ws',
  'socket.io',
]

for (const [name, file, weights, times = usual] of programs) {
  const skip = !inEach.includes(name) && onlyInMatrix.skip
  test(`${name}: keep-alive clients that never retry lose nothing in ${times} upgrades, and none reconnects`, {
    skip,
  }, async () => {
    await using program = await Program.start(file)
    await losesNothing(program, 'localhost', times, { count: 40, pause: [0, 100], ...(weights && { weights }) })
  })
}

// It is installed and built first: 400 MB and a minute.
test(
  'Next.js as its standalone output serves it: keep-alive clients that never retry lose nothing in five upgrades, and none reconnects',
  onlyInMatrix,
  async (t) => {
    const site = nextServer()
    if ('why' in site) return t.skip(site.why)
    const PORT = String(await freePort())
    const env = {
      PORT,
      HOSTNAME: '127.0.0.1',
      NEXT_SERVER: site.server,
      NEXT_TELEMETRY_DISABLED: '1',
      // It would be left in the temporary folder.
      NODE_DISABLE_COMPILE_CACHE: '1',
      ANSWERS: new URL('../../../test/fixtures/programs/answer.mjs', import.meta.url).href,
    }
    await using program = await Program.start('next.cjs', { env })
    const [page] = await once(get({ port: PORT, host: '127.0.0.1', agent: false }), 'response')
    assert.match(await text(page), new RegExp(`process (<!-- -->)?${program.pid}<`))
    // A tenth of the answers of the others in a second: more clients would only stand in its queue.
    const load = { count: 10, pause: [50, 150], weights: gets } as const
    // What it ends with by itself at SIGTERM, unless nothing is left to do before.
    await losesNothing(program, '127.0.0.1', 'five', load, 128 + constants.signals.SIGTERM)
  },
)

type LoadOptions = NonNullable<Parameters<typeof keepAliveClients>[1]>

async function losesNothing(
  program: Program,
  host: string,
  times: Times,
  options: LoadOptions,
  exitCode = 0,
): Promise<void> {
  const upgrades = counts[times]
  await using load = keepAliveClients({ host, port: program.port }, options)
  await load.ready
  for (let upgrade = 0; upgrade < upgrades; upgrade++) await program.upgrade()
  const { failures, faults, answers, generations } = await load.stop()
  assert.deepEqual(failures, {}, JSON.stringify(faults.slice(0, 3)))
  assert.ok(answers > (options.count ?? 0) * upgrades, `${answers} answers`)
  assert.equal(Object.keys(generations).length, upgrades + 1, JSON.stringify(generations))
  assert.deepEqual(
    [...new Set(await program.stop())].filter((code) => code !== 0 && code !== exitCode),
    [],
  )
}

test('server-sent events: a stream goes on in the old version until drainTimeout, and its client finds the new one', async () => {
  await using program = await Program.start('events.mjs', { record: { drainTimeout: 1_500 } })
  const old = program.pid
  const first = await EventStream.open(program.port)
  await first.told(old)
  program.kill('SIGUSR2')
  await program.untilServed()
  // Both at once: the old one speaks on while the new one answers whoever comes now.
  const second = await EventStream.open(program.port)
  await second.told(program.pid)
  const before = first.events.length
  await eventually('an event after the upgrade', () => first.events.length > before || undefined)
  await within('the end of the old stream', first.ended)
  // Each event is whole and by the one process, in order, up to the last.
  assert.deepEqual(
    first.events,
    first.events.map((_, at) => `${old} ${at}`),
  )
  assert.equal(second.isOver, false)
  const again = await EventStream.open(program.port)
  await again.told(program.pid)
  for (const stream of [second, again]) stream.close()
  await program.stop()
})

test('long polling: a poll that waits is answered by the old version, and the next one by the new', async () => {
  await using program = await Program.start('events.mjs')
  const old = program.pid
  const client = await HttpConnection.open(program.port)
  const poll = client.ask('/poll')
  await program.printed(/^polled$/m)
  program.kill('SIGUSR2')
  await program.untilServed()
  program.kill('SIGHUP', 0)
  assert.equal((await poll).body, String(old))
  // On the same connection.
  assert.equal((await client.ask('/')).body, String(program.pid))
  client.socket.destroy()
  await program.stop()
})

/** A client of a stream of events, as a browser's EventSource is one. */
class EventStream {
  readonly events: string[] = []
  readonly ended: Promise<void>
  isOver = false
  readonly #response: IncomingMessage

  private constructor(response: IncomingMessage) {
    this.#response = response
    let rest = ''
    response.setEncoding('utf8').on('data', (piece: string) => {
      const parts = (rest + piece).split('\n\n')
      rest = parts.pop() ?? ''
      for (const part of parts) this.events.push(part.replace(/^data: /, ''))
    })
    this.ended = new Promise((done) => {
      response
        .on('error', () => {})
        .once('close', () => {
          this.isOver = true
          done()
        })
    })
  }

  static async open(port: number): Promise<EventStream> {
    const [response] = await once(get({ port, host: '127.0.0.1', path: '/events', agent: false }), 'response')
    return new EventStream(response as IncomingMessage)
  }

  async told(pid: number): Promise<void> {
    await eventually(`an event of ${pid}`, () => this.events.at(-1)?.startsWith(`${pid} `) || undefined)
  }

  close(): void {
    this.#response.destroy()
  }
}

/** TLS, HTTP/2 sessions and the state of a WebSocket cannot move. */
const reconnecting: readonly (readonly [
  name: string,
  file: string,
  callers: (port: number, count: number) => Callers,
])[] = [
  ['https', 'https.mjs', httpsCallers],
  ['http2', 'http2.mjs', http2Callers],
  ['ws', 'ws.mjs', webSocketCallers],
  ['socket.io', 'socket.io.mjs', socketIoCallers],
  ['socket.io by long polling', 'socket.io.mjs', (port, count) => socketIoCallers(port, count, ['polling'])],
]

for (const [name, file, callers] of reconnecting) {
  const skip = !inEach.includes(name) && onlyInMatrix.skip
  test(`${name}: no answer is lost in ${usual} upgrades, and clients connect again at most once for each`, {
    skip,
  }, async () => {
    const upgrades = counts[usual]
    // A poll that waits for news would hold the old version for as long as it may take.
    await using program = await Program.start(file, { record: { drainTimeout: 2_000 } })
    await using clients = callers(program.port, 20)
    for (let upgrade = 0; upgrade <= upgrades; upgrade++) {
      if (upgrade > 0) await program.upgrade()
      await eventually(`all clients at ${program.pid}`, () => clients.haveReached(program.pid) || undefined)
    }
    await clients.stop()
    assert.deepEqual(clients.failures, [])
    assert.ok(clients.mostConnections <= 1 + upgrades, `${clients.mostConnections} connections`)
    assert.deepEqual(
      [...new Set(await program.stop())].filter((code) => code !== 0),
      [],
    )
  })
}
