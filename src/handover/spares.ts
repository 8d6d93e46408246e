/** Second handles of our listeners, sent back by the successor: with them we can come back. */
import type { Server } from 'node:net'
import { listening } from '../listen/listening.ts'
import { type ListenerHandle, whereToListen } from '../node/listeners.ts'
import type { LinkEvent } from '../upgrade/link.ts'

/**
 * Node can neither duplicate a descriptor nor listen again on one that it has closed; what another
 * process sends is a new descriptor of the same socket.
 */
export class Spares {
  readonly #handles = new Map<string, ListenerHandle>()
  /** Names that were announced and have not come; undefined before the announcement. */
  #missing: Set<string> | undefined
  #settle: () => void = () => {}
  /** Resolves when all have come, or no more will. */
  readonly complete: Promise<void>

  /** So long, in milliseconds, it waits for them. */
  constructor(patience: number) {
    this.complete = new Promise((settle) => {
      this.#settle = settle
      setTimeout(settle, patience).unref()
    })
  }

  onLink(event: LinkEvent): void {
    if (event.type === 'closed') this.#settle()
    if (event.type !== 'message' || typeof event.message !== 'object') return
    const { message, handle } = event
    if (message.type === 'spares') this.#missing = new Set(message.names)
    else if (message.type === 'spare') this.#take(message.name, handle as ListenerHandle | undefined)
    else return
    if (this.#missing?.size === 0) this.#settle()
  }

  #take(name: string, handle: ListenerHandle | undefined): void {
    this.#missing?.delete(name)
    if (handle === undefined) return
    this.#handles.get(name)?.close()
    this.#handles.set(name, handle)
  }

  has(name: string): boolean {
    return this.#handles.has(name)
  }

  /** Whoever takes one closes it. */
  take(name: string): ListenerHandle | undefined {
    const handle = this.#handles.get(name)
    this.#handles.delete(name)
    return handle
  }

  /** Lets a server that has stopped accepting listen again, on the same socket. */
  async listenAgain(name: string, server: Server, backlog: number | undefined): Promise<void> {
    const handle = this.take(name)
    if (handle === undefined) throw new Error(`the listener ${name} has no second handle`)
    await listening(server, () => server.listen(whereToListen(handle), backlog))
  }

  /** Closes what was not needed. */
  close(): void {
    for (const handle of this.#handles.values()) handle.close()
    this.#handles.clear()
  }
}
