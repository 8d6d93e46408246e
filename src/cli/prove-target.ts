/** What `prove` asks: which listener, in which protocol, and whether it answers at all. */
import { randomBytes } from 'node:crypto'
import type { RequestOptions } from 'node:http'
import type { ListenerStatus } from '../control/status.ts'
import { messageOf } from '../errors.ts'
import { UsageError } from './output.ts'

export type TargetOptions = {
  readonly path: string
  readonly listener?: string
  readonly port?: number
  readonly host?: string
  /** How long an answer may take, in milliseconds: longer is one that never comes. */
  readonly patience: number
}

export type Target = {
  /** In words. */
  readonly text: string
  /** The port that the program asked for, where it got another one. */
  readonly takenPort?: number | undefined
  readonly isTls: boolean
  readonly request: RequestOptions
}

/** Rejects if there is no such listener, or no answer to build upon. */
export async function targetOf(listeners: readonly ListenerStatus[], options: TargetOptions): Promise<Target> {
  const path = absolute(options.path)
  const listener = chosen(listeners, options)
  const { name, address } = listener
  const where = address.startsWith('/') ? { socketPath: address } : tcp(address)
  const host = options.host ?? ('host' in where ? `${where.host}:${where.port}` : 'localhost')
  const request = { ...where, path, headers: { host } }
  const words = (protocol: string) => textOf(protocol, request)
  const plain = await ask(request, false, options.patience)
  const answer = typeof plain === 'number' || plain === 'silent' ? plain : await ask(request, true, options.patience)
  const isTls = typeof plain !== 'number' && plain !== 'silent' && typeof answer === 'number'
  const text = words(isTls ? 'https' : 'http')
  if (answer === 'silent') {
    throw new Error(
      `the program is up, but did not answer ${text} within ${options.patience / 1000} s on its listener ${name}. Choose another with --listener or --path; a program that listens before it is ready needs --wait-ready`,
    )
  }
  if (typeof answer !== 'number') {
    throw new Error(
      `the listener ${name} at ${address} speaks neither HTTP (${messageOf(plain)}) nor HTTPS (${messageOf(answer)}). Choose another with --listener: ${namesOf(listeners)}`,
    )
  }
  if (answer === 404 || answer >= 500) {
    throw new Error(
      `${text} answered ${answer} before any upgrade, so nothing can be proved with it. Choose with --path what the program answers${options.host === undefined ? ', or set the Host header with --host' : ''}`,
    )
  }
  return { text, takenPort: takenPort(listener), isTls, request }
}

/**
 * Where clients of the same listener hold WebSockets. Without a path it is where the others ask, if
 * a handshake is answered there; undefined: it is not.
 */
export async function webSocketsOf(
  { isTls, request }: Target,
  { webSocket, patience }: { readonly webSocket?: string; readonly patience: number },
): Promise<Target | undefined> {
  const own = webSocket === undefined ? request : { ...request, path: absolute(webSocket) }
  const text = textOf(isTls ? 'wss' : 'ws', own)
  const answer = await handshake(own, isTls, patience)
  if (answer === 101) return { text, isTls, request: own }
  if (webSocket === undefined) return undefined
  const what =
    answer === 'silent'
      ? `did not answer within ${patience / 1000} s`
      : `answered ${answer instanceof Error ? messageOf(answer) : answer}`
  throw new Error(
    `there is no WebSocket at ${text}: the program ${what} to a handshake. Name its path with --web-socket`,
  )
}

function absolute(path: string): string {
  return path.startsWith('/') ? path : `/${path}`
}

function textOf(protocol: string, { host, port, socketPath, path }: RequestOptions): string {
  if (socketPath != null) return `${path} in ${protocol} at ${socketPath}`
  return `${protocol}://${host?.includes(':') ? `[${host}]` : host}:${port}${path}`
}

function chosen(listeners: readonly ListenerStatus[], { listener, port }: TargetOptions): ListenerStatus {
  const fits = (one: ListenerStatus) =>
    (listener === undefined || one.name === listener || one.address === listener) &&
    (port === undefined || one.address.endsWith(`:${port}`) || takenPort(one) === port)
  // Without a word it is the first one with a port, as a server's own comes before what it listens
  // on beside that.
  const found = listeners.filter(fits)
  const first = found.find(({ address }) => !address.startsWith('/')) ?? found[0]
  if (first !== undefined) return first
  if (listeners.length === 0) throw new Error('the program is up, but does not listen anywhere')
  throw new UsageError(`no such listener; the program has: ${namesOf(listeners)}`)
}

