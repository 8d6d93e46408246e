/** The control socket of a daemon: HTTP/1.1 on a Unix socket, answered by the one generation that owns the service. */
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { controlName, type Identity } from '../contract/messages.ts'
import { CookError, type CookErrorCode, messageOf } from '../errors.ts'
import { listening } from '../listen/listen.ts'
import { openUnixPath, ownUnixPath } from '../listen/unix-path.ts'
import { stopAccepting } from '../node/sockets.ts'
import { identify } from '../node/system.ts'
import { checkDaemonUpgradeOptions, type DaemonUpgradeOptions } from '../options.ts'
import { controlPath, openRunDirectory } from '../process/run-dir.ts'
import type { EnteredState } from '../process/state.ts'
import { forgetDeadOwners, forgetOwners, livingOwners, type Owner, removeOwner, writeOwner } from './owner-files.ts'
import { type Failure, metricsText, type Progress, type Status } from './status.ts'

/** The daemon, as far as the socket reaches. */
export type Controlled = {
  /** In milliseconds. */
  readonly drainTimeout: number
  status(): Status
  /** Resolves when this process has drained; rejects if the upgrade failed. */
  upgrade(options: DaemonUpgradeOptions, onProgress: (progress: Progress) => void): Promise<void>
  /** Resolves when this process has drained. */
  stop(onProgress: (progress: Progress) => void): Promise<void>
  reopenLog(): void
}

export type Control = {
  /** Begins to answer on the socket that the predecessor had. */
  takeOver(): Promise<void>
  /** Answers no new connection any more; what is being answered goes on. The socket goes to a successor, or is removed. */
  release(successor?: Identity): void
  /** Opens the socket anew: the successor to which it was released is lost. */
  reopen(): Promise<void>
  /** Resolves when whoever was accepted has his answer. */
  readonly idle: Promise<void>
}

const limits = {
  headerBytes: 8 * 1024,
  /** An environment goes along with --update-env. */
  bodyBytes: 1024 * 1024,
  /** Milliseconds for the headers, and for the whole request. */
  headers: 5_000,
  request: 10_000,
  connections: 64,
  /** Milliseconds in which a process that is done still answers. */
  lastWords: 1_000,
} as const

/** A process that is killed takes a moment to be gone, and there is no event for that; the pause is in milliseconds. */
const reopenTries = 100
const reopenPause = 50

/**
 * Opens the control socket, or keeps the predecessor's for the commit. Rejects with `ERR_COOK_RUN_DIR`, `ERR_COOK_NAME_TAKEN` and what else
 * keeps a Unix path from being opened.
 */
export async function openControl(state: EnteredState, name: string, controlled: Controlled): Promise<Control> {
  const folder = openRunDirectory(state.environment)
  const path = controlPath(folder, name)
  const [pid, startTime] = identify()
  const inherited = state.entered.claims.claimUnix(controlName, path)
  /** Accepted here, and not answered to the end: also those whose request is still on its way. */
  const connections = new Set<Socket>()
  const server = inherited === undefined ? await openFirst() : makeServer()
  let current = server
  // A process that ends without having been asked to is no owner either. One that is killed leaves its file, which then counts for nothing.
  process.once('exit', () => removeOwner(folder, name, pid))

  function ownerOf(of: Identity, generation: number): Owner {
    const { command, program } = state
    const { drainTimeout } = controlled
    return { pid: of[0], startTime: of[1], generation, drainTimeout, command, ...(program && { program }) }
  }

  function own(): void {
    forgetDeadOwners(folder, name)
    writeOwner(folder, name, ownerOf([pid, startTime], state.entered.generation))
  }

  async function openFirst(): Promise<Server> {
    own()
    try {
      const made = await open()
      forgetOwners(folder, name, pid)
      return made
    } catch (error) {
      removeOwner(folder, name, pid)
      throw error
    }
  }

  function makeServer(): Server {
    // Asked for here: a daemon without a name does not pay for it.
    const { createServer } = process.getBuiltinModule('node:http')
    const made = createServer(
      {
        maxHeaderSize: limits.headerBytes,
        headersTimeout: limits.headers,
        requestTimeout: limits.request,
        connectionsCheckingInterval: 1_000,
      },
      (request, response) => void answer(request, response),
    )
    made.on('connection', (socket: Socket) => {
      connections.add(socket)
      socket.once('close', () => connections.delete(socket))
    })
    // One request each: a generation that has handed over then has nothing to close.
    made.maxRequestsPerSocket = 1
    made.maxConnections = limits.connections
    // accept(2) may fail where descriptors have run out: that costs a question, not the service.
    made.on('error', () => {})
    // It is there for the service, not the other way round.
    made.unref()
    return made
  }

  async function open(): Promise<Server> {
    const made = makeServer()
    try {
      await openUnixPath(state, made, path, { mode: 0o600 })
    } catch (cause) {
      if (!(cause instanceof CookError) || cause.code !== 'ERR_COOK_PATH_IN_USE') throw cause
      const why = String((cause.values as { readonly why?: string }).why)
      throw new CookError('ERR_COOK_NAME_TAKEN', { name, why: `at ${path}, ${why}` }, { cause })
    }
    made.unref()
    state.registry.addReserved(controlName, 'unix', made)
    return made
  }

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    // Whoever has gone must not end the daemon, nor what he has begun.
    response.on('error', () => {})
    try {
      if (state.hasSuccessor === true) throw new CookError('ERR_COOK_UPGRADED', { pid: process.pid })
      await route(request, response, controlled)
    } catch (error) {
      sendFailure(response, error)
    }
  }

  return {
    async takeOver() {
      if (inherited === undefined) return
      await listening(server, () => server.listen({ fd: inherited.fd }))
      server.unref()
      ownUnixPath(state, server, path)
      state.registry.addReserved(controlName, 'unix', server)
      own()
    },
    release(successor) {
      // Not http.Server's own close, which would cut who is about to ask.
      if (current.listening) stopAccepting(current)
      if (successor === undefined) {
        if (state.hasSuccessor !== true) removeOwner(folder, name, pid)
        return
      }
      try {
        // Its own word, which says more, may be there already.
        if (livingOwners(folder, name).some((owner) => owner.pid === successor[0])) return
        writeOwner(folder, name, ownerOf(successor, state.entered.generation + 1))
      } catch {
        // The successor, whose file it is, tells the same fault.
      }
    },
    async reopen() {
      // The successor is lost, but may still be on its way out: until then it listens there.
      for (let left = reopenTries; ; left--) {
        try {
          current = await open()
          own()
          return
        } catch (error) {
          if (left === 0 || (error as CookError).code !== 'ERR_COOK_NAME_TAKEN') throw error
        }
        await new Promise((done) => setTimeout(done, reopenPause))
      }
    },
    get idle() {
      const all = Promise.all([...connections].map((socket) => new Promise((done) => socket.once('close', done))))
      return Promise.race([all, new Promise((done) => setTimeout(done, limits.lastWords).unref())]).then(() => {})
    },
  }
}

