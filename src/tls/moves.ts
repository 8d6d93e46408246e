/** TLS connections that move: what the rest of the library knows of this folder. */
import { constants } from 'node:crypto'
import type { Server, Socket } from 'node:net'
import { DEFAULT_MAX_VERSION, TLSSocket } from 'node:tls'
import { connectionOfHandle } from '../node/connections.ts'
import { forbidWrites, goOn, handleOf, isTlsAsExpected, tcpHandle, weigh } from '../node/tls-sockets.ts'
import type { TlsCounts } from '../options.ts'
import type { TakenTls, TlsHooks, TlsMoves } from '../service-parts.ts'
import { AdoptedTls } from './adopted.ts'
import { exportState } from './export.ts'
import { Seal } from './seal.ts'
import { decodeTlsState, encodeTlsState, type TlsState, wipe } from './state.ts'
import { whyUnavailable } from './suites.ts'
import { Watch, type Why } from './watch.ts'

export type TlsSettings = {
  /** Connections with a certificate of the client move too, or do. */
  readonly clientCertificates: boolean
  /** How long an HTTP connection may stay one that was adopted, in milliseconds. */
  readonly longest: number
  /** Why none moves after all; called once. */
  onUnavailable(why: string): void
}

/** Undefined, and told why, if no connection of this process can move. */
export function makeTlsMoves({ clientCertificates, longest, onUnavailable }: TlsSettings): TlsMoves | undefined {
  const strange = () => onUnavailable(`this Node (${process.version}) is not built as expected`)
  const why = whyUnavailable()
  if (why !== undefined) onUnavailable(why)
  else if (!isTlsAsExpected()) strange()
  else return new Moves(clientCertificates, longest, strange)
  return undefined
}

class Moves implements TlsMoves {
  readonly #longest: number
  #moved = 0
  #proven = 0
  #returned = 0
  /** Each connection once, with the last word for why it has stayed. */
  #stayed = new Map<Why, number>()
  #why = new WeakMap<Socket, Why>()
  readonly #watch: Watch
  readonly #seal = new Seal()
  /** The TCP connection below those that came from another process. */
  readonly #tcp = new WeakMap<AdoptedTls, Socket>()

  constructor(clientCertificates: boolean, longest: number, onStrange: () => void) {
    this.#longest = longest
    this.#watch = new Watch(clientCertificates, onStrange)
  }

  get publicKey(): string {
    return this.#seal.publicKey
  }

  watch(server: Server): void {
    this.#watch.add(server)
  }

  count(): void {
    this.#moved = this.#proven = this.#returned = 0
    this.#stayed = new Map()
    this.#why = new WeakMap()
  }

