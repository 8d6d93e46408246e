/**
 * HTTP/2 over TLS, and HTTP/1.1 for clients without it. At an upgrade sessions get GOAWAY: open
 * streams finish, new ones begin in the new version.
 */
import { readFileSync } from 'node:fs'
import { createSecureServer } from 'node:http2'
import { serve } from 'cook-daemon'

/** @type {import('cook-daemon').Daemon | undefined} */
let daemon
const { PORT = 8443, TLS_KEY = 'key.pem', TLS_CERT = 'cert.pem' } = process.env
const certificate = { key: readFileSync(TLS_KEY), cert: readFileSync(TLS_CERT) }

const server = createSecureServer({ ...certificate, allowHTTP1: true }, (request, response) => {
  response.end(`pid ${process.pid}, generation ${daemon?.generation ?? 'new'}, HTTP/${request.httpVersion}\n`)
})

daemon = await serve(server, { port: Number(PORT) })

const { port } = server.address()
console.log(`pid ${process.pid}, generation ${daemon.generation}: https://localhost:${port}`)
