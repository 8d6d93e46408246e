/** A small http server, with serve() or without. */
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { serve } from 'cook-daemon'

const server = createServer((_, response) => response.end('hello'))
if (process.argv[2] === 'serve') {
  await serve(server, { host: '127.0.0.1', port: 0 })
} else {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
}
process.send?.((server.address() as AddressInfo).port)
