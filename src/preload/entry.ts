/** `node --require …/preload.cjs app.js`: makes a program upgradable that knows nothing of us. */
import { envProgram } from '../contract/environment.ts'
import { isWorkerThread } from '../node/system.ts'

/**
 * Bundled as CommonJS, and what it loads lies beside it: each fork of the program inherits it
 * through execArgv, and reads no more than this.
 */
declare const require: <Module>(file: string) => Module

// Only the generations of the program have this variable; its forks do not.
if (isWorkerThread()) require<typeof import('./refusals.ts')>('./worker.cjs').refuseListens()
else if (process.env[envProgram] !== undefined) require<typeof import('./start.ts')>('./program.cjs').takeUpProgram()
