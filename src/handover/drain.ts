/** Drains in three acts, by the clock: move what is idle, let the rest finish, cut what is left. */
import type { Server } from 'node:net'
import { connectionsOf, serverOf } from '../node/connections.ts'
import { isHttp, isHttp2, stopAccepting } from '../node/listeners.ts'
import type { DrainClock, Draining, OwnDrain, ProtocolDrain } from '../service-parts.ts'
import type { Latch } from '../waiting.ts'
import { drainHttp } from './http.ts'
import { drainHttp2 } from './http2.ts'
import { longQuiet, patience } from './plan.ts'

export type Drain = {
  readonly servers: readonly Draining[]
  readonly others: readonly OwnDrain[]
  readonly clock: DrainClock
  /** Set when what is idle is to be closed; at a stop it is from the start. */
  readonly hurry: Latch
  /** Set when the successor is lost. */
  readonly lost: Latch
  /** Whether it is; waits if that is not known yet. */
  isLost(): Promise<boolean>
  /** Whether each listener is open, or could be opened again. */
  canReturn(): boolean
  /** Resolves when all second handles have come: before that we do not stop accepting. */
  readonly spares: Promise<void> | undefined
  /** Resolves when the successor says anything from now on. */
  untilHeard(): Promise<void>
  /** The last word to the successor: false if it is lost. */
  sayBye(): Promise<boolean>
}

type Part = Draining & {
  readonly protocol: ProtocolDrain
  readonly total: { readonly count: number; stop(): void }
}

/**
 * Drains all servers at once; false if the successor was lost meanwhile, and the service can come
 * back.
 */
export async function drain(plan: Drain): Promise<boolean> {
  const parts = plan.servers.map((draining) => {
    return { ...draining, protocol: protocolOf(draining), total: watchTotal(draining.server) }
  })
  try {
    const hasDrained = await inActs(parts, plan)
    // The successor may be dead before its link has told that it ended.
    if (!hasDrained) await giveUp(parts)
    return hasDrained
  } finally {
    countServed(parts)
    for (const other of plan.others) other.dispose()
    for (const { protocol, total } of parts) {
      protocol.dispose()
      total.stop()
    }
  }
}

async function inActs(parts: readonly Part[], plan: Drain): Promise<boolean> {
  if (!(await moveIdle(parts, plan))) return false
  const end = await finish(parts, plan)
  if (end === 'lost') return false
  return end === 'closed' || cut(parts, plan)
}

/**
 * Both processes accept. False if the successor is lost, and nothing has changed but for what it
 * took with it.
 */
async function moveIdle(parts: readonly Part[], plan: Drain): Promise<boolean> {
  const { clock } = plan
  const movers = [...parts.map(({ protocol }) => protocol), ...plan.others]
  const idle = Promise.all(movers.map((mover) => mover.moveIdle()))
  // What we accept needs its time too. But a successor that is not heard of may hang: nobody would
  // accept then.
  const longEnough = clock.movedLongEnough.wait().then(() => plan.untilHeard())
  const moved = Promise.all([Promise.race([idle, longEnough]), plan.spares])
  const first = await Promise.race([moved, clock.deadline.wait('late' as const), plan.lost.wait()])
  // A successor that does not respond takes no connection. It must answer a bye before we stop
  // accepting.
  if (first === 'late') stopMoving(parts)
  if (await plan.isLost()) return false
  return first !== 'late' || plan.sayBye()
}

