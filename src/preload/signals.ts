/** Signals of an unmodified program: SIGUSR2 upgrades, and what the program does at SIGTERM itself stays its own. */

import { defaults } from '../defaults.ts'
import { restoreUnixPaths } from '../listen/unix-path.ts'
import { now } from '../node/clock.ts'
import { isHandled } from '../node/signals.ts'
import { signalNumbers } from '../node/system.ts'
import type { DaemonEvent } from '../options.ts'
import type { State } from '../process/state.ts'
import type { Life } from './life.ts'

type Plan = {
  readonly state: State
  readonly life: Life
}

export function watchSignals({ state, life }: Plan) {
  const { stopSignals } = defaults
  /** The program was told to end: it has had its SIGTERM. */
  let wasTold = false
  let isOver = false
  /** The program looks after itself. */
  let isAside = false

  const onUpgrade = () => {
    // A signal has no answer: who sent it finds in the log why nothing came of it.
    life.daemon.upgrade().catch((error: Error) => process.emitWarning(error))
  }
  const onStop = (signal: NodeJS.Signals) => {
    if (isOver) return
    const isProgramOwn = isHandled(signal, 1)
    wasTold ||= isProgramOwn
    if (state.hasSuccessor === true) void life.daemon.stop()
    else if (isProgramOwn) life.inside.leaveToProgram()
    // Before it serves there is nothing to finish, and whoever waits for it reads in the exit code what ended it.
    else if (!life.isReady) process.exit(128 + signalNumbers()[signal])
    else void life.daemon.stop()
  }
  // Programs have a use of their own for it (nodemon's restart; Nest ends at every signal there is), which does not go together with this one: it is kept from their listeners.
  const emitter = process as Emitter
  const { emit } = emitter
  const withoutUpgrade: Emitter['emit'] = function (this: Emitter, name, ...rest) {
    if (name !== 'SIGUSR2' || isAside) return Reflect.apply(emit, this, [name, ...rest])
    onUpgrade()
    return true
  }
  emitter.emit = withoutUpgrade
  // What a signal calls is the `emit` of the moment at which the first listener comes.
  process.on('SIGUSR2', onUpgrade)
  for (const signal of stopSignals) process.on(signal, onStop)

  /** The drain is over. */
  function leave(): void {
    isOver = true
    // A program that sends itself the signal when it has finished, as Nest does, ends by it only where nobody listens.
    for (const signal of stopSignals) process.removeListener(signal, onStop)
    if (state.hasSuccessor !== true || !isHandled('SIGTERM')) process.exit(0)
    // Some remove the file of their Unix listener as well, which is the successor's.
    process.on('exit', () => restoreUnixPaths(state))
    // Its handlers do what they do at a stop; what they leave undone, or their end, is waited for until the deadline. Without them nothing more is to come.
    setTimeout(() => process.exit(0), Math.max(0, life.inside.drainEndsAt() - now())).unref()
    if (!wasTold) emitter.emit('SIGTERM', 'SIGTERM', signalNumbers().SIGTERM)
  }

  return {
    onEvent(event: DaemonEvent): void {
      // Whoever waits for the report goes first. An upgrade whose successor was lost has a report too, and its process stays.
      if (event.type === 'drained' && state.phase === 'gone') setImmediate(leave)
    },
    end(): void {
      isAside = true
      process.removeListener('SIGUSR2', onUpgrade)
      for (const signal of stopSignals) process.removeListener(signal, onStop)
    },
  }
}

type Emitter = { emit(name: string | symbol, ...args: unknown[]): boolean }
