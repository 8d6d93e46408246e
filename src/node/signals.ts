/** Signals: who handles one, their numbers, and the one that must not open an inspector. */
import { constants } from 'node:os'
import type { Emitter } from './emitters.ts'
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

/** Runs the listeners of a signal, as if it had come. */
export function raise(signal: NodeJS.Signals): void {
  ;(process as Emitter).emit(signal, signal, signalNumbers()[signal])
}

/**
 * Calls `listener` when this process sends itself a signal, as programs do that end by it when they
 * have finished. Returns what ends that.
 */
export function watchOwnSignals(listener: (signal: NodeJS.Signals) => void): () => void {
  const { kill } = process
  const names = new Map(Object.entries(signalNumbers()).map(([name, number]) => [number, name as NodeJS.Signals]))
  const watching: typeof kill = (pid, signal = 'SIGTERM') => {
    const name = typeof signal === 'number' ? names.get(signal) : (signal as NodeJS.Signals)
    if (pid === process.pid && name !== undefined) listener(name)
    return Reflect.apply(kill, process, [pid, signal])
  }
  process.kill = watching
  return () => {
    if (process.kill === watching) process.kill = kill
  }
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
