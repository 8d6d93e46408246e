/** Hands live connections to the successor, few at a time; the others are served meanwhile. */
import type { Socket } from 'node:net'
import type { Message, MessageOf } from '../contract/messages.ts'
import {
  releaseConnection,
  serverOf,
  sparesFromTimeout,
  startReading,
  stopReading,
  takeUnread,
} from '../node/connections.ts'
import type { ConnectionMover, Destination, Moved, MoveOptions, TakenTls, TlsMoves } from '../service-parts.ts'
import type { Link, LinkEvent } from '../upgrade/link.ts'
import { comeBack, Unproven } from './unproven.ts'

type Order = {
  /** By performance.now(). */
  sentAt?: number
  /** The other process has its descriptor. */
  hasArrived?: true
  /** Nothing is read of it until its turn. */
  isHeld?: boolean
  /** The time after which it would end if nothing was read of it, in milliseconds. */
  timeout?: number | undefined
  readonly socket: Socket
  readonly destination: Destination
  readonly state: MoveOptions['state']
  readonly isFree: MoveOptions['isFree']
  readonly isUrgent: boolean
  readonly onProof: MoveOptions['onProof']
  readonly done: (moved: Moved) => void
  /** Of TLS: its keys are out of use here. */
  taken?: TakenTls
}

/**
 * How many connections are between the processes at most. On a busy machine both wait long for
 * their turn on a core, and one turn takes many: one at a time 200 a second moved (measured).
 * Fewest until the first of a destination is taken: the successor may not want them.
 */
const onTheWay = { first: 2, few: 6, most: 32 }
/** The window grows by one with so many that were taken. */
const growth = 4
/**
 * Of busy ones there are few, and one more for so many that wait: the successor reads one in each
 * turn of its loop (libuv), in which it answers those that it has, and the last one's client waits
 * for as many turns. With more clients each of them waits longer anyway.
 */
const busy = { few: 4, share: 25 }
/** How many connections may stand still for their turn: their clients wait for it. */
const mostHeld = 2
/**
 * What would be on its way still at the deadline stays here: the next one may take twice as long as
 * the last.
 */
const margin = 2

/**
 * How long a successor that had no descriptor left is given to get one, in milliseconds, before it
 * is tried again.
 */
const pause = 20

/** What has been parted from its socket here, and goes over the link. */
type Parcel = {
  readonly order: Order
  readonly message: MessageOf<'connection'>
  /** Empty husk of one that is sent whole; of TLS the handle alone goes. */
  readonly socket: Socket
}

export class Mover implements ConnectionMover {
  readonly #link: Link
  /** At most one order for each connection: a new one replaces the one before. */
  readonly #urgent = new Map<Socket, Order>()
  #waiting: Order[] = []
  /** First in #waiting that has not had its turn: shift() of a long array is slow. */
  #next = 0
  /** Sent, and not yet known to be taken, in order. */
  readonly #sentOrders = new Map<number, Order>()
  /** How many were taken, by destination. */
  readonly #taken = new Map<string, number>()
  /** Parted from their sockets, and not sent: no other goes before them. */
  readonly #parcels: Parcel[] = []
  /** Those for which the successor had no descriptor: for a moment nothing is tried. */
  readonly #refused: Parcel[] = []
  /** Sent already: an order that came later finds a husk. */
  readonly #sent = new WeakSet<Socket>()
  /** TLS connections that have moved and can come back. */
  readonly #unproven = new Unproven()
  readonly #tls: TlsMoves | undefined
  /** The successor takes TLS connections, sealed for this key. */
  #key: string | undefined
  #lastId = 0
  /** How long the last one was on its way, in milliseconds. */
  #delay = 0
  #isOpen = true
  /** Nothing is sent any more. */
  #isOver = false
  /** When the drain ends at the latest, by performance.now(). */
  readonly #endsAt: number

  constructor(link: Link, endsAt: number, tls?: TlsMoves, tlsKey?: string) {
    this.#link = link
    this.#endsAt = endsAt
    this.#tls = tls
    this.#key = tlsKey
  }

  /** False once the successor takes nothing any more. */
  get isOpen(): boolean {
    return this.#isOpen
  }

