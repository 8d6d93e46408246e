/** HTTP/1.1: idle connections move, busy ones after their answer; others close with it. */
import type { Server, Socket } from 'node:net'
import {
  httpConnections,
  isServedBy,
  quietTime,
  receivingHttpConnections,
  responseInProgress,
  serverOf,
} from '../node/connections.ts'
import { type Exchange, finishHearers, requestHearers, watchExchanges } from '../node/exchanges.ts'
import { guestsOf, isGuestAsking } from '../node/guests.ts'
import type { MoveRule } from '../options.ts'
import type { Draining, ProtocolDrain } from '../service-parts.ts'
import { countMove } from './counts.ts'
import { idleTime } from './keep-alive.ts'
import { LastAnswers } from './last-answers.ts'
import { isAway } from './unproven.ts'

/** No answer is being given. What Node calls idle may still have one to write. */
function isQuiet(socket: Socket): boolean {
  if (socket.destroyed || socket.writableEnded || isAway(socket)) return false
  return responseInProgress(socket) === undefined
}

/**
 * A connection that another server accepted, or that the program reads through something of its
 * own, ends here: only the program knows how it comes to its HTTP server.
 */
export function isMovable(socket: Socket, server: Server, rule: MoveRule): boolean {
  if (!isServedBy(socket, server)) return false
  return typeof rule === 'boolean' ? rule : rule(socket)
}

/** Between two requests, or with nothing said yet. */
export function idleOf(server: Server): Socket[] {
  const receiving = receivingHttpConnections(server)
  const isIdle = (socket: Socket) => isQuiet(socket) && (socket.bytesRead === 0 || !receiving.has(socket))
  const isGuestIdle = (socket: Socket) => isQuiet(socket) && !isGuestAsking(socket)
  return [...httpConnections(server).filter(isIdle), ...guestsOf(server).filter(isGuestIdle)]
}

/**
 * More than the successor answers for in one message, so that the next is there when one has
 * arrived.
 */
const ordersAtOnce = 64

/** How often connections that are idle are looked for, in milliseconds. */
const sweepInterval = 100

export function drainHttp(draining: Draining): ProtocolDrain {
  const { server, mover, rule, counts, clock } = draining
  const mayMove = mover !== undefined && rule !== false
  const waiting = new Set<Socket>()
  const last = new LastAnswers()
  let isFinishing = false
  let isHurried = false
  let isLate = false
  let sweep: NodeJS.Timeout | undefined

  const canMove = (socket: Socket) =>
    mayMove && mover.isOpen && mover.carries(socket) && isMovable(socket, server, rule)

  /** One of its own, or one that it accepted for another HTTP server. */
  const isHere = ({ socket, server: from }: Exchange) => from === server || (serverOf(socket) ?? server) === server

  async function move(socket: Socket, isUrgent: boolean): Promise<void> {
    if (mover === undefined || (waiting.has(socket) && !isUrgent)) return
    waiting.add(socket)
    // Idle now: it still is as long as nothing was read and nothing is to be written.
    const { bytesRead } = socket
    const isTurn = () => !mover.isTooLate && (isUrgent || !clock.isLastTurnOver)
    const isFree = () => {
      if (!isTurn() || socket.bytesRead !== bytesRead || socket.writableLength > 0) return false
      // The list is looked through once for each that moves, not for each answer.
      return !isUrgent || !receivingHttpConnections(server).has(socket)
    }
    const onProof = (isHere: boolean) => {
      if (isHere) counts.handedOver--
    }
    const destination = { to: draining.name, idle: isUrgent ? 0 : idleTime(socket) }
    const moved = await mover.move(socket, destination, { isFree, isUrgent, onProof })
    waiting.delete(socket)
    countMove(counts, moved)
  }

  function onFinish(exchange: Exchange): void {
    const { socket } = exchange
    if (!isHere(exchange) || !(canMove(socket) || isHurried)) return
    // In this very turn, behind Node's own end of the response and before anything else is read:
    // the one moment at which a busy connection is idle.
    process.nextTick(() => {
      if (!isQuiet(socket)) return
      if (!canMove(socket)) {
        if (!receivingHttpConnections(server).has(socket)) socket.destroySoon()
      } else if (socket.writableLength === 0) void move(socket, true)
    })
  }

  function onStart(exchange: Exchange): void {
    const { response, socket } = exchange
    if (isHere(exchange) && isFinishing && (isLate || !canMove(socket))) last.closeWith(response, socket)
  }

  function closeBusy(): void {
    for (const socket of [...httpConnections(server), ...guestsOf(server)]) {
      const response = responseInProgress(socket)
      if (response !== undefined && (isLate || !canMove(socket))) last.closeWith(response, socket)
    }
  }

  function moveRest(): void {
    if (clock.isLastTurnOver || mover?.isTooLate === true) return
    for (const socket of idleOf(server)) if (canMove(socket)) void move(socket, false)
  }

  // A listener that stays with its process was not listened on by us.
  watchExchanges()
  finishHearers.add(onFinish)
  requestHearers.add(onStart)
  return {
    async moveIdle() {
      // A few at a time: an order for each of ten thousand would be memory for nothing. What was
      // idle and has read nothing since still is.
      const sockets = idleOf(server)
        .map((socket) => [socket, socket.bytesRead] as const)
        .values()
      const moveOnes = async () => {
        for (const [socket, bytesRead] of sockets) {
          if (clock.isLastTurnOver || mover?.isTooLate === true) return
          if (socket.bytesRead === bytesRead && isQuiet(socket) && canMove(socket)) await move(socket, false)
        }
      }
      await Promise.all(Array.from({ length: ordersAtOnce }, moveOnes))
    },
    goLame() {
      isFinishing = true
      closeBusy()
    },
    finish() {
      isFinishing = true
      closeBusy()
      moveRest()
      // A connection whose answer was not written out yet at its end: nothing tells when it is.
      if (mayMove) sweep = setInterval(moveRest, sweepInterval)
    },
    end() {
      // Both processes are so busy that moves take long: one that waited for its turn would be cut
      // in a request. What is being answered is last in the queue when that is done.
      isLate = true
      if (waiting.size > 0) closeBusy()
    },
    closeIdle(quiet) {
      isHurried = true
      closeBusy()
      const sockets = idleOf(server).filter((socket) => quiet === 0 || quietTime(socket) >= quiet)
      for (const socket of sockets) socket.destroy()
      return sockets
    },
    dispose() {
      clearInterval(sweep)
      finishHearers.delete(onFinish)
      requestHearers.delete(onStart)
    },
  }
}
