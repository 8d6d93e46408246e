/**
 * A chat over WebSockets: everybody stays connected, in the same room and under the same name,
 * while the server is upgraded.
 */
import { createServer } from 'node:http'
import { serve } from 'cook-daemon'
import { handOverWebSockets } from 'cook-daemon/ws'
import { WebSocketServer } from 'ws'

const server = createServer((_request, response) => void response.end('Connect with a WebSocket.\n'))
const webSockets = new WebSocketServer({ server })
const members = new Map()

// New connections come without a member, those that the old version hands over bring theirs.
webSockets.on('connection', (socket, request, member = enter(socket, request.url)) => {
  members.set(socket, member)
  socket.on('message', (text) => hear(member, String(text)))
  socket.on('error', () => {})
  socket.on('close', () => {
    members.delete(socket)
    tell(member.room, `${member.name} has left`)
  })
})

/** `/lobby?name=ann` */
function enter(socket, url = '/') {
  const { pathname, searchParams } = new URL(url, 'ws://chat')
  const member = { name: searchParams.get('name') ?? 'somebody', room: pathname.slice(1) || 'lobby' }
  socket.send(`welcome to ${member.room}, ${member.name}`)
  tell(member.room, `${member.name} has come`)
  return member
}

function hear(member, text) {
  const [command, argument = ''] = text.split(' ', 2)
  if (command === '/name') member.name = argument
  else if (command === '/join') member.room = argument
  else tell(member.room, `${member.name}: ${text}`)
}

function tell(room, text) {
  for (const [socket, member] of members) if (member.room === room) socket.send(text)
}

const daemon = await serve(server, {
  port: Number(process.env.PORT ?? 8080),
  prepare(daemon) {
    handOverWebSockets(daemon, webSockets, { saveState: (socket) => members.get(socket) })
  },
})
const { port } = server.address()
console.log(`pid ${process.pid}, generation ${daemon.generation}: ws://localhost:${port}/lobby?name=ann`)
