/** Listeners that no other version can ask for: they end in the process that opened them. */

import type { Server } from 'node:net'
import { basename } from 'node:path'
import { connectionsOf } from '../node/connections.ts'
import { isReferenced, stopAccepting } from '../node/listeners.ts'
import { isPrivatePath } from '../node/sockets.ts'
import { fileAt } from '../node/stat.ts'
import type { Ask } from '../process/addresses.ts'
import { removeUnixFile } from '../process/unix-file.ts'
import type { Departure, OwnDrain } from '../service-parts.ts'
import { deferred } from '../waiting.ts'

/** A smaller pid is in the names of many things: of a first worker, of a version. */
const leastTellingPid = 100

/** A path with the pid in its name: the next version has another one. */
export function hasPid({ path }: Extract<Ask, { kind: 'unix' }>): boolean {
  const isTelling = process.pid >= leastTellingPid && basename(path).split(/\D+/).includes(String(process.pid))
  return isTelling || isPrivatePath(path, process.pid)
}

export class Staying {
  readonly #open = new Set<Server>()
  #onEnd = () => {}

  has(server: Server): boolean {
    return this.#open.has(server)
  }

  /** Until it is closed, and its last connection too. */
  add(server: Server): void {
    this.#open.add(server)
    const path = server.address()
    const forget = typeof path === 'string' ? removeAtExit(path) : undefined
    server.once('close', () => {
      forget?.()
      this.#open.delete(server)
      this.#onEnd()
    })
  }

  /** One that was unreferenced keeps no process from its end, as in Node. */
  get #isOver(): boolean {
    return ![...this.#open].some((server) => isReferenced(server) || connectionsOf([server]).get(server)?.length)
  }

  /**
   * After an upgrade the process waits for them, also for those that are opened meanwhile. At a
   * stop they are closed as every other server.
   */
  drain({ mover, hurry, clock, countsOf }: Departure, left: readonly Server[]): OwnDrain {
    for (const server of left) if (!this.#open.has(server)) this.add(server)
    const ended = deferred()
    const look = () => {
      if (this.#isOver) ended.resolve()
    }
    this.#onEnd = look
    look()
    const stop = () => {
      for (const server of this.#open) if (server.listening) stopAccepting(server)
    }
    const cut = () => {
      stop()
      for (const [, sockets] of connectionsOf([...this.#open])) {
        for (const socket of sockets) {
          countsOf(socket).cut++
          socket.destroy()
        }
      }
    }
    if (mover !== undefined) {
      hurry.onSet(stop)
      if (hurry.isSet) stop()
    }
    return {
      moveIdle: async () => {},
      // What is accepted now has the rest of the time.
      end: stop,
      done: mover === undefined ? Promise.resolve() : Promise.race([ended.promise, clock.deadline.wait().then(cut)]),
      dispose: () => {
        this.#onEnd = () => {}
        hurry.offSet(stop)
      },
    }
  }
}

/** Nothing closes the server in a process that exits, and its file would be left. */
function removeAtExit(path: string): () => void {
  const file = fileAt(path)?.id
  const remove = () => {
    if (file !== undefined) removeUnixFile({ path, file })
  }
  process.once('exit', remove)
  return () => process.removeListener('exit', remove)
}
