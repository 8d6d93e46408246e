/** An HTTPS server with serve(): `moveTls` by its first argument; answers what it has used. */
import { readFileSync } from 'node:fs'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { serve } from 'cook-daemon'

const folder = new URL('../../../test/fixtures/certificate/', import.meta.url)
const options = { key: readFileSync(new URL('key.pem', folder)), cert: readFileSync(new URL('cert.pem', folder)) }
const small = Buffer.alloc(300, 's')
const large = Buffer.alloc(1 << 20, 'l')

const server = createServer({ ...options, keepAliveTimeout: 600_000 }, (request, response) => {
  if (request.url === '/cpu') response.end(JSON.stringify({ pid: process.pid, cpu: cpu() }))
  else if (request.url === '/memory') response.end(JSON.stringify({ pid: process.pid, memory: memory() }))
  else response.end(request.url === '/large' ? large : small)
})
await serve(server, { host: '127.0.0.1', port: 0, moveTls: process.argv[2] === 'moves', drainTimeout: 20_000 })
process.send?.((server.address() as AddressInfo).port)

function cpu(): number {
  const { user, system } = process.cpuUsage()
  return user + system
}

/** Behind a collection: what lies about until the next one is no measure. */
function memory(): number {
  const { gc } = globalThis as { gc?: () => void }
  gc?.()
  return process.memoryUsage.rss()
}
