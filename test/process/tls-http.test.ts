/** Live connections of TLS 1.3 move to the new version, with the option `moveTls`. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test } from 'node:test'
import { makeCertificate } from '../support/certificate.ts'
import { drained, fates, type Program, replace } from '../support/daemons.ts'
import { onlyInMatrix } from '../support/extent.ts'
import { Lab, type Puppet } from '../support/lab.ts'
import { Sluice } from '../support/sluice.ts'
import { TlsClients } from '../support/tls-clients.ts'
import { eventually, within } from '../support/waiting.ts'

const secure: Program = ({ fs, onRequest, serve }) => {
  const { createServer } = process.getBuiltinModule('node:https')
  const options = { key: fs.readFileSync('key.pem'), cert: fs.readFileSync('cert.pem') }
  return serve({ moveTls: true }, createServer({ ...options, keepAliveTimeout: 120_000 }, onRequest))
}

/** Takes connections, and gives none. */
const keeps: Program = ({ fs, onRequest, serve }) => {
  const { createServer } = process.getBuiltinModule('node:https')
  const options = { key: fs.readFileSync('key.pem'), cert: fs.readFileSync('cert.pem') }
  return serve({ moveTls: true, moveConnections: false }, createServer(options, onRequest))
}

/** The old process lives as long as this is not answered. */
async function askSlowly(clients: TlsClients, { old, port }: { readonly old: Puppet; readonly port: number }) {
  const slow = await clients.open({ port })
  slow.send('/slow')
  await old.event('asked')
  return slow
}

test('connections of each cipher of TLS 1.3, fresh and resumed, stay open through two upgrades, and the new version answers', async () => {
  await using lab = await Lab.open()
  const { old, port } = await startSecure(lab)
  await using clients = new TlsClients()
  for (const ciphers of ['TLS_AES_256_GCM_SHA384', 'TLS_AES_128_GCM_SHA256', 'TLS_CHACHA20_POLY1305_SHA256']) {
    // A name or protocol that is another one is no session to come back to.
    const same = { port, ciphers, servername: 'localhost', ALPNProtocols: ['http/1.1'] }
    const first = await clients.open(same)
    const [session] = await within('a session', once(first.socket, 'session'))
    const again = await clients.open({ ...same, session })
    assert.equal(again.socket.isSessionReused(), true)
  }
  // One of them has said nothing yet.
  for (const client of clients.all.slice(1)) assert.equal((await client.ask()).body, String(old.pid))
  const next = await replace(lab, old, secure)
  const first = await drained(old)
  assert.deepEqual([first.handedOver, first.closed, first.cut, first.tls?.moved, first.tls?.stayed], [6, 0, 0, 6, {}])
  // Half of them are proven by then, and half move on as they came.
  for (const client of clients.all.slice(0, 3)) assert.deepEqual(await client.ask(), answerOf(next))
  const last = await replace(lab, next, secure)
  const { tls, ...report } = await drained(next)
  assert.deepEqual([report.handedOver, report.closed, report.cut, tls?.moved, tls?.returned], [6, 0, 0, 6, 0])
  for (const client of clients.all) assert.deepEqual(await client.ask(), answerOf(last))
})

test('half a record that the old version has read already comes back to it: it answers, and the connection moves then', async () => {
  await using lab = await Lab.open()
  const { old, port } = await startSecure(lab)
  await using sluice = await Sluice.open(port)
  await using clients = new TlsClients()
  const slow = await askSlowly(clients, { old, port })
  const client = await clients.open({ port: sluice.port })
  assert.equal((await client.ask()).body, String(old.pid))
  // As many bytes as no counter tells from a whole record.
  sluice.let(44)
  client.send()
  const young = await replace(lab, old, secure)
  await eventually('the connection in the new version', async () => (await connectionsOf(young)) > 0 || undefined)
  sluice.lift()
  assert.deepEqual(await client.answer(), answerOf(old))
  await eventually('the connection in the new version again', async () => (await connectionsOf(young)) > 0 || undefined)
  assert.deepEqual(await client.ask(), answerOf(young))
  await old.run(({ finish }) => finish())
  assert.equal((await slow.answer()).body, String(old.pid))
  const { handedOver, closed, cut, tls } = await drained(old)
  assert.deepEqual([handedOver, closed, cut, tls?.moved, tls?.returned], [2, 0, 0, 2, 1])
})

function answerOf({ pid }: Puppet) {
  return { status: 200, body: String(pid), closes: false }
}

async function startSecure(lab: Lab): Promise<{ readonly old: Puppet; readonly port: number }> {
  makeCertificate(lab)
  const old = await lab.start()
  return { old, port: Number(await old.run(secure)) }
}

function connectionsOf(puppet: Puppet): Promise<number> {
  return puppet.run(
    ({ kept }) => new Promise<number>((counted) => kept.server?.getConnections((_, count) => counted(count))),
  )
}

async function untilConnections(puppet: Puppet, wanted: number): Promise<void> {
  await eventually(
    `${wanted} connections of process ${puppet.pid}`,
    async () => (await connectionsOf(puppet)) >= wanted || undefined,
  )
}

