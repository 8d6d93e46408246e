/** Starting a `daemon` stage and waiting until it is there: the end of the process that exits. */
import type { ChildProcess } from 'node:child_process'
import type { Duplex } from 'node:stream'
import { firstHandleFd, type LinkRecord, linkFd, writeStart } from '../contract/environment.ts'
import { cutReason } from '../contract/messages.ts'
import { CookError, messageOf } from '../errors.ts'
import { channelDescriptor } from '../node/channel.ts'
import { type Command, type System, system } from '../node/system.ts'
import { type Link, takeLink } from '../upgrade/link.ts'
import { deadline } from '../waiting.ts'
import type { Word } from './launched.ts'
import { type LogMark, lastWords, linesSince, markLog } from './log.ts'

const fs = process.getBuiltinModule('node:fs')

export type LaunchPlan = {
  readonly command: Command
  /** Where the daemon will go. */
  readonly cwd: string
  readonly environment: Readonly<Record<string, string | undefined>>
  /** Descriptors for stdout and stderr; undefined: /dev/null. */
  readonly output: readonly [stdout: number, stderr: number] | undefined
  readonly waitReady: boolean
  /** Milliseconds until the daemon must be started, or with waitReady be up. */
  readonly readyTimeout: number
  readonly close: readonly number[]
  /** In a `parent` stage: the link and the handles, which pass through. */
  readonly link?: LinkRecord
  /** For whoever waits in the foreground: the process at once, and its end of the pipe on which each generation tells how it fares. */
  onSpawned?(child: ChildProcess, foreground: Duplex): void
}

/** In an upgrade: tells the predecessor of the daemon that this `parent` stage starts, and then lets go of the link. */
export async function passOn(plan: LaunchPlan, os: System = system): Promise<void> {
  // Undefined: the predecessor is gone, and the daemon will find that out and serve.
  const link = channelDescriptor() === linkFd ? takeLink(() => {}) : undefined
  try {
    await launchDaemon(plan, link, os)
  } catch (error) {
    await new Promise<void>((sent) => {
      if (link === undefined) sent()
      else link.send({ type: 'dying', reason: cutReason(messageOf(error)) }, sent)
    })
    throw error
  } finally {
    // Before the daemon is released: from then on only it reads the link.
    link?.close()
  }
}

/** Starts the daemon and returns when it has come as far as a verb, or with waitReady says that it is up. */
export async function launchDaemon(plan: LaunchPlan, link?: Link, os: System = system): Promise<void> {
  const mark = plan.output === undefined ? undefined : markLog(plan.output[1])
  const { child, pipe } = await spawnDaemon(plan, link !== undefined, os)
  const pid = child.pid ?? 0
  plan.onSpawned?.(child, child.stdio.at(-1) as unknown as Duplex)
  link?.send({ type: 'spawned', pid, startTime: os.startTime(pid) ?? '' })
  const words = readWords(pipe)
  const exited = exitOf(child)
  const goal = plan.waitReady ? 'was up' : 'called the library'
  let stopTimer = () => {}
  const late = new Promise<'late'>((settle) => {
    stopTimer = deadline(plan.readyTimeout, () => settle('late'))
  })
  try {
    for (;;) {
      const event = await Promise.race([words.next(), exited, late])
      if (event === 'late') {
        child.kill('SIGKILL')
        await exited
        throw new CookError('ERR_COOK_DAEMON_TIMEOUT', {
          pid,
          goal: plan.waitReady ? 'up' : 'started',
          ms: plan.readyTimeout,
        })
      }
      // The end of the pipe comes with the end of the daemon, whose exit code follows; what it said before was read before.
      if (typeof event === 'string' || event === undefined)
        throw exitError(pid, goal, await exited, words.dying(), mark)
      if (event.type === 'refused') {
        throw await refused(child, pid, event.reason ?? '')
      }
      if (event.type === 'ready' || !plan.waitReady) break
      pipe.end()
    }
  } catch (error) {
    pipe.destroy()
    throw error
  } finally {
    stopTimer()
  }
  child.unref()
  // Only after the caller has gone on: what it writes now stands in the log before the daemon's next line, as in the documents.
  setImmediate(() => pipe.end())
}

