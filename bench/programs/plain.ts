/**
 * A plain http server without the library: what the others are compared with; plain.cjs is the same
 * as CommonJS.
 */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

const server = createServer((_request, response) => {
  response.end('hello')
})
server.listen({ port: 0, host: '127.0.0.1' }, () => {
  process.send?.((server.address() as AddressInfo).port)
})
process.once('disconnect', () => process.exit())