test(
  'a connection that has moved ends with an answer after moveTlsFor, and the next one is as any other',
  onlyInMatrix,
  async () => {
    await using lab = await Lab.open()
    const { old, port } = await startSecure(lab)
    await using clients = new TlsClients()
    const client = await clients.open({ port })
    assert.equal((await client.ask()).closes, false)
    const briefly: Program = ({ fs, onRequest, serve }) => {
      const { createServer } = process.getBuiltinModule('node:https')
      const options = { key: fs.readFileSync('key.pem'), cert: fs.readFileSync('cert.pem') }
      return serve({ moveTls: true, moveTlsFor: 0 }, createServer(options, onRequest))
    }
    const young = await replace(lab, old, briefly)
    await drained(old)
    assert.deepEqual(await client.ask(), { ...answerOf(young), closes: true })
    await client.closed
    const next = await clients.open({ port })
    assert.deepEqual(await next.ask(), answerOf(young))
  },
)

test(
  'a new version that dies takes the connections with it on which it has spoken; the others go on in the old one, which serves again',
  onlyInMatrix,
  async () => {
    await using lab = await Lab.open()
    const { old, port } = await startSecure(lab)
    await using clients = new TlsClients()
    const slow = await askSlowly(clients, { old, port })
    const idle = await clients.open({ port })
    const spoken = await clients.open({ port })
    for (const client of [idle, spoken]) await client.ask()
    const young = await replace(lab, old, secure)
    await untilConnections(young, 2)
    assert.deepEqual(await spoken.ask(), answerOf(young))
    young.kill('SIGKILL')
    await old.event('successor-lost')
    await within('the end of what was spoken on', spoken.closed)
    assert.deepEqual(await idle.ask(), answerOf(old))
    await old.run(({ finish }) => finish())
    assert.deepEqual(await slow.answer(), answerOf(old))
    const next = await clients.open({ port })
    assert.deepEqual(await next.ask(), answerOf(old))
    // It is as before: everything moves with the next upgrade.
    const { handedOver, closed, cut, tls } = fates(await drained(old))
    assert.deepEqual([handedOver, closed, cut, tls?.moved, tls?.returned], [1, 0, 0, 1, 1])
    const last = await replace(lab, old, secure)
    await drained(old)
    for (const client of [idle, slow, next]) assert.deepEqual(await client.ask(), answerOf(last))
  },
)

test(
  'connections go through a version that leaves itself while the one before it drains, and the newest answers on them',
  onlyInMatrix,
  async () => {
    await using lab = await Lab.open()
    const { old, port } = await startSecure(lab)
    await using clients = new TlsClients()
    const slow = await askSlowly(clients, { old, port })
    const silent = await clients.open({ port })
    const spoken = await clients.open({ port })
    for (const client of [silent, spoken]) await client.ask()
    const middle = await replace(lab, old, secure)
    await untilConnections(middle, 2)
    assert.deepEqual(await spoken.ask(), answerOf(middle))
    const last = await replace(lab, middle, secure)
    await untilConnections(last, 2)
    // The middle one stays for as long as the old one may send it something.
    await old.run(({ finish }) => finish())
    assert.equal((await slow.answer()).body, String(old.pid))
    // What goes through is of the old one.
    for (const [puppet, own] of [
      [old, 3],
      [middle, 2],
    ] as const) {
      const { handedOver, closed, cut, tls } = await drained(puppet)
      assert.deepEqual([handedOver, closed, cut, tls?.moved, tls?.returned], [own, 0, 0, 3, 0])
    }
    for (const client of [slow, silent, spoken]) assert.deepEqual(await client.ask(), answerOf(last))
  },
)

test(
  'half a record comes back through a version between two others, to the one that has its begin',
  onlyInMatrix,
  async () => {
    await using lab = await Lab.open()
    const { old, port } = await startSecure(lab)
    await using sluice = await Sluice.open(port)
    await using clients = new TlsClients()
    const slow = await askSlowly(clients, { old, port })
    const client = await clients.open({ port: sluice.port })
    await client.ask()
    sluice.let(44)
    client.send()
    const middle = await replace(lab, old, secure)
    await untilConnections(middle, 1)
    const last = await replace(lab, middle, secure)
    await untilConnections(last, 1)
    sluice.lift()
    assert.deepEqual(await client.answer(), answerOf(old))
    await untilConnections(last, 1)
    assert.deepEqual(await client.ask(), answerOf(last))
    await old.run(({ finish }) => finish())
    assert.equal((await slow.answer()).body, String(old.pid))
    for (const puppet of [old, middle]) {
      const { handedOver, closed, cut, tls } = await drained(puppet)
      assert.deepEqual([closed, cut, tls?.returned], [0, 0, 1], String(handedOver))
    }
  },
)

for (const { what, moves } of [
  { what: 'had it still: the oldest answers', moves: false },
  { what: 'had passed it on: the newest answers', moves: true },
]) {
  test(
    `a connection on which nothing was said is not lost with a version that is killed between two others, and ${what}`,
    onlyInMatrix,
    async () => {
      await using lab = await Lab.open()
      const { old, port } = await startSecure(lab)
      await using clients = new TlsClients()
      const slow = await askSlowly(clients, { old, port })
      const silent = await clients.open({ port })
      await silent.ask()
      const middle = await replace(lab, old, moves ? secure : keeps)
      await untilConnections(middle, 1)
      const last = await replace(lab, middle, secure)
      if (moves) await untilConnections(last, 1)
      middle.kill('SIGKILL')
      await middle.gone
      assert.equal((await silent.ask()).body, String((moves ? last : old).pid))
      await old.run(({ finish }) => finish())
      assert.equal((await slow.answer()).body, String(old.pid))
      // It has nobody to send them to any more, and ends with them.
      if (!slow.hasEnded) assert.deepEqual(await slow.ask(), { ...answerOf(old), closes: true })
      await drained(old)
      const next = await clients.open({ port })
      assert.deepEqual(await next.ask(), answerOf(last))
    },
  )
}
