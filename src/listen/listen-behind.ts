/** Listening beside a predecessor that still owns the service. */
import type { Server } from 'node:net'
import { listenWithoutAccepting } from '../node/sockets.ts'
import type { Succession } from '../upgrade/successor.ts'

/** Runs a call of listen() on a listener of the predecessor, which alone accepts there as long as it owns the service: whoever met a version that then fails would be lost with it. */
export function listenBehind(succession: Succession | undefined, server: Server, call: () => void): void {
  const accept = listenWithoutAccepting(server, call)
  const closed = new Promise<false>((done) => server.once('close', () => done(false)))
  void succession?.mayAccept(closed).then((may) => {
    if (may) accept()
  })
}