  get counts(): TlsCounts {
    const [moved, proven, returned] = [this.#moved, this.#proven, this.#returned]
    return { moved, proven, returned, stayed: Object.fromEntries([...this.#stayed].filter(([, count]) => count > 0)) }
  }

  whyNone(servers: readonly Server[]): string | undefined {
    if (servers.some(speaksTls13)) return undefined
    const secure = servers.some((server) => 'setSecureContext' in server)
    return `needs a server with TLS 1.3: ${secure ? 'the newest here is TLS 1.2' : 'no server here has TLS'}`
  }

  timeLeft(socket: Socket): number {
    return socket instanceof AdoptedTls ? Math.max(0, socket.movedAt + this.#longest - Date.now()) : this.#longest
  }

  mayMove(socket: Socket): boolean {
    if (socket instanceof AdoptedTls) return true
    const known = socket instanceof TLSSocket ? this.#watch.of(socket) : 'handshake'
    if (typeof known === 'string') this.#stays(socket, known)
    return typeof known !== 'string'
  }

  refuse(socket: Socket): void {
    this.#stays(socket, 'unwanted')
    if (socket instanceof TLSSocket) this.#watch.refuse(socket, 'unwanted')
  }

  isReady(socket: Socket): boolean {
    if (socket instanceof AdoptedTls) return socket.mayLeave
    const kept = socket instanceof TLSSocket ? this.#watch.of(socket) : 'handshake'
    if (typeof kept === 'string' || !(socket instanceof TLSSocket)) return false
    const state = exportState(socket, kept)
    if (typeof state === 'string') this.#cannot(socket, state)
    else wipe(state)
    return typeof state !== 'string'
  }

  untilReady(socket: Socket): Promise<void> | undefined {
    return socket instanceof AdoptedTls ? socket.untilAnnounced() : undefined
  }

  /** Why it does not move now, or at all. */
  #cannot(socket: Socket, why: Why): void {
    this.#stays(socket, why)
    if (why !== 'busy' && socket instanceof TLSSocket) this.#watch.refuse(socket, why)
  }

  take(socket: Socket, key: string): TakenTls | undefined {
    const taken = socket instanceof AdoptedTls ? this.#takeAdopted(socket, key) : this.#takeNative(socket, key)
    if (typeof taken !== 'string') {
      this.#stays(socket, undefined)
      return taken
    }
    this.#cannot(socket, taken)
    return undefined
  }

  #takeNative(socket: Socket, key: string): TakenTls | Why {
    if (!(socket instanceof TLSSocket)) return 'handshake'
    const kept = this.#watch.of(socket)
    const handle = tcpHandle(socket)
    if (typeof kept === 'string' || handle === undefined) return typeof kept === 'string' ? kept : 'busy'
    const state = exportState(socket, kept)
    if (typeof state === 'string') return state
    const sealed = this.#sealed(state, key)
    const lift = forbidWrites(socket)
    return this.#taken(sealed, handle, {
      isProven: false,
      destroy: () => socket.destroy(),
      comeBack(bytes) {
        lift()
        kept.returned += bytes.length
        if (bytes.length > 0) kept.returnedAt = weigh(socket)?.clearIn ?? -1
        goOn(socket, bytes)
        return !socket.destroyed
      },
    })
  }

  #takeAdopted(adopted: AdoptedTls, key: string): TakenTls | Why {
    const tcp = this.#tcp.get(adopted)
    const handle = tcp && handleOf(tcp)
    const state = handle && adopted.exportState()
    if (handle === undefined || state === undefined) return 'busy'
    const { isProven } = state
    return this.#taken(this.#sealed(state, key), handle, {
      isProven,
      destroy: () => adopted.destroy(),
      comeBack(bytes) {
        adopted.takeBack(bytes.length === 0 ? undefined : bytes)
        return !adopted.destroyed
      },
    })
  }

  #sealed(state: TlsState, key: string): string {
    const sealed = this.#seal.close(encodeTlsState(state), key)
    wipe(state)
    return sealed
  }

  #taken(state: string, handle: object, { isProven, destroy, comeBack }: Way): TakenTls {
    let hasArrived = false
    return {
      state,
      handle,
      isProven,
      arrived: () => {
        hasArrived = true
        this.#moved++
      },
      proven: () => {
        this.#proven++
        destroy()
      },
      comeBack: (bytes) => {
        if (hasArrived) {
          this.#moved--
          this.#returned++
        }
        return comeBack(bytes)
      },
    }
  }

  #stays(socket: Socket, why: Why | undefined): void {
    const before = this.#why.get(socket)
    if (before === why) return
    if (before !== undefined) this.#stayed.set(before, (this.#stayed.get(before) ?? 1) - 1)
    if (why === undefined) {
      this.#why.delete(socket)
      return
    }
    this.#why.set(socket, why)
    this.#stayed.set(why, (this.#stayed.get(why) ?? 0) + 1)
  }

  adopt(handle: object, sealed: string, hooks: TlsHooks): { socket: Socket; tcp: Socket } | undefined {
    const tcp = connectionOfHandle(handle)
    const bytes = this.#seal.open(sealed)
    const state = bytes && decodeTlsState(bytes)
    bytes?.fill(0)
    if (state === undefined) {
      tcp.destroy()
      return undefined
    }
    const adopted = new AdoptedTls(tcp, state, hooks)
    this.#tcp.set(adopted, tcp)
    return { socket: adopted as unknown as Socket, tcp }
  }
}

type Way = {
  readonly isProven: boolean
  destroy(): void
  comeBack(bytes: Buffer): boolean
}

/** What it was made with, as Node keeps it; a server of none of these has no TLS. */
function speaksTls13(server: Server): boolean {
  const {
    maxVersion,
    secureProtocol,
    secureOptions = 0,
  } = server as unknown as {
    readonly maxVersion?: string
    readonly secureProtocol?: string
    readonly secureOptions?: number
  }
  if (!('setSecureContext' in server)) return false
  const method = secureProtocol === undefined || /^TLS(v1_3)?_(server_)?method$/.test(secureProtocol)
  return (
    method && (maxVersion ?? DEFAULT_MAX_VERSION) === 'TLSv1.3' && (secureOptions & constants.SSL_OP_NO_TLSv1_3) === 0
  )
}
