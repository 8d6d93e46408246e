/**
 * plain.ts with the library, which it registers its listener with if it is told to; importing.cjs
 * is the same as CommonJS.
 */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { addInheritTcpListener } from 'cook-daemon'

const server = createServer((_request, response) => {
  response.end('hello')
})
server.listen({ port: 0, host: '127.0.0.1' }, () => {
  if (process.env.BENCH_REGISTER) addInheritTcpListener('http', server)
  process.send?.((server.address() as AddressInfo).port)
})
process.once('disconnect', () => process.exit())
