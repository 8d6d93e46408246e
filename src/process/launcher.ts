/** Starting a `daemon` stage and waiting until it is there: the end of the process that exits. */

import type { ChildProcess } from 'node:child_process'
import { accessSync, constants, existsSync } from 'node:fs'
import type { Duplex } from 'node:stream'
import { firstHandleFd, type Identity, type LinkRecord, linkFd, writeStart } from '../contract/environment.ts'
import { cutReason } from '../contract/messages.ts'
import { helpOf } from '../error-texts.ts'
import { CookError, messageOf } from '../errors.ts'
import { endSession, identityOfChild, killSession } from '../node/sessions.ts'
import { type Served, servedBy } from '../node/sockets.ts'
import { type Command, system } from '../node/system.ts'
import { patientTimer } from '../waiting.ts'
import { typedOf } from './command.ts'
import { readJsonLines } from './json-lines.ts'
import type { Word } from './launched.ts'
import { type LogMark, lastWords, linesSince, markLog } from './log.ts'

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
  /**
   * In a `parent` stage of an upgrade: the link, if its other end is still there, and the handles
   * go on to the daemon.
   */
  readonly passed?: { readonly record: LinkRecord; readonly isOpen: boolean }
  onSpawned?(child: ChildProcess): void
}

/**
 * Starts the daemon and returns when it has come as far as a verb, or with waitReady says that it
 * is up. If it does not, nothing of it is left when this throws, nor of what it has started.
 */
export async function launchDaemon(plan: LaunchPlan): Promise<void> {
  // What goes to our own stderr has been read there.
  const isShown = plan.output?.[1] === 2
  const mark = plan.output === undefined || isShown ? undefined : markLog(plan.output[1])
  const { child, pipe } = await spawnDaemon(plan)
  const identity = identityOfChild(child)
  const [pid] = identity
  plan.onSpawned?.(child)
  const words = readWords(pipe)
  const exited = exitOf(child)
  const goal = plan.waitReady ? 'was ready' : 'called the library'
  let stopTimer = () => {}
  const late = new Promise<'late'>((settle) => {
    stopTimer = patientTimer(plan.readyTimeout, () => settle('late'))
  })
  try {
    for (;;) {
      const event = await Promise.race([words.next(), exited, late])
      if (event === 'late') {
        const words = servedWords(servedBy(identity)) + lastWords(undefined, linesSince(mark))
        killSession(identity)
        await exited
        const goal = plan.waitReady ? 'ready' : 'started'
        throw new CookError('ERR_COOK_DAEMON_TIMEOUT', { pid, goal, ms: plan.readyTimeout, words })
      }
      // The end of the pipe comes with the end of the daemon, whose exit code follows; what it said
      // before was read before.
      if (typeof event === 'string' || event === undefined)
        throw exitError(identity, goal, await exited, words.dying(), { mark, isShown })
      if (event.type === 'refused') throw await refused(child, identity, event)
      if (event.type === 'ready' || !plan.waitReady) break
      pipe.end()
    }
  } catch (error) {
    pipe.destroy()
    await endSession(identity)
    throw error
  } finally {
    stopTimer()
  }
  child.unref()
  // Only after the caller has gone on: what it writes now stands in the log before the daemon's
  // next line, as in the original Go API.
  setImmediate(() => pipe.end())
}

async function spawnDaemon(plan: LaunchPlan) {
  const { passed } = plan
  const output = plan.output ?? (['ignore', 'ignore'] as const)
  const handles = passed?.record.handles.map((_, index) => firstHandleFd + index) ?? []
  const inherited = passed === undefined ? [] : [passed.isOpen ? linkFd : ('ignore' as const), ...handles]
  const fd = linkFd + inherited.length
  const environment = writeStart(plan.environment, {
    stage: 'daemon',
    launch: {
      ...{ fd, waitReady: plan.waitReady, close: plan.close, typed: typedOf(plan.command) },
    },
    ...(passed && { link: passed.record }),
  })
  // Node opens the link in the daemon as its IPC channel, as it did here.
  if (passed?.isOpen) environment.NODE_CHANNEL_FD = String(linkFd)
  const fault = directoryFault(plan.cwd)
  if (fault !== undefined) throw new CookError('ERR_COOK_DAEMON_SPAWN', { command: plan.command.execPath, why: fault })
  const stdio = ['ignore', ...output, ...inherited, 'pipe'] as const
  const child = await spawned(() => system.spawn(plan.command, { env: environment, stdio })).catch((cause: unknown) => {
    const values = { command: plan.command.execPath, why: spawnFault(plan.command, cause) }
    throw new CookError('ERR_COOK_DAEMON_SPAWN', values, { cause })
  })
  // A 'pipe' of stdio is a socket pair: it is read and written.
  const ends = child.stdio as unknown as readonly (Duplex | undefined)[]
  return { child, pipe: ends[fd] as Duplex }
}

