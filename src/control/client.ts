/** Asks a control socket. */

import { once } from 'node:events'
import fs from 'node:fs'
import type { IncomingMessage } from 'node:http'
import { text } from 'node:stream/consumers'
import { CookError, type CookErrorCode, messageOf } from '../errors.ts'
import { processState } from '../node/processes.ts'
import { parseJson, readJsonLines } from '../process/json-lines.ts'
import { controlPath } from '../process/run-dir.ts'
import { type FoundOwner, livingOwners } from './owner-files.ts'
import type { Failure, Progress, Status } from './status.ts'

export type Client = {
  readonly name: string
  readonly path: string
  status(): Promise<Status>
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
 * For the daemon of a name in a run directory. Its methods reject with `ERR_COOK_NOT_RUNNING`,
 * `ERR_COOK_STANDS_STILL` if its process is known and says nothing, `ERR_COOK_NO_ANSWER` if
 * something else is wrong at the socket, and what the daemon answers.
 */
export function clientOf(folder: string, name: string): Client {
  const path = controlPath(folder, name)
  const owners = () => livingOwners(folder, name)
  const ask = (what: string, options?: object) =>
    begin(name, path, what, options).catch((error: unknown) => {
      const owner = isSilence(error) ? owners().at(-1) : undefined
      throw owner === undefined ? error : new CookError('ERR_COOK_STANDS_STILL', { name, who: whoText(owner) })
    })
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
  }
}

/** What a daemon answered that it could not do. */
export class RemoteError extends Error {
  readonly code: CookErrorCode
  readonly help: string

  constructor({ code, message, help }: Failure) {
    super(message)
    this.code = code as CookErrorCode
    this.help = help
  }
}

async function begin(name: string, path: string, what: string, options?: object): Promise<IncomingMessage> {
  for (let left = tries; ; left--) {
    try {
      return await beginOnce(name, path, what, options)
    } catch (error) {
      if (left === 0 || !isHandingOver(error)) throw error
    }
    await new Promise((done) => setTimeout(done, pause))
  }
}

/** It has a successor, or resets who asks while it ends; what was asked was not begun. */
function isHandingOver(error: unknown): boolean {
  if (error instanceof RemoteError) return error.code === 'ERR_COOK_UPGRADED'
  const { code, syscall } = ((error as Error).cause ?? {}) as NodeJS.ErrnoException
  // Without a system call it is Node's word for an end before the answer: it has been read, and may
  // be begun.
  return syscall !== undefined && (code === 'ECONNRESET' || code === 'EPIPE')
}

async function beginOnce(name: string, path: string, what: string, options?: object): Promise<IncomingMessage> {
  const stat = fs.lstatSync(path, { throwIfNoEntry: false })
  if (stat === undefined) throw new CookError('ERR_COOK_NOT_RUNNING', { name })
  if (!stat.isSocket() || stat.uid !== process.getuid?.()) {
    throw noAnswer(name, path, stat.isSocket() ? `the socket belongs to user ${stat.uid}` : 'it is not a socket')
  }
  const { request } = process.getBuiltinModule('node:http')
  const [method, url] = what.split(' ')
  const asked = request({ socketPath: path, method, path: url, agent: false })
  // After the answer has begun its end is that of the answer.
  asked.on('error', () => {})
  const silence = Object.assign(new Error(`no answer within ${patience} ms`), { code: 'ETIMEDOUT' })
  // The first word of an upgrade comes when its process has been started, which may take its time.
  const timer = what === 'POST /upgrade' ? undefined : setTimeout(() => asked.destroy(silence), patience)
  asked.end(options && JSON.stringify(options))
  let answer: IncomingMessage
  try {
    ;[answer] = await once(asked, 'response')
  } catch (error) {
    // Nobody listens at a socket whose process is dead.
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ECONNREFUSED' || code === 'ENOENT') throw new CookError('ERR_COOK_NOT_RUNNING', { name })
    throw noAnswer(name, path, messageOf(error), error)
  } finally {
    clearTimeout(timer)
  }
  if (answer.statusCode === 200) return answer
  const failure = parseJson(await text(answer)) as Failure | undefined
  if (failure?.type === 'error') throw new RemoteError(failure)
  throw noAnswer(name, path, `it answered ${answer.statusCode} to ${what}`)
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
  R: 'its event loop is blocked: it runs without a pause',
  D: 'it waits in the kernel for a disk or a network file system',
  T: 'it is stopped by a signal (SIGCONT lets it go on)',
  t: 'it is stopped by a debugger',
}

export function whoText({ pid, generation, since }: FoundOwner): string {
  const doing = doings[processState(pid) ?? ''] ?? 'its event loop is blocked'
  return `pid ${pid}, generation ${generation}, since ${new Date(since).toISOString()}: ${doing}`
}
