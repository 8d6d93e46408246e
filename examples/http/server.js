/**
 * A plain HTTP server that is replaced with its new version while it runs: `kill -s SIGUSR2 <pid>`.
 * Open connections move to it.
 */
import { createServer } from 'node:http'
import { serve } from 'cook-daemon'

/** @type {import('cook-daemon').Daemon | undefined} */
let daemon

const server = createServer((_request, response) => {
  // A new version answers a moment before it is told that the service is its own: until then there
  // is no daemon yet.
  response.end(`pid ${process.pid}, generation ${daemon?.generation ?? 'new'}\n`)
})

daemon = await serve(server, { port: Number(process.env.PORT ?? 8080) })

const { port } = server.address()
console.log(`pid ${process.pid}, generation ${daemon.generation}: http://localhost:${port}`)