/** We stop accepting, and what cannot move is told to come to an end; later, what has not moved. */
async function finish(parts: readonly Part[], plan: Drain): Promise<'closed' | 'late' | 'lost'> {
  const { clock } = plan
  clock.note('stoppedAccepting')
  const closed = Promise.all([
    ...parts.map(({ server }) => untilClosed(server)),
    ...plan.others.map(({ done }) => done),
  ]).then(() => 'closed' as const)
  for (const { protocol } of parts) protocol.finish()
  for (const other of plan.others) other.finish?.()
  const hurryUp = () => {
    clock.note('toldToEnd')
    void closeSoon(parts)
  }
  const tellToEnd = () => {
    clock.note('toldToEnd')
    for (const { protocol } of parts) protocol.end?.()
    for (const other of plan.others) other.end?.()
  }
  // At a stop there is no other way, so that it is not worth a word.
  if (plan.hurry.isSet) void closeSoon(parts)
  plan.hurry.onSet(hurryUp)
  if (clock.late.isSet) tellToEnd()
  clock.late.onSet(tellToEnd)
  const late = clock.deadline.wait('late' as const)
  let end = await Promise.race([closed, late, plan.lost.wait('lost' as const)])
  if (end === 'lost' && !plan.canReturn()) end = await Promise.race([closed, late])
  plan.hurry.offSet(hurryUp)
  clock.late.offSet(tellToEnd)
  return end
}

/**
 * There is no time left. False if the successor does not answer: nothing is cut for one that is
 * lost.
 */
async function cut(parts: readonly Part[], plan: Drain): Promise<boolean> {
  plan.clock.note('cut')
  stopMoving(parts)
  countServed(parts)
  const isAnswered = await plan.sayBye()
  if (!isAnswered && plan.canReturn()) return false
  // The answer came behind that to all connections.
  await giveUp(parts)
  closeIdle(parts)
  for (const [server, sockets] of connectionsOf(parts.map((part) => part.server))) {
    const part = parts.find((one) => one.server === server)
    if (part !== undefined) part.counts.cut += sockets.length
    for (const socket of sockets) socket.destroy()
  }
  return true
}

/** Nothing is on its way any more, and how that ended is counted: by those that wait for it. */
async function giveUp(parts: readonly Part[]): Promise<void> {
  for (const { mover } of parts) mover?.giveUp()
  await new Promise((counted) => setImmediate(counted))
}

function stopMoving(parts: readonly Part[]): void {
  for (const { mover } of parts) mover?.stop()
}

/**
 * The request of a busy client may be here, unread, or on its way: it is read, and its answer is
 * the last one of its connection.
 */
async function closeSoon(parts: readonly Part[]): Promise<void> {
  closeIdle(parts, Number.POSITIVE_INFINITY)
  setTimeout(() => closeIdle(parts), patience).unref()
  for (let turn = 0; turn < 2; turn++) await new Promise((over) => setImmediate(over))
  closeIdle(parts, longQuiet)
}

/** Those that are `quiet` for as many milliseconds. */
function closeIdle(parts: readonly Part[], quiet = 0): void {
  for (const { protocol } of parts) {
    for (const socket of protocol.closeIdle(quiet)) {
      // A server may have given it to another one.
      const part = parts.find(({ server }) => server === serverOf(socket))
      if (part !== undefined) part.counts.closed++
    }
  }
}

/** Those that have ended by themselves. */
function countServed(parts: readonly Part[]): void {
  const open = connectionsOf(parts.map(({ server }) => server))
  for (const { server, counts, total } of parts) {
    const left = open.get(server)?.length ?? 0
    counts.served = Math.max(0, total.count - counts.handedOver - counts.closed - counts.cut - left)
  }
}

export function protocolOf(draining: Draining): ProtocolDrain {
  if (isHttp2(draining.server)) return drainHttp2(draining)
  if (isHttp(draining.server)) return drainHttp(draining)
  // Only the program knows what its own protocol is about: it moves its connections, or they end by
  // themselves. Those that it gave to an HTTP server speak HTTP, behind whatever came before.
  return drainHttp({ ...draining, mover: undefined })
}

/** How many connections there were in all, those accepted meanwhile included. */
function watchTotal(server: Server): Part['total'] {
  const onConnection = () => {
    total.count++
  }
  const total = {
    count: connectionsOf([server]).get(server)?.length ?? 0,
    stop: () => void server.removeListener('connection', onConnection),
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
