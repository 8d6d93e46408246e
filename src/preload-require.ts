/** `node --require /path/of/cook-daemon/dist/bundle/preload.cjs app.js`: makes a program upgradable that knows nothing of this library. */
import { envProgram } from './core/protocol.ts'
import { isWorkerThread } from './node/sockets.ts'

/** This file is bundled as CommonJS, and what it loads lies beside it: every fork of the program inherits it through execArgv and reads no more than this, a worker thread worker.cjs as well. */
declare const require: NodeJS.Require
declare const __dirname: string

// The program's forks are none of our business: only the command line's own child has this variable.
if (isWorkerThread()) run('worker.cjs')
else if (process.env[envProgram] !== undefined) run('program.cjs')

/** As require() does it, without the search for the file, which takes longer than to read it (measured). */
function run(name: string): void {
  const file = `${__dirname}/${name}`
  const text = process.getBuiltinModule('node:fs').readFileSync(file, 'utf8')
  const { compileFunction } = process.getBuiltinModule('node:vm')
  compileFunction(text, ['require', '__filename', '__dirname'], { filename: file })(require, file, __dirname)
}
