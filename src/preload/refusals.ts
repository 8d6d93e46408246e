/** What a program under the preload may not do: node:cluster, and servers in worker threads. */
import type { Server } from 'node:net'
import { envProgram } from '../contract/environment.ts'
import { CookError } from '../errors.ts'
import { watchClusterPrimary } from '../node/processes.ts'
import { startEnvironment } from '../node/system.ts'
import { askOfListen } from './listen-arguments.ts'

/** Refused at the first fork. */
export function refuseCluster(): { end(): void } {
  const end = watchClusterPrimary(() => {
    throw new CookError('ERR_COOK_CLUSTER', {})
  })
  return { end }
}

/**
 * In a worker thread: a server there could not be handed over, and would be lost at the first
 * upgrade.
 */
export function refuseListens(): void {
  // From its own environment the main thread has deleted it.
  if (startEnvironment()[envProgram] === undefined) return
  const { prototype } = process.getBuiltinModule('node:net').Server
  const plain = prototype.listen
  prototype.listen = function listen(this: Server, ...args: unknown[]) {
    const ask = askOfListen(args, (path) => path)
    // A port that the system chooses is for the program's own use.
    if (ask !== undefined && (ask.kind === 'unix' || ask.port !== 0)) {
      throw new CookError('ERR_COOK_WORKER_THREAD', { verb: 'listen(), under the preload of cook-daemon,' })
    }
    return Reflect.apply(plain, this, args)
  }
}
