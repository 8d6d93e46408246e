/** Where systemd is to listen for a service: as it was typed, or where it listens now. */
import type { ListenerStatus, Status } from '../control/status.ts'
import type { UnitSocket } from '../host/unit.ts'
import { UsageError } from './output.ts'

/** Below it only root may listen (ip(7), ip_unprivileged_port_start). */
const firstFreePort = 1024

/** Undefined: it listens itself. */
export function socketsOf(
  name: string,
  typed: true | readonly string[] | undefined,
  running: Status | undefined,
): readonly UnitSocket[] | undefined {
  if (typed === undefined) return undefined
  if (typed !== true) return typed.map(socketAt)
  if (running === undefined) {
    throw new UsageError(
      `--socket: ${name} does not run, so its addresses are unknown. Name each address: --socket 8080, --socket 127.0.0.1:8080, --socket /run/${name}/${name}.sock or --socket udp:5353`,
    )
  }
  const sockets = running.listeners.flatMap(({ address, stays }) => (stays === true ? [] : [socketAt(address)]))
  if (sockets.length > 0) return sockets
  throw new UsageError(`--socket: ${name} listens on no port and no path. For a UDP socket, name it: --socket udp:5353`)
}

/** Before anything else: the word behind --socket may be a program. */
export function checkSockets(typed: true | readonly string[] | undefined): void {
  if (Array.isArray(typed)) for (const one of typed) socketAt(one)
}

export function hasLowPort(listeners: readonly ListenerStatus[]): boolean {
  return listeners.some(({ address }) => Number(/:(\d+)$/.exec(address)?.[1]) < firstFreePort)
}

/** As ListenStream= and ListenDatagram= of systemd.socket(5) take it. */
function socketAt(typed: string): UnitSocket {
  const isDatagram = typed.startsWith('udp:')
  const address = typed.replace(/^udp:/, '').replace(/^\*:/, '')
  const port = Number(/(?:^|:)(\d+)$/.exec(address)?.[1])
  const isPort = /^\d+$|^[\d.]+:\d+$|^\[[\da-f:.]+(%\w+)?\]:\d+$/i.test(address) && port > 0 && port <= 65_535
  const isPath = /^[/@]./.test(address) && !isDatagram && Buffer.byteLength(address) <= longestPath
  if (isPort || isPath) return { kind: isDatagram ? 'datagram' : 'stream', address }
  throw new UsageError(
    `--socket ${typed}: it must be a port, an address with a port (127.0.0.1:8080, [::1]:8080) or an absolute path of at most ${longestPath} bytes; udp: before a port is for UDP. Without an address, --socket comes last`,
  )
}

/** Of sockaddr_un (unix(7)), with a zero behind it. */
const longestPath = 107
