/** Asks a control socket. HTTP/1.0 over a bare socket: node:http alone would take longer to load than the answer takes to come. */
import type { Socket } from 'node:net'
import { CookError, type CookErrorCode, messageOf } from '../errors.ts'
import { processState } from '../node/processes.ts'
import { controlPath } from '../process/run-dir.ts'
import { type FoundOwner, livingOwners } from './owner-files.ts'
import type { Failure, Progress, Status } from './status.ts'

const fs = process.getBuiltinModule('node:fs')

export type Client = {
  readonly name: string
  readonly path: string
  status(): Promise<Status>
  /** The lines of the answer as they come. Ends without one that is last if the daemon ends before it. */
  progress(what: 'upgrade' | 'stop', options?: object): AsyncGenerator<Progress>
  reopenLog(): Promise<void>
  /** Its processes, oldest generation first, as they are known without asking them; the last one owns the service. */
  owners(): readonly FoundOwner[]
}

/** How long a daemon may take to begin its answer, in milliseconds. */
const patience = 5_000
/** How often one is asked that is just handing over: the next one answers at the next try. */
const tries = 20
const pause = 50

/**
 * For the daemon of a name in a run directory. Its methods reject with `ERR_COOK_NOT_RUNNING`, `ERR_COOK_STANDS_STILL` if its process is known and says nothing, `ERR_COOK_NO_ANSWER` if
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
      const status = parse(await textOf(answer.rest)) as Partial<Status> | undefined
      if (status?.generations === undefined) throw noAnswer(name, path, 'what answered is no cook-daemon')
      return status as Status
    },
    async *progress(what, options) {
      const answer = await ask(`POST /${what}`, options)
      for await (const line of linesOf(answer.rest)) {
        const progress = parse(line) as Progress | undefined
        if (progress?.type === 'error') throw new RemoteError(progress)
        if (progress !== undefined) yield progress
      }
    },
    async reopenLog() {
      await textOf((await ask('POST /reopen')).rest)
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

type Reply = { readonly status: number; readonly rest: AsyncGenerator<string> }

async function begin(name: string, path: string, what: string, options?: object): Promise<Reply> {
  for (let left = tries; ; left--) {
    const answer = await beginOnce(name, path, what, options)
    if (answer.status === 200) return answer
    const failure = parse(await textOf(answer.rest)) as Failure | undefined
    if (failure?.type !== 'error') throw noAnswer(name, path, `it answered ${answer.status} to ${what}`)
    if (failure.code !== 'ERR_COOK_UPGRADED' || left === 0) throw new RemoteError(failure)
    await new Promise((done) => setTimeout(done, pause))
  }
}

async function beginOnce(name: string, path: string, what: string, options?: object): Promise<Reply> {
  const stat = fs.lstatSync(path, { throwIfNoEntry: false })
  if (stat === undefined) throw new CookError('ERR_COOK_NOT_RUNNING', { name })
  if (!stat.isSocket() || stat.uid !== process.getuid?.()) {
    throw noAnswer(name, path, stat.isSocket() ? `the socket belongs to user ${stat.uid}` : 'it is no socket')
  }
  const { connect } = process.getBuiltinModule('node:net')
  const socket = connect(path)
  const body = options === undefined ? '' : JSON.stringify(options)
  // 1.0: the answer comes in no chunks, and its end is the end of the connection.
  socket.write(`${what} HTTP/1.0\r\nhost: cook-daemon\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`)
  const silence = Object.assign(new Error(`no answer within ${patience} ms`), { code: 'ETIMEDOUT' })
  const timer = setTimeout(() => socket.destroy(silence), patience)
  // The first word of an upgrade comes when its process has been started, which may take its time.
  if (what === 'POST /upgrade') clearTimeout(timer)
  const rest = textsOf(socket)
  try {
    let text = ''
    while (!text.includes('\r\n\r\n')) {
      const { value, done } = await rest.next()
      if (done === true) throw new Error('it closed the connection without an answer')
      text += value
      if (text.length > 65_536) throw new Error('what answered speaks no HTTP')
    }
    const end = text.indexOf('\r\n\r\n')
    const [, status] = /^HTTP\/1\.[01] (\d{3}) /.exec(text) ?? []
    if (status === undefined) throw new Error('what answered speaks no HTTP')
    return { status: Number(status), rest: withFirst(text.slice(end + 4), rest) }
  } catch (error) {
    socket.destroy()
    // Nobody listens at a socket whose process is dead.
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ECONNREFUSED' || code === 'ENOENT') throw new CookError('ERR_COOK_NOT_RUNNING', { name })
    throw noAnswer(name, path, messageOf(error), error)
  } finally {
    clearTimeout(timer)
  }
}

function noAnswer(name: string, path: string, why: string, cause?: unknown): CookError {
  return new CookError('ERR_COOK_NO_ANSWER', { name, path, why }, { cause })
}

/** Nothing was said, as opposed to something wrong; EAGAIN: so many have asked before that the kernel keeps no more of them waiting. */
export function isSilence(error: unknown): boolean {
  if (!(error instanceof CookError) || error.code !== 'ERR_COOK_NO_ANSWER') return false
  const { code } = (error.cause ?? {}) as NodeJS.ErrnoException
  return code === 'ETIMEDOUT' || code === 'EAGAIN'
}

/** What a process does that does not come to answer. */
const doings: Readonly<Record<string, string>> = {
  R: 'runs without a pause, as in an endless loop',
  D: 'waits in the kernel for a disk or a network file system',
  T: 'is stopped by a signal (SIGCONT lets it go on)',
  t: 'is stopped by a debugger',
}

export function whoText({ pid, generation, since }: FoundOwner): string {
  const doing = doings[processState(pid) ?? ''] ?? 'is there, and does not come to its event loop'
  return `pid ${pid}, generation ${generation}, which serves since ${new Date(since).toISOString()}, ${doing}`
}

/** What comes on a socket, as its own iterator gives it, which takes a millisecond to be made. */
async function* textsOf(socket: Socket): AsyncGenerator<string> {
  const texts: string[] = []
  let isOver = false
  let fault: Error | undefined
  let wake = () => {}
  socket
    .setEncoding('utf8')
    .on('data', (text: string) => {
      texts.push(text)
      wake()
    })
    .on('error', (error) => {
      fault = error
    })
    .on('close', () => {
      isOver = true
      wake()
    })
  try {
    for (;;) {
      yield* texts.splice(0)
      if (isOver && texts.length === 0) break
      await new Promise<void>((woken) => {
        wake = woken
      })
    }
    if (fault !== undefined) throw fault
  } finally {
    socket.destroy()
  }
}

async function* withFirst(first: string, rest: AsyncGenerator<string>): AsyncGenerator<string> {
  if (first !== '') yield first
  yield* rest
}

async function textOf(texts: AsyncGenerator<string>): Promise<string> {
  let all = ''
  for await (const text of texts) all += text
  return all
}

async function* linesOf(texts: AsyncGenerator<string>): AsyncGenerator<string> {
  let rest = ''
  try {
    for await (const text of texts) {
      const lines = (rest + text).split('\n')
      rest = lines.pop() ?? ''
      yield* lines
    }
  } catch {
    // A daemon that ends in the middle resets the connection: what was said stands, and whoever asked sees that the last word is missing.
  }
  if (rest !== '') yield rest
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