/** Names of unnamed listeners have the port in them that the program asked for. */
function takenPort({ name, address }: ListenerStatus): number | undefined {
  const asked = Number(/^tcp:.*:(\d+)$/.exec(name)?.[1] ?? 0)
  return asked === 0 || address.endsWith(`:${asked}`) ? undefined : asked
}

function namesOf(listeners: readonly ListenerStatus[]): string {
  return listeners.map(({ name, address }) => (name === address ? name : `${name} (${address})`)).join(', ')
}

function tcp(address: string): { readonly host: string; readonly port: number } {
  const [, host = '', port] = /^\[?(.*?)\]?:(\d+)$/.exec(address) ?? []
  return { host: host === '0.0.0.0' || host === '::' ? 'localhost' : host, port: Number(port) }
}

/** The status of an answer, `silent`, or what came in its place. */
function ask(request: RequestOptions, isTls: boolean, patience: number): Promise<number | 'silent' | Error> {
  const { get } = process.getBuiltinModule(isTls ? 'node:https' : 'node:http')
  return new Promise((done) => {
    const options = { ...request, agent: false, ...(isTls && { rejectUnauthorized: false }) }
    const asked = get(options, (response) => {
      response.resume()
      done(response.statusCode ?? 0)
      // A stream never ends; its first word is enough.
      response.once('end', () => asked.destroy())
      setTimeout(() => asked.destroy(), patience).unref()
    })
    const timer = setTimeout(() => {
      done('silent')
      asked.destroy()
    }, patience)
    asked.once('close', () => clearTimeout(timer))
    asked.on('error', (error) => done(error))
  })
}

/** What comes in answer to the handshake of a WebSocket (RFC 6455, section 4.1). */
function handshake(request: RequestOptions, isTls: boolean, patience: number): Promise<number | 'silent' | Error> {
  const { get } = process.getBuiltinModule(isTls ? 'node:https' : 'node:http')
  const headers = {
    ...(request.headers as Record<string, string>),
    connection: 'Upgrade',
    upgrade: 'websocket',
    'sec-websocket-version': '13',
    'sec-websocket-key': randomBytes(16).toString('base64'),
  }
  return new Promise((done) => {
    const options = {
      ...request,
      headers,
      agent: false,
      timeout: patience,
      ...(isTls && { rejectUnauthorized: false }),
    }
    const asked = get(options, (response) => {
      done(response.statusCode ?? 0)
      asked.destroy()
    })
    asked.once('upgrade', (response, socket) => {
      done(response.statusCode ?? 0)
      socket.on('error', () => {}).destroy()
    })
    asked.once('timeout', () => {
      done('silent')
      asked.destroy()
    })
    asked.on('error', (error) => done(error))
  })
}

/** For the reader of a verdict: what a failure usually comes from. */
export function meaningOf(why: string): string {
  for (const [pattern, meaning] of meanings) if (pattern.test(why)) return meaning
  return 'the log of the program may show more'
}

const meanings: readonly (readonly [RegExp, string])[] = [
  [
    /^WebSocket closed with 1006/,
    'the WebSocket was cut without a close frame: usually the program closes its connections, or exits, at SIGTERM',
  ],
  [
    /^WebSocket closed with/,
    'the program closed the WebSocket itself, with a code that does not tell the client to reconnect: leave it to cook-daemon (1012), or let it move with handOverWebSockets()',
  ],
  [/^WebSocket: no pong/, 'the WebSocket was open, but nobody answered: usually the version waits for something'],
  [
    /^WebSocket: Unexpected server response/,
    'the handshake was refused: usually the version listens before it can serve (--wait-ready)',
  ],
  [
    /^(?:WebSocket: )?(ECONNRESET|EPIPE|half an answer|socket hang up)/,
    'the connection was cut: usually an answer takes longer than --drain-timeout, or the program destroys its connections at SIGTERM',
  ],
  [
    /^(?:WebSocket: )?(ECONNREFUSED|ENOENT)/,
    'nobody listened: usually the version closes its listener itself, or crashed after it took over (--overlap)',
  ],
  [
    /^status 5/,
    'the program itself sent this answer: usually a version listens before it can serve (--wait-ready), or the old one closes its database too early',
  ],
  [/^no answer within/, 'the request was accepted but not answered: usually a handler waits for something'],
]
