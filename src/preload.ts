/** `node --import /path/of/cook-daemon/dist/bundle/preload.js app.js`: makes a program upgradable that knows nothing of this library. @module cook-daemon/preload */
import { envProgram } from './core/protocol.ts'
import { isWorkerThread } from './node/sockets.ts'
import { startEnvironment } from './node/system.ts'

// Inherited through execArgv by every fork and worker of the program, which are none of our business: only the command line's own child has this variable.
if (process.env[envProgram] !== undefined && !isWorkerThread()) {
  await (await import('./program/start.ts')).startProgram()
} else if (isWorkerThread() && startEnvironment()[envProgram] !== undefined) {
  const { refuseListens } = await import('./program/worker.ts')
  refuseListens()
}
