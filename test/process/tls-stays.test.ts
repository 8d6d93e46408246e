/** What does not move with `moveTls`, and where the option cannot be. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect as connectHttp2 } from 'node:http2'
import { test } from 'node:test'
import { certificateFiles, makeCertificate } from '../support/certificate.ts'
import { drained, type Program, replace } from '../support/daemons.ts'
import { Lab } from '../support/lab.ts'
import { TlsClients } from '../support/tls-clients.ts'
import { eventually, within } from '../support/waiting.ts'

type Ports = { readonly web: number; readonly asking: number; readonly h2: number }

/** Servers of each kind; those that ask for certificates take any. */
const all: Program = async ({ fs, kept, listen, onRequest, open }) => {
  const https = process.getBuiltinModule('node:https')
  const http2 = process.getBuiltinModule('node:http2')
  const options = { key: fs.readFileSync('key.pem'), cert: fs.readFileSync('cert.pem'), keepAliveTimeout: 120_000 }
  const daemon = await open({ moveTls: true, drainTimeout: 60_000 })
  const web = await listen(https.createServer(options, onRequest))
  const asks = { ...options, requestCert: true, rejectUnauthorized: false }
  const asking = await listen(https.createServer(asks, onRequest), { name: 'asking' })
  const h2 = await listen(http2.createSecureServer(options, onRequest), { name: 'h2' })
  kept.daemon = daemon
  await daemon.ready()
  return { web, asking, h2 }
}

test('TLS 1.2, HTTP/2 and what was asked for a certificate ends as without the option, and the report says why; the rest moves', async () => {
  await using lab = await Lab.open()
  makeCertificate(lab)
  const old = await lab.start()
  const ports = (await old.run(all)) as Ports
  await using clients = new TlsClients()
  const moves = await clients.open({ port: ports.web })
  const older = await clients.open({ port: ports.web, maxVersion: 'TLSv1.2' })
  const known = await clients.open({
    port: ports.asking,
    key: readFileSync(certificateFiles.key),
    cert: readFileSync(certificateFiles.cert),
  })
  for (const client of [moves, older, known]) assert.equal((await client.ask()).closes, false)
  const session = connectHttp2(`https://127.0.0.1:${ports.h2}`, { rejectUnauthorized: false })
  await within('a session', once(session, 'remoteSettings'))
  const sessionEnd = once(session, 'close')
  const young = await replace(lab, old, all)
  await eventually(
    'that it stops accepting',
    async () => (await old.run(({ kept }) => kept.server?.listening)) !== true || undefined,
  )
  for (const client of [older, known])
    assert.deepEqual(await client.ask(), { status: 200, body: String(old.pid), closes: true })
  await within('the end of the session', sessionEnd)
  const { tls } = await drained(old)
  assert.deepEqual(tls?.stayed, { protocol: 1, clientCertificate: 1, http2: 1 })
  assert.equal(tls?.moved, 1)
  assert.deepEqual(await moves.ask(), { status: 200, body: String(young.pid), closes: false })
})

test('moveTls without a server that speaks TLS 1.3 is refused before anything is served, with the reason', async () => {
  await using lab = await Lab.open()
  makeCertificate(lab)
  const plain = await lab.start()
  await assert.rejects(
    plain.run(({ serve }) => serve({ moveTls: true })),
    {
      code: 'ERR_COOK_OPTION',
      values: { option: 'moveTls', why: 'needs a server with TLS 1.3: no server here has TLS' },
    },
  )
  const older = await lab.start()
  const only12: Program = ({ fs, onRequest, serve }) => {
    const options = {
      key: fs.readFileSync('key.pem'),
      cert: fs.readFileSync('cert.pem'),
      maxVersion: 'TLSv1.2' as const,
    }
    return serve({ moveTls: true }, process.getBuiltinModule('node:https').createServer(options, onRequest))
  }
  await assert.rejects(older.run(only12), {
    code: 'ERR_COOK_OPTION',
    values: { option: 'moveTls', why: 'needs a server with TLS 1.3: the newest here is TLS 1.2' },
  })
})
