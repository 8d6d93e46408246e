/** TLS connections that have moved and can come back: until the successor has them for good. */
import type { Socket } from 'node:net'
import { untieConnection } from '../node/connections.ts'
import type { TakenTls } from '../service-parts.ts'

/**
 * What the old process cannot see is the begin of a record that it has read already. Its rest comes
 * soon or never: so long, in milliseconds, such a connection holds up the end of the drain.
 */
const proofTime = 1_000

type Waiting = {
  readonly socket: Socket
  readonly taken: TakenTls
  /** The time after which it would end if nothing came, in milliseconds. */
  readonly timeout: number
  readonly timer: NodeJS.Timeout
  tie?: () => void
  /** A third process may have sent something on it. */
  isPassing?: true
  /** As `onProof` of the order. */
  readonly ended: (isHere: boolean) => void
}

/** Open here, and not to be touched: their keys are used elsewhere. */
const away = new WeakSet<Socket>()

/** Whether a connection is open here for nothing but its way back. */
export function isAway(socket: Socket): boolean {
  return away.has(socket)
}

export class Unproven {
  readonly #all = new Map<number, Waiting>()

  /** It was taken out of this process, and is not in the other one yet. */
  leaves(socket: Socket): void {
    away.add(socket)
  }

  /** The successor has it. */
  arrived(
    id: number,
    { socket, taken, timeout }: Pick<Waiting, 'socket' | 'taken' | 'timeout'>,
    ended: Waiting['ended'],
  ): void {
    const timer = setTimeout(() => {
      waiting.tie = untieConnection(socket)
      ended(false)
    }, proofTime)
    const waiting: Waiting = { socket, taken, timeout, timer, ended }
    this.#all.set(id, waiting)
    taken.arrived()
    if (taken.isProven) this.proven(id)
  }

  passing(id: number): void {
    const waiting = this.#all.get(id)
    if (waiting !== undefined) waiting.isPassing = true
  }

  proven(id: number): void {
    this.#drop(id)?.taken.proven()
  }

  /** It goes on here, with these bytes. */
  returned(id: number, bytes: Buffer): void {
    const waiting = this.#take(id)
    if (waiting === undefined) return
    waiting.tie?.()
    waiting.ended(!waiting.socket.destroyed)
    comeBack(waiting, bytes)
  }

  /**
   * The successor is dead: it sends nothing on a connection, and passes none on, before it has said
   * so. On the others nothing was sent.
   */
  allReturned(): void {
    for (const [id, { isPassing }] of [...this.#all]) if (!isPassing) this.returned(id, Buffer.alloc(0))
    this.end()
  }

  /** There is no way back any more. */
  end(): void {
    for (const id of [...this.#all.keys()]) this.#drop(id)?.socket.destroy()
  }

  #drop(id: number): Waiting | undefined {
    const waiting = this.#take(id)
    waiting?.ended(false)
    return waiting
  }

  #take(id: number): Waiting | undefined {
    const waiting = this.#all.get(id)
    clearTimeout(waiting?.timer)
    this.#all.delete(id)
    return waiting
  }
}

/** A connection goes on here as if nothing had been; false if it cannot. */
export function comeBack(
  { socket, taken, timeout }: Pick<Waiting, 'socket' | 'taken' | 'timeout'>,
  bytes: Buffer,
): boolean {
  away.delete(socket)
  socket.setTimeout(timeout)
  if (!socket.destroyed && taken.comeBack(bytes)) return true
  socket.destroy()
  return false
}
