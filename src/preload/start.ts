/** What the preload does in a process that the command line started: it is to the program what serve() is to one that calls it. */

import { protocolVersion } from '../contract/messages.ts'
import { CookError, messageOf } from '../errors.ts'
import type { DaemonEvent } from '../options.ts'
import { wordOf } from '../process/launched.ts'
import { releasePidFile } from '../process/pid-file.ts'
import { type EnteredState, enter } from '../process/state.ts'
import { watchBinds } from './bind-calls.ts'
import { refuseCluster } from './cluster.ts'
import { Life } from './life.ts'
import { watchListens } from './listen-calls.ts'
import { readiness } from './readiness.ts'
import { watchSignals } from './signals.ts'
import { drainWebSockets } from './web-socket-drain.ts'

/** Before the first line of the program. */
export function takeUpProgram(): void {
  const state = enter('the preload')
  const program = state.program ?? { protocol: protocolVersion }
  // What belongs to the daemon's life is heard here before the program can have asked for anything.
  const hear: ((event: DaemonEvent) => void)[] = []
  const onEvent = (event: DaemonEvent) => {
    for (const listener of hear) listener(event)
  }
  if (state.entered.succession === undefined) state.phase = 'starting'
  const life = new Life(state, onEvent)
  const fail = failWith(state)
  // In a turn of its own: the program serves before its daemon is made, and its control socket.
  const start = () =>
    new Promise((turned) => setImmediate(turned))
      .then(() => life.inside.openControl())
      .then(() => life.daemon.ready())
      .catch(fail)
  const ready = readiness({ state, program, start })
  const signals = watchSignals({ state, life })
  hear.push(signals.onEvent)
  process.on('exit', () => {
    // A program that ends itself does not know of it.
    if (state.hasSuccessor !== true && state.pidFile !== undefined) releasePidFile(state.pidFile)
  })
  const plan = { state, life, ready }
  const listens = watchListens(plan)
  const binds = watchBinds(plan)
  hear.push(binds.onEvent)
  life.onBegin = (inside) => inside.onDrain((view) => drainWebSockets(listens.webSockets, view))
  const welcomeCluster = refuseCluster()
  state.preload = {
    stepAside(verb) {
      if (life.isReady || listens.isUsed()) throw new CookError('ERR_COOK_PRELOADED', { verb })
      for (const part of [signals, listens, binds, ready]) part.end()
      welcomeCluster()
      // What it was before.
      if (state.entered.succession === undefined) state.phase = 'ready'
      delete state.preload
      delete state.receiver
    },
    async ready(ok, reason) {
      if (!ok) return ready.refuse(reason)
      ready.say()
      await ready.started
    },
  }
  ready.look()
}

/** Whoever started this process is told, and it ends: a program that catches everything must not live on beside the one that serves. */
function failWith(state: EnteredState): (error: unknown) => void {
  return (error) => {
    state.entered.launch?.tell(wordOf('refused', error))
    process.stderr.write(`${messageOf(error)}\n`)
    process.exit(1)
  }
}
