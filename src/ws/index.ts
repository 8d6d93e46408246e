/** WebSockets of the `ws` package stay open through an upgrade: they move to the successor, with what the program keeps for each. @module cook-daemon/ws */
import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import type { WebSocket, WebSocketServer } from 'ws'
import { type Daemon, type Inside, insideOf } from '../daemon.ts'
import { CookError } from '../errors.ts'
import { closeCodes, closeOverTime, defaultSpread } from '../handover/close-slowly.ts'
import { type Counting, countMove } from '../handover/counts.ts'
import type { OwnDrain } from '../handover/drain.ts'
import type { DrainView } from '../handover/leave.ts'
import type { Mover } from '../handover/mover.ts'
import { startReading, stopReading } from '../node/sockets.ts'
import { checkWebSocketOptions } from '../options.ts'
import { toText } from '../upgrade/cloned-values.ts'
import { type Agreed, buildRequest, type RequestParts, requestParts, WsInside } from './private.ts'

/** How the WebSockets of one server go from version to version; `State` is what the program keeps for each. */
export type WebSocketOptions<State> = {
  /** Name under which old and new version know these connections: one for each WebSocketServer. @default 'ws' */
  readonly name?: string
  /**
   * What goes with a connection: anything that structuredClone takes. Called once, when the connection leaves; nothing of it is read any more. While a promise that it returns is pending, the program may still
   * send on it: wait there for answers that are being worked out. One that throws or rejects has its connection closed with 1012.
   * @default nothing
   */
  saveState?(socket: WebSocket, request: IncomingMessage): State | Promise<State>
  /**
   * In the new version, for each connection that has come. The request has the url, method, headers and socket of the one that opened it.
   * @default the server emits `connection` with the socket, the request and, as third argument, the state
   */
  onHandedOver?(socket: WebSocket, state: State, request: IncomingMessage): void
  /** Time over which those that must be closed are closed, in milliseconds, so that not all clients come back at once: 10 ms each at most, and never longer than half the drain. @default 5000 */
  readonly spread?: number
}

/** What crosses with a connection. Old and new may run different versions of this file: add, ignore the unknown, never reuse a meaning. */
type Luggage = {
  readonly agreed: Agreed
  readonly isPaused: boolean
  readonly request: RequestParts | undefined
  readonly state: unknown
}

/**
 * Lets the open connections of a `ws` server move to the successor when the daemon is upgraded. Call it in both versions, before `ready()`; with `serve()`, in its `prepare` option. What cannot move is closed
 * with 1012, at a stop everything with 1001. Throws `ERR_COOK_WS` for a `ws` that it does not know, and `ERR_COOK_OPTION`.
 */
export function handOverWebSockets<State = unknown>(
  daemon: Daemon,
  server: WebSocketServer,
  options: WebSocketOptions<State> = {},
): void {
  checkWebSocketOptions(options)
  const { name = 'ws', onHandedOver } = options
  const inside = insideOf(daemon)
  if (inside.isReady()) throw new CookError('ERR_COOK_WS', { why: 'ready() was called already' })
  const ws = new WsInside(server)
  const requests = new WeakMap<WebSocket, RequestParts>()
  // Undefined with `clientTracking: false`, whatever the types say.
  const open = (server.clients as Set<WebSocket> | undefined) ?? trackOpen(server)
  server.on('connection', (webSocket, request: IncomingMessage | undefined) => {
    if (request !== undefined && !requests.has(webSocket)) requests.set(webSocket, requestParts(request))
  })
  inside.onDrain((drain) => drainWebSockets({ name, options, server, open, requests, ws, inside }, drain))
  daemon.onHandedOver(name, (socket, value) => {
    const { agreed, isPaused, request: sent, state } = value as Luggage
    const webSocket = ws.attach(socket, agreed)
    const request = buildRequest(socket, sent)
    if (sent !== undefined) requests.set(webSocket, sent)
    if (onHandedOver === undefined) server.emit('connection', webSocket, request, state)
    else onHandedOver(webSocket, state as State, request)
    if (isPaused) webSocket.pause()
  })
}

function trackOpen(server: WebSocketServer): Set<WebSocket> {
  const open = new Set<WebSocket>()
  server.on('connection', (webSocket) => {
    open.add(webSocket)
    webSocket.once('close', () => open.delete(webSocket))
  })
  return open
}

type Home<State> = {
  readonly name: string
  readonly options: WebSocketOptions<State>
  readonly server: WebSocketServer
  readonly open: Set<WebSocket>
  readonly requests: WeakMap<WebSocket, RequestParts>
  readonly ws: WsInside
  readonly inside: Inside
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
  /** saveState() was called: from then on nothing is read here. */
  saved: { readonly state: unknown } | undefined
  luggage: string | undefined
  readonly release: () => void
}

