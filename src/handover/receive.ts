/** What the new process gets behind the commit: connections, a value of onRelease, news, a bye. */
import type { Socket } from 'node:net'
import { controlName, type Identity } from '../contract/environment.ts'
import { type MessageOf, takeoverName } from '../contract/messages.ts'
import { throwLater } from '../errors.ts'
import { adoptConnection, connectionOf, layOn, tieConnection } from '../node/connections.ts'
import { isHttp, isTls, type ListenerHandle, listenerHandle } from '../node/listeners.ts'
import { livesOn } from '../node/processes.ts'
import { killSession } from '../node/sessions.ts'
import { isAlive } from '../node/system.ts'
import type { Service } from '../service.ts'
import type { Arrival, Receiving, TlsHooks } from '../service-parts.ts'
import { Assembly, fromText } from '../upgrade/cloned-values.ts'
import type { Link, LinkEvent } from '../upgrade/link.ts'
import type { Succession } from '../upgrade/successor.ts'
import { deferred, patientTimer } from '../waiting.ts'
import { closeAfter } from './close-after.ts'
import { keepAliveAsBefore } from './keep-alive.ts'
import { stopAsBySignal } from './stop.ts'

/**
 * How long after the end of its drain a predecessor that has not left is killed, in milliseconds:
 * it waits for our answers, but not that long.
 */
const overdueAfter = 10_000

/** Registers on the service what follows the commit in the new process. */
export function receive(service: Service, predecessor: Identity, { link, hear }: Succession): void {
  const bye = deferred()
  const left = deferred()
  const assembly = new Assembly()
  const arrivals = new Arrivals(service, link)
  /** The predecessor would take the service back: not so in the original API. */
  let mayReturn = false

  function onLink(event: LinkEvent): void {
    if (event.type === 'closed') {
      bye.resolve()
      // One that lives on without a word is still watched.
      if (service.predecessor?.isCommitted) void livesOn(predecessor).then((lives) => lives || left.resolve())
    }
    if (event.type !== 'message' || typeof event.message !== 'object') return
    const { message, handle } = event
    switch (message.type) {
      case 'accepted':
        for (const warning of service.warnings.all) link?.send({ type: 'warning', ...warning })
        watch(message.drainTimeout)
        return
      case 'connection':
        arrivals.take(message, handle)
        return
      case 'value':
        if (message.name === takeoverName) takeReleased(message)
        return
      case 'news':
        service.history.take(message)
        service.warnings.take(message.warnings ?? [])
        service.departure?.tellNews()
        return
      case 'stopToo':
        // One that drains itself has a successor to tell.
        if (service.departure?.tellStop() !== true) stopAsBySignal(service)
        return
      case 'bye':
        bye.resolve()
        left.resolve()
        return
    }
  }

  /** An old process whose loop stands still keeps its memory and its connections for ever. */
  function watch(drainTimeout: number | undefined): void {
    if (drainTimeout === undefined) {
      left.resolve()
      return
    }
    mayReturn = true
    const stop = patientTimer(drainTimeout + overdueAfter, () => {
      if (isAlive(predecessor)) {
        killSession(predecessor)
        service.emit({ type: 'predecessor-killed', pid: predecessor[0] })
      }
      left.resolve()
    })
    void left.promise.then(stop)
  }

  function takeReleased(message: MessageOf<'value'>): void {
    try {
      const value = assembly.add(message)
      if (value !== undefined) service.runOnTakeover(value.value)
    } catch (error) {
      // A newer Node may have cloned what this one cannot read: onTakeover is called at the bye,
      // without it.
      service.hookFailed('onTakeover', error)
    }
  }

  service.warnings.hear((warning) => {
    if (service.predecessor?.isCommitted === true) link?.send({ type: 'warning', ...warning })
  })
  hear(onLink)
  if (link === undefined) onLink({ type: 'closed' })
  service.receiving = {
    bye: bye.promise,
    get left() {
      // It was gone before this process was accepted.
      if (link?.isOpen !== true && !isAlive(predecessor)) left.resolve()
      return left.promise
    },
    sendSpares() {
      if (mayReturn && link?.isOpen === true) sendHandles(link, inheritedHandles(service))
    },
    tellReplacing(isOn) {
      if (service.predecessor?.isCommitted === true) link?.send({ type: 'replacing', isOn })
    },
    tellStop() {
      if (service.predecessor?.isCommitted === true) link?.send({ type: 'stop' })
    },
  } satisfies Receiving
}

/** Connections of another process, which hears what became of each. */
export class Arrivals {
  readonly #service: Service
  readonly #link: Link | undefined
  readonly #answers: Answers

  constructor(service: Service, link: Link | undefined) {
    this.#service = service
    this.#link = link
    this.#answers = new Answers((id, isKept) => link?.send({ type: 'taken', id, isKept }))
  }

