/** A benchmark that is interrupted ends what it has started before it ends itself. */
import { constants } from 'node:os'

/** `work` gets a signal that is aborted by then. */
export async function runInterruptibly(
  work: (signal: AbortSignal) => Promise<void>,
  endAll: () => Promise<unknown>,
): Promise<void> {
  const stopped = new AbortController()
  let interrupted: Promise<never> | undefined
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      stopped.abort()
      interrupted ??= endAll().then(() => process.exit(128 + constants.signals[signal]))
    })
  }
  try {
    await work(stopped.signal)
  } catch (error) {
    // What fails since its processes are gone has nothing to say.
    await interrupted
    throw error
  }
}
