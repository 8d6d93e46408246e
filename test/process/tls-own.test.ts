/** WebSockets over TLS, and protocols of the program's own over TLS, move with `moveTls`. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test } from 'node:test'
import { connect } from 'node:tls'
import { WebSocket } from 'ws'
import type { WebSocketServerPlan } from '../fixtures/web-socket-server.ts'
import { makeCertificate } from '../support/certificate.ts'
import { drained, type Program, replace } from '../support/daemons.ts'
import { onlyInMatrix } from '../support/extent.ts'
import { Lab, type Puppet } from '../support/lab.ts'
import { Sluice } from '../support/sluice.ts'
import type { Report } from '../support/steps.ts'
import { eventually, within } from '../support/waiting.ts'

type Who = {
  readonly generation: string
  readonly count: number
  readonly pushed: number
  readonly url: string
}

test('a WebSocket over TLS of which half a record was read comes back, answers from the old version, and moves then', async () => {
  await using lab = await Lab.open()
  const { old, port } = await startWebSockets(lab)
  await using sluice = await Sluice.open(port)
  using busy = await openSocket(port, '/busy')
  using client = await openSocket(sluice.port, '/room')
  // The old process lives as long as this is not answered.
  busy.socket.send('wait')
  assert.deepEqual(await client.ask(), { generation: '1', count: 1, pushed: 0, url: '/room' })
  // Of a record of 32 bytes: no counter tells so many from a whole one.
  sluice.let(22)
  const answer = client.next()
  client.socket.send('who?')
  old.kill('SIGUSR2')
  const young = await lab.next()
  await young.event('ws-taken')
  sluice.lift()
  assert.deepEqual(await answer, { generation: '1', count: 2, pushed: 0, url: '/room' })
  // To the program there it is a connection that broke.
  assert.equal(await young.event('ws-closed'), 1006)
  await young.event('ws-taken')
  assert.deepEqual(await client.ask(), { generation: '2', count: 3, pushed: 0, url: '/room' })
  busy.socket.send('go on')
  const { report } = (await old.event('drained')) as { report: Report }
  assert.deepEqual([report.handedOver, report.closed, report.cut, report.tls?.returned], [2, 0, 0, 1])
  await old.gone
})

test('a new version that speaks first on a connection of which half a record was read elsewhere loses nothing of it', async () => {
  await using lab = await Lab.open()
  const { old, port } = await startWebSockets(lab, { pushEvery: 20 })
  await using sluice = await Sluice.open(port)
  using busy = await openSocket(port, '/busy')
  using client = await openSocket(sluice.port, '/room')
  // The old process lives as long as this is not answered.
  busy.socket.send('wait')
  await client.ask()
  sluice.let(22)
  const answer = client.next()
  client.socket.send('who?')
  old.kill('SIGUSR2')
  const young = await lab.next()
  await young.event('ws-taken')
  // What it writes on a connection that goes back is not sent.
  await young.event('ws-pushed')
  sluice.lift()
  const { pushed, ...who } = await answer
  assert.deepEqual(who, { generation: '1', count: 2, url: '/room' })
  await young.event('ws-taken')
  assert.equal((await client.ask()).generation, '2')
  await eventually('a number of the new version', () => client.pushes.length > pushed || undefined)
  // Each number once, and the old version goes on where it was.
  assert.deepEqual(
    client.pushes,
    client.pushes.map((_, at) => at + 1),
  )
  busy.socket.send('go on')
  const { report } = (await old.event('drained')) as { report: Report }
  assert.deepEqual([report.handedOver, report.closed, report.cut, report.tls?.returned], [2, 0, 0, 1])
  await old.gone
})

/** A protocol of lines; each is answered with the pid. */
const lines: Program = async ({ fs, listen, open }) => {
  const options = { key: fs.readFileSync('key.pem'), cert: fs.readFileSync('cert.pem') }
  const sockets = new Set<import('node:net').Socket>()
  const take = (socket: import('node:net').Socket) => {
    sockets.add(socket)
    socket.on('data', () => socket.write(`${process.pid}`)).once('close', () => sockets.delete(socket))
  }
  const daemon = await open({ moveTls: true })
  const server = process.getBuiltinModule('node:tls').createServer(options, take)
  daemon.onHandedOver('lines', take)
  daemon.onDrain(() => Promise.all([...sockets].map((socket) => daemon.handOver('lines', socket))))
  const port = await listen(server)
  await daemon.ready()
  return port
}

test('handOver() of a TLS connection keeps it open, from version to version', onlyInMatrix, async () => {
  await using lab = await Lab.open()
  makeCertificate(lab)
  let server: Puppet = await lab.start()
  const port = Number(await server.run(lines))
  const client = connect({ port, host: '127.0.0.1', rejectUnauthorized: false })
  try {
    for (let generation = 0; generation < 3; generation++) {
      const answer = once(client, 'data')
      client.write('who?')
      assert.equal(String((await within('an answer', answer))[0]), String(server.pid))
      const next = await replace(lab, server, lines)
      const { handedOver, cut } = await drained(server)
      assert.deepEqual([handedOver, cut], [1, 0])
      server = next
    }
  } finally {
    client.destroy()
  }
})

async function startWebSockets(lab: Lab, more: WebSocketServerPlan = {}) {
  makeCertificate(lab)
  const plan: WebSocketServerPlan = {
    ...{ isSecure: true, waits: 'listener', tellsOfEach: true, ...more },
    serve: { moveTls: true, drainTimeout: 60_000 },
  }
  const old = await lab.start('web-socket-server', { env: { WEB_SOCKET_SERVER: JSON.stringify(plan) } })
  const { port } = (await old.event('serving')) as { port: number }
  return { old, port }
}

async function openSocket(port: number, path: string) {
  const socket = new WebSocket(`wss://127.0.0.1:${port}${path}`, {
    perMessageDeflate: false,
    rejectUnauthorized: false,
  })
  const pushes: number[] = []
  const answers: string[] = []
  socket.on('message', (message) => {
    const [, push] = /^push (\d+)$/.exec(String(message)) ?? []
    if (push === undefined) answers.push(String(message))
    else pushes.push(Number(push))
  })
  socket.on('error', () => {})
  await within('a WebSocket', once(socket, 'open'))
  const next = async () => {
    const answer = await eventually('an answer', () => {
      assert.equal(socket.readyState, socket.OPEN, 'it is closed')
      return answers.shift()
    })
    const { agent: _, ...who } = JSON.parse(answer)
    return who as Who
  }
  return {
    socket,
    pushes,
    next,
    ask() {
      const answer = next()
      socket.send('who?')
      return answer
    },
    [Symbol.dispose]: () => socket.terminate(),
  }
}
