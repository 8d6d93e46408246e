/** What the option costs connections that have not moved: counted, since time wavers. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import https from 'node:https'
import { Session } from 'node:inspector/promises'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import { makeTlsMoves } from '../../src/tls/moves.ts'
import { certificate } from '../support/tls-relay.ts'
import { within } from '../support/waiting.ts'

type Calls = Map<string, number>

/** How often each function was called, of Node and of the library, in so many requests on one connection. */
async function callsOf(count: number, watch: (server: https.Server) => void): Promise<Calls> {
  const server = https.createServer({ ...certificate, keepAliveTimeout: 60_000 }, (_request, response) =>
    response.end('answer'),
  )
  watch(server)
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const agent = new https.Agent({ keepAlive: true, maxSockets: 1, rejectUnauthorized: false })
  const { port } = server.address() as AddressInfo
  const ask = async () => {
    const request = https.get({ host: '127.0.0.1', port, agent })
    const [response] = await within('an answer', once(request, 'response'))
    assert.equal(await text(response), 'answer')
  }
  const session = new Session()
  session.connect()
  try {
    // The connection, and its tickets.
    for (let at = 0; at < 5; at++) await ask()
    await session.post('Profiler.enable')
    await session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: false })
    for (let at = 0; at < count; at++) await ask()
    const { result } = await session.post('Profiler.takePreciseCoverage')
    const calls: Calls = new Map()
    for (const { url, functions } of result) {
      for (const { functionName, ranges } of functions) {
        const [{ count: called, startOffset } = { count: 0, startOffset: 0 }] = ranges
        if (called > 0) calls.set(`${url} ${functionName} ${startOffset}`, called)
      }
    }
    return calls
  } finally {
    session.disconnect()
    agent.destroy()
    server.close()
  }
}

test('on a connection that OpenSSL has, a request runs nothing of the library, and no more of Node than without it', async () => {
  const count = 200
  const plain = await callsOf(count, () => {})
  const watched = await callsOf(count, (server) => {
    const moves = makeTlsMoves({ clientCertificates: false, longest: 1_000, onUnavailable: assert.fail })
    assert.ok(moves)
    moves.watch(server)
  })
  const ours = [...watched.keys()].filter((name) => name.includes('/src/'))
  assert.deepEqual(ours, [])
  // What is called for each request; the rest is of timers and the like.
  const each = (calls: Calls) =>
    [...calls]
      .filter(([, called]) => called >= count)
      .map(([name]) => name)
      .sort()
  assert.ok(each(plain).length > 100, `${each(plain).length} functions`)
  assert.deepEqual(each(watched), each(plain))
  const sum = (calls: Calls) => [...calls.values()].reduce((total, called) => total + called, 0)
  assert.ok(Math.abs(sum(watched) / sum(plain) - 1) < 0.01, `${sum(watched)} calls, and ${sum(plain)} without it`)
})