/** Moves what is free, watches what is busy until it is free, and closes, over time, what cannot move. */
function drainWebSockets<State>(home: Home<State>, drain: DrainView): OwnDrain {
  const { name, options, server, open, requests, ws, inside } = home
  const { mover, hurry, deadline } = drain
  const leavers = new Map<WebSocket, Leaver>()
  const closes = closeOverTime(Math.min(options.spread ?? defaultSpread, drain.time / 2))
  /** The successor does not take them: one that finds that out has found it out for all. */
  let isUnwanted = false
  let allGone = () => {}
  const done = new Promise<void>((gone) => {
    allGone = gone
  })

  function enter(webSocket: WebSocket): Leaver | undefined {
    if (leavers.has(webSocket) || webSocket.readyState === webSocket.CLOSED) return undefined
    const look = () => lookSoon(leaver)
    const stopWatching = mover === undefined ? () => {} : ws.watchFrames(webSocket, look)
    const onClose = () => leave(leaver)
    const leaver: Leaver = {
      webSocket,
      socket: ws.socketOf(webSocket),
      counts: drain.countsOf(ws.socketOf(webSocket)),
      at: 'open',
      isOrdered: false,
      isUrgent: false,
      isLookedAt: false,
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

  /** It is not ours any more. */
  function leave(leaver: Leaver): void {
    leaver.at = 'gone'
    leaver.release()
    leavers.delete(leaver.webSocket)
    if (leavers.size === 0) allGone()
  }

  // Behind everything that the program does at once with what it got: an answer without a pause belongs to the message.
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

  /** Sends it on its way if it is free; otherwise the next message or frame brings us here again. */
  function look(leaver: Leaver, isUrgent = true): Promise<void> | undefined {
    if (leaver.at !== 'open' || leaver.webSocket.readyState !== leaver.webSocket.OPEN) return undefined
    const standing = ws.standing(leaver.webSocket)
    if (standing === 'stuck' || mover === undefined || isUnwanted) return void close(leaver)
    if (!mover.isOpen) {
      if (leaver.saved !== undefined) startReading(leaver.socket)
      // Either the successor has died while we still accept, and all is as it was, or nobody is left to move to.
      return drain.isComingBack() ? undefined : void close(leaver)
    }
    if (standing === 'free') return order(leaver, mover, isUrgent)
    ws.whenWritten(leaver.webSocket, () => lookSoon(leaver))
    return undefined
  }

  async function order(leaver: Leaver, to: Mover, isUrgent: boolean): Promise<void> {
    if (leaver.isUrgent || (leaver.isOrdered && !isUrgent)) return
    leaver[isUrgent ? 'isUrgent' : 'isOrdered'] = true
    let saving: Promise<unknown> | undefined
    const moved = await to.move(leaver.socket, inside.arrival(name, leaver.socket), {
      isFree() {
        saving = pack(leaver)
        return leaver.luggage !== undefined
      },
      state: () => leaver.luggage,
      isUrgent,
    })
    leaver[isUrgent ? 'isUrgent' : 'isOrdered'] = false
    if (moved === 'busy') {
      if (leaver.luggage === undefined) await stay(leaver, saving)
      return
    }
    countMove(leaver.counts, moved)
    isUnwanted ||= moved === 'unwanted'
    leave(leaver)
    // To the program it is a connection that broke.
    if (moved !== 'moved') leaver.webSocket.emit('close', 1006, Buffer.alloc(0))
  }

  /** Takes what goes along and parts the connection from its socket, in the turn in which it is sent; a promise if its state is still to come. */
  function pack(leaver: Leaver): Promise<unknown> | undefined {
    const { webSocket, socket } = leaver
    if (isUnwanted || leaver.at !== 'open' || ws.standing(webSocket) !== 'free') return undefined
    try {
      if (leaver.saved === undefined) {
        const sent = requests.get(webSocket)
        const state: unknown = options.saveState?.(webSocket, buildRequest(socket, sent))
        if (state instanceof Promise) return state
        leaver.saved = { state }
        // It may have sent a last word.
        if (ws.standing(webSocket) !== 'free') return undefined
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
    open.delete(webSocket)
    return undefined
  }

  /** Its turn came too early. */
  async function stay(leaver: Leaver, saving: Promise<unknown> | undefined): Promise<void> {
    if (leaver.at !== 'open') return
    if (saving !== undefined || leaver.saved !== undefined) {
      // The mover reads again what it could not send; in the same turn, so that nothing comes in between.
      stopReading(leaver.socket)
      try {
        leaver.saved ??= { state: await saving }
      } catch (error) {
        startReading(leaver.socket)
        refuse(leaver, error)
        return
      }
    }
    await look(leaver)
  }

  function refuse(leaver: Leaver, error: unknown): void {
    inside.hookFailed('saveState', error)
    close(leaver)
  }

  function close(leaver: Leaver): void {
    if (leaver.at !== 'open') return
    leaver.at = 'closing'
    closes.add(() => {
      if (leaver.at !== 'closing' || leaver.webSocket.readyState !== leaver.webSocket.OPEN) return
      leaver.counts.closed++
      // A successor that takes nothing any more without being lost is being stopped itself.
      const isEnd = mover === undefined || (!mover.isOpen && !mover.isLost)
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
  deadline.onSet(onDeadline)
  return {
    async moveIdle() {
      for (const webSocket of open) enter(webSocket)
      closes.plan([...leavers.keys()].filter((one) => mover === undefined || ws.standing(one) === 'stuck').length)
      if (leavers.size === 0) allGone()
      await Promise.all([...leavers.values()].map((leaver) => look(leaver, false)))
      if (hurry.isSet) onHurry()
    },
    done,
    dispose() {
      closes.stop()
      server.removeListener('connection', onConnection)
      hurry.offSet(onHurry)
      deadline.offSet(onDeadline)
      for (const leaver of leavers.values()) leaver.release()
    },
  }
}

const frameEvents = ['message', 'ping', 'pong']
