/**
 * HTTPS. Encrypted connections cannot move: they end with their next answer, and the clients resume
 * their sessions in the new version.
 */
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { type Daemon, serve } from 'cook-daemon'
import { certificate } from './certificate.ts'

let daemon: Daemon | undefined

// The files are read at every start: a renewed certificate comes into use with an upgrade.
const server = createServer(certificate(), (_request, response) => {
  response.end(`pid ${process.pid}, generation ${daemon?.generation ?? 'new'}\n`)
})

daemon = await serve(server, { port: Number(process.env.PORT ?? 0) })

const { port } = server.address() as AddressInfo
console.log(`pid ${process.pid}, generation ${daemon.generation}: https://localhost:${port}`)
