/** The server of the demo: what every release of it runs, in each of its workers. */
import { createServer } from 'node:http'
import { serve } from 'cook-daemon'
import { handOverWebSockets } from 'cook-daemon/ws'
import { type WebSocket, WebSocketServer } from 'ws'
import { loadHandler } from '../../test/fixtures/load-server-handler.ts'

/** What a WebSocket is told for each of its messages. */
export type Told = { readonly count: number; readonly pid: number; readonly version: string }

export async function start(version: string): Promise<void> {
  const server = createServer(loadHandler(version))
  const webSockets = new WebSocketServer({ server })
  const counts = new Map<WebSocket, number>()
  webSockets.on('connection', (socket, _request, count = 0) => {
    counts.set(socket, count)
    socket.on('close', () => counts.delete(socket))
    socket.on('message', () => {
      const told: Told = { count: (counts.get(socket) ?? 0) + 1, pid: process.pid, version }
      counts.set(socket, told.count)
      socket.send(JSON.stringify(told))
    })
  })
  await serve(server, {
    host: '127.0.0.1',
    port: 0,
    prepare(daemon) {
      handOverWebSockets(daemon, webSockets, { saveState: (socket) => counts.get(socket) })
    },
  })
}
