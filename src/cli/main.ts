#!/usr/bin/env node
/** The command `cook-daemon`. What asks a daemon for a word only, and is typed plainly, is understood here: commander and the other commands take longer to load than the answer to come. */
import { leave, tell } from './output.ts'
import { list, status } from './status.ts'
import { stop } from './stop.ts'

/** This file is bundled as CommonJS, and commands.ts lies beside it. */
declare const require: (file: string) => typeof import('./commands.ts')

type Options = { readonly json?: true }

const quick: Readonly<Record<string, (name: string | undefined, options: Options) => Promise<number>>> = {
  status,
  stop,
  list: (_, options) => list(options),
}

// No await here: as CommonJS the command starts faster.
const args = process.argv.slice(2)
const answer = plain(args)
if (answer === undefined) {
  void require('./commands.js')
    .runCommand(args)
    .then((code) => {
      process.exitCode = code
    })
} else {
  void answer.catch(tell).then(leave)
}

/** A quick command with nothing but a name and `--json`; undefined if it is typed in any other way. */
function plain([command = '', ...rest]: readonly string[]): Promise<number> | undefined {
  const run = Object.hasOwn(quick, command) ? quick[command] : undefined
  const names = rest.filter((arg) => arg !== '--json')
  const isPlain = names.length <= (command === 'list' ? 0 : 1) && names.every((name) => /^\w/.test(name))
  return isPlain ? run?.(names[0], rest.length > names.length ? { json: true } : {}) : undefined
}
