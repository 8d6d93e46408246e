/** How the WebSockets of an unmodified program end: nobody here knows what it keeps for them, so they do not move; they are told to come back, not all at once. */
import type { Socket } from 'node:net'
import { closeCodes, closeOverTime, defaultSpread } from '../handover/close-slowly.ts'
import type { OwnDrain } from '../handover/drain.ts'
import type { DrainView } from '../handover/leave.ts'
import type { WebSockets } from './web-sockets.ts'

/** Sends each a close frame; the library that made it then does what it does when its client leaves. What does not answer is cut at the deadline, with everything else. */
export function drainWebSockets(webSockets: WebSockets, drain: DrainView): OwnDrain {
  const code = drain.mover === undefined ? closeCodes.end : closeCodes.restart
  const frame = Buffer.from([0x88, 2, code >> 8, code & 0xff])
  const closes = closeOverTime(Math.min(defaultSpread, drain.time / 2))
  const close = (socket: Socket) =>
    closes.add(() => {
      // Between two turns of the loop a library has written whole frames, so this one stands behind them.
      if (!socket.writable || drain.isComingBack()) return
      socket.write(frame)
      drain.countsOf(socket).closed++
    })
  const onHurry = () => closes.now()
  return {
    // With a successor, once that is known to stay: only then do they come back to it.
    moveIdle: async () => {},
    begin() {
      closes.plan(webSockets.open.size)
      for (const socket of webSockets.open) close(socket)
      webSockets.onOpen = close
      if (drain.mover !== undefined) drain.hurry.onSet(onHurry)
    },
    // Their server is closed when the last of them is.
    done: Promise.resolve(),
    dispose() {
      closes.stop()
      webSockets.onOpen = undefined
      drain.hurry.offSet(onHurry)
    },
  }
}
