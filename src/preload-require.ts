/** `node --require /path/of/cook-daemon/dist/bundle/preload.cjs app.js`: makes a program upgradable that knows nothing of this library. */
import { envProgram } from './core/protocol.ts'
import { isWorkerThread } from './node/sockets.ts'

/** This file is bundled as CommonJS, and what it loads lies beside it: every fork of the program inherits it through execArgv and reads no more than this, a worker thread worker.cjs as well. */
declare const module: { _compile(text: string, file: string): void }
declare const __dirname: string

// The program's forks are none of our business: only the command line's own child has this variable.
if (isWorkerThread()) run('worker.cjs')
else if (process.env[envProgram] !== undefined) run('program.cjs')

/**
 * As require() does it (lib/internal/modules/cjs/loader.js, there on every line), without the search for the file, which takes longer than to read it; node:vm would have to be loaded first, for
 * 1.5 % of a start (measured).
 */
function run(name: string): void {
  const file = `${__dirname}/${name}`
  module._compile(process.getBuiltinModule('node:fs').readFileSync(file, 'utf8'), file)
}