async function route(request: IncomingMessage, response: ServerResponse, controlled: Controlled): Promise<void> {
  const asked = `${request.method} ${request.url}`
  switch (asked) {
    case 'GET /status':
      send(response, 'application/json', `${JSON.stringify(controlled.status(), undefined, 2)}\n`)
      return
    case 'GET /metrics':
      send(response, 'text/plain; version=0.0.4; charset=utf-8', metricsText(controlled.status()))
      return
    case 'POST /upgrade': {
      const options = upgradeOptions(await readBody(request))
      await stream(response, (onProgress) => controlled.upgrade(options, onProgress))
      return
    }
    case 'POST /stop':
      await readBody(request)
      await stream(response, (onProgress) => controlled.stop(onProgress))
      return
    case 'POST /reopen':
      await readBody(request)
      controlled.reopenLog()
      send(response, 'application/json', '{"type":"reopened"}\n')
      return
    default:
      sendFailure(response, new CookError('ERR_COOK_CONTROL', { why: `there is no ${asked}` }), 404)
  }
}

/** What may be told of an upgrade from outside: no other program, and no other binary. */
const told: readonly (keyof DaemonUpgradeOptions)[] = ['readyTimeout', 'drainTimeout', 'overlap', 'env', 'release']

function upgradeOptions(body: string): DaemonUpgradeOptions {
  if (body.trim() === '') return {}
  let options: unknown
  try {
    options = JSON.parse(body)
  } catch (cause) {
    throw new CookError('ERR_COOK_CONTROL', { why: 'the body is no JSON' }, { cause })
  }
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    throw new CookError('ERR_COOK_CONTROL', { why: 'the body is no object' })
  }
  const other = Object.keys(options).find((option) => !(told as readonly string[]).includes(option))
  if (other !== undefined) {
    throw new CookError('ERR_COOK_CONTROL', { why: `there is no option ${other}, but ${told.join(', ')}` })
  }
  checkDaemonUpgradeOptions(options)
  return options
}

async function readBody(request: IncomingMessage): Promise<string> {
  const parts: Buffer[] = []
  let bytes = 0
  for await (const part of request as AsyncIterable<Buffer>) {
    bytes += part.length
    // Read to its end and thrown away: an answer before that would meet a client that still writes.
    if (bytes > limits.bodyBytes) parts.length = 0
    else parts.push(part)
  }
  if (bytes > limits.bodyBytes) {
    throw new CookError('ERR_COOK_CONTROL', { why: `the body has more than ${limits.bodyBytes} bytes` })
  }
  return Buffer.concat(parts).toString('utf8')
}

function send(response: ServerResponse, type: string, body: string): void {
  response.writeHead(200, { 'content-type': type, 'content-length': Buffer.byteLength(body) })
  response.end(body)
}

/** JSON lines, from the first word on. What was begun goes on, whether or not anybody still reads. */
async function stream(
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

function sendFailure(response: ServerResponse, error: unknown, status = httpStatusOf(error)): void {
  const text = `${JSON.stringify(failure(error))}\n`
  if (response.headersSent) {
    response.end(text)
    return
  }
  response.writeHead(status, { 'content-type': 'application/json', connection: 'close' })
  response.end(text)
}

function failure(error: unknown): Failure {
  const { code, help } = error instanceof CookError ? error : { code: 'ERR_COOK_CONTROL', help: '' }
  return { type: 'error', code, message: messageOf(error), help }
}

function httpStatusOf(error: unknown): number {
  if (!(error instanceof CookError)) return 500
  if (error.code === 'ERR_COOK_CONTROL' || error.code === 'ERR_COOK_OPTION') return 400
  return conflicts.includes(error.code) ? 409 : 500
}

/** Not now, in this process. */
const conflicts: readonly CookErrorCode[] = [
  'ERR_COOK_UPGRADE_IN_PROGRESS',
  'ERR_COOK_UPGRADED',
  'ERR_COOK_STOPPING',
  'ERR_COOK_NOT_READY',
  'ERR_COOK_NOT_COMMITTED',
  'ERR_COOK_TOO_MANY_GENERATIONS',
]
