/** Makes a server listen, unseen by the preload, which takes up the program's own calls only. */
import type { Server } from 'node:net'

let depth = 0

/** Whether a call of listen() is the library's own. */
export function isOwnListen(): boolean {
  return depth > 0
}

/** Runs a call that makes a server listen; rejects with what keeps it from that. */
export function listening(server: Server, call: () => void): Promise<void> {
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
      call()
    } finally {
      depth--
    }
  })
}
