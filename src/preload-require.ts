/** `node --require /path/of/cook-daemon/dist/bundle/preload.cjs app.js`: makes a program upgradable that knows nothing of this library. */
import { envProgram } from './core/protocol.ts'
import { isWorkerThread } from './node/sockets.ts'

/** This file is bundled as CommonJS, and what it loads lies beside it: every fork of the program inherits it through execArgv and reads no more than this, a worker thread worker.cjs as well. */
declare const require: (file: string) => void

// The program's forks are none of our business: only the command line's own child has this variable.
if (isWorkerThread()) require('./worker.cjs')
else if (process.env[envProgram] !== undefined) require('./program.cjs')
