/** Signals: who handles one, their numbers, and the one that must not open an inspector. */
import { constants } from 'node:os'
import { isWorkerThread } from './system.ts'

/**
 * Whether anybody does beside `own` listeners of the caller: without one the signal ends the
 * process.
 */
export function isHandled(signal: NodeJS.Signals, own = 0): boolean {
  return process.listenerCount(signal) - own > signalExits()
}

/**
 * The package signal-exit, which many others use, listens to kill the process where nobody else
 * would handle the signal: that is as good as no handler.
 */
function signalExits(): number {
  const emitters = process as unknown as Readonly<Record<string | symbol, { readonly count?: number } | undefined>>
  const counts = [emitters[Symbol.for('signal-exit emitter')]?.count, emitters.__signal_exit_emitter__?.count]
  return counts.reduce<number>((sum, count) => sum + (typeof count === 'number' ? count : 0), 0)
}

/** Signals by name. */
export function signalNumbers(): Readonly<Record<NodeJS.Signals, number>> {
  return constants.signals
}

let isShut = false

/**
 * From here on SIGUSR1 opens no inspector: Node does that only as long as nobody listens to the
 * signal. Called before anything tells the pid of this process: a pid file, a control socket, the
 * report of a start.
 */
export function keepInspectorShut(): void {
  if (isShut || isWorkerThread()) return
  isShut = true
  process.on('SIGUSR1', () => {})
}
