/** The admin port: what a probe or Prometheus may ask of a service. It answers, and that is all. */
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { type AdminAddress, addressText, adminAddressOf } from '../contract/admin-address.ts'
import { adminName } from '../contract/environment.ts'
import type { Phase } from '../contract/phase.ts'
import { metricsText } from '../control/metrics.ts'
import { isReady, type Status, statusOf } from '../control/status.ts'
import { CookError, messageOf } from '../errors.ts'
import { listening } from '../listen/listening.ts'
import { stopAccepting } from '../node/listeners.ts'
import type { Inherited } from '../process/handles.ts'
import type { Service } from '../service.ts'
import type { OwnDrain } from '../service-parts.ts'

/** Anybody may reach it: it must cost the service nothing. */
const limits = {
  connections: 64,
  headerBytes: 8 * 1024,
  /** Milliseconds for the headers, for the whole request, and without one. */
  headers: 5_000,
  request: 5_000,
  idle: 75_000,
} as const

/** What it shows. */
export type AdminView = {
  /** New clients may be sent here. */
  isReady(): boolean
  status(): Promise<Status>
}

/** A server for it, which does not listen yet. */
export function adminServer(view: AdminView): Server {
  const { createServer } = process.getBuiltinModule('node:http')
  const options = {
    maxHeaderSize: limits.headerBytes,
    headersTimeout: limits.headers,
    requestTimeout: limits.request,
    keepAliveTimeout: limits.idle,
    connectionsCheckingInterval: 1_000,
  }
  const server = createServer(options, (request, response) => {
    // Whoever has gone must not end the service.
    response.on('error', () => {})
    answer(view, request, response).catch((error: unknown) => {
      if (!response.headersSent) send(response, 503, `${messageOf(error)}\n`)
    })
  })
  server.maxConnections = limits.connections
  server.on('error', () => {})
  // It is there for the service, not the other way round.
  server.unref()
  return server
}

async function answer(view: AdminView, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { method, url = '' } = request
  const [path] = url.split('?')
  if (path !== '/livez' && path !== '/readyz' && path !== '/metrics') {
    send(response, 404, 'not found: try /livez, /readyz or /metrics\n')
  } else if (method !== 'GET' && method !== 'HEAD') {
    response.setHeader('allow', 'GET, HEAD')
    send(response, 405, 'only GET and HEAD are allowed\n')
  } else if (path === '/metrics') {
    const text = metricsText(withoutPaths(await view.status()))
    response.setHeader('content-type', 'text/plain; version=0.0.4; charset=utf-8')
    send(response, 200, text)
  } else if (path === '/readyz' && !view.isReady()) {
    send(response, 503, 'not ready\n')
  } else {
    // That it is answered is the answer: the event loop turns.
    send(response, 200, 'ok\n')
  }
}

function send(response: ServerResponse, code: number, text: string): void {
  if (!response.hasHeader('content-type')) response.setHeader('content-type', 'text/plain; charset=utf-8')
  response.setHeader('cache-control', 'no-store')
  response.writeHead(code, { 'content-length': Buffer.byteLength(text) })
  // Of HEAD, Node sends no body.
  response.end(text)
}

/** Where files lie is nobody's business on a port. */
function withoutPaths(status: Status): Status {
  let count = 0
  const listeners = status.listeners.map((one) => {
    return one.name.includes('/') ? { ...one, name: `unix#${++count}` } : one
  })
  return { ...status, listeners }
}

/** Rejects with `ERR_COOK_ADMIN`. */
export async function openAdmin(server: Server, address: AdminAddress): Promise<void> {
  try {
    await listening(server, () => server.listen(address))
  } catch (cause) {
    throw new CookError('ERR_COOK_ADMIN', { address: addressText(address), why: messageOf(cause) }, { cause })
  }
}

/** No new request: the next one comes to whoever has the port now. */
export function closeAdmin(server: Server): void {
  if (!server.listening) return
  stopAccepting(server)
  server.closeIdleConnections()
}

/** That of a daemon without a keeper, which hands it on. Rejects with `ERR_COOK_ADMIN`. */
export async function takeAdmin(service: Service): Promise<void> {
  const address = adminAddressOf(service.options.admin)
  if (address === undefined || service.keeper !== undefined) return
  const { claims } = service
  const isSame = (one: Inherited): one is Inherited => {
    return one.kind === 'tcp' && one.port === address.port && one.address === address.host
  }
  const inherited = claims.claimIf(adminName, isSame)
  const admin = new OwnAdmin(service, address, inherited?.fd)
  if (inherited === undefined) await admin.open()
  service.hearing.push((event) => event.type === 'phase' && admin.onPhase(event.phase))
  service.ownDrains.push(() => admin.drain())
}

class OwnAdmin {
  readonly #service: Service
  readonly #address: AdminAddress
  /** The predecessor's listener, until the commit. */
  #inherited: number | undefined
  #server: Server | undefined
  /** It answers who was accepted before the successor has taken over. */
  #left: Server | undefined

  constructor(service: Service, address: AdminAddress, inherited: number | undefined) {
    this.#service = service
    this.#address = address
    this.#inherited = inherited
  }

  async open(): Promise<void> {
    const server = this.#makeServer()
    await openAdmin(server, this.#address)
    this.#keep(server)
  }

  /** Whoever owns the service answers: also while it drains, if there is nobody else. */
  onPhase(phase: Phase): void {
    const isOurs = !this.#service.hasSuccessor && phase !== 'gone'
    if (isOurs && this.#server === undefined) void this.#service.runHook('admin', () => this.#takeUp())
    if (isOurs || this.#server === undefined) return
    closeAdmin(this.#server)
    this.#left = this.#server
    this.#server = undefined
  }

  /** Whoever was accepted here is answered here, before this process ends. */
  drain(): OwnDrain {
    const server = this.#left ?? this.#server
    return {
      moveIdle: async () => {},
      done: server === undefined ? Promise.resolve() : untilIdle(server),
      dispose() {},
    }
  }

  /** At the commit; or the successor is lost, and perhaps still on its way out. */
  async #takeUp(): Promise<void> {
    const fd = this.#inherited
    this.#inherited = undefined
    if (fd === undefined) return this.open()
    const server = this.#makeServer()
    await listening(server, () => server.listen({ fd }))
    this.#keep(server)
  }

  #keep(server: Server): void {
    this.#server = server
    server.unref()
    this.#service.handles.addReserved(adminName, 'tcp', server)
  }

  #makeServer(): Server {
    const service = this.#service
    return adminServer({
      isReady: () => isReady(service),
      status: async () => {
        // A counter must not go back, even for the moment until the predecessor has sent its own.
        if (service.predecessor !== undefined) await Promise.race([service.history.heard, patience()])
        return statusOf(service)
      },
    })
  }
}

/** How long a connection may take to ask, or to be answered, in milliseconds. */
const longestAnswer = 1_000
const lookInterval = 20

function patience(): Promise<void> {
  return new Promise((over) => void setTimeout(over, longestAnswer).unref())
}

async function untilIdle(server: Server): Promise<void> {
  const end = performance.now() + longestAnswer
  for (;;) {
    server.closeIdleConnections()
    const left = await new Promise<number>((told) => server.getConnections((_, count) => told(count)))
    if (left === 0 || performance.now() > end) return
    await new Promise((looked) => setTimeout(looked, lookInterval))
  }
}
