/** `node --import /path/of/cook-daemon/dist/src/preload.js app.js`: makes a program upgradable that knows nothing of this library. */
import { envProgram } from './core/protocol.ts'

// Inherited through execArgv by every fork and worker of the program, which are none of our business: only the command line's own child has this variable.
if (process.env[envProgram] !== undefined) await (await import('./program/start.ts')).startProgram()
