/** `node --require /path/of/cook-daemon/dist/bundle/preload.cjs app.js`: makes a program upgradable that knows nothing of this library. */
import { envProgram } from './core/protocol.ts'
import { isWorkerThread } from './node/sockets.ts'
import { startEnvironment } from './node/system.ts'
import { startProgram } from './program/start.ts'
import { refuseListens } from './program/worker.ts'

// Inherited through execArgv by every fork and worker of the program, which are none of our business: only the command line's own child has this variable.
if (!isWorkerThread()) {
  if (process.env[envProgram] !== undefined) startProgram()
} else if (startEnvironment()[envProgram] !== undefined) {
  refuseListens()
}
