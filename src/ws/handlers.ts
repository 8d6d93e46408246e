/** What the message handlers of the program are still at, as far as they return promises. */
import { EventEmitter } from 'node:events'
import type { WebSocket } from 'ws'
import { type Emitter, wrapEmit } from '../node/emitters.ts'

export class MessageHandlers {
  readonly #running = new WeakMap<WebSocket, Set<Promise<unknown>>>()

  /** From now on; once for each WebSocket. */
  watch(webSocket: WebSocket): void {
    // Node looks at what listeners return itself then, and that cannot be asked.
    if (this.#running.has(webSocket) || EventEmitter.captureRejections) return
    const running = new Set<Promise<unknown>>()
    this.#running.set(webSocket, running)
    wrapEmit(webSocket as unknown as Emitter, (emit, name, ...args) => {
      if (name !== 'message') return emit(name, ...args)
      // As Node does, which forgets what they return.
      const listeners = webSocket.rawListeners('message')
      for (const listener of listeners) {
        const result: unknown = Reflect.apply(listener, webSocket, args)
        if (!(result instanceof Promise)) continue
        // One that rejects is as unhandled as before.
        const ended: Promise<unknown> = result.finally(() => running.delete(ended))
        running.add(ended)
      }
      return listeners.length > 0
    })
  }

  /** Resolves when all that run now have ended; undefined if none does. */
  ended(webSocket: WebSocket): Promise<unknown> | undefined {
    const running = this.#running.get(webSocket)
    return running === undefined || running.size === 0 ? undefined : Promise.allSettled(running)
  }
}
