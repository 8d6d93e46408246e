/** Hands live connections to the successor, few at a time; the others are served meanwhile. */
import type { Socket } from 'node:net'
import type { MessageOf } from '../contract/messages.ts'
import { releaseConnection, startReading, stopReading, takeUnread } from '../node/connections.ts'
import type { ConnectionMover, Destination, Moved, MoveOptions } from '../service-parts.ts'
import type { Link, LinkEvent } from '../upgrade/link.ts'

type Order = {
  /** The other process has its descriptor. */
  hasArrived?: true
  /** Nothing is read of it until its turn. */
  isHeld?: boolean
  readonly socket: Socket
  readonly destination: Destination
  readonly state: MoveOptions['state']
  readonly isFree: MoveOptions['isFree']
  readonly done: (moved: Moved) => void
}

/**
 * Node sends one handle and waits until it has arrived; the second is there when it has. With more,
 * Node 26 lost handles (measured).
 */
const mostOnTheWay = 2
/** How many connections may stand still for their turn: together they wait a few milliseconds. */
const mostHeld = 8

/**
 * How long a successor that had no descriptor left is given to get one, in milliseconds, before it
 * is tried again.
 */
const pause = 20

/** What has been parted from its socket here, and goes over the link. */
type Parcel = {
  readonly order: Order
  readonly message: Omit<MessageOf<'connection'>, 'id'>
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
  #onTheWay = 0
  /** Those for which the successor had no descriptor: before they are there, no other is tried. */
  readonly #refused: Parcel[] = []
  /** Sent already: an order that came later finds a husk. */
  readonly #sent = new WeakSet<Socket>()
  #lastId = 0
  #isOpen = true

  constructor(link: Link) {
    this.#link = link
  }

  /** False once the successor takes nothing any more. */
  get isOpen(): boolean {
    return this.#isOpen
  }

  /** Moves a connection when its turn comes. */
  move(socket: Socket, destination: Destination, { isFree, state, isUrgent = false }: MoveOptions): Promise<Moved> {
    return new Promise((done) => {
      if (!this.#isOpen) {
        done('busy')
        return
      }
      const order: Order = { socket, destination, state, isFree, done }
      if (isUrgent) {
        const before = this.#urgent.get(socket)
        this.#urgent.delete(socket)
        // Held for the few that are next; the others are served until then, and are urgent again
        // after their next answer.
        order.isHeld = before?.isHeld || (this.#urgent.size < mostHeld && this.#refused.length === 0)
        if (order.isHeld) stopReading(socket)
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
    if (event.type === 'closed') this.giveUp()
    if (event.type !== 'message' || typeof event.message !== 'object') return
    if (event.message.type === 'taken') this.#onTaken(event.message.id, event.message.isKept)
    if (event.message.type === 'stop') this.#close()
  }

  /**
   * Moves nothing any more: there is no time left, or no successor. What has arrived there is the
   * successor's, whether it said so or not.
   */
  giveUp(): void {
    this.#close()
    for (const [id, { hasArrived, socket }] of [...this.#sentOrders]) {
      // The second one is still in Node's queue here. If its client has closed it, it is counted.
      this.#settle(id, hasArrived ? 'moved' : socket.destroyed ? 'busy' : 'lost')
    }
    for (const { order, socket } of this.#refused.splice(0)) {
      socket.destroy()
      order.socket.destroy()
      order.done('lost')
    }
  }

  /**
   * They arrive in the order in which they were sent: one that is kept answers for those before it.
   */
  #onTaken(id: number, isKept: boolean): void {
    const ids = isKept ? [...this.#sentOrders.keys()].filter((one) => one <= id) : [id]
    for (const one of ids) this.#settle(one, isKept ? 'moved' : 'unwanted')
  }

  #settle(id: number, moved: Moved): void {
    const order = this.#sentOrders.get(id)
    if (order === undefined) return
    this.#sentOrders.delete(id)
    // What is left of it here: its close event fires, and its server counts it no more.
    order.socket.destroy()
    order.done(moved)
  }

  #pump(): void {
    while (this.#onTheWay < mostOnTheWay && this.#refused.length === 0) {
      const order = this.#take()
      if (order === undefined) return
      this.#send(order)
    }
  }

  #take(): Order | undefined {
    const [urgent] = this.#urgent.values()
    if (urgent !== undefined) {
      this.#urgent.delete(urgent.socket)
      return urgent
    }
    const order = this.#waiting[this.#next++]
    if (order === undefined) {
      this.#waiting = []
      this.#next = 0
    }
    return order
  }

  #send(order: Order): void {
    const { socket, destination } = order
    // First of all, and in one turn with the look: bytes that came in between would be read here
    // and be lost there (measured).
    stopReading(socket)
    if (socket.destroyed || this.#sent.has(socket) || !order.isFree()) {
      this.#keep(order)
      return
    }
    this.#sent.add(socket)
    const unread = takeUnread(socket)?.toString('base64')
    releaseConnection(socket)
    const state = typeof order.state === 'function' ? order.state() : order.state
    // Each by its name: a connection that passes through comes with the message of another link,
    // and its id.
    const { to, listener, idle } = destination
    this.#dispatch({ order, message: { type: 'connection', to, listener, state, unread, idle }, socket })
  }

  #dispatch(parcel: Parcel): void {
    const { order, message, socket } = parcel
    const id = ++this.#lastId
    this.#sentOrders.set(id, order)
    this.#onTheWay++
    this.#link.sendConnection({ ...message, id }, socket, {
      arrived: () => {
        order.hasArrived = true
        this.#onTheWay--
        this.#pump()
      },
      refused: (returned) => {
        this.#onTheWay--
        if (this.#sentOrders.delete(id)) this.#onRefused({ ...parcel, socket: returned })
        else returned.destroy()
      },
    })
  }

  /** It is tried again until there is room, or no time; nobody else waits for that. */
  #onRefused(parcel: Parcel): void {
    if (this.#refused.push(parcel) > 1) return
    for (const order of this.#urgent.values()) {
      if (order.isHeld) startReading(order.socket)
      order.isHeld = false
    }
    setTimeout(() => {
      for (const one of this.#refused.splice(0)) this.#dispatch(one)
    }, pause)
  }

  #keep({ socket, done }: Order): void {
    if (!this.#sent.has(socket)) startReading(socket)
    done('busy')
  }

  /** Nothing moves any more: what waits stays here. */
  #close(): void {
    this.#isOpen = false
    for (let order = this.#take(); order !== undefined; order = this.#take()) this.#keep(order)
  }
}
