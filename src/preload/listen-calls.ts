/** Every listen() of an unmodified program: it gets the predecessor's listener of that address, or a new one that the next version will get. */
import type { Server } from 'node:net'
import { trackSessions } from '../handover/sessions.ts'
import type { Inherited } from '../listen/handles.ts'
import { isOwnListen } from '../listen/listen.ts'
import { bindBeside } from '../listen/unix-path.ts'
import { afterListenerClose } from '../node/sockets.ts'
import type { EnteredState } from '../process/state.ts'
import { inheriting } from './inheriting.ts'
import type { Life } from './life.ts'
import { type Ask, askOfListen, backlogOf, isSameAddress } from './listen-arguments.ts'
import type { Readiness } from './readiness.ts'
import { WebSockets } from './web-sockets.ts'

const { resolve } = process.getBuiltinModule('node:path')
const { errorMonitor } = process.getBuiltinModule('node:events')

export type Plan = {
  readonly state: EnteredState
  readonly life: Life
  readonly ready: Readiness
}

/** What a server is about to listen on, or listens on. */
type Opening = { readonly ask: Ask; readonly name: string; readonly inherited: Inherited | undefined }

export function watchListens({ state, life, ready }: Plan) {
  const { claims } = state.entered
  const { registry } = state
  const openings = new Map<Server, Opening>()
  const known = new WeakSet<Server>()
  /** For listeners of the predecessor, which a first start has none of. */
  let listenOn: ReturnType<typeof inheriting> | undefined
  const webSockets = new WebSockets()
  const { prototype } = process.getBuiltinModule('node:net').Server
  const plain = prototype.listen
  let isActive = true

  const ours = function listen(this: Server, ...args: unknown[]) {
    const call = (given: readonly unknown[]) => Reflect.apply(plain, this, given) as Server
    const isOurs = isActive && !isOwnListen() && !this.listening && state.hasSuccessor !== true
    const ask = isOurs ? askOfListen(args, resolve) : undefined
    return ask === undefined ? call(args) : open(this, ask, args, call)
  }
  prototype.listen = ours

  function open(
    server: Server,
    ask: Ask,
    args: readonly unknown[],
    call: (args: readonly unknown[]) => Server,
  ): Server {
    openings.delete(server)
    const name = freeName(ask.name)
    const inherited = claims.unclaimed.find((one) => one.name === name && one.kind === ask.kind) ?? sameAddress(ask)
    if (!known.has(server)) watch(server)
    known.add(server)
    openings.set(server, { ask, name, inherited })
    ready.opens(server)
    trackSessions(server)
    const backlog = backlogOf(args) ?? inherited?.backlog
    if (backlog !== undefined) registry.backlogs.set(server, backlog)
    if (inherited !== undefined) {
      listenOn ??= inheriting(state)
      listenOn(server, inherited, { args, backlog, call })
      return server
    }
    if (ask.kind !== 'unix') return call(args)
    bindBeside(state, server, ask.path, (path) => call(withPath(args, path)))
    return server
  }

  /** An address may be asked for twice, as port 0: the second one has a name of its own. */
  function freeName(name: string): string {
    const taken = new Set([...openings.values()].map((one) => one.name))
    let free = name
    for (let count = 1; taken.has(free); count++) free = `${name}#${count}`
    return free
  }

  function sameAddress(ask: Ask): Inherited | undefined {
    return claims.unclaimed.find((one) => one.kind === 'tcp' && isSameAddress(ask, one))
  }

  function watch(server: Server): void {
    webSockets.track(server)
    guardClose(server, () => state.hasSuccessor === true)
    server.prependListener('listening', () => onListening(server))
    // Told without being handled: what nobody handles must still end the program.
    server.prependListener(errorMonitor as unknown as 'error', () => onFailure(server))
    server.prependListener('close', () => onFailure(server))
  }

  function onListening(server: Server): void {
    const opening = openings.get(server)
    if (opening === undefined) return
    const { ask, name, inherited } = opening
    life.admit(name, ask.kind === 'unix' ? 'unix' : 'tcp', server, inherited?.name)
    afterListenerClose(server, () => {
      openings.delete(server)
      // In a drain it was we who closed it.
      if (state.phase !== 'draining') life.dismiss(server)
    })
    ready.opened(server)
  }

  function onFailure(server: Server): void {
    if (server.listening) return
    openings.delete(server)
    ready.failed(server)
  }

  return {
    webSockets,
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
 * A program that ends itself, as its SIGTERM handler does in a process that has a successor, closes its servers: connections that are about to move must not be closed by that, and
 * it is told when they are gone.
 */
function guardClose(server: Server, isLeaving: () => boolean): void {
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
    if (!isLeaving()) closeIdleConnections.call(this)
  })
}