/** A child that runs; rejects if there is none. Most errors are events, some (E2BIG) are thrown. */
export async function spawned(spawn: () => ChildProcess): Promise<ChildProcess> {
  const child = spawn()
  await new Promise<void>((done, failed) => {
    // For good: a kill that fails is an 'error' event too, and its process is told by its exit or
    // its link.
    child.once('spawn', done).on('error', failed)
  })
  return child
}

/**
 * Why a spawn failed, in words: ENOENT says nothing of whether the program or the directory is
 * missing.
 */
export function spawnFault(command: Command, cause: unknown): string {
  const isLost = command.execPath.startsWith('/') && !existsSync(command.execPath)
  return directoryFault(command.cwd) ?? (isLost ? 'no such file' : messageOf(cause))
}

function directoryFault(cwd: string): string | undefined {
  try {
    accessSync(`${cwd}/.`, constants.X_OK)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return `the working directory ${cwd} does not exist`
    return `the working directory ${cwd} cannot be entered: ${messageOf(error)}`
  }
  return undefined
}

/** What is said of a program that only starts the one that serves, as npm and tsx do. */
export function servedWords(served: Served | undefined): string {
  if (served === undefined) return ''
  const { pid, command, address } = served
  return `. It did not listen itself, but a child process did, on ${address} (pid ${pid}: ${command}). Start that program instead`
}

function exitOf(child: ChildProcess): Promise<string> {
  return new Promise((done) => {
    child.once('exit', (code, signal) => done(exitWords({ code, signal })))
  })
}

/** `exit code 1` or `signal SIGKILL`. */
export function exitWords({ code, signal }: { readonly code: number | null; readonly signal: string | null }): string {
  // Of a process that is nobody's child here.
  if (code === null && signal === null) return 'exit code unknown'
  return signal === null ? `exit code ${code}` : `signal ${signal}`
}

function exitError(
  identity: Identity,
  goal: string,
  how: string,
  dying: Word | undefined,
  { mark, isShown }: { readonly mark: LogMark | undefined; readonly isShown: boolean },
): CookError {
  const words = servedWords(servedBy(identity)) + (isShown ? '' : lastWords(dying?.reason, linesSince(mark)))
  const values = { pid: identity[0], goal, how, words }
  return new CookError('ERR_COOK_DAEMON_EXITED', values, { cause: causeOf(dying) })
}

/** A daemon that refused to start has 2 s to write its log and exit; then it is killed. */
async function refused(child: ChildProcess, identity: Identity, word: Word): Promise<CookError> {
  const timer = setTimeout(() => killSession(identity), 2_000)
  await exitOf(child)
  clearTimeout(timer)
  return new CookError(
    'ERR_COOK_DAEMON_FAILED',
    { pid: identity[0], reason: word.reason ?? '' },
    // Our own no has a help of its own.
    { cause: causeOf(word), help: word.code === undefined ? undefined : (helpOf(word.code) ?? '') },
  )
}

/** The error that ended the daemon, as far as it is known here. */
function causeOf(word: Word | undefined): Error | undefined {
  return word && Object.assign(new Error(word.reason), word.code && { code: word.code })
}

/** The words of a daemon as they come; `next` gives undefined after the last. */
function readWords(pipe: Duplex): { next(): Promise<Word | undefined>; dying(): Word | undefined } {
  let dying: Word | undefined
  async function* words(): AsyncGenerator<Word> {
    for await (const value of readJsonLines(pipe)) {
      const word = toWord(value)
      if (word?.type === 'dying') dying = word
      else if (word !== undefined) yield word
    }
  }
  const iterator = words()
  return {
    // A reset is an end: the daemon died with something unread.
    next: async () => (await iterator.next().catch(() => undefined))?.value ?? undefined,
    dying: () => dying,
  }
}

const wordTypes: readonly unknown[] = ['started', 'ready', 'refused', 'dying'] satisfies Word['type'][]

/**
 * One of our words; undefined: the program wrote to a descriptor that is not its own, and we wait
 * on.
 */
export function toWord(value: unknown): Word | undefined {
  if (typeof value !== 'object' || value === null) return undefined
  const { type, reason, code } = value as Readonly<Record<string, unknown>>
  if (!wordTypes.includes(type)) return undefined
  return {
    type: type as Word['type'],
    ...(typeof reason === 'string' && { reason: cutReason(reason) }),
    ...(typeof code === 'string' && { code }),
  }
}
