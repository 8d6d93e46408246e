/** Asks a control socket, by HTTP/1.0 over a bare socket. */
import { once } from 'node:events'
import { lstatSync } from 'node:fs'
import type { Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import { CookError, type CookErrorCode, messageOf } from '../errors.ts'
import { processState } from '../node/processes.ts'
import { parseJson, readJsonLines } from '../process/json-lines.ts'
import { controlPath } from '../process/run-dir.ts'
import { removeAllLeftovers } from './leftovers.ts'
import {
  type FoundOwner,
  lastDeadOwner,
  lastOwner,
  livingOwners,
  livingWorkers,
  type Owner,
  servingOwner,
} from './owner-files.ts'
import type { Failure, Progress, Status } from './status.ts'

export type Client = {
  readonly name: string
  readonly path: string
  status(): Promise<Status>
  /** Anything else; resolves to the JSON of the answer. */
  ask(what: string, options?: object): Promise<unknown>
  /**
   * The lines of the answer as they come. Ends without one that is last if the daemon ends before
   * it.
   */
  progress(what: 'upgrade' | 'stop', options?: object): AsyncGenerator<Progress>
  /**
   * Its processes, oldest generation first, as they are known without asking them; the last one
   * owns the service.
   */
  owners(): readonly FoundOwner[]
  /** The process that served last, if it was killed or has crashed, and nothing came after it. */
  lastDead(): Owner | undefined
  /** What was written last, in this user's own words, whoever serves. */
  lastOwner(): Owner | undefined
  /** Removes what processes that were killed have left, also of the last one. */
  removeLeftovers(): Promise<void>
}

/** How long a daemon may take to begin its answer, in milliseconds. */
const patience = 5_000
/**
 * How often one is asked that is just handing over, or ending: at the next try the next one
 * answers, or nobody listens.
 */
const tries = 20
const pause = 50
/**
 * How long one whose process lives may take to put back a socket that was removed, in milliseconds:
 * it looks once a second.
 */
const absence = 3_000

/**
 * For the daemon of a name in a run directory. Its methods reject with `ERR_COOK_NOT_RUNNING`,
 * `ERR_COOK_UNRESPONSIVE` if its process is known and says nothing, `ERR_COOK_NO_ANSWER` if
 * something else is wrong at the socket, and what the daemon answers.
 */
export function clientOf(folder: string, name: string, wait: number = patience): Client {
  const path = controlPath(folder, name)
  // Those of its workers too, which go with it.
  const owners = () => [...livingWorkers(folder, name), ...livingOwners(folder, name)]
  const serving = () => servingOwner(folder, name)
  const ask = async (what: string, options?: object) => {
    try {
      return await begin({ name, path, serving, wait }, what, options)
    } catch (error) {
      const isAbsent = isNotRunning(error)
      const owner = isAbsent || isSilence(error) ? serving() : undefined
      if (owner !== undefined) {
        const who = whoText(
          owner,
          isAbsent ? `it has no control socket at ${path}, and does not restore it` : undefined,
        )
        throw new CookError('ERR_COOK_UNRESPONSIVE', { name, who })
      }
      if (isAbsent) await removeAllLeftovers(folder, name, lastDeadOwner(folder, name))
      throw error
    }
  }
  return {
    name,
    path,
    async status() {
      const answer = await ask('GET /status')
      const body = await text(answer).catch((error: unknown) => {
        throw noAnswer(name, path, messageOf(error), error)
      })
      const status = parseJson(body) as Partial<Status> | undefined
      if (status?.generations === undefined) throw noAnswer(name, path, 'what answered is not a cook-daemon')
      return status as Status
    },
    async ask(what, options) {
      return parseJson(await text(await ask(what, options)))
    },
    async *progress(what, options) {
      const answer = await ask(`POST /${what}`, options)
      try {
        for await (const line of readJsonLines(answer)) {
          const progress = line as Progress
          if (progress.type === 'error') throw new RemoteError(progress)
          yield progress
        }
      } catch (error) {
        // A daemon that ends in the middle resets the connection: what was said stands, and whoever
        // asked sees that the last word is missing.
        if ((error as NodeJS.ErrnoException).code !== 'ECONNRESET') throw error
      }
    },
    owners,
    lastDead: () => lastDeadOwner(folder, name),
    lastOwner: () => lastOwner(folder, name),
    async removeLeftovers() {
      await removeAllLeftovers(folder, name)
    },
  }
}

/** What a daemon answered that it could not do. */
export class RemoteError extends Error {
  readonly code: CookErrorCode
  readonly help: string
  /** Of several workers the one that failed. */
  readonly slot: number | undefined

  constructor({ code, message, help, slot }: Failure) {
    super(message)
    this.code = code as CookErrorCode
    this.help = help
    this.slot = slot
  }
}

type Asked = {
  readonly name: string
  readonly path: string
  /** Milliseconds for the begin of an answer. */
  readonly wait: number
  serving(): FoundOwner | undefined
}

async function begin({ name, path, wait, serving }: Asked, what: string, options?: object): Promise<Socket> {
  const until = performance.now() + absence
  for (let left = tries; ; left--) {
    try {
      return await beginOnce({ name, path, wait }, what, options)
    } catch (error) {
      const isAbsent = isNotRunning(error) && performance.now() < until && serving() !== undefined
      if (!isAbsent && (left <= 0 || !isHandingOver(error))) throw error
    }
    await new Promise((done) => setTimeout(done, pause))
  }
}

function isNotRunning(error: unknown): boolean {
  return error instanceof CookError && error.code === 'ERR_COOK_NOT_RUNNING'
}

/** It has a successor, or resets who asks while it ends; what was asked was not begun. */
function isHandingOver(error: unknown): boolean {
  if (error instanceof RemoteError) return error.code === 'ERR_COOK_UPGRADED'
  const { code, syscall } = ((error as Error).cause ?? {}) as NodeJS.ErrnoException
  // One that is closed without an answer has been read, and what it asked for may have begun.
  return syscall !== undefined && (code === 'ECONNRESET' || code === 'EPIPE')
}

async function beginOnce(
  { name, path, wait }: Omit<Asked, 'serving'>,
  what: string,
  options?: object,
): Promise<Socket> {
  const stat = lstatSync(path, { throwIfNoEntry: false })
  if (stat === undefined) throw new CookError('ERR_COOK_NOT_RUNNING', { name })
  if (!stat.isSocket() || stat.uid !== process.getuid?.()) {
    throw noAnswer(name, path, stat.isSocket() ? `the socket belongs to user ${stat.uid}` : 'it is not a socket')
  }
  const socket = process.getBuiltinModule('node:net').connect(path)
  // Whoever reads the answer meets the error too.
  socket.on('error', () => {})
  const body = options === undefined ? '' : JSON.stringify(options)
  // 1.0: the answer comes in no chunks, and its end is the end of the connection.
  socket.write(`${what} HTTP/1.0\r\nhost: cook-daemon\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`)
  const silence = Object.assign(new Error(`no answer within ${wait} ms`), { code: 'ETIMEDOUT' })
  const timer = startsProcesses.includes(what) ? undefined : setTimeout(() => socket.destroy(silence), wait)
  let status: number
  try {
    status = await readStatus(socket)
  } catch (error) {
    socket.destroy()
    // Nobody listens at a socket whose process is dead.
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ECONNREFUSED' || code === 'ENOENT') throw new CookError('ERR_COOK_NOT_RUNNING', { name })
    throw noAnswer(name, path, messageOf(error), error)
  } finally {
    clearTimeout(timer)
  }
  if (status === 200) return socket
  const failure = parseJson(await text(socket)) as Failure | undefined
  if (failure?.type === 'error') throw new RemoteError(failure)
  throw noAnswer(name, path, `it answered ${status} to ${what}`)
}

/** The first word comes when a process has been started, which may take its time. */
const startsProcesses: readonly string[] = ['POST /upgrade', 'POST /restart', 'POST /scale']

const longestHead = 64 * 1024

/** Reads the head of an answer; its body stays in the socket. */
async function readStatus(socket: Socket): Promise<number> {
  let head = Buffer.alloc(0)
  while (!head.includes('\r\n\r\n')) {
    await once(socket, 'readable')
    const piece = socket.read() as Buffer | null
    if (piece === null) throw new Error('it closed the connection without an answer')
    head = Buffer.concat([head, piece])
    if (head.length > longestHead) break
  }
  const [, status] = /^HTTP\/1\.[01] (\d{3}) /.exec(head.toString('latin1')) ?? []
  if (status === undefined) throw new Error('what answered is not HTTP')
  socket.unshift(head.subarray(head.indexOf('\r\n\r\n') + 4))
  return Number(status)
}

function noAnswer(name: string, path: string, why: string, cause?: unknown): CookError {
  return new CookError('ERR_COOK_NO_ANSWER', { name, path, why }, { cause })
}

/**
 * Nothing was said, as opposed to something wrong; EAGAIN: so many have asked before that the
 * kernel keeps no more of them waiting.
 */
function isSilence(error: unknown): boolean {
  if (!(error instanceof CookError) || error.code !== 'ERR_COOK_NO_ANSWER') return false
  const { code } = (error.cause ?? {}) as NodeJS.ErrnoException
  return code === 'ETIMEDOUT' || code === 'EAGAIN'
}

/** What a process does that does not come to answer. */
const doings: Readonly<Record<string, string>> = {
  R: 'its event loop is blocked: it uses the CPU all the time',
  D: 'it waits in the kernel for a disk or a network file system',
  T: 'it is stopped by a signal (SIGCONT resumes it)',
  t: 'it is stopped by a debugger',
}

export function whoText({ pid, generation, since }: FoundOwner, why?: string): string {
  const state = processState(pid) ?? ''
  const doing = (state === 'R' ? why : undefined) ?? doings[state] ?? why ?? 'its event loop is blocked'
  return `pid ${pid}, generation ${generation}, since ${new Date(since).toISOString()}: ${doing}`
}