  /** A next one would come too late, if it takes as long as the last, or the one on its way. */
  get isTooLate(): boolean {
    const now = performance.now()
    const [oldest] = this.#sentOrders.values()
    const delay = Math.max(this.#delay, now - (oldest?.sentAt ?? now))
    return now + delay * margin > this.#endsAt
  }

  carries(socket: Socket): boolean {
    return !('encrypted' in socket) || (this.#key !== undefined && this.#tls?.mayMove(socket) === true)
  }

  /** Moves a connection when its turn comes. */
  move(socket: Socket, destination: Destination, options: MoveOptions): Promise<Moved> {
    const ready = 'encrypted' in socket ? this.#tls?.untilReady(socket) : undefined
    const order = () => this.#order(socket, destination, options)
    return ready === undefined ? order() : ready.then(order)
  }

  #order(socket: Socket, destination: Destination, options: MoveOptions): Promise<Moved> {
    const { isFree, state, isUrgent = false, onProof } = options
    return new Promise((done) => {
      if (!this.#isOpen) {
        done('busy')
        return
      }
      const order: Order = { socket, destination, state, isFree, isUrgent, onProof, done }
      if (isUrgent) {
        const before = this.#urgent.get(socket)
        this.#urgent.delete(socket)
        // Held for the few that are next; the others are served until then, and are urgent again
        // after their next answer.
        order.isHeld = before?.isHeld || (this.#urgent.size < mostHeld && this.#refused.length === 0)
        if (order.isHeld) hold(order, before)
        this.#urgent.set(socket, order)
        before?.done('busy')
      } else {
        this.#waiting.push(order)
      }
      this.#pump()
    })
  }

  /** What the successor says of the connections, and its end. */
  onLink(event: LinkEvent): void {
    if (event.type === 'closed') this.giveUp(true)
    if (event.type !== 'message' || typeof event.message !== 'object') return
    const { message } = event
    if (message.type === 'taken') this.#onTaken(message.id, message.isKept)
    else if (message.type === 'takesTls') this.#key = message.key
    else if (message.type === 'proven' || message.type === 'returned' || message.type === 'passing') {
      this.#onProof(message)
    } else if (message.type === 'stop') this.#close()
  }

  /** It may be faster than the `taken` that many wait for, and says as much. */
  #onProof(message: MessageOf<'proven' | 'passing' | 'returned'>): void {
    const { id } = message
    if (this.#sentOrders.has(id)) this.#onTaken(id, true)
    if (message.type === 'proven') this.#unproven.proven(id)
    else if (message.type === 'passing') this.#unproven.passing(id)
    else this.#unproven.returned(id, Buffer.from(message.bytes, 'base64'))
  }

  /** What waits stays here, and what is on its way arrives: the last word goes out behind it. */
  stop(): void {
    this.#isOver = true
    this.#close()
  }

  /**
   * Nothing is on its way any more: there is no successor, or it did not answer in time. What has
   * arrived there is the successor's, whether it said so or not; of TLS, end() has the last word.
   */
  giveUp(isClosed = false): void {
    this.stop()
    for (const [id, { hasArrived, socket, taken }] of [...this.#sentOrders]) {
      const isGone = hasArrived || (isClosed && taken?.isProven === false)
      // If its client has closed it, it is counted.
      this.#settle(id, isGone ? 'moved' : socket.destroyed ? 'busy' : 'lost')
    }
    for (const { order, socket } of [...this.#refused.splice(0), ...this.#parcels.splice(0)]) {
      if (order.taken !== undefined) {
        this.#settleTls(0, order, order.taken, 'busy')
        continue
      }
      socket.destroy()
      order.socket.destroy()
      order.done('lost')
    }
  }

  /** TLS connections that could come back do so from a successor that is dead, or never will. */
  end(isDead: boolean): void {
    if (isDead) this.#unproven.allReturned()
    else this.#unproven.end()
  }

  /**
   * They arrive in the order in which they were sent: one that is kept answers for those before it.
   */
  #onTaken(id: number, isKept: boolean): void {
    const ids = isKept ? [...this.#sentOrders.keys()].filter((one) => one <= id) : [id]
    for (const one of ids) this.#settle(one, isKept ? 'moved' : 'unwanted')
    this.#pump()
  }

  #hasRoom({ destination, isUrgent }: Order, message?: Message): boolean {
    const taken = this.#taken.get(destination.to) ?? 0
    if (taken === 0) return this.#sentOrders.size < onTheWay.first && this.#link.hasRoom(onTheWay.first, message)
    const window = isUrgent
      ? Math.max(busy.few, Math.floor(this.#urgent.size / busy.share))
      : Math.max(onTheWay.few, Math.floor(taken / growth))
    return this.#link.hasRoom(Math.min(window, onTheWay.most), message)
  }

  #settle(id: number, moved: Moved): void {
    const order = this.#sentOrders.get(id)
    if (order === undefined) return
    this.#sentOrders.delete(id)
    this.#delay = performance.now() - (order.sentAt ?? 0)
    const { to } = order.destination
    if (moved === 'moved') this.#taken.set(to, (this.#taken.get(to) ?? 0) + 1)
    if (order.taken !== undefined && moved !== 'lost') {
      this.#settleTls(id, order, order.taken, moved)
      return
    }
    // What is left of it here: its close event fires, and its server counts it no more.
    order.socket.destroy()
    order.done(moved)
  }

  /** It is here still, and goes on here if the successor does not want it. */
  #settleTls(id: number, order: Order, taken: TakenTls, moved: Moved): void {
    const { socket } = order
    const waiting = { socket, taken, timeout: order.timeout ?? 0 }
    if (moved !== 'moved') {
      this.#sent.delete(socket)
      if (comeBack(waiting, Buffer.alloc(0))) this.#tls?.refuse(socket)
      order.done('busy')
      return
    }
    this.#unproven.arrived(id, waiting, (isHere) => {
      if (isHere) this.#sent.delete(socket)
      order.onProof?.(isHere)
    })
    order.done('moved')
  }

  #pump(): void {
    while (this.#refused.length === 0 && !this.#isOver) {
      const [parcel] = this.#parcels
      const order = parcel?.order ?? this.#first()
      if (order === undefined) return
      if (!this.#hasRoom(order, parcel?.message)) return
      if (parcel === undefined) this.#pack(this.#take(order))
      else this.#dispatch(parcel)
    }
  }

  #first(): Order | undefined {
    const [urgent] = this.#urgent.values()
    return urgent ?? this.#waiting[this.#next]
  }

