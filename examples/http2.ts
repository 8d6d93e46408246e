/**
 * HTTP/2 over TLS, and HTTP/1.1 for clients without it. At an upgrade sessions are told to go
 * (GOAWAY): open streams finish, new ones begin in the new version.
 */
import { createSecureServer } from 'node:http2'
import type { AddressInfo } from 'node:net'
import { type Daemon, serve } from 'cook-daemon'
import { certificate } from './certificate.ts'

let daemon: Daemon | undefined

const server = createSecureServer({ ...certificate(), allowHTTP1: true }, (request, response) => {
  response.end(`pid ${process.pid}, generation ${daemon?.generation ?? 'new'}, HTTP/${request.httpVersion}\n`)
})

daemon = await serve(server, { port: Number(process.env.PORT ?? 0) })

const { port } = server.address() as AddressInfo
console.log(`pid ${process.pid}, generation ${daemon.generation}: https://localhost:${port}`)
