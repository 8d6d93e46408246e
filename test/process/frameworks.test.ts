/** Programs as people write them, with the packages as they are in the registry and without a word of this library: no request is lost by five upgrades. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Callers, http2Callers, httpsCallers, socketIoCallers, webSocketCallers } from '../support/callers.ts'
import { keepAliveClients } from '../support/load/keep-alive-clients.ts'
import type { Weights } from '../support/load/requests.ts'
import { Program } from '../support/program.ts'
import { eventually } from '../support/waiting.ts'

const upgrades = 5

/** What a framework answers here; the others need a body, or pieces of their own making. */
const gets: Weights = { small: 60, large: 6, late: 6, pipelined: 8, byteByByte: 2, slowReader: 1 }

const programs: readonly (readonly [name: string, file: string, weights?: Weights])[] = [
  ['plain http, an ES module', 'http.mjs'],
  ['plain http, CommonJS', 'http.cjs'],
  ['Express', 'express.mjs', gets],
  ['Fastify', 'fastify.mjs', gets],
  ['Koa', 'koa.mjs', gets],
  ['Hapi', 'hapi.mjs', gets],
  ['Hono with its node server', 'hono.mjs', gets],
  ['Polka', 'polka.cjs'],
  ['Nest with its Express adapter', 'nest-express.mjs', gets],
  ['Nest with its Fastify adapter', 'nest-fastify.mjs', gets],
]

for (const [name, file, weights] of programs) {
  test(`${name}: keep-alive clients that never retry lose nothing in five upgrades, and none reconnects`, async () => {
    await using program = await Program.start(file)
    const where = { host: 'localhost', port: program.port }
    await using load = keepAliveClients(where, { count: 40, pause: [0, 20], ...(weights && { weights }) })
    await load.ready
    for (let upgrade = 0; upgrade < upgrades; upgrade++) await program.upgrade()
    const { failures, faults, answers, generations } = await load.stop()
    assert.deepEqual(failures, {}, JSON.stringify(faults.slice(0, 3)))
    assert.ok(answers > 40 * upgrades, `${answers} answers`)
    assert.equal(Object.keys(generations).length, upgrades + 1, JSON.stringify(generations))
    assert.deepEqual(
      [...new Set(await program.stop())].filter((code) => code !== 0),
      [],
    )
  })
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
  test(`${name}: no answer is lost in five upgrades, and clients connect again at most once for each`, async () => {
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
