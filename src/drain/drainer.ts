/** Finishes what this process has accepted: hands over, serves to the end, closes, and at the deadline cuts. */
import type { Server } from 'node:net'
import type { Mover } from '../core/mover.ts'
import { connectionsOf, stopAccepting } from '../node/sockets.ts'
import type { DrainCounts, HandOverRule } from '../options.ts'
import { drainHttp, isHttp } from './http.ts'
import { drainHttp2, isHttp2 } from './http2.ts'

/** The counts of one listener while they grow. */
export type Counting = { -readonly [Name in keyof DrainCounts]: number }

/** A server that drains, and where its connections go. */
export type Draining = {
  readonly name: string
  readonly server: Server
  readonly counts: Counting
  /** Undefined: there is no successor, or it takes no connections. */
  readonly mover: Mover | undefined
  readonly rule: HandOverRule
  /** Aborted at the deadline, and when the process is told to end at once. */
  readonly deadline: AbortSignal
}

/** One protocol's way to drain. */
export type ProtocolDrain = {
  /** Before we stop accepting: connections that move without disturbing anybody. */
  moveIdle(): Promise<void>
  /** After it: everything else is told to come to an end. */
  finish(): void
  /** Closes what has nothing in flight; says how many that were. */
  closeIdle(): number
  /** Releases what the drain listened to. */
  dispose(): void
}

export type DrainPlan = {
  readonly servers: readonly Omit<Draining, 'counts' | 'deadline'>[]
  readonly deadline: AbortSignal
  /** Aborted when idle connections are to be closed now. */
  readonly hurry: AbortSignal
  /** There is no successor: what is idle is closed at once. */
  readonly isStop: boolean
}

export function noCounts(): Counting {
  return { handedOver: 0, served: 0, closed: 0, cut: 0 }
}

/** Drains all servers at once; gives the counts by listener, and whether the successor was lost while we still accepted. */
export async function drain(plan: DrainPlan): Promise<{ counts: Map<string, Counting>; isBack: boolean }> {
  const counts = new Map<string, Counting>()
  const parts = plan.servers.map((server) => {
    const own = counts.get(server.name) ?? noCounts()
    counts.set(server.name, own)
    const draining = { ...server, counts: own, deadline: plan.deadline }
    return { ...draining, protocol: protocolOf(draining), total: watchTotal(server.server) }
  })
  try {
    await Promise.all(parts.map(({ protocol }) => protocol.moveIdle()))
    // The successor died before we stopped accepting: nothing has changed but for what it took with it.
    if (parts.some(({ mover }) => mover !== undefined && !mover.isOpen)) return { counts, isBack: true }
    const closed = Promise.all(parts.map(({ server }) => untilClosed(server)))
    for (const { protocol } of parts) protocol.finish()
    const closeIdle = () => {
      for (const { protocol, counts: own } of parts) own.closed += protocol.closeIdle()
    }
    if (plan.isStop || plan.hurry.aborted) closeIdle()
    plan.hurry.addEventListener('abort', closeIdle)
    const late = aborted(plan.deadline)
    if ((await Promise.race([closed, late])) === 'late') {
      closeIdle()
      for (const [server, sockets] of connectionsOf(parts.map((part) => part.server))) {
        const part = parts.find((one) => one.server === server)
        if (part !== undefined) part.counts.cut += sockets.filter((socket) => !socket.destroyed).length
        for (const socket of sockets) socket.destroy()
      }
    }
    plan.hurry.removeEventListener('abort', closeIdle)
    for (const { counts: own, total } of parts) {
      own.served = Math.max(0, total.count - own.handedOver - own.closed - own.cut)
    }
    return { counts, isBack: false }
  } finally {
    for (const { protocol, total } of parts) {
      protocol.dispose()
      total.stop()
    }
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
    if (!server.listening) {
      closed()
      return
    }
    server.once('close', () => closed())
    stopAccepting(server)
  })
}

function aborted(signal: AbortSignal): Promise<'late'> {
  return new Promise((late) => {
    if (signal.aborted) late('late')
    else signal.addEventListener('abort', () => late('late'), { once: true })
  })
}
