/** What a program asks for when it calls listen() or bind(), in all the ways that Node takes it. */

import { carriesHandle } from '../node/listeners.ts'
import type { Ask } from '../process/addresses.ts'
import { tcpName, unixName } from '../process/handles.ts'

/** The options among the arguments of `server.listen()` (lib/net.js, normalizeArgs). */
export type ListenFields = Readonly<Record<string, unknown>>

/**
 * Undefined: a descriptor or handle, or what Node will refuse; nothing of ours. `resolve` makes a
 * path absolute.
 */
export function askOfListen(args: readonly unknown[], resolve: (path: string) => string): Ask | undefined {
  const options = listenFields(args)
  if (carriesHandle(options) || isNumber(options.fd)) return undefined
  const { port } = options
  const isAnyPort =
    args.length === 0 || typeof args[0] === 'function' || port === null || (port === undefined && 'port' in options)
  if (isAnyPort || typeof port === 'number' || typeof port === 'string') {
    const number = isAnyPort ? 0 : Number(port)
    if (!isPort(number)) return undefined
    const host = typeof options.host === 'string' && options.host !== '' ? options.host : undefined
    return { kind: 'tcp', name: tcpName(host, number), host, port: number }
  }
  const { path } = options
  // One that begins with a zero is no file: an abstract socket of Linux.
  if (typeof path !== 'string' || path === '' || path.startsWith('\0')) return undefined
  const file = resolve(path)
  return { kind: 'unix', name: unixName(file), path: file }
}

export function listenFields(args: readonly unknown[]): ListenFields {
  const [first, second] = args
  if (typeof first === 'object' && first !== null) return first as ListenFields
  if (typeof first === 'string' && !(Number(first) >= 0)) return { path: first }
  return { port: first, ...(typeof second === 'string' && { host: second }) }
}

/** Length of the queue, which stands among the options or behind them. */
export function backlogOf(args: readonly unknown[]): number | undefined {
  return [listenFields(args).backlog, args[1], args[2]].map(numberOf).find((number) => number > 0)
}

/**
 * Undefined for a port that the system chooses: such a socket is a client's, and no two versions
 * share it.
 */
export function askOfBind(type: string, args: readonly unknown[]): Ask | undefined {
  const [first, second] = args
  const options: ListenFields =
    typeof first === 'object' && first !== null
      ? (first as ListenFields)
      : { port: first, ...(typeof second === 'string' && { address: second }) }
  const port = numberOf(options.port)
  if (isNumber(options.fd) || typeof options.recvStart === 'function' || !isPort(port) || port === 0) return undefined
  const host = typeof options.address === 'string' && options.address !== '' ? options.address : undefined
  const family = type === 'udp6' ? 'IPv6' : 'IPv4'
  return { kind: 'udp', name: `${type}:${host ?? '*'}:${port}`, host, port, family }
}

/** A symbol, or an object that is no number, is for Node to refuse: Number() itself would throw. */
function numberOf(value: unknown): number {
  return typeof value === 'number' || typeof value === 'string' ? Number(value) : Number.NaN
}

function isNumber(value: unknown): boolean {
  return typeof value === 'number' && value >= 0
}

function isPort(value: number): boolean {
  return Number.isInteger(value) && value >= 0 && value <= 65_535
}
