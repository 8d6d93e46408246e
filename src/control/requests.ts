/** The requests of the control socket, and their answers. */
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { checkDaemonUpgradeOptions, checkProgram } from '../check.ts'
import { isFields, type ProgramRecord } from '../contract/environment.ts'
import { CookError, type CookErrorCode, messageOf } from '../errors.ts'
import type { DaemonUpgradeOptions } from '../options.ts'
import type { Service } from '../service.ts'
import { RemoteError } from './client.ts'
import { stopByRequest, upgradeByRequest } from './commands.ts'
import { metricsText } from './metrics.ts'
import { type Failure, type Progress, statusOf } from './status.ts'

const limits = {
  headerBytes: 8 * 1024,
  /** Milliseconds for the headers, and for the whole request. */
  headers: 5_000,
  request: 10_000,
} as const

/** A server for the control socket, which does not listen yet. */
export function makeServer(onRequest: (request: IncomingMessage, response: ServerResponse) => void): Server {
  const { createServer } = process.getBuiltinModule('node:http')
  const options = {
    maxHeaderSize: limits.headerBytes,
    headersTimeout: limits.headers,
    requestTimeout: limits.request,
    connectionsCheckingInterval: 1_000,
  }
  const server = createServer(options, onRequest)
  // One request each: a generation that has handed over then has nothing to close.
  server.maxRequestsPerSocket = 1
  // accept(2) may fail where descriptors have run out: that costs a question, not the service.
  server.on('error', () => {})
  return server
}

/** Bytes of a body at most: an environment goes along with --update-env. */
const longestBody = 1024 * 1024

export async function answer(service: Service, request: IncomingMessage, response: ServerResponse): Promise<void> {
  // Whoever has gone must not end the daemon, nor what they have begun.
  response.on('error', () => {})
  try {
    if (service.hasSuccessor) throw new CookError('ERR_COOK_UPGRADED', { pid: process.pid })
    await route(service, request, response)
  } catch (error) {
    sendFailure(response, error)
  }
}

async function route(service: Service, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const asked = `${request.method} ${request.url}`
  switch (asked) {
    case 'GET /status':
      send(response, 'application/json', `${JSON.stringify(statusOf(service), undefined, 2)}\n`)
      return
    case 'GET /metrics':
      send(response, 'text/plain; version=0.0.4; charset=utf-8', metricsText(statusOf(service)))
      return
    case 'POST /upgrade': {
      const { program, isHeld, ...options } = upgradeOptions(objectIn(await readBody(request)))
      await stream(response, (onProgress) => upgradeByRequest(service, options, { program, isHeld }, onProgress))
      return
    }
    case 'POST /keeper': {
      // Of several workers one has started the next keeper, and the others come to that.
      const { path } = objectIn(await readBody(request))
      if (service.keeper === undefined || typeof path !== 'string' || !path.startsWith('/'))
        throw new CookError('ERR_COOK_CONTROL', { why: 'no keeper to join, or no path' })
      await service.keeper.join(path)
      send(response, 'application/json', '{}\n')
      return
    }
    case 'POST /stop':
      await readBody(request)
      await stream(response, (onProgress) => stopByRequest(service, onProgress))
      return
    default:
      sendFailure(response, new CookError('ERR_COOK_CONTROL', { why: `${asked} does not exist` }), 404)
  }
}

/**
 * What may be said of an upgrade from outside: whoever may open the socket could start a program of
 * this user anyway. `program` is what the new version keeps.
 */
const told: readonly (keyof RequestedUpgrade)[] = [
  ...(['readyTimeout', 'drainTimeout', 'overlap', 'env', 'release'] as const),
  ...(['execPath', 'execArgv', 'script', 'args', 'cwd', 'program', 'isHeld'] as const),
]

/** `isHeld`: by a keeper, which upgrades several workers as one. */
export type RequestedUpgrade = DaemonUpgradeOptions & { readonly program?: ProgramRecord; readonly isHeld?: boolean }

