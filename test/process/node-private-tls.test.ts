/**
 * Whether the numbers of records that src/tls/ works out from what Node counts are those of OpenSSL,
 * asked of OpenSSL itself: what a new Node or OpenSSL changes fails here.
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import type { AddressInfo, Socket } from 'node:net'
import { test } from 'node:test'
import { type ConnectionOptions, connect, createServer, type TLSSocket, type TlsOptions } from 'node:tls'
import { forbidWrites, goOn, isTlsAsExpected, tcpHandle, weigh } from '../../src/node/tls-sockets.ts'
import { exportState } from '../../src/tls/export.ts'
import { contentType, Direction } from '../../src/tls/records.ts'
import { suites } from '../../src/tls/suites.ts'
import { type Kept, Watch, type Why } from '../../src/tls/watch.ts'
import { certificateFiles } from '../support/certificate.ts'
import { eventually, within } from '../support/waiting.ts'

const certificate = { key: readFileSync(certificateFiles.key), cert: readFileSync(certificateFiles.cert) }
/** RFC 8446, 4.6.3: new keys, and the other side is to change its own too. */
const updateKeys = Buffer.from([24, 0, 0, 1, 1])

test('a TLSSocket has its counters, its first write, receive and shutdown where they are expected', () => {
  assert.equal(isTlsAsExpected(), true)
})

for (const ciphers of Object.keys(suites) as (keyof typeof suites)[]) {
  test(`${ciphers}: OpenSSL opens what we seal with the numbers that we work out, and so does the client`, async () => {
    await using world = await open({ ciphers })
    let session: Buffer | undefined
    for (const isEager of [false, true]) {
      for (const isResumed of [false, true]) {
        const talk = await world.talk({ session: isResumed ? session : undefined }, isEager)
        assert.equal(talk.client.isSessionReused(), isResumed)
        session ??= (await within('a session', talk.session)) as Buffer
        await proves(world, talk)
      }
    }
  })
}

test('with a certificate of the client the number of what it sent is among those that are tried', async () => {
  await using world = await open({ requestCert: true, rejectUnauthorized: false })
  for (const options of [certificate, {}]) {
    for (const isEager of [false, true]) await proves(world, await world.talk(options, isEager))
  }
})

test('OpenSSL tells of new keys, after which a connection does not move', async () => {
  await using world = await open()
  const { client, server } = await world.talk({}, false)
  const state = stateOf(world, server)
  const forged = new Direction(suites[state.suite], state.clientSecret, state.receiveNumbers[0] ?? 0)
  goOn(server, forged.seal(contentType.handshake, [updateKeys], 16_384))
  assert.equal(world.watch.of(server), 'keyUpdate')
  // It changes its own with the next write, and the client, who asked for nothing, follows.
  server.write('on')
  assert.equal(String((await within('an answer', once(client, 'data')))[0]), 'on')
})

test('after the export a write throws, and so does the end of the connection; destroy() sends nothing', async () => {
  await using world = await open()
  const { server, client } = await world.talk({}, false)
  const before = weigh(server)
  const lift = forbidWrites(server)
  const failed = once(server, 'error')
  assert.throws(() => server.write('too late'))
  lift()
  forbidWrites(server)
  const end = once(client, 'end')
  client.resume()
  assert.equal(weigh(server)?.sealedOut, before?.sealedOut)
  server.destroy()
  // Without a close_notify.
  await within('the end', end)
  void failed.catch(() => {})
})

type World = Awaited<ReturnType<typeof open>>
type Talk = Awaited<ReturnType<World['talk']>>

async function open(options: TlsOptions = {}) {
  let strange = 0
  const watch = new Watch(true, () => strange++)
  const server = createServer({ ...certificate, ...options })
  watch.add(server)
  const sockets: Socket[] = []
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return {
    watch,
    /** A handshake, three messages of the client and two of the server. `isEager`: at once. */
    async talk(given: ConnectionOptions, isEager: boolean) {
      const accepted = once(server, 'secureConnection')
      const client = connect({
        port,
        host: '127.0.0.1',
        rejectUnauthorized: false,
        ...options,
        requestCert: undefined,
        ...given,
      } as ConnectionOptions)
      sockets.push(client)
      const session = once(client, 'session').then(([one]) => one as Buffer)
      if (isEager) client.once('secureConnect', () => client.write('first'))
      const [socket] = (await within('a connection', accepted)) as [TLSSocket]
      sockets.push(socket)
      let heard = ''
      socket.on('data', (bytes) => {
        heard += bytes
        if (heard === 'first') socket.write('1')
      })
      if (!isEager) {
        await new Promise((turned) => setImmediate(() => setImmediate(turned)))
        client.write('first')
      }
      await within('an answer', once(client, 'data'))
      for (const word of ['second', 'third']) {
        client.write(word)
        await eventually(word, () => heard.endsWith(word) || undefined)
      }
      socket.write(Buffer.alloc(20_000))
      let read = 0
      client.on('data', (bytes: Buffer) => {
        read += bytes.length
      })
      await eventually('all of it', () => read === 20_000 || undefined)
      client.removeAllListeners('data')
      assert.equal(strange, 0)
      return { client, server: socket, session }
    },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy()
      const closed = once(server, 'close')
      server.close()
      await closed
    },
  }
}

function stateOf({ watch }: World, server: TLSSocket) {
  const kept: Kept | Why = watch.of(server)
  assert.ok(typeof kept === 'object', String(kept))
  const state = exportState(server, kept)
  assert.ok(typeof state === 'object', String(state))
  return state
}

/**
 * What we seal with our number the client reads: another one it would end the connection for. And a
 * KeyUpdate that we forge in the client's name is read by the server's OpenSSL, which tells of it.
 */
async function proves(world: World, { client, server }: Talk): Promise<void> {
  const state = stateOf(world, server)
  // Three messages, each a record.
  assert.ok(state.receiveNumbers.includes(3), state.receiveNumbers.join())
  const sending = new Direction(suites[state.suite], state.serverSecret, state.sendNumber)
  const { _parent: below } = server as unknown as { readonly _parent: Socket }
  assert.ok(tcpHandle(server) !== undefined)
  const read = once(client, 'data')
  writeBelow(below, sending.seal(contentType.data, [Buffer.from('ours')], state.longestRecord))
  assert.equal(String((await within('what we have sealed', read))[0]), 'ours')
  const forged = new Direction(suites[state.suite], state.clientSecret, 3)
  goOn(server, forged.seal(contentType.handshake, [updateKeys], state.longestRecord))
  assert.equal(world.watch.of(server), 'keyUpdate')
  assert.equal(server.destroyed, false)
}

/** Past OpenSSL, as the new version does. */
function writeBelow(below: Socket, bytes: Buffer): void {
  const { fd } = (below as unknown as { readonly _handle: { readonly fd: number } })._handle
  assert.equal(process.getBuiltinModule('node:fs').writeSync(fd, bytes), bytes.length)
}
