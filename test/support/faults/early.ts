/**
 * Faults of a new version whose program has not come to its first line: in a script in the place of
 * Node, or before `daemonize()`.
 */
import { existsSync, writeFileSync } from 'node:fs'
import type { Lab } from '../lab.ts'
import type { Fault } from './table.ts'

const lines: Readonly<Partial<Record<Fault | 'hold', string>>> = {
  SIGKILL: 'kill -KILL $$',
  SIGSTOP: 'kill -STOP $$',
  'exit 0': 'exit 0',
  'exit 1': 'exit 1',
  loop: 'while :; do :; done',
  // Three of its own, the link, two listeners, and two more. No core file: Node aborts.
  descriptors: 'ulimit -c 0; ulimit -n 8',
  link: 'exec 3>&-',
  // It is killed for that, and on a busy machine not at once: no program of it runs until then.
  garbage: 'echo "this is no message" >&3; exec sleep 60',
}

/** Writes its pid to `bin/pid`; with a fault that comes from outside it waits for `bin/go`. */
export function spawnScript(lab: Lab, fault: Fault | 'hold'): string {
  const bin = binOf(lab)
  const line = lines[fault] ?? `while [ ! -e '${bin}/go' ]; do sleep 0.01; done`
  const script = `#!/bin/sh\necho $$ > '${bin}/pid'\n${line}\nexec '${process.execPath}' "$@"\n`
  writeFileSync(`${bin}/node`, script, { mode: 0o755 })
  return `${bin}/node`
}

/**
 * The same in the way of the original Go API for the daemon that the process between the two has
 * started: an argument of the puppet.
 */
export function beforeDaemonize(lab: Lab, fault: Fault | 'hold'): string {
  const bin = JSON.stringify(binOf(lab))
  const end = fault === 'hold' ? `while (!fs.existsSync(${bin} + '/go'));` : `process.kill(process.pid, 'SIGKILL')`
  const isDaemon = "process.env.COOK_DAEMON_STAGE === 'daemon'"
  return `--before=({ fs }) => { if (${isDaemon}) { fs.writeFileSync(${bin} + '/pid', String(process.pid)); ${end} } }`
}

function binOf(lab: Lab): string {
  return existsSync(lab.path('bin')) ? lab.path('bin') : lab.makeFolder('bin')
}
