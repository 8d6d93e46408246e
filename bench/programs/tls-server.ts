/** An HTTPS server with serve(): `moveTls` by its first argument; `/use` answers what it has used. */
import { readFileSync } from 'node:fs'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { serve } from 'cook-daemon'

const folder = new URL('../../../test/fixtures/certificate/', import.meta.url)
const options = { key: readFileSync(new URL('key.pem', folder)), cert: readFileSync(new URL('cert.pem', folder)) }
const small = Buffer.alloc(300, 's')
const large = Buffer.alloc(1 << 20, 'l')

const server = createServer({ ...options, keepAliveTimeout: 600_000 }, (request, response) => {
  if (request.url === '/use') response.end(JSON.stringify(used()))
  else response.end(request.url === '/large' ? large : small)
})
await serve(server, { host: '127.0.0.1', port: 0, moveTls: process.argv[2] === 'moves', drainTimeout: 20_000 })
process.send?.((server.address() as AddressInfo).port)

function used() {
  const { gc } = globalThis as { gc?: () => void }
  gc?.()
  const { user, system } = process.cpuUsage()
  return { pid: process.pid, cpu: user + system, memory: process.memoryUsage.rss() }
}
