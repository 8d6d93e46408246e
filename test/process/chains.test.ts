/**
 * Several generations that drain at once: connections go on to the newest, whichever still has
 * them, and the number of generations has a limit.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { PuppetScope } from '../fixtures/puppet-scope.ts'
import { beginReplace, counts, drained, type Program, replace } from '../support/daemons.ts'
import { askAll, HttpConnection, idleConnections } from '../support/http-connection.ts'
import { Lab, type Puppet } from '../support/lab.ts'
import { eventually } from '../support/waiting.ts'

/** However slow the machine is, no connection ends since it was idle for too long. */
const lasting = ({ serve, web }: PuppetScope) => serve({}, web({ keepAliveTimeout: 60_000 }))

test('three generations drain at once: each keep-alive connection, idle or busy, ends up with the newest, and none is closed', async () => {
  await using lab = await Lab.open()
  let newest = await lab.start()
  const port = await newest.run(lasting)
  const idle = await idleConnections(port, 20)
  const older: { readonly puppet: Puppet; readonly busy: HttpConnection }[] = []
  for (let upgrades = 0; upgrades < 3; upgrades++) {
    const busy = await HttpConnection.open(port)
    busy.send('/slow')
    await newest.event('asked')
    const puppet = newest
    older.push({ puppet, busy })
    newest = await replace(lab, puppet, lasting)
    await stopsAccepting(puppet)
  }
  assert.deepEqual(await askAll(idle), [answer(newest)])
  // From the oldest on: its connection passes through the two others, which drain.
  for (const { puppet, busy } of older) {
    assert.equal(await puppet.run(({ kept }) => kept.daemon?.phase), 'draining')
    await puppet.run(({ finish }) => finish())
    assert.deepEqual(await busy.answer(), answer(puppet))
    assert.deepEqual(await busy.ask(), answer(newest))
  }
  for (const { puppet } of older) {
    // What only passed through is counted where it was accepted.
    assert.deepEqual((await drained(puppet)).listeners, { 'tcp:127.0.0.1:0': counts(21, 0, 0, 0) })
    await puppet.gone
  }
  assert.deepEqual(await askAll([...idle, ...older.map(({ busy }) => busy)]), [answer(newest)])
})

test('the youngest of three that drain may be done first: it stays until the older ones are gone, and sends on what they have', async () => {
  await using lab = await Lab.open()
  const first = await lab.start()
  const port = await first.run(({ serve }) => serve())
  const busy = await HttpConnection.open(port)
  busy.send('/slow')
  await first.event('asked')
  const second = await replace(lab, first, ({ serve }) => serve())
  const third = await replace(lab, second, ({ serve }) => serve())
  const fourth = await replace(lab, third, ({ serve }) => serve())
  for (const puppet of [second, third]) await stopsAccepting(puppet)
  await first.run(({ finish }) => finish())
  assert.deepEqual(await busy.answer(), answer(first))
  assert.deepEqual(await busy.ask(), answer(fourth))
  for (const puppet of [first, second, third]) await puppet.gone
  assert.deepEqual((await drained(first)).listeners, { 'tcp:127.0.0.1:0': counts(1, 0, 0, 0) })
  for (const puppet of [second, third])
    assert.deepEqual((await drained(puppet)).listeners, { 'tcp:127.0.0.1:0': counts(0, 0, 0, 0) })
})

/**
 * Counts the bytes of each connection, and takes the count along: at once, or when an answer that
 * is worked on is out.
 */
const counter: Program = ({ serve, net, kept, tell }) => {
  type Socket = import('node:net').Socket
  type State = { bytes: number }
  const working = new Map<Socket, () => void>()
  const sockets = new Map<Socket, { state: State; work?: Promise<void> }>()
  kept.finish = () => {
    for (const [socket, done] of working) {
      socket.write(`${process.pid} has worked\n`)
      done()
    }
    working.clear()
  }
  kept.unread = () => [...working.keys()].map((socket) => socket.readableLength)
  const attend = (socket: Socket, state: State = { bytes: 0 }) => {
    const own: { state: State; work?: Promise<void> } = { state }
    sockets.set(socket, own)
    socket.on('error', () => {}).once('close', () => sockets.delete(socket))
    socket.on('data', (data) => {
      state.bytes += data.length
      if (String(data) !== 'work\n') {
        socket.write(`${process.pid} ${state.bytes}\n`)
        return
      }
      own.work = new Promise<void>((done) => working.set(socket, done))
      socket.pause()
      tell('working')
    })
  }
  const server = net.createServer((socket) => attend(socket))
  return serve(
    {
      name: 'raw',
      prepare(daemon) {
        daemon.onHandedOver('counter', (socket, state) => attend(socket, state as State))
        daemon.onDrain(() =>
          Promise.all(
            [...sockets].map(async ([socket, { state, work }]) => {
              await work
              await daemon.handOver('counter', socket, state)
            }),
          ),
        )
      },
    },
    server,
  )
}

