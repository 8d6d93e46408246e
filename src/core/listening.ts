/** Makes a server listen, unseen by the preload, which takes up the program's own calls only. */
import type { Server } from 'node:net'

let depth = 0

/** Whether a call of listen() is the library's own. */
export function isOwnListen(): boolean {
  return depth > 0
}

/** Takes the arguments of `server.listen()`; rejects with what keeps it from listening. */
export function listening(server: Server, ...args: readonly unknown[]): Promise<void> {
  return new Promise((done, failed) => {
    const settle = (error?: Error) => {
      server.removeListener('error', settle)
      server.removeListener('listening', settle)
      if (error === undefined) done()
      else failed(error)
    }
    server.once('error', settle).once('listening', settle)
    depth++
    try {
      server.listen(...(args as Parameters<Server['listen']>))
    } finally {
      depth--
    }
  })
}
