/** importing.ts as CommonJS. */
const { createServer } = require('node:http')
const { addInheritTcpListener } = require('cook-daemon')

const server = createServer((_request, response) => {
  response.end('hello')
})
server.listen({ port: 0, host: '127.0.0.1' }, () => {
  if (process.env.BENCH_REGISTER) addInheritTcpListener('http', server)
  process.send(server.address().port)
})
process.once('disconnect', () => process.exit())
