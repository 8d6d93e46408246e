/** The WebSockets of an unmodified program: they do not move, and are closed over time. */
import type { IncomingMessage } from 'node:http'
import type { Server, Socket } from 'node:net'
import { closeCodes, closeOverTime, defaultSpread } from '../handover/close-slowly.ts'
import type { Departure, OwnDrain } from '../service-parts.ts'
import { OutgoingFrames } from './outgoing-frames.ts'

/**
 * Those that are open, whatever library made them: in Node's lists of HTTP connections they are no
 * more.
 */
export class WebSockets {
  readonly open = new Map<Socket, OutgoingFrames>()
  /** Called with each that opens. */
  onOpen: ((socket: Socket) => void) | undefined

  /**
   * Listens to `upgrade` only as long as the program does: a server with a listener treats such a
   * request in another way.
   */
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
    this.open.set(socket, new OutgoingFrames(socket))
    socket.once('close', () => this.open.delete(socket))
    this.onOpen?.(socket)
  }
}

/**
 * Sends each a close frame; the library that made it then does what it does when its client leaves.
 * What does not answer is cut at the deadline, with everything else.
 */
export function drainWebSockets(webSockets: WebSockets, departure: Departure): OwnDrain {
  const { mover, hurry, clock } = departure
  const code = mover === undefined && !departure.hasOthers ? closeCodes.end : closeCodes.restart
  const frame = Buffer.from([0x88, 2, code >> 8, code & 0xff])
  const closes = closeOverTime(() => clock.spread(defaultSpread))
  const close = (socket: Socket) =>
    closes.add(() => {
      // Not before the handshake is answered, nor within a message: what never comes to the end of
      // one lives until the deadline.
      webSockets.open.get(socket)?.close(() => {
        if (departure.isComingBack()) return undefined
        departure.countsOf(socket).closed++
        return frame
      })
    })
  const onHurry = () => closes.now()
  return {
    // With a successor, once that is known to stay: only then do they come back to it.
    moveIdle: async () => {},
    finish() {
      closes.plan(webSockets.open.size)
      for (const socket of webSockets.open.keys()) close(socket)
      webSockets.onOpen = close
      if (mover !== undefined) hurry.onSet(onHurry)
    },
    // Their server is closed when the last of them is.
    done: Promise.resolve(),
    dispose() {
      closes.stop()
      webSockets.onOpen = undefined
      hurry.offSet(onHurry)
      for (const frames of webSockets.open.values()) frames.keepOpen()
    },
  }
}
