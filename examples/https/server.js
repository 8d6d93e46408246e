/**
 * HTTPS. Encrypted connections close with their next answer, and clients resume their sessions in
 * the new version. TLS 1.3 connections stay open with `moveTls: true` (docs/tls.md).
 */
import { readFileSync } from 'node:fs'
import { createServer } from 'node:https'
import { serve } from 'cook-daemon'

/** @type {import('cook-daemon').Daemon | undefined} */
let daemon
const { PORT = 8443, TLS_KEY = 'key.pem', TLS_CERT = 'cert.pem' } = process.env
const certificate = { key: readFileSync(TLS_KEY), cert: readFileSync(TLS_CERT) }

// The files are read at every start: a renewed certificate comes into use with an upgrade.
const server = createServer(certificate, (_request, response) => {
  response.end(`pid ${process.pid}, generation ${daemon?.generation ?? 'new'}\n`)
})

daemon = await serve(server, { port: Number(PORT) })

const { port } = server.address()
console.log(`pid ${process.pid}, generation ${daemon.generation}: https://localhost:${port}`)
