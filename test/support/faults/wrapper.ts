/** A script in the place of Node: the process is there, and no line of the program has run yet. */
import { existsSync, writeFileSync } from 'node:fs'
import type { Lab } from '../lab.ts'
import type { Fault } from './table.ts'

const lines: Readonly<Partial<Record<Fault | 'hold', string>>> = {
  SIGKILL: 'kill -KILL $$',
  SIGSTOP: 'kill -STOP $$',
  'exit 0': 'exit 0',
  'exit 1': 'exit 1',
  loop: 'while :; do :; done',
  // Three of its own, the link, two listeners, and two more.
  descriptors: 'ulimit -c 0; ulimit -n 8',
  link: 'exec 3>&-',
  garbage: 'echo "this is no message" >&3',
}

/** Writes its pid to `bin/pid`; without a fault it waits for `bin/go`. */
export function spawnScript(lab: Lab, fault: Fault | 'hold'): string {
  const bin = existsSync(lab.path('bin')) ? lab.path('bin') : lab.makeFolder('bin')
  const line = lines[fault] ?? `while [ ! -e '${bin}/go' ]; do sleep 0.01; done`
  const script = `#!/bin/sh\necho $$ > '${bin}/pid'\n${line}\nexec '${process.execPath}' "$@"\n`
  writeFileSync(`${bin}/node`, script, { mode: 0o755 })
  return `${bin}/node`
}
