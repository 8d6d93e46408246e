/** Every bind() of an unmodified program: it gets the predecessor's socket of that port. */

import type { Socket } from 'node:dgram'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { errorMonitor } from 'node:events'
import { type Emitter, wrapEmit } from '../node/emitters.ts'
import { startDatagrams, stopDatagrams } from '../node/listeners.ts'
import type { DaemonEvent } from '../options.ts'
import { type Ask, placeOf } from '../process/addresses.ts'
import { explainPort, isRootForNow } from '../process/user.ts'
import type { Service } from '../service.ts'
import { askOfBind } from './listen-arguments.ts'
import type { Readiness } from './readiness.ts'

/**
 * Node tells of each UDP socket that is made: until the first one its module need not be loaded.
 */
const created = 'udp.socket'

export function watchBinds(service: Service, readiness: Readiness) {
  const { claims, handles } = service
  const bound = new Set<Socket>()
  let restore = () => {}
  let isActive = true

  function onCreated(message: unknown): void {
    unsubscribe(created, onCreated)
    const prototype = Object.getPrototypeOf((message as { readonly socket: Socket }).socket) as Socket
    const plain = prototype.bind
    const bind = function bind(this: Socket, ...args: unknown[]) {
      const call = (given: readonly unknown[]) => Reflect.apply(plain, this, given) as Socket
      const { type } = this as unknown as { readonly type: string }
      const ask = !isActive || service.hasSuccessor ? undefined : askOfBind(type, args)
      return ask === undefined ? call(args) : take(this, ask, args, call)
    }
    prototype.bind = bind as Socket['bind']
    restore = () => {
      isActive = false
      if (prototype.bind === bind) prototype.bind = plain
    }
  }
  subscribe(created, onCreated)

  function take(socket: Socket, ask: Ask, args: readonly unknown[], call: (args: readonly unknown[]) => Socket) {
    const { name } = ask
    const inherited = claims.find(ask)
    readiness.opens(socket)
    socket.once('listening', () => {
      bound.add(socket)
      handles.add(name, 'udp', socket, false)
      if (inherited === undefined && isRootForNow(service.state)) stopDatagrams(socket)
      readiness.opened(socket, inherited === undefined ? `${placeOf(socket.address())} (UDP)` : undefined)
    })
    socket.prependOnceListener(errorMonitor as unknown as 'error', (error) => explainPort(error, service.state))
    socket.once('close', () => {
      bound.delete(socket)
      handles.remove(socket)
      readiness.failed(socket)
    })
    if (inherited === undefined) return call(args)
    claims.claimHandle(inherited)
    const done = args.at(-1)
    // Node binds to a descriptor at once, and says so before bind() has returned: a program that
    // listens for it on the next line would miss it.
    let wasHeld = false
    const giveBack = wrapEmit(socket as unknown as Emitter, (emit, event, ...rest) => {
      wasHeld ||= event === 'listening'
      return event === 'listening' || emit(event, ...rest)
    })
    try {
      call([{ fd: inherited.fd }, ...(typeof done === 'function' ? [done] : [])])
    } finally {
      giveBack()
    }
    // Until the commit they are the predecessor's.
    if (service.phase === 'starting') stopDatagrams(socket)
    if (wasHeld) process.nextTick(() => socket.emit('listening'))
    return socket
  }

  return {
    onEvent(event: DaemonEvent): void {
      if (event.type !== 'phase') return
      if (event.phase === 'ready') for (const socket of bound) startDatagrams(socket)
      // What the program still sends goes out of the same socket.
      if (event.phase === 'draining' && service.hasSuccessor) for (const socket of bound) stopDatagrams(socket)
    },
    end(): void {
      unsubscribe(created, onCreated)
      restore()
    },
  }
}
