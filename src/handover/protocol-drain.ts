/** One server that drains, and what the drain of each protocol does. */
import type { Server } from 'node:net'
import type { MoveRule } from '../options.ts'
import type { Counting } from '../service-parts.ts'
import type { Mover } from './mover.ts'

/** A server that drains, and where its connections go. */
export type Draining = {
  readonly name: string
  readonly server: Server
  readonly counts: Counting
  /** Undefined: there is no successor, or it takes no connections. */
  readonly mover: Mover | undefined
  readonly rule: MoveRule
  /** When the drain ends at the latest, by performance.now(). */
  readonly endsAt: number
}

export type ProtocolDrain = {
  /** Before we stop accepting: connections that move without disturbing anybody. */
  moveIdle(): Promise<void>
  /** After it: everything else is told to come to an end. */
  finish(): void
  /** Closes what is idle, now and from now on; returns how many it closed at once. */
  closeIdle(): number
  /** Releases what the drain listened to. */
  dispose(): void
}
