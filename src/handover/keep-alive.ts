/** An HTTP/1.1 connection that was handed over while idle lives as long as it would have here. */
import type { Server, Socket } from 'node:net'
import { quietTime, sparesFromTimeout } from '../node/connections.ts'

type Timeouts = {
  readonly keepAliveTimeout: number
  /** From Node 22 on. */
  readonly keepAliveTimeoutBuffer?: number
  readonly timeout: number
}

/** When those had their last answer that have had none here, by performance.now(). */
const answeredBefore = new WeakMap<Socket, number>()

/** A new version with a shorter time than the old one closes nothing at once, in milliseconds. */
const leastTime = 1_000

/** Milliseconds since the last answer; undefined: it has not asked anything yet. */
export function idleTime(socket: Socket): number | undefined {
  if (socket.bytesRead > 0) return Math.round(quietTime(socket))
  const answered = answeredBefore.get(socket)
  return answered === undefined ? undefined : Math.round(performance.now() - answered)
}

/**
 * To Node it is a fresh one: no keep-alive timer runs, at headersTimeout the client would get a 408
 * unasked for, and server.timeout would close it earlier.
 */
export function keepAliveAsBefore(server: Server, socket: Socket, idle: number): void {
  if (socket.destroyed) return
  const { keepAliveTimeout, keepAliveTimeoutBuffer = 0, timeout } = server as unknown as Timeouts
  answeredBefore.set(socket, performance.now() - idle)
  sparesFromTimeout(server, socket)
  const whole = keepAliveTimeout > 0 ? keepAliveTimeout + keepAliveTimeoutBuffer : 0
  // As Node sets it behind an answer; but only where a request could not be cut by that.
  if (timeout > 0 && (whole === 0 || whole > timeout)) socket.setTimeout(whole)
  if (whole === 0) return
  // A process that has much to do may be late for a request that is there: the turn reads it.
  const end = () => setImmediate(() => socket.bytesRead > 0 || socket.destroy())
  const timer = setTimeout(end, Math.max(whole - idle, Math.min(whole, leastTime)))
  timer.unref()
  socket.once('close', () => clearTimeout(timer))
}
