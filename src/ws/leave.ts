/** How the WebSockets of a `ws` server leave: free ones move, busy ones later, others close. */
import type { Socket } from 'node:net'
import type { WebSocket, WebSocketServer } from 'ws'
import { CookError } from '../errors.ts'
import { closeCodes, closeOverTime, defaultSpread } from '../handover/close-slowly.ts'
import { countMove } from '../handover/counts.ts'
import { startReading, stopReading } from '../node/connections.ts'
import type { Context } from '../node/context.ts'
import type { Service } from '../service.ts'
import type { ConnectionMover, Counting, Departure, Destination, OwnDrain } from '../service-parts.ts'
import { toText } from '../upgrade/cloned-values.ts'
import type { MessageHandlers } from './handlers.ts'
import type { Luggage, WebSocketOptions } from './options.ts'
import { buildRequest, type RequestParts, type WsInside } from './private.ts'

/** The WebSockets of one server. */
type Server<State> = {
  readonly name: string
  readonly options: WebSocketOptions<State>
  /** That in which they were given. */
  readonly context: Context
  readonly server: WebSocketServer
  readonly open: Set<WebSocket>
  readonly requests: WeakMap<WebSocket, RequestParts>
  readonly handlers: MessageHandlers
  readonly ws: WsInside
  readonly service: Service
}

/** One connection while it leaves. */
type Leaver = {
  readonly webSocket: WebSocket
  readonly socket: Socket
  readonly counts: Counting
  /** `gone`: it is not ours any more, or ends by itself; `closing`: it was told to, or will be. */
  at: 'open' | 'closing' | 'gone'
  /** Its turn is asked for: among those that are idle, or before them. */
  isOrdered: boolean
  isUrgent: boolean
  isLookedAt: boolean
  /** Its turn has come: saveState() was called. */
  isSaving: boolean
  /** For its message handlers, or its state: nothing of it is read. */
  isWaiting: boolean
  /** Its handlers have taken long: it is read again, and moves when none of them runs. */
  isSlow: boolean
  /** saveState() was called: from then on nothing is read here. */
  saved: { readonly state: unknown } | undefined
  luggage: string | undefined
  readonly release: () => void
}

/**
 * Moves what is free, watches what is busy until it is free, and closes, over time, what cannot
 * move.
 */
