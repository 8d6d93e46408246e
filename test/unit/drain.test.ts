/** What becomes of connections that move, at moments that no test of processes can hold. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import { type AddressInfo, connect, createServer as createNetServer, type Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import { noCounts } from '../../src/handover/counts.ts'
import { drain } from '../../src/handover/drain.ts'
import { keepAliveAsBefore } from '../../src/handover/keep-alive.ts'
import { Mover } from '../../src/handover/mover.ts'
import { Clock } from '../../src/handover/plan.ts'
import { adoptConnection } from '../../src/node/connections.ts'
import type { Draining } from '../../src/service-parts.ts'
import type { Link } from '../../src/upgrade/link.ts'
import { Latch } from '../../src/waiting.ts'
import { eventually } from '../support/waiting.ts'

test('what was on its way to a new version that is killed for its silence is told as cut, however soon its end comes', async (context) => {
  const server = createServer()
  await connected(context, server, 5)
  // The deadline passes as soon as two are on their way: the first of a destination.
  const clock = endless(context)
  let sent = 0
  const link = {
    hasRoom: (most: number) => sent < most,
    sendConnection: () => {
      if (++sent === 2) clock.deadline.set()
    },
  } as unknown as Link
  const counts = noCounts()
  const mover = new Mover(link, clock.endsAt)
  // Dead before the link has told its end.
  const hasDrained = await drainOne({ name: 'web', server, mover, rule: true, counts, clock }, false)
  assert.equal(hasDrained, false)
  assert.deepEqual(counts, { handedOver: 0, served: 0, closed: 0, cut: 2 })
})

test('an HTTP server that the library has not listened on itself says in the answers of its drain that they are the last', async (context) => {
  const server = createServer((_, response) => response.end('x'))
  const [client] = await connected(context, server, 1)
  const clock = endless(context)
  const draining = { name: 'web', server, mover: undefined, rule: true, counts: noCounts(), clock }
  const drained = drainOne(draining, true)
  await eventually('that it accepts no more', () => !server.listening || undefined)
  client?.write(request)
  const [bytes] = (await once(client as Socket, 'data')) as [Buffer]
  assert.match(String(bytes), /^connection: close/im)
  assert.equal(await drained, true)
})

/** Clients that the server has accepted. */
async function connected(context: TestContext, server: Server, count: number): Promise<Socket[]> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const clients = Array.from({ length: count }, () => connect(port, '127.0.0.1'))
  context.after(() => {
    for (const client of clients) client.destroy()
    server.close()
  })
  for (const _ of clients) await once(server, 'connection')
  return clients
}

function endless(context: TestContext): Clock {
  const clock = new Clock(600_000)
  context.after(() => clock.stop())
  return clock
}

/** `isHeard`: the successor answers the last word, if there is one. */
function drainOne(draining: Draining, isHeard: boolean): Promise<boolean> {
  return drain({
    servers: [draining],
    others: [],
    clock: draining.clock,
    hurry: new Latch(),
    lost: new Latch(),
    isLost: async () => false,
    canReturn: () => true,
    spares: undefined,
    untilHeard: () => new Promise(() => {}),
    sayBye: async () => isHeard,
  })
}

test('a request that comes while its connection waits for its turn to move is answered, also beyond the keep-alive time', async (context) => {
  const server = await shortLived(context)
  const [client, socket] = await asked(context, server)
  const mover = new Mover({ hasRoom: () => false } as unknown as Link, Number.POSITIVE_INFINITY)
  const moved = mover.move(socket, { to: 'web' }, { isFree: () => true, state: undefined, isUrgent: true })
  client.write(request)
  // One that is not held has its time begin later, and end.
  const [other] = await asked(context, server)
  await once(other, 'close')
  mover.stop()
  assert.equal(await moved, 'busy')
  assert.match(await nextOf(client), /^HTTP\/1.1 200 OK/)
})

test('a request that is there when the keep-alive time of a connection that has moved ends is answered, however late the process reads it', async (context) => {
  const server = await shortLived(context)
  const before = createNetServer().listen(0, '127.0.0.1')
  context.after(() => before.close())
  await once(before, 'listening')
  const client = connect((before.address() as AddressInfo).port, '127.0.0.1')
  context.after(() => client.destroy())
  const [[socket]] = await Promise.all([once(before, 'connection') as Promise<[Socket]>, once(client, 'connect')])
  adoptConnection(server, socket)
  keepAliveAsBefore(server, socket, 0)
  client.write(request)
  // As in a process that has much to do: no turn of the loop before the time is over.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, server.keepAliveTimeout * 4)
  assert.match(await nextOf(client), /^HTTP\/1.1 200 OK/)
})

const request = 'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'

/** An HTTP server whose idle connections soon end. */
async function shortLived(context: TestContext): Promise<Server> {
  const server = createServer((_, response) => response.end('fine'))
  Object.assign(server, { keepAliveTimeout: 50, keepAliveTimeoutBuffer: 0 })
  context.after(() => server.close())
  await once(server.listen(0, '127.0.0.1'), 'listening')
  return server
}

/** A client that has had one answer, and its connection here. */
async function asked(context: TestContext, server: Server): Promise<[client: Socket, socket: Socket]> {
  const client = connect((server.address() as AddressInfo).port, '127.0.0.1')
  context.after(() => client.destroy())
  const [socket] = (await once(server, 'connection')) as [Socket]
  client.write(request)
  await once(client, 'data')
  return [client, socket]
}

/** What arrives next; empty if the connection ends. */
async function nextOf(client: Socket): Promise<string> {
  client.on('error', () => {})
  const ended = once(client, 'close').then(() => '')
  return Promise.race([once(client, 'data').then(([data]) => String(data)), ended])
}
