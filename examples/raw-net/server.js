/**
 * A custom line protocol, `nc localhost <port>`: each line is numbered. Connections move with
 * their number and their unfinished line.
 */
import { createServer } from 'node:net'
import { createDaemon } from 'cook-daemon'

const daemon = await createDaemon()
const connections = new Map()
const server = createServer((socket) => converse(socket, { lines: 0, unfinished: '' }))

// Before anything else: a signal without a handler kills.
process.on('SIGTERM', () => daemon.stop().then(() => process.exit(0)))
process.on('SIGUSR2', async () => {
  try {
    await (await daemon.upgrade()).drained
    if (daemon.phase === 'gone') process.exit(0) // else the new version was lost, and the service came back
  } catch (error) {
    console.error(error) // and this version keeps serving
  }
})

function converse(socket, state) {
  connections.set(socket, state)
  socket.once('close', () => connections.delete(socket)).on('error', () => {}) // a client that is gone is no error here
  // latin1: a piece of a connection may end in the middle of a character.
  socket.setEncoding('latin1').on('data', (text) => {
    const lines = `${state.unfinished}${text}`.split('\n')
    state.unfinished = lines.pop() ?? ''
    const end = `(pid ${process.pid}, generation ${daemon.generation})\n`
    for (const line of lines) socket.write(`${++state.lines} ${line} ${end}`, 'latin1')
  })
}

daemon.onHandedOver('line', (socket, state) => converse(socket, state))
daemon.onDrain(() => {
  for (const [socket, state] of connections) {
    // At a stop there is no successor, and a client may have left: then the connection ends here.
    daemon.handOver('line', socket, state).catch(() => socket.end())
  }
})

await daemon.listen(server, { port: Number(process.env.PORT ?? 8080) })
await daemon.ready()
const { port } = server.address()
console.log(`pid ${process.pid}, generation ${daemon.generation}: nc localhost ${port}`)
