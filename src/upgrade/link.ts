/** The link: Node's IPC channel between old and new process, with our messages alone. */
import type { ChildProcess } from 'node:child_process'
import type { Socket } from 'node:net'
import { fromWire, type Message, toWire } from '../contract/messages.ts'
import { messageOf } from '../errors.ts'
import { type ChannelEvents, hideChannel, type Lend, watchChannel } from '../node/channel.ts'
import { connectionOf } from '../node/connections.ts'
import { InFlight } from '../node/in-flight.ts'
import type { ListenerHandle } from '../node/listeners.ts'

export type LinkEvent =
  | { readonly type: 'message'; readonly message: Message | 'broken' | 'unknown'; readonly handle?: unknown }
  | { readonly type: 'closed' }
  | { readonly type: 'broken'; readonly detail: string }

export type Link = {
  readonly isOpen: boolean
  /** Never throws; `done` is called when the message is with the kernel, or cannot be any more. */
  send(message: Message, done?: () => void): void
  /** Whether one more connection may be on its way with this message, of `most`. */
  hasRoom(most: number, message?: Message): boolean
  /** Sends a connection along; the socket here is an empty husk afterwards. */
  sendConnection(message: Message, socket: Socket, fate: Fate): void
  /** Sends the handle of a connection along, which stays open here. */
  sendHandle(message: Message, handle: object, fate: Omit<Fate, 'refused'> & { refused(): void }): void
  /** Sends a listener along, which stays open here. */
  sendListener(message: Message, listener: ListenerHandle): void
  /** Keeps the process alive until as often let go: an open channel alone does not hold it. */
  hold(on: boolean): void
  /** With false nobody holds it, until this is called with true. */
  allowHold(is: boolean): void
  close(): void
}

/** What becomes of a connection that was sent. */
export type Fate = {
  /** The other process has its descriptor. */
  arrived(): void
  /** It had none left: the connection is here, on a socket of its own. */
  refused(socket: Socket): void
}

/** The predecessor's end, on a child that was spawned with `'ipc'`. */
export function openLink(child: ChildProcess, onEvent: (event: LinkEvent) => void): Link {
  return makeLink(child, child.send.bind(child) as Send, child.disconnect.bind(child), onEvent)
}

/**
 * The successor's end: takes the channel out of the program's sight, as in a process that was
 * started by hand. Undefined if there is none any more, because the predecessor is gone.
 */
export function takeLink(onEvent: (event: LinkEvent) => void): Link | undefined {
  const { send, disconnect } = process
  if (send === undefined || !process.connected) return undefined
  return makeLink(process, send.bind(process) as Send, disconnect.bind(process), onEvent, hideChannel())
}

type Send = (message: object, sendHandle: unknown, options: undefined, done: () => void) => boolean

function makeLink(
  target: ChildProcess | NodeJS.Process,
  send: Send,
  disconnect: () => void,
  onEvent: (event: LinkEvent) => void,
  lend: Lend = (call) => call(),
): Link {
  let holders = 0
  let mayHold = true
  // Node forgets what waits behind a connection that is never acknowledged: whoever waits for such
  // a message is told here that it is over.
  const unsent = new Set<() => void>()
  const inFlight = new InFlight(target)
  const events: ChannelEvents = {
    message(raw, handle) {
      const message = fromWire(raw)
      if (message !== 'unknown') onEvent({ type: 'message', message, handle })
      return message !== 'unknown'
    },
    closed() {
      unwatch()
      for (const done of unsent) done()
      onEvent({ type: 'closed' })
    },
    broken: (error) => onEvent({ type: 'broken', detail: messageOf(error) }),
  }
  const unwatch = watchChannel(target, events, lend, inFlight)
  const update = () => {
    const channel = lend(() => target.channel)
    if (holders > 0 && mayHold) channel?.ref()
    else channel?.unref()
  }
  return {
    get isOpen() {
      return lend(() => target.connected) === true
    },
    // A failed send is not told here: the end of the channel is told as `closed`, once.
    send(message, done) {
      const settle = () => {
        if (unsent.delete(settle)) done?.()
      }
      unsent.add(settle)
      lend(() => send(toWire(message), undefined, undefined, settle))
    },
    hasRoom(most, message) {
      return inFlight.hasRoom(most, () => (message === undefined ? 0 : bytesOf(message)))
    },
    sendConnection(message, socket, { arrived, refused }) {
      const fate = { arrived, refused: (handle: object) => refused(connectionOf(handle)) }
      lend(() => inFlight.send(() => send(toWire(message), socket, undefined, () => {}), fate))
    },
    sendHandle(message, handle, fate) {
      lend(() => inFlight.send(() => send(toWire(message), handle, undefined, () => {}), fate, handle))
    },
    sendListener(message, listener) {
      lend(() => inFlight.send(() => send(toWire(message), listener, undefined, () => {})))
    },
    hold(on) {
      holders += on ? 1 : -1
      update()
    },
    allowHold(is) {
      mayHold = is
      update()
    },
    close() {
      lend(() => target.connected && disconnect())
    },
  }
}

/** On the channel, with what Node puts around a message that brings a handle. */
function bytesOf(message: Message): number {
  return Buffer.byteLength(JSON.stringify(toWire(message))) + 100
}
