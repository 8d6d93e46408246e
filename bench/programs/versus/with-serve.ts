/** The service with this library: serve(), and WebSockets that move. */
import { serve } from 'cook-daemon'
import { handOverWebSockets } from 'cook-daemon/ws'
import { createApp, host, port } from './app.ts'

const { server, webSockets, states } = createApp()

await serve(server, {
  host,
  port,
  pidFile: 'app.pid',
  prepare: (daemon) => handOverWebSockets(daemon, webSockets, { saveState: (socket) => states.get(socket) }),
})