async function spawnDaemon(
  plan: LaunchPlan,
  hasLink: boolean,
  os: System,
): Promise<{ child: ChildProcess; pipe: Duplex }> {
  const output = plan.output ?? (['ignore', 'ignore'] as const)
  const handles = plan.link?.handles.map((_, index) => firstHandleFd + index) ?? []
  const passed = plan.link === undefined ? [] : [hasLink ? linkFd : ('ignore' as const), ...handles]
  const fd = linkFd + passed.length
  const environment = writeStart(plan.environment, {
    stage: 'daemon',
    launch: { fd, waitReady: plan.waitReady, close: plan.close, ...(plan.onSpawned && { run: fd + 1 }) },
    ...(plan.link && { link: plan.link }),
  })
  // Node opens the link in the daemon as its IPC channel, as it did here.
  if (hasLink) environment.NODE_CHANNEL_FD = String(linkFd)
  const fault = directoryFault(plan.cwd)
  if (fault !== undefined) throw new CookError('ERR_COOK_DAEMON_SPAWN', { command: plan.command.execPath, why: fault })
  const child = await spawned(() =>
    os.spawn(plan.command, {
      env: environment,
      stdio: ['ignore', ...output, ...passed, 'pipe', ...(plan.onSpawned ? (['pipe'] as const) : [])],
    }),
  ).catch((cause: unknown) => {
    const values = { command: plan.command.execPath, why: spawnFault(plan.command, cause) }
    throw new CookError('ERR_COOK_DAEMON_SPAWN', values, { cause })
  })
  // A 'pipe' of stdio is a socket pair: it is read and written.
  return { child, pipe: child.stdio[fd] as unknown as Duplex }
}

/** A child that runs; rejects if there is none. Most errors are events, some (E2BIG) are thrown. */
export async function spawned(spawn: () => ChildProcess): Promise<ChildProcess> {
  const child = spawn()
  await new Promise<void>((done, failed) => {
    // For good: a kill that fails is an 'error' event too, and its process is told by its exit or its link.
    child.once('spawn', done).on('error', failed)
  })
  return child
}

/** Why a spawn failed, in words: ENOENT says nothing of whether the program or the directory is missing. */
export function spawnFault(command: Command, cause: unknown): string {
  return directoryFault(command.cwd) ?? messageOf(cause)
}

function directoryFault(cwd: string): string | undefined {
  if (!fs.existsSync(cwd)) return `the working directory ${cwd} does not exist`
  try {
    fs.accessSync(`${cwd}/.`, fs.constants.X_OK)
  } catch (error) {
    return `the working directory ${cwd} cannot be entered: ${messageOf(error)}`
  }
  return undefined
}

function exitOf(child: ChildProcess): Promise<string> {
  return new Promise((done) => {
    child.once('exit', (code, signal) => done(exitWords({ code, signal })))
  })
}

/** `exit code 1` or `signal SIGKILL`. */
export function exitWords({ code, signal }: { readonly code: number | null; readonly signal: string | null }): string {
  return signal === null ? `exit code ${code}` : `signal ${signal}`
}

function exitError(pid: number, goal: string, how: string, dying: string | undefined, mark: LogMark | undefined) {
  return new CookError('ERR_COOK_DAEMON_EXITED', { pid, goal, how, words: lastWords(dying, linesSince(mark)) })
}

/** A daemon that said no may still write its log and go; then it is helped. */
async function refused(child: ChildProcess, pid: number, reason: string): Promise<CookError> {
  const timer = setTimeout(() => child.kill('SIGKILL'), 2_000)
  await exitOf(child)
  clearTimeout(timer)
  return new CookError('ERR_COOK_DAEMON_SAID_NO', { pid, reason })
}

/** The words of a daemon as they come; `next` gives undefined after the last. */
function readWords(pipe: Duplex): { next(): Promise<Word | undefined>; dying(): string | undefined } {
  let dying: string | undefined
  async function* lines(): AsyncGenerator<Word> {
    let rest = ''
    for await (const chunk of pipe.setEncoding('utf8')) {
      const parts = (rest + chunk).split('\n')
      rest = (parts.pop() ?? '').slice(0, longestLine)
      for (const part of parts) {
        const word = parseWord(part)
        if (word?.type === 'dying') dying = word.reason
        else if (word !== undefined) yield word
      }
    }
  }
  const iterator = lines()
  return {
    // A reset is an end: the daemon died with something unread.
    next: async () => (await iterator.next().catch(() => undefined))?.value ?? undefined,
    dying: () => dying,
  }
}

/** What the program itself may write to the pipe needs no end. */
const longestLine = 64 * 1024
const wordTypes: readonly unknown[] = ['started', 'ready', 'refused', 'dying'] satisfies Word['type'][]

/** One of our words in a line; undefined: the program wrote to a descriptor that is not its own, and we wait on. */
export function parseWord(line: string): Word | undefined {
  let word: unknown
  try {
    word = JSON.parse(line)
  } catch {
    return undefined
  }
  if (typeof word !== 'object' || word === null) return undefined
  const { type, reason } = word as Readonly<Record<string, unknown>>
  if (!wordTypes.includes(type)) return undefined
  return { type: type as Word['type'], ...(typeof reason === 'string' && { reason: cutReason(reason) }) }
}
