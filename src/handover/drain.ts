/** Finishes what this process has accepted: hands over, serves to the end, closes, and at the deadline cuts. */
import type { Server } from 'node:net'
import type { Latch } from '../latch.ts'
import { isHttp, isHttp2 } from '../node/servers.ts'
import { connectionsOf, stopAccepting } from '../node/sockets.ts'
import type { HandOverRule } from '../options.ts'
import type { Counting } from './counts.ts'
import { drainHttp } from './http.ts'
import { drainHttp2 } from './http2.ts'
import type { Mover } from './mover.ts'

/** A server that drains, and where its connections go. */
export type Draining = {
  readonly name: string
  readonly server: Server
  readonly counts: Counting
  /** Undefined: there is no successor, or it takes no connections. */
  readonly mover: Mover | undefined
  readonly rule: HandOverRule
  /** When the drain ends at the latest, by now(). */
  readonly endsAt: number
}

/** One protocol's way to drain. */
export type ProtocolDrain = {
  /** Before we stop accepting: connections that move without disturbing anybody. */
  moveIdle(): Promise<void>
  /** After it: everything else is told to come to an end. */
  finish(): void
  /** Closes what has nothing in flight, and from now on what comes to that; says how many it closed at once. */
  closeIdle(): number
  /** Releases what the drain listened to. */
  dispose(): void
}

/** What drains beside the listeners, because only a module of its own knows it: the WebSockets of ws/ and preload/. */
export type OwnDrain = {
  /** Before we stop accepting; resolves when what was idle has moved, or stays after all. */
  moveIdle(): Promise<unknown>
  /** When we stop accepting: the successor is there to stay. */
  begin?(): void
  /** Resolves when nothing of it is left here. At the deadline it cuts, and counts, by itself. */
  readonly done: Promise<unknown>
  /** Releases what it listened to: the drain is over, or the service is ours again. */
  dispose(): void
}

export type DrainPlan = {
  readonly servers: readonly Draining[]
  readonly others: readonly OwnDrain[]
  /** Set at the deadline, and when the process is told to end at once: what is left is cut. */
  readonly deadline: Latch
  /** Set when what is idle is to be closed; at a stop it is from the start. */
  readonly hurry: Latch
  /** Set when the successor is dead. */
  readonly lost: Latch
  /** Whether it is, where that is being looked at. */
  isLost(): Promise<boolean>
  /** What has stopped accepting could begin again. */
  canReturn(): boolean
  /** Until this resolves it could not. */
  readonly spares: Promise<void> | undefined
  /** Asked at the deadline: false if the successor does not answer. */
  isLeft(): Promise<boolean>
}

/** Drains all servers at once; false if the successor was lost meanwhile: nothing has changed then but for what it took with it, and what has ended. */
export async function drain(plan: DrainPlan): Promise<boolean> {
  const parts = plan.servers.map((draining) => {
    return { ...draining, protocol: protocolOf(draining), total: watchTotal(draining.server) }
  })
  try {
    const late = plan.deadline.wait('late' as const)
    const lost = plan.lost.wait('lost' as const)
    const movers = [...parts.map(({ protocol }) => protocol), ...plan.others]
    const idle = Promise.all([...movers.map((mover) => mover.moveIdle()), plan.spares])
    // A successor that stands still takes none and is not lost: the deadline counts here too, and then it is asked, as long as we still accept.
    const first = await Promise.race([idle, late, lost])
    if (first === 'late') for (const { mover } of parts) mover?.giveUp()
    if ((await plan.isLost()) || (first === 'late' && !(await plan.isLeft()))) return false
    const closed = Promise.all([
      ...parts.map(({ server }) => untilClosed(server)),
      ...plan.others.map(({ done }) => done),
    ])
    for (const { protocol } of parts) protocol.finish()
    for (const other of plan.others) other.begin?.()
    const closeIdle = () => {
      for (const { protocol, counts: own } of parts) own.closed += protocol.closeIdle()
    }
    if (plan.hurry.isSet) closeIdle()
    plan.hurry.onSet(closeIdle)
    let end = await Promise.race([closed, late, lost])
    const isReturning = end === 'lost' && plan.canReturn()
    if (end === 'lost' && !isReturning) end = await Promise.race([closed, late])
    plan.hurry.offSet(closeIdle)
    if (isReturning) return false
    if (end !== 'late') return true
    for (const { mover } of parts) mover?.giveUp()
    countServed(parts)
    // Nothing is cut for a successor that stands still.
    if (!(await plan.isLeft()) && plan.canReturn()) return false
    // How they ended is counted in the turns of those that wait for it.
    await new Promise((counted) => setImmediate(counted))
    closeIdle()
    for (const [server, sockets] of connectionsOf(parts.map((part) => part.server))) {
      const part = parts.find((one) => one.server === server)
      if (part !== undefined) part.counts.cut += sockets.length
      for (const socket of sockets) socket.destroy()
    }
    return true
  } finally {
    countServed(parts)
    for (const other of plan.others) other.dispose()
    for (const { protocol, total } of parts) {
      protocol.dispose()
      total.stop()
    }
  }
}

/** Those that have ended by themselves. */
function countServed(parts: readonly (Draining & { readonly total: { readonly count: number } })[]): void {
  const open = connectionsOf(parts.map(({ server }) => server))
  for (const { server, counts, total } of parts) {
    const left = open.get(server)?.length ?? 0
    counts.served = Math.max(0, total.count - counts.handedOver - counts.closed - counts.cut - left)
  }
}

function protocolOf(draining: Draining): ProtocolDrain {
  if (isHttp2(draining.server)) return drainHttp2(draining)
  if (isHttp(draining.server)) return drainHttp(draining)
  // Only the program knows what its own protocol is about: it moves its connections, or they end by themselves.
  return { moveIdle: async () => {}, finish() {}, closeIdle: () => 0, dispose() {} }
}

/** How many connections there were in all, those accepted meanwhile included. */
function watchTotal(server: Server): { count: number; stop(): void } {
  const onConnection = () => {
    total.count++
  }
  const total = { count: connectionsOf([server]).get(server)?.length ?? 0, stop }
  function stop(): void {
    server.removeListener('connection', onConnection)
  }
  server.on('connection', onConnection)
  return total
}

/** Stops accepting; resolves when the last connection is gone. */
function untilClosed(server: Server): Promise<void> {
  return new Promise((closed) => {
    // Closed by the program, it may still have connections.
    if (!server.listening && !connectionsOf([server]).get(server)?.length) {
      closed()
      return
    }
    server.once('close', () => closed())
    if (server.listening) stopAccepting(server)
  })
}
