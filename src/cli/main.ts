#!/usr/bin/env node
/** The command `cook-daemon`. What asks a daemon for a word only, and is typed plainly, is understood here: commander and the other commands take longer to load than the answer to come. */
import { tell } from './output.ts'
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

// Whoever reads has read enough, as `head` does: what was asked for is done all the same.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {})

// No await here: as CommonJS the command starts faster.
void main(process.argv.slice(2)).then((code) => {
  process.exitCode = code
})

async function main(args: readonly string[]): Promise<number> {
  return plain(args)?.catch(tell) ?? require('./commands.js').runCommand(args)
}

/** A quick command with nothing but a name and `--json`; undefined if it is typed in any other way. */
function plain([command = '', ...rest]: readonly string[]): Promise<number> | undefined {
  const run = Object.hasOwn(quick, command) ? quick[command] : undefined
  const names = rest.filter((arg) => arg !== '--json')
  const isPlain = names.length <= (command === 'list' ? 0 : 1) && names.every((name) => /^\w/.test(name))
  return isPlain ? run?.(names[0], rest.length > names.length ? { json: true } : {}) : undefined
}
