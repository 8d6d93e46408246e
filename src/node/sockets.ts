/** The only file that touches private parts of Node. Each is probed, and its source named; test/process/node-private.test.ts holds them. */
import type { ChildProcess } from 'node:child_process'
import type { Socket as UdpSocket } from 'node:dgram'
import type { Server } from 'node:net'

/** lib/net.js: the libuv handle of a listening server. A worker of node:cluster has one without a descriptor. */
type PrivateServer = { _handle?: { fd?: number; close(done?: () => void): void } | null }

/** The descriptor of a listening server; undefined if it does not listen or its listener belongs to another process. */
export function listenerDescriptor(server: Server): number | undefined {
  return usable((server as unknown as PrivateServer)._handle?.fd)
}

/** lib/internal/dgram.js: `_handle` was removed in Node 25; the object under this symbol has been there since 11. */
const dgramState = 'state symbol'

/** The descriptor of a bound UDP socket, undefined before it is bound and after it is closed. */
export function udpDescriptor(socket: UdpSocket): number | undefined {
  const state = privateProperty<{ handle?: { fd?: number } | null }>(socket, dgramState)
  return usable(state?.handle?.fd)
}

/**
 * Runs `after` right behind the close of a server's listener, in the same turn: libuv has removed the file of a Unix listener by
 * then (src/unix/pipe.c, uv__pipe_close).
 */
export function afterListenerClose(server: Server, after: () => void): void {
  const handle = (server as unknown as PrivateServer)._handle
  if (handle == null) return
  const close = handle.close
  handle.close = function (done) {
    close.call(this, done)
    after()
  }
}

/** What happens on the channel between two Node processes. */
export type ChannelEvents = {
  /** An internal message, unseen by the program; returns whether it was for us. */
  message(raw: unknown): boolean
  closed(): void
  /** Garbage arrived. In plain Node it would be an uncaught exception here (measured). */
  broken(error: unknown): void
}

/** lib/internal/child_process.js, Control: the descriptor of the channel to the process that started this one. */
export function channelDescriptor(): number | undefined {
  return usable((process.channel as { fd?: number } | undefined)?.fd)
}

type Emitter = { emit(name: string | symbol, ...args: unknown[]): boolean }

/**
 * Watches the channel of a child, or of this process to the one that started it: the program's `message` and `disconnect` listeners see
 * nothing of it. Returns the function that ends the watch.
 */
export function watchChannel(target: ChildProcess | NodeJS.Process, events: ChannelEvents): () => void {
  // lib/internal/child_process.js, setupChannel: the reader parses what arrives in the handle's `onread` and hands it on through
  // `emit` in a later tick; bytes that are no message throw in the first, messages that Node itself chokes on in the second.
  const channel = privateProperty<{ onread?: (...args: unknown[]) => void }>(target, 'kChannelHandle')
  const onread = channel?.onread
  if (channel !== undefined && onread !== undefined) {
    channel.onread = function (...args) {
      try {
        onread.apply(this, args)
      } catch (error) {
        events.broken(error)
      }
    }
  }
  const emitter = target as unknown as Emitter
  const emit = emitter.emit
  const watched: Emitter['emit'] = function (this: Emitter, name, ...args) {
    if (name === 'disconnect') {
      events.closed()
      return true
    }
    if (name !== 'internalMessage') return emit.call(this, name, ...args)
    try {
      return events.message(args[0]) || emit.call(this, name, ...args)
    } catch (error) {
      events.broken(error)
      return true
    }
  }
  emitter.emit = watched
  return () => {
    // Whoever wrapped it after us (signal-exit does) keeps a working chain: ours only passes on from here.
    if (emitter.emit === watched) emitter.emit = emit
  }
}

function privateProperty<Value>(target: object, description: string): Value | undefined {
  const symbol = Object.getOwnPropertySymbols(target).find((one) => one.description === description)
  return symbol === undefined ? undefined : (target as Record<symbol, Value>)[symbol]
}

function usable(fd: number | undefined): number | undefined {
  return fd === undefined || fd < 0 ? undefined : fd
}