  #take(order: Order): Order {
    if (this.#urgent.get(order.socket) === order) {
      this.#urgent.delete(order.socket)
    } else if (++this.#next === this.#waiting.length) {
      this.#waiting = []
      this.#next = 0
    }
    return order
  }

  #pack(order: Order): void {
    const { socket, destination } = order
    // First of all, and in one turn with the look: bytes that came in between would be read here
    // and be lost there (measured).
    stopReading(socket)
    if (socket.destroyed || this.#sent.has(socket) || !this.#isReady(socket) || !order.isFree()) {
      this.#keep(order)
      return
    }
    if ('encrypted' in socket && !this.#takeTls(order)) {
      this.#keep(order)
      return
    }
    this.#sent.add(socket)
    const unread = takeUnread(socket)?.toString('base64')
    if (order.taken === undefined) releaseConnection(socket)
    const state = typeof order.state === 'function' ? order.state() : order.state
    // Each by its name: a connection that passes through comes with the message of another link,
    // and its id.
    const { to, listener, idle } = destination
    const tls = order.taken?.state
    this.#parcels.push({
      order,
      message: { type: 'connection', id: 0, to, listener, state, unread, idle, tls },
      socket,
    })
  }

  /** Before anything is done for its move: half a record of TLS may be here. */
  #isReady(socket: Socket): boolean {
    return !('encrypted' in socket) || this.#tls?.isReady(socket) === true
  }

  /** From here on nothing of this process writes on it, no timer either. False: it cannot move. */
  #takeTls(order: Order): boolean {
    const { socket } = order
    const taken = this.#key === undefined ? undefined : this.#tls?.take(socket, this.#key)
    if (taken === undefined) return false
    order.taken = taken
    order.timeout ??= socket.timeout ?? 0
    socket.setTimeout(0)
    const server = serverOf(socket)
    if (server !== undefined) sparesFromTimeout(server, socket)
    this.#unproven.leaves(socket)
    return true
  }

  #dispatch(parcel: Parcel): void {
    const { order, socket } = parcel
    this.#parcels.shift()
    const id = ++this.#lastId
    order.sentAt = performance.now()
    this.#sentOrders.set(id, order)
    const message = { ...parcel.message, id }
    const arrived = () => {
      order.hasArrived = true
      this.#pump()
    }
    if (order.taken !== undefined) {
      const refused = () => {
        if (this.#sentOrders.delete(id)) this.#onRefused(parcel)
      }
      this.#link.sendHandle(message, order.taken.handle, { arrived, refused })
      return
    }
    this.#link.sendConnection(message, socket, {
      arrived,
      refused: (returned) => {
        if (this.#sentOrders.delete(id)) this.#onRefused({ ...parcel, socket: returned })
        else returned.destroy()
      },
    })
  }

  /** It is tried again until there is room, or no time; nobody else waits for that. */
  #onRefused(parcel: Parcel): void {
    if (this.#refused.push(parcel) > 1) return
    for (const order of this.#urgent.values()) {
      if (order.isHeld) release(order)
      order.isHeld = false
    }
    setTimeout(() => {
      this.#parcels.unshift(...this.#refused.splice(0))
      this.#pump()
    }, pause)
  }

  #keep(order: Order): void {
    if (!this.#sent.has(order.socket)) release(order)
    order.done('busy')
  }

  /** Nothing more moves: what waits stays here. */
  #close(): void {
    this.#isOpen = false
    for (let order = this.#first(); order !== undefined; order = this.#first()) this.#keep(this.#take(order))
  }
}

/** A request that comes meanwhile is not seen: without this its connection would end as idle. */
function hold(order: Order, before: Order | undefined): void {
  const { socket } = order
  stopReading(socket)
  order.timeout = socket.timeout || before?.timeout
  socket.setTimeout(0)
}

function release({ socket, timeout }: Order): void {
  startReading(socket)
  if (timeout !== undefined) socket.setTimeout(timeout)
}
