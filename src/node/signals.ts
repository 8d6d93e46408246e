/** Who handles a signal in this process. */

/** Whether anybody does beside `own` listeners of the caller: without one the signal ends the process. */
export function isHandled(signal: NodeJS.Signals, own = 0): boolean {
  return process.listenerCount(signal) - own > signalExits()
}

/** The package signal-exit, which many others use, listens to kill the process where nobody else would handle the signal: that is as good as no handler. */
function signalExits(): number {
  const emitters = process as unknown as Readonly<Record<string | symbol, { readonly count?: number } | undefined>>
  const counts = [emitters[Symbol.for('signal-exit emitter')]?.count, emitters.__signal_exit_emitter__?.count]
  return counts.reduce<number>((sum, count) => sum + (typeof count === 'number' ? count : 0), 0)
}