export function drainWebSockets<State>(home: Server<State>, departure: Departure): OwnDrain {
  const { name, options, context, server, open, requests, handlers, ws, service } = home
  const { mover, hurry, clock } = departure
  const leavers = new Map<WebSocket, Leaver>()
  const closes = closeOverTime(() => clock.spread(options.spread ?? defaultSpread))
  let hasToldLate = false
  /** The successor does not take them: one that finds that out has found it out for all. */
  let isUnwanted = false
  /** There is no time left to wait for a turn. */
  let isLate = false
  let isOver = false
  let allGone = () => {}
  const standingOf = (webSocket: WebSocket) => ws.standing(webSocket, (socket) => mover?.carries(socket) === true)
  const done = new Promise<void>((gone) => {
    allGone = gone
  })

  function enter(webSocket: WebSocket): Leaver | undefined {
    if (leavers.has(webSocket) || webSocket.readyState === webSocket.CLOSED) return undefined
    handlers.watch(webSocket)
    const look = () => lookSoon(leaver)
    const stopWatching = mover === undefined ? () => {} : ws.watchFrames(webSocket, look)
    const onClose = () => leave(leaver)
    const leaver: Leaver = {
      webSocket,
      socket: ws.socketOf(webSocket),
      counts: departure.countsOf(ws.socketOf(webSocket)),
      at: 'open',
      isOrdered: false,
      isUrgent: false,
      isLookedAt: false,
      isSaving: false,
      isWaiting: false,
      isSlow: false,
      saved: undefined,
      luggage: undefined,
      release() {
        stopWatching()
        for (const event of frameEvents) webSocket.removeListener(event, look)
        webSocket.removeListener('close', onClose)
      },
    }
    leavers.set(webSocket, leaver)
    webSocket.once('close', onClose)
    if (mover !== undefined) for (const event of frameEvents) webSocket.on(event, look)
    return leaver
  }

  function destinationOf(socket: Socket): Destination {
    return { to: `own:${name}`, listener: service.listenerOf(socket)?.name }
  }

  /** It is not ours any more. */
  function leave(leaver: Leaver): void {
    leaver.at = 'gone'
    leaver.release()
    leavers.delete(leaver.webSocket)
    if (leavers.size === 0) allGone()
  }

  // Behind everything that the program does at once with what it got: an answer without a pause
  // belongs to the message.
  function lookSoon(leaver: Leaver): void {
    if (leaver.isLookedAt) return
    leaver.isLookedAt = true
    process.nextTick(() =>
      queueMicrotask(() =>
        process.nextTick(() => {
          leaver.isLookedAt = false
          look(leaver)
        }),
      ),
    )
  }

  /**
   * Sends it on its way if it is free; otherwise the next message or frame brings us here again.
   */
  function look(leaver: Leaver, isUrgent = true): Promise<void> | undefined {
    const { webSocket, isWaiting } = leaver
    if (leaver.at !== 'open' || isWaiting || webSocket.readyState !== webSocket.OPEN) return undefined
    const standing = standingOf(leaver.webSocket)
    if (standing === 'stuck' || mover === undefined || isUnwanted) return void close(leaver)
    if (!mover.isOpen) {
      if (leaver.saved !== undefined) startReading(leaver.socket)
      // Either the successor has died while we still accept, and all is as it was, or nobody is
      // left to move to.
      return departure.isComingBack() ? undefined : void close(leaver)
    }
    if (standing === 'free' && isLate && !leaver.isSaving) return void close(leaver)
    const running = leaver.isSlow ? handlers.ended(webSocket) : undefined
    if (running !== undefined) void running.then(() => lookSoon(leaver))
    else if (standing === 'free') return order(leaver, mover, isUrgent)
    else ws.whenWritten(webSocket, () => lookSoon(leaver))
    return undefined
  }

  async function order(leaver: Leaver, to: ConnectionMover, isUrgent: boolean): Promise<void> {
    if (leaver.isUrgent || (leaver.isOrdered && !isUrgent)) return
    leaver[isUrgent ? 'isUrgent' : 'isOrdered'] = true
    let awaited: Promise<unknown> | undefined
    let hadTurn = false
    let isParted = false
    const moved = await to.move(leaver.socket, destinationOf(leaver.socket), {
      isFree() {
        hadTurn = true
        if (!leaver.isWaiting) awaited = pack(leaver)
        leaver.isWaiting ||= awaited !== undefined
        isParted = leaver.luggage !== undefined
        return isParted
      },
      state: () => leaver.luggage,
      isUrgent,
      onProof: (isHere) => isHere && comeBack(leaver),
    })
    leaver[isUrgent ? 'isUrgent' : 'isOrdered'] = false
    if (moved === 'busy') {
      if (isParted) takeBack(leaver)
      // Another order has moved it.
      if (leaver.luggage !== undefined) return
      if (hadTurn || !to.isOpen || !('encrypted' in leaver.socket)) await stay(leaver, awaited)
      // Half a record of TLS is here, and nothing tells when its rest is.
      else setTimeout(() => lookSoon(leaver), retryInterval)
      return
    }
    countMove(leaver.counts, moved)
    isUnwanted ||= moved === 'unwanted'
    leave(leaver)
    // To the program it is a connection that broke.
    if (moved !== 'moved') leaver.webSocket.emit('close', 1006, Buffer.alloc(0))
  }

  /** The new version could not read it. */
  function comeBack(leaver: Leaver): void {
    leaver.counts.handedOver--
    takeBack(leaver)
  }

  /** It was parted from its socket, and goes on here after all; it is tried again later. */
  function takeBack({ webSocket, socket }: Leaver): void {
    if (socket.destroyed) return
    leavers.delete(webSocket)
    open.add(webSocket)
    ws.attachAgain(webSocket)
    if (!isOver) onConnection(webSocket)
  }

  /**
   * Takes what goes along and parts the connection from its socket, in the turn in which it is
   * sent; a promise if a message is still worked on, or its state is still to come.
   */
  function pack(leaver: Leaver): Promise<unknown> | undefined {
    const { webSocket, socket } = leaver
    if (isUnwanted || leaver.at !== 'open' || standingOf(webSocket) !== 'free') return undefined
    try {
      if (leaver.saved === undefined) {
        const running = handlers.ended(webSocket)
        if (running !== undefined) return leaver.isSlow ? undefined : unlessLong(leaver, running)
        leaver.isSaving = true
        const sent = requests.get(webSocket)
        const state: unknown = context(() => options.saveState?.(webSocket, buildRequest(socket, sent)))
        if (state instanceof Promise) {
          return state.then((value) => {
            leaver.saved = { state: value }
          })
        }
        leaver.saved = { state }
        // It may have sent a last word.
        if (standingOf(webSocket) !== 'free') return undefined
      }
      const luggage: Luggage = {
        agreed: ws.agreed(webSocket),
        isPaused: webSocket.isPaused,
        request: requests.get(webSocket),
        state: leaver.saved.state,
      }
      leaver.luggage = toText(name, luggage)
    } catch (error) {
      refuse(leaver, error)
      return undefined
    }
    leaver.at = 'gone'
    leaver.release()
    ws.detach(webSocket)
    ws.watchLateSends(webSocket, tellLate)
    open.delete(webSocket)
    return undefined
  }

  /** Its turn came too early. */
  async function stay(leaver: Leaver, awaited: Promise<unknown> | undefined): Promise<void> {
    if (leaver.at !== 'open') return void awaited?.catch(() => {})
    // The mover has started it again; an order before this one waits.
    if (awaited === undefined && leaver.isWaiting) return stopReading(leaver.socket)
    if (awaited !== undefined || leaver.saved !== undefined) {
      // The mover reads again what it could not send; in the same turn, so that nothing comes in
      // between.
      stopReading(leaver.socket)
      try {
        await awaited
      } catch (error) {
        refuse(leaver, error)
        return
      } finally {
        leaver.isWaiting = false
      }
    }
    await look(leaver)
  }

  /**
   * One that takes long may wait for a message of its client, or last as long as the connection: it
   * is read again.
   */
  async function unlessLong(leaver: Leaver, running: Promise<unknown>): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    const long = new Promise<true>((late) => {
      timer = setTimeout(() => late(true), clock.grace(handlerTime))
    })
    leaver.isSlow = (await Promise.race([running, long])) === true
    clearTimeout(timer)
    if (leaver.isSlow) startReading(leaver.socket)
  }

  /** Once: a program that does so may do it a thousand times. */
  function tellLate(): void {
    if (!hasToldLate) service.hookFailed('handOverWebSockets', new CookError('ERR_COOK_WS_LATE', { name }))
    hasToldLate = true
  }

  function refuse(leaver: Leaver, error: unknown): void {
    service.hookFailed('saveState', error)
    close(leaver)
  }

  function close(leaver: Leaver): void {
    if (leaver.at !== 'open') return
    leaver.at = 'closing'
    // It is to hear that its client closes, too.
    startReading(leaver.socket)
    closes.add(async () => {
      // The answers that are being worked out go before the close.
      const running = handlers.ended(leaver.webSocket)
      if (running !== undefined) await unlessLong(leaver, running)
      if (leaver.at !== 'closing' || leaver.webSocket.readyState !== leaver.webSocket.OPEN) return
      leaver.counts.closed++
      // A successor that takes nothing any more without being lost is being stopped itself.
      const isEnd = mover === undefined ? !departure.hasOthers : !mover.isOpen && !departure.mayBeLost
      leaver.webSocket.close(isEnd ? closeCodes.end : closeCodes.restart)
    })
  }

  function onConnection(webSocket: WebSocket): void {
    const leaver = enter(webSocket)
    if (leaver !== undefined) lookSoon(leaver)
  }

  function onHurry(): void {
    // At a stop it is set from the start; all are being closed then, over time.
    if (mover === undefined) return
    for (const leaver of leavers.values()) close(leaver)
    closes.now()
  }

  function onDeadline(): void {
    closes.stop()
    for (const { at, webSocket, counts } of leavers.values()) {
      if (at === 'gone') continue
      // Those that were told to close are counted already.
      if (webSocket.readyState === webSocket.OPEN) counts.cut++
      webSocket.terminate()
    }
    allGone()
  }

  server.on('connection', onConnection)
  hurry.onSet(onHurry)
  clock.deadline.onSet(onDeadline)
  return {
    async moveIdle() {
      for (const webSocket of open) enter(webSocket)
      closes.plan([...leavers.keys()].filter((one) => mover === undefined || standingOf(one) === 'stuck').length)
      if (leavers.size === 0) allGone()
      await Promise.all([...leavers.values()].map((leaver) => look(leaver, false)))
      if (hurry.isSet) onHurry()
    },
    end() {
      isLate = true
      closes.plan(leavers.size)
      for (const leaver of leavers.values()) void look(leaver)
    },
    done,
    dispose() {
      isOver = true
      closes.stop()
      server.removeListener('connection', onConnection)
      hurry.offSet(onHurry)
      clock.deadline.offSet(onDeadline)
      for (const leaver of leavers.values()) leaver.release()
    },
  }
}

/** How long a message handler is waited for while nothing is read, in milliseconds, at most. */
const handlerTime = 1_000
/** How often one of TLS is tried again, in milliseconds. */
const retryInterval = 100
const frameEvents = ['message', 'ping', 'pong']