/** Throws `ERR_COOK_CONTROL` and `ERR_COOK_OPTION`. */
export function upgradeOptions(asked: object): RequestedUpgrade {
  const wrong = (why: string) => new CookError('ERR_COOK_CONTROL', { why })
  const other = Object.keys(asked).find((option) => !(told as readonly string[]).includes(option))
  if (other !== undefined) throw wrong(`unknown option ${other}; the options are ${told.join(', ')}`)
  const { program = {}, isHeld: _, ...options } = asked as RequestedUpgrade
  checkDaemonUpgradeOptions(options)
  checkProgram(program)
  const paths = { execPath: options.execPath, cwd: options.cwd, logFile: program.logFile, pidFile: program.pidFile }
  for (const [option, path] of Object.entries(paths)) {
    // Relative to what? The client is somewhere else.
    if (path?.startsWith('/') === false) throw wrong(`${option} must be an absolute path`)
  }
  return asked as RequestedUpgrade
}

/** An empty body is an object without anything. Throws `ERR_COOK_CONTROL`. */
export function objectIn(body: string): Readonly<Record<string, unknown>> {
  const wrong = (why: string, cause?: unknown) => new CookError('ERR_COOK_CONTROL', { why }, { cause })
  if (body.trim() === '') return {}
  let asked: unknown
  try {
    asked = JSON.parse(body)
  } catch (cause) {
    throw wrong('the body is not valid JSON', cause)
  }
  if (!isFields(asked)) throw wrong('the body is not an object')
  return asked
}

export async function readBody(request: IncomingMessage): Promise<string> {
  const parts: Buffer[] = []
  let bytes = 0
  for await (const part of request as AsyncIterable<Buffer>) {
    bytes += part.length
    // Read to its end and thrown away: an answer before that would meet a client that still writes.
    if (bytes > longestBody) parts.length = 0
    else parts.push(part)
  }
  if (bytes > longestBody) {
    throw new CookError('ERR_COOK_CONTROL', { why: `the body has more than ${longestBody} bytes` })
  }
  return Buffer.concat(parts).toString('utf8')
}

export function send(response: ServerResponse, type: string, body: string): void {
  response.writeHead(200, { 'content-type': type, 'content-length': Buffer.byteLength(body) })
  response.end(body)
}

/**
 * JSON lines, from the first word on. What was begun goes on, whether or not anybody still reads.
 */
export async function stream(
  response: ServerResponse,
  run: (onProgress: (progress: Progress) => void) => Promise<void>,
): Promise<void> {
  await run((progress) => {
    if (response.writableEnded || response.destroyed) return
    if (!response.headersSent) response.writeHead(200, { 'content-type': 'application/x-ndjson' })
    response.write(`${JSON.stringify(progress)}\n`)
  })
  response.end()
}

export function sendFailure(response: ServerResponse, error: unknown, status = httpStatusOf(error)): void {
  const text = `${JSON.stringify(failure(error))}\n`
  if (response.headersSent) {
    response.end(text)
    return
  }
  response.writeHead(status, { 'content-type': 'application/json', connection: 'close' })
  response.end(text)
}

function failure(error: unknown): Failure {
  const isKnown = error instanceof CookError || error instanceof RemoteError
  const { code, help } = isKnown ? error : { code: 'ERR_COOK_CONTROL', help: '' }
  const { slot } = error as { readonly slot?: number }
  return { type: 'error', code, message: messageOf(error), help, ...(slot !== undefined && { slot }) }
}

function httpStatusOf(error: unknown): number {
  if (!(error instanceof CookError || error instanceof RemoteError)) return 500
  if (error.code === 'ERR_COOK_CONTROL' || error.code === 'ERR_COOK_OPTION') return 400
  return conflicts.includes(error.code) ? 409 : 500
}

/** Not now, in this process. */
const conflicts: readonly CookErrorCode[] = [
  'ERR_COOK_UPGRADE_IN_PROGRESS',
  'ERR_COOK_NO_WORKER',
  'ERR_COOK_UPGRADED',
  'ERR_COOK_STOPPING',
  'ERR_COOK_NOT_READY',
  'ERR_COOK_NOT_COMMITTED',
  'ERR_COOK_TOO_MANY_GENERATIONS',
]
