/** Every listen() of an unmodified program: on the predecessor's listener, or on a new one. */

import { errorMonitor } from 'node:events'
import type { Server } from 'node:net'
import { resolve } from 'node:path'
import { idleOf } from '../handover/http.ts'
import { patience } from '../handover/plan.ts'
import { acceptFromCommit, holdWhileRoot, isOwnListen, takeTicketKeys } from '../listen/listening.ts'
import { restoreFromSpare } from '../listen/restore-path.ts'
import { bindBeside, ownUnixPath } from '../listen/unix-path.ts'
import { type Context, currentContext } from '../node/context.ts'
import { watchExchanges } from '../node/exchanges.ts'
import { trackGuests, watchGiven } from '../node/guests.ts'
import { trackSessions } from '../node/http2-sessions.ts'
import { afterListenerClose, isTls, type KeptListener, keepListener } from '../node/listeners.ts'
import { type Ask, placeOf } from '../process/addresses.ts'
import type { Inherited } from '../process/handles.ts'
import { explainPort } from '../process/user.ts'
import type { Service } from '../service.ts'
import { askOfListen, backlogOf, listenFields } from './listen-arguments.ts'
import { isMeant } from './places.ts'
import type { Readiness } from './readiness.ts'
import { hasPid, Staying } from './staying.ts'
import { WebSockets } from './web-sockets.ts'

/** What a server is about to listen on, or listens on. */
type Opening = {
  readonly ask: Ask
  readonly name: string
  readonly inherited: Inherited | undefined
  readonly context: Context
}

/** A listen() of the program: its arguments, and how it is called with others. */
type Listen = { readonly args: readonly unknown[]; call(args: readonly unknown[]): Server }

