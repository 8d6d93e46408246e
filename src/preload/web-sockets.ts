/** The open WebSockets of an unmodified program. */
import type { IncomingMessage } from 'node:http'
import type { Server, Socket } from 'node:net'

/** Those that are open, whatever library made them: in Node's lists of HTTP connections they are no more. */
export class WebSockets {
  readonly open = new Set<Socket>()
  /** Called with each that opens. */
  onOpen: ((socket: Socket) => void) | undefined

  /** Listens to `upgrade` only as long as the program does: a server with a listener treats such a request in another way. */
  track(server: Server): void {
    const onUpgrade = (request: IncomingMessage, socket: Socket) => {
      if (request.headers.upgrade?.toLowerCase() === 'websocket') this.#add(socket)
    }
    let isListening = false
    const look = (own: number) => {
      if (own > 0 === isListening) return
      isListening = own > 0
      if (isListening) server.prependListener('upgrade', onUpgrade)
      else server.removeListener('upgrade', onUpgrade)
    }
    look(server.listenerCount('upgrade'))
    server.on('newListener', (name, listener) => {
      if (name === 'upgrade' && listener !== onUpgrade) look(1)
    })
    server.on('removeListener', (name, listener) => {
      if (name === 'upgrade' && listener !== onUpgrade) look(server.listenerCount('upgrade') - 1)
    })
  }

  #add(socket: Socket): void {
    this.open.add(socket)
    socket.once('close', () => this.open.delete(socket))
    this.onOpen?.(socket)
  }
}