  /**
   * What the program throws is an uncaught exception of its own, as at a connection that it
   * accepts; the sender gets its answer all the same.
   */
  take({ id, type: _, unread, tls, ...arrival }: MessageOf<'connection'>, handle: unknown): void {
    const service = this.#service
    const socket = tls === undefined ? (handle as Socket | undefined) : this.#adoptTls(id, tls, handle)
    let isKept = false
    if (socket !== undefined) {
      if (unread !== undefined) socket.unshift(Buffer.from(unread, 'base64'))
      try {
        const keep = () => keepConnection(service, arrival, socket)
        isKept = service.departure?.passOn(arrival, socket, keep) || keep()
      } catch (error) {
        throwLater(error)
      }
      if (!isKept) socket.destroy()
    }
    this.#answers.add(id, isKept)
  }

  /** As long as the sender lives, it can take back what does not open here. */
  #adoptTls(id: number, sealed: string, handle: unknown): Socket | undefined {
    if (typeof handle !== 'object' || handle === null) return undefined
    const link = this.#link
    const hooks: TlsHooks = {
      proven: (told) => link?.send({ type: 'proven', id }, told),
      passing: (told) => link?.send({ type: 'passing', id }, told),
      returned: (bytes) => link?.send({ type: 'returned', id, bytes: bytes.toString('base64') }),
      mayReturn: () => link?.isOpen === true,
    }
    const { tls } = this.#service
    if (tls === undefined) connectionOf(handle).destroy()
    const adopted = tls?.adopt(handle, sealed, hooks)
    if (adopted !== undefined) layOn(adopted.socket, adopted.tcp)
    return adopted?.socket
  }
}

/** Returns whether anybody here wants the connection. */
function keepConnection(service: Service, { to, listener: from, state, idle }: Arrival, socket: Socket): boolean {
  const own = service.listenerNamed(to)
  if (own?.server.listening === true) {
    const { server, context } = own
    // This version speaks without TLS there.
    if ('encrypted' in socket && !isTls(server)) return false
    context(() => adoptConnection(server, socket))
    if (isHttp(server) && service.tls !== undefined && 'encrypted' in socket) {
      closeAfter(socket, service.tls.timeLeft(socket))
    }
    if (isHttp(server) && idle !== undefined) keepAliveAsBefore(server, socket, idle)
    return true
  }
  const receiver = service.receivers.get(to)
  if (receiver === undefined) return false
  let value: unknown
  try {
    value = state === undefined ? undefined : fromText(state)
  } catch (error) {
    // A newer Node may have cloned what this one does not know: that costs one connection, not the
    // service.
    service.hookFailed('onHandedOver', error)
    return false
  }
  // One of its listener's, as where it was accepted: counted there, and waited for.
  const listener = from === undefined ? undefined : service.listenerNamed(from)
  const home = listener?.server.listening === true ? listener : undefined
  if (home !== undefined) tieConnection(home.server, socket)
  const { context } = home ?? receiver
  context(() => receiver.take(socket, value))
  return true
}

/** Handles of the listeners that we have from the predecessor, by its names of them. */
function inheritedHandles({ listeners, control }: Service): ReadonlyMap<string, ListenerHandle> {
  const inherited = listeners.flatMap(({ oldName, server }) => {
    const handle = oldName === undefined ? undefined : listenerHandle(server)
    return oldName === undefined || handle === undefined ? [] : [[oldName, handle] as const]
  })
  const own = control?.onlyHandle
  return new Map(own === undefined ? inherited : [...inherited, [controlName, own] as const])
}

function sendHandles(link: Link, handles: ReadonlyMap<string, ListenerHandle>): void {
  link.send({ type: 'spares', names: [...handles.keys()] })
  for (const [name, handle] of handles) link.sendListener({ type: 'spare', name }, handle)
}

/** How many connections one `taken` answers for at most. */
const mostAnswered = 16

/**
 * Answers for connections that arrive one behind the other with one message for many: each is a
 * write here and a read there. Two turns of the loop without another end the wait.
 */
class Answers {
  readonly #send: (id: number, isKept: boolean) => void
  #kept: number | undefined
  #count = 0
  /** The first is answered at once: until it is, no more than two are on their way. */
  #most = 1
  #hasMore = false
  #look: NodeJS.Immediate | undefined

  constructor(send: (id: number, isKept: boolean) => void) {
    this.#send = send
  }

  add(id: number, isKept: boolean): void {
    if (!isKept) {
      this.#flush()
      this.#send(id, false)
      return
    }
    this.#kept = id
    this.#hasMore = true
    if (++this.#count === this.#most) this.#flush()
    else this.#look ??= setImmediate(() => this.#onTurn())
  }

  /** A channel is read once in each turn: who waits there comes in the next one. */
  #onTurn(): void {
    this.#look = undefined
    if (!this.#hasMore) {
      this.#flush()
      return
    }
    this.#hasMore = false
    this.#look = setImmediate(() => this.#onTurn())
  }

  #flush(): void {
    clearImmediate(this.#look)
    this.#look = undefined
    this.#count = 0
    this.#most = mostAnswered
    if (this.#kept !== undefined) this.#send(this.#kept, true)
    this.#kept = undefined
  }
}
