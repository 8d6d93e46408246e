/** `node --require /path/of/cook-daemon/dist/bundle/preload.cjs app.js`: makes a program upgradable that knows nothing of this library. */
import { envProgram } from './core/protocol.ts'
import { isWorkerThread } from './node/sockets.ts'
import { startEnvironment } from './node/system.ts'

// Every fork and worker of the program inherits it through execArgv, so this file is small: what it is about is in those beside it.
const load = (file: string) => process.getBuiltinModule('node:module').createRequire(import.meta.url)(file)

// The program's forks are none of our business: only the command line's own child has this variable.
if (!isWorkerThread()) {
  if (process.env[envProgram] !== undefined) load('./program.cjs').startProgram()
} else if (startEnvironment()[envProgram] !== undefined) {
  load('./worker.cjs').refuseListens()
}
