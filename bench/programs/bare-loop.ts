/**
 * A plain http server that sends all its connections to a child, which serves them, one at a time
 * and with nothing around it: as fast as Node's own way is.
 */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'

if (process.argv[2] === 'child') {
  const server = createServer((_, response) => response.end('1'))
  process.on('message', (_, socket: Socket) => {
    server.emit('connection', socket)
    process.send?.('taken')
  })
} else {
  const sockets: Socket[] = []
  const server = createServer((_, response) => response.end('1'))
  // Keeps them open until they have moved, however long the clients took to connect.
  server.keepAliveTimeout = 0
  server.on('connection', (socket: Socket) => void sockets.push(socket))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const child = fork(new URL(import.meta.url), ['child'])
  process.send?.((server.address() as AddressInfo).port)
  await once(process, 'message')
  const from = performance.now()
  for (const socket of sockets) {
    // As `send` would leave it: without this the server goes into worker mode and every send walks
    // its list.
    Object.assign(socket, { server: null })
    child.send('connection', socket)
    await once(child, 'message')
    socket.destroy()
  }
  process.send?.(sockets.length / ((performance.now() - from) / 1_000))
  child.kill('SIGKILL')
}