export function watchListens(service: Service, readiness: Readiness) {
  const { claims, handles } = service
  const openings = new Map<Server, Opening>()
  const known = new WeakSet<Server>()
  const tracked = new WeakSet<Server>()
  /**
   * Claimed, and given up again before this version is up: programs try a port out before they use
   * it.
   */
  const kept = new Map<Inherited, KeptListener>()
  const webSockets = new WebSockets()
  const staying = new Staying()
  let hasMetClient = false
  const { prototype } = process.getBuiltinModule('node:net').Server
  const plain = prototype.listen
  let isActive = true

  const ours = function listen(this: Server, ...args: unknown[]) {
    const call = (given: readonly unknown[]) => Reflect.apply(plain, this, given) as Server
    const isOurs = isActive && !isOwnListen() && !this.listening
    const ask = isOurs ? askOfListen(args, resolve) : undefined
    if (ask !== undefined && isToStay(ask)) return openToStay(this, ask, () => call(args))
    if (ask !== undefined && !service.hasSuccessor) return open(this, ask, { args, call })
    if (isOurs && ask === undefined && !service.hasSuccessor) this.once('listening', () => warnOfOther(this))
    return call(args)
  }
  prototype.listen = ours

  /** On a descriptor or handle, or an abstract socket: only the program knows where it is from. */
  function warnOfOther(server: Server): void {
    const where = placeOf(server.address()).replace('\0', '@') || 'a descriptor'
    const text = `the server at ${where} was opened on a descriptor, a handle or an abstract socket: upgrades cannot hand it over`
    service.emit({ type: 'warning', about: 'listener', text })
  }

  /**
   * A port that the system chose for one client, as a passive one of FTP, or while another version
   * starts, is known to nobody else. One that is opened before the program has met a client is how
   * it is served, and found again by the order of the calls.
   */
  function isToStay(ask: Ask): boolean {
    if (ask.kind === 'unix') return hasPid(ask)
    if (ask.port !== 0 || service.phase === 'starting') return false
    return hasMetClient || service.phase !== 'ready'
  }

  function openToStay(server: Server, ask: Ask, call: () => Server): Server {
    openings.delete(server)
    const context = currentContext()
    const failed = errorMonitor as unknown as 'error'
    const onListening = () => {
      server.removeListener(failed, onError)
      staying.add(server)
      service.listeners.push({ name: freeName(ask.name), server, context, stays: true })
      server.once('close', () => service.forgetListener(server))
    }
    const onError = () => server.removeListener('listening', onListening)
    server.prependOnceListener('listening', onListening).once(failed, onError)
    return call()
  }

  function open(server: Server, ask: Ask, listen: Listen): Server {
    openings.delete(server)
    const name = freeName(ask.name)
    const inherited = claims.find({ ...ask, name })
    if (!known.has(server)) watch(server)
    known.add(server)
    openings.set(server, { ask, name, inherited, context: currentContext() })
    readiness.opens(server)
    trackSessions(server)
    watchExchanges()
    trackGuests(server)
    if (isTls(server)) service.tls?.watch(server)
    const backlog = backlogOf(listen.args) ?? inherited?.backlog
    if (backlog !== undefined) handles.backlogs.set(server, backlog)
    if (inherited !== undefined) listenOn(server, inherited, listen, backlog)
    else if (ask.kind === 'unix')
      bindBeside(service, server, ask.path, (path) => listen.call(withPath(listen.args, path)))
    else listen.call(listen.args)
    return server
  }

  /** On a listener of the predecessor. */
  function listenOn(server: Server, inherited: Inherited, { args, call }: Listen, backlog: number | undefined): void {
    claims.claimHandle(inherited)
    const { signal } = listenFields(args)
    const done = args.at(-1)
    const again = kept.get(inherited)
    kept.delete(inherited)
    const where = again === undefined ? { fd: inherited.fd, signal } : { handle: again.handle, signal }
    void takeTicketKeys(service, server, inherited.name)
    acceptFromCommit(service, server, () => call([where, backlog, ...(typeof done === 'function' ? [done] : [])]))
    if (again !== undefined) server.once('listening', () => again.resume())
    if (inherited.kind === 'tcp') keepIfClosed(server, inherited)
    if (inherited.kind !== 'unix') return
    // Programs remove the file of a dead process before they listen; that of the living one was
    // just removed so.
    restoreFromSpare(inherited)
    ownUnixPath(service, server, inherited)
  }

  function keepIfClosed(server: Server, inherited: Inherited): void {
    const { release = [] } = service.state.program ?? {}
    const isReleased = release.some((word) => isMeant(inherited, word))
    const isKept = () => service.phase === 'starting' && !isReleased
    keepListener(server, isKept, (listener) => {
      kept.set(inherited, listener)
      claims.putBack(inherited)
    })
  }

  /** An address may be asked for twice, as port 0: the second one has a name of its own. */
  function freeName(name: string): string {
    const taken = new Set([...openings.values()].map((one) => one.name))
    let free = name
    for (let count = 1; taken.has(free); count++) free = `${name}#${count}`
    return free
  }

  function watch(server: Server): void {
    trackWebSockets(server)
    watchGiven(server, trackWebSockets)
    guardClose(server, service, () => service.hasSuccessor && !staying.has(server))
    server.once('connection', () => {
      hasMetClient = true
    })
    server.prependListener('listening', () => onListening(server))
    // Seen without being handled: what nobody handles must still end the program.
    server.prependListener(errorMonitor as unknown as 'error', (error) => {
      explainPort(error, service.state)
      onFailure(server)
    })
    server.prependListener('close', () => onFailure(server))
  }

  function trackWebSockets(server: Server): void {
    if (tracked.has(server)) return
    tracked.add(server)
    webSockets.track(server)
  }

  function onListening(server: Server): void {
    const opening = openings.get(server)
    if (opening === undefined) return
    const { ask, name, inherited, context } = opening
    service.listeners.push({ name, server, oldName: inherited?.name, context })
    handles.addListening(name, ask.kind === 'unix' ? 'unix' : 'tcp', server)
    if (inherited === undefined) holdWhileRoot(service, server)
    afterListenerClose(server, () => onClose(server))
    readiness.opened(server, inherited === undefined ? placeOf(server.address()) : undefined)
  }

  /** It is handed over no more, and drained only as long as it has connections. */
  function onClose(server: Server): void {
    const name = openings.get(server)?.name
    if (name !== undefined) service.upgrading?.tellClosed?.(name)
    openings.delete(server)
    // In a drain it was we who closed it.
    if (service.phase === 'draining') return
    handles.remove(server)
    server.once('close', () => service.forgetListener(server))
  }

  function onFailure(server: Server): void {
    if (server.listening) return
    openings.delete(server)
    readiness.failed(server)
  }

  return {
    webSockets,
    staying,
    isUsed: () => openings.size > 0,
    end(): void {
      isActive = false
      // What others have put around it meanwhile stays, and calls it.
      if (prototype.listen === ours) prototype.listen = plain
    },
  }
}

/** The arguments of a listen() with another path. */
function withPath(args: readonly unknown[], path: string): readonly unknown[] {
  const [first, ...rest] = args
  return [typeof first === 'object' && first !== null ? { ...first, path } : path, ...rest]
}

/**
 * A program that ends itself, as its SIGTERM handler does in a process that has a successor, closes
 * its servers: connections that are about to move must not be closed by that, and it hears when
 * they are gone.
 */
function guardClose(server: Server, service: Service, isLeaving: () => boolean): void {
  let isClosed = false
  server.on('close', () => {
    isClosed = true
  })
  server.on('listening', () => {
    isClosed = false
  })
  const own = server as unknown as Record<string, (this: Server, done?: unknown) => unknown>
  const { close, closeIdleConnections } = own
  const replace = (name: string, value: unknown) =>
    Object.defineProperty(server, name, { value, writable: true, configurable: true })
  replace('close', function (this: Server, done?: unknown) {
    if (!isLeaving()) return close?.call(this, done)
    if (typeof done !== 'function') return this
    if (isClosed) process.nextTick(() => done())
    else this.once('close', () => done())
    return this
  })
  if (closeIdleConnections === undefined) return
  replace('closeIdleConnections', function (this: Server) {
    if (isLeaving()) return
    const closeAll = () => closeIdleConnections.call(this)
    if (!service.isLeftToProgram) return closeAll()
    // Node 26 closes those too that have just been accepted, with their first request on its way.
    for (const socket of idleOf(this)) if (socket.bytesRead > 0) socket.destroy()
    setTimeout(closeAll, patience).unref()
  })
}
