/** What is told of a daemon: its events, and the hooks of its program, whose faults are events too. */
import type { DaemonEvent } from './options.ts'

const channel = process.getBuiltinModule('node:diagnostics_channel').channel('cook-daemon')

export class Teller {
  readonly #onEvent: ((event: DaemonEvent) => unknown) | undefined

  constructor(onEvent: ((event: DaemonEvent) => unknown) | undefined) {
    this.#onEvent = onEvent
  }

  emit(event: DaemonEvent): void {
    channel.publish(event)
    void this.#tell(event)
  }

  async #tell(event: DaemonEvent): Promise<void> {
    try {
      await this.#onEvent?.(event)
    } catch (error) {
      this.hookFailed('onEvent', error)
    }
  }

  /** A hook that throws is told, and costs nothing else. */
  async runHook(hook: string, run: () => unknown): Promise<unknown> {
    try {
      return await run()
    } catch (error) {
      this.hookFailed(hook, error)
      return undefined
    }
  }

  hookFailed(hook: string, thrown: unknown): void {
    const error = thrown instanceof Error ? thrown : new Error(String(thrown))
    // Where nobody listens to events, or the listener is what failed, the fault must still be seen.
    if (this.#onEvent === undefined || hook === 'onEvent') process.emitWarning(error)
    if (hook === 'onEvent') channel.publish({ type: 'hook-failed', hook, error } satisfies DaemonEvent)
    else this.emit({ type: 'hook-failed', hook, error })
  }
}
