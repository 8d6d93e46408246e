/** The channel between a worker and its keeper, as either end has it. */
import type { ChildProcess } from 'node:child_process'
import { fromKeeperWire, type KeeperMessage, toKeeperWire } from '../contract/keeper-messages.ts'
import { type Lend, watchChannel } from '../node/channel.ts'

/** A handle of Node as it crosses: of a listener, a UDP socket, or an end of a pair. */
export type RawHandle = { readonly fd: number; close(): void }

export type Station = {
  readonly isOpen: boolean
  /** Never throws. The handle stays open here; `done`: it may be closed now. */
  send(message: KeeperMessage, handle?: RawHandle, done?: () => void): void
  close(): void
}

type Events = {
  message(message: KeeperMessage, handle: RawHandle | undefined): void
  closed(): void
}

/** It keeps no process from its end. */
export function openStation(
  target: ChildProcess | NodeJS.Process,
  events: Events,
  lend: Lend = (call) => call(),
): Station {
  const [send, disconnect] = lend(() => [target.send?.bind(target), target.disconnect?.bind(target)])
  const unwatch = watchChannel(
    target,
    {
      message(raw, handle) {
        const message = fromKeeperWire(raw)
        if (message !== undefined) events.message(message, handle as RawHandle | undefined)
        return message !== undefined
      },
      closed() {
        unwatch()
        events.closed()
      },
      // What follows a broken line is read as before.
      broken() {},
    },
    lend,
  )
  lend(() => target.channel?.unref())
  const isOpen = () => lend(() => target.connected) === true
  return {
    get isOpen() {
      return isOpen()
    },
    send(message, handle, done = () => {}) {
      if (isOpen()) lend(() => send?.(toKeeperWire(message), handle as never, undefined, done))
      else done()
    },
    close() {
      if (isOpen()) lend(() => disconnect?.())
    },
  }
}
