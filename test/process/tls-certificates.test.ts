/** Clients with certificates move with `moveTls: { clientCertificates: true }`, and are who they were. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { certificateFiles, makeCertificate } from '../support/certificate.ts'
import { drained, type Program, replace } from '../support/daemons.ts'
import { onlyInMatrix } from '../support/extent.ts'
import { Lab } from '../support/lab.ts'
import { TlsClients } from '../support/tls-clients.ts'

/** Asks for a certificate and answers with what it knows of the client; trusts the test's own. */
const asking: Program = ({ fs, serve }) => {
  const cert = fs.readFileSync('cert.pem')
  const options = { key: fs.readFileSync('key.pem'), cert, ca: cert, requestCert: true, rejectUnauthorized: false }
  const server = process.getBuiltinModule('node:https').createServer(options, (request, response) => {
    const socket = request.socket as import('node:tls').TLSSocket
    const { authorized, authorizationError } = socket
    const { subject, fingerprint256, valid_to, raw } = socket.getPeerCertificate()
    const known = { authorized, error: authorizationError && String(authorizationError), subject }
    const more = { fingerprint256, valid_to, size: raw?.length, x509: socket.getPeerX509Certificate()?.subject }
    response.setHeader('content-type', 'application/json')
    response.end(JSON.stringify({ pid: process.pid, client: { ...known, ...more } }))
  })
  return serve({ moveTls: { clientCertificates: true } }, server)
}

test(
  'clients with a certificate and without one move, and the new version knows the same of each',
  onlyInMatrix,
  async () => {
    await using lab = await Lab.open()
    makeCertificate(lab)
    let server = await lab.start()
    const port = Number(await server.run(asking))
    await using clients = new TlsClients()
    const certificate = { key: readFileSync(certificateFiles.key), cert: readFileSync(certificateFiles.cert) }
    const all = [
      await clients.open({ port, ...certificate }),
      await clients.open({ port, ...certificate, ciphers: 'TLS_CHACHA20_POLY1305_SHA256' }),
      await clients.open({ port }),
    ]
    const known = []
    for (const client of all) {
      const { pid, client: first } = JSON.parse((await client.ask()).body)
      assert.equal(pid, server.pid)
      known.push(first)
    }
    assert.deepEqual(
      known.map(({ authorized, subject }) => [authorized, subject?.CN]),
      [
        [true, 'localhost'],
        [true, 'localhost'],
        [false, undefined],
      ],
    )
    for (let upgrades = 0; upgrades < 2; upgrades++) {
      const next = await replace(lab, server, asking)
      const { handedOver, closed, cut, tls } = await drained(server)
      assert.deepEqual([handedOver, closed, cut, tls?.moved, tls?.stayed], [3, 0, 0, 3, {}])
      server = next
      for (const [at, client] of all.entries()) {
        const { status, body, closes } = await client.ask()
        assert.deepEqual([status, closes, JSON.parse(body)], [200, false, { pid: server.pid, client: known[at] }])
      }
    }
  },
)