test("three generations drain at once: connections of the program's own protocol end up with the newest, with their state", async () => {
  await using lab = await Lab.open()
  let newest = await lab.start()
  const port = Number(await newest.run(counter))
  const idle = await Promise.all(Array.from({ length: 20 }, () => HttpConnection.open(port)))
  for (const client of idle) assert.equal(await lineOf(client, 'hello\n'), `${newest.pid} 6`)
  const older: { readonly puppet: Puppet; readonly busy: HttpConnection }[] = []
  for (let upgrades = 0; upgrades < 3; upgrades++) {
    const busy = await HttpConnection.open(port)
    busy.socket.write('work\n')
    await newest.event('working')
    // Read by Node and given to nobody: it goes along, once, through all of them.
    busy.socket.write('more\n')
    await eventually('unread bytes', async () =>
      String(await newest.run(({ kept }) => (kept.unread as () => number[])())) === '5' ? true : undefined,
    )
    const puppet = newest
    older.push({ puppet, busy })
    newest = await replace(lab, puppet, counter)
    await stopsAccepting(puppet)
  }
  for (const client of idle) assert.equal(await lineOf(client, 'hello\n'), `${newest.pid} 12`)
  for (const { puppet, busy } of older) {
    await puppet.run(({ kept }) => (kept.finish as () => void)())
    assert.equal(await lineOf(busy), `${puppet.pid} has worked`)
    assert.equal(await lineOf(busy), `${newest.pid} 10`)
    assert.equal(await lineOf(busy, 'hello\n'), `${newest.pid} 16`)
  }
  for (const { puppet } of older) {
    assert.deepEqual((await drained(puppet)).listeners, { 'tcp:127.0.0.1:0': counts(21, 0, 0, 0) })
    await puppet.gone
  }
  for (const client of idle) assert.equal(client.hasEnded, false)
})

/** Keeps idle connections for longer than a slow machine takes for the test. */
const patient: Program = ({ serve, web }) => serve({}, web({ keepAliveTimeout: 60_000 }))

test('1,000 idle keep-alive clients keep their connections through three upgrades, one right behind the other', async () => {
  await using lab = await Lab.open()
  const first = await lab.start()
  const port = Number(await first.run(patient))
  const clients = await idleConnections(port, 1_000)
  const older: Puppet[] = []
  let newest = first
  for (let upgrades = 0; upgrades < 3; upgrades++) {
    older.push(newest)
    // The one before may still be handing over.
    newest = await replace(lab, newest, patient)
  }
  for (const puppet of older) {
    const { handedOver, served, closed, cut } = await drained(puppet)
    assert.deepEqual({ served, closed, cut }, { served: 0, closed: 0, cut: 0 })
    // What comes while the next one is up already passes through, and is counted where it came
    // from.
    assert.ok(puppet === first ? handedOver === 1_000 : handedOver <= 1_000, `${handedOver} connections moved`)
    await puppet.gone
  }
  assert.equal(await connections(newest), 1_000)
  assert.deepEqual(await askAll(clients), [answer(newest)])
})

test('an upgrade to one generation too many says so and costs nothing; when an old one is gone, it works', async () => {
  await using lab = await Lab.open()
  const first = await lab.start()
  const port = await first.run(({ serve }) => serve())
  const older: HttpConnection[] = []
  let newest = first
  for (let upgrades = 0; upgrades < 2; upgrades++) {
    const busy = await HttpConnection.open(port)
    busy.send('/slow')
    await newest.event('asked')
    older.push(busy)
    const puppet = newest
    newest = await replace(lab, puppet, ({ serve }) => serve({ maxGenerations: 3, pidFile: 'pid' }))
    await stopsAccepting(puppet)
  }
  const client = await HttpConnection.open(port)
  assert.deepEqual(await client.ask(), answer(newest))
  const upgrading = newest.run(async ({ kept }) => void (await kept.daemon?.upgrade()))
  await assert.rejects(upgrading, { code: 'ERR_COOK_TOO_MANY_GENERATIONS', message: /3/ })
  // By a signal too.
  newest.kill('SIGUSR2')
  for (let failures = 0; failures < 2; failures++) {
    assert.match(String(((await newest.event('upgrade-failed')) as { error: string }).error), /generations/)
  }
  assert.equal(await newest.run(({ kept }) => kept.daemon?.phase), 'ready')
  assert.equal(
    lab.read('pid'),
    `${newest.pid}
`,
  )
  assert.deepEqual(await client.ask(), answer(newest))
  await first.run(({ finish }) => finish())
  await first.gone
  const { young, upgrading: second } = await beginReplace(lab, newest)
  await young.run(({ serve }) => serve())
  assert.equal(await second, 4)
  assert.deepEqual(await client.ask(), answer(young))
  for (const busy of older) assert.equal(busy.hasEnded, false)
})

function answer(puppet: Puppet) {
  return { status: 200, body: String(puppet.pid), closes: false }
}

function connections(puppet: Puppet): Promise<number> {
  return puppet.run(({ kept }) => new Promise<number>((told) => kept.server?.getConnections((_, count) => told(count))))
}

/** Sends what is given and reads one line. */
async function lineOf(client: HttpConnection, text = ''): Promise<string> {
  client.socket.write(text)
  return eventually('a line', () => {
    const end = client.text.indexOf('\n')
    if (end < 0) {
      if (client.hasEnded) throw new Error('the connection was closed')
      return undefined
    }
    const line = client.text.slice(0, end)
    client.text = client.text.slice(end + 1)
    return line
  })
}

async function stopsAccepting(puppet: Puppet): Promise<void> {
  await eventually('an old version that accepts no more', async () =>
    (await puppet.run(({ kept }) => kept.server?.listening)) ? undefined : true,
  )
}
