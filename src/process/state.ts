/** What this process is and was told at its start. One object for all copies of the library. */

import {
  envLaunch,
  envLink,
  linkFd,
  listenVariables,
  ownVariables,
  type ProgramRecord,
  readProgram,
  readStart,
  type Start,
} from '../contract/environment.ts'
import { toWire } from '../contract/messages.ts'
import { CookError } from '../errors.ts'
import { channelDescriptor } from '../node/channel.ts'
import { keepInspectorShut } from '../node/signals.ts'
import { statDescriptor } from '../node/stat.ts'
import {
  type Command,
  canTellProcesses,
  isWorkerThread,
  startCommand,
  startEnvironment,
  workingDirectory,
} from '../node/system.ts'
import { version } from '../version.ts'
import { takeActivation } from './activation.ts'
import { Claims, inheritedBy } from './claims.ts'
import { type Resolved, resolveCommand } from './command.ts'
import { type Launch, reportTo, tellLauncher, wordOf } from './launched.ts'

export type ProcessState = {
  readonly version: string
  /** Where this copy was loaded from, for the error about two copies. */
  readonly url: string
  /** What a successor is started with: the start of this process, not its present. */
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly command: Command
  /** Where that led to. */
  readonly resolved: Resolved
  /** What the environment said, or why it cannot be believed. */
  readonly start: Start | CookError
  /** What the command line said of this program, if it started it. */
  readonly program?: ProgramRecord
  /** Set by the first verb. */
  entered?: Entered
  /** Opened anew for each successor, so that a log that was moved away is left behind. */
  logFile?: string
  /** Tells the predecessor why this process dies, once its link is taken up. */
  tellPredecessor?: (reason: string) => void
}

/** Of a process in which a verb was called. */
export type Entered = {
  readonly start: Start
  readonly generation: number
  /** What it was handed. */
  readonly claims: Claims
  /** Of what systemd has opened for it, what is not served. */
  readonly doubts: readonly string[]
  /** The process that waits for this daemon to come up. */
  readonly launch?: Launch
}

export type EnteredState = ProcessState & { readonly entered: Entered }

// Versioned by its shape: a copy that knows another shape looks elsewhere, and finds the
// environment deleted.
const key = Symbol.for('cook-daemon.state.1')
const shared = globalThis as { [key]?: ProcessState }

// At import, before a program can change the environment or its working directory.
shared[key] ??= makeState()

function makeState(): ProcessState {
  const environment = { ...startEnvironment() }
  // They are for one process alone.
  for (const name of listenVariables) delete environment[name]
  let start: Start | CookError
  let program: ProgramRecord | undefined
  try {
    if (!canTellProcesses()) throw new CookError('ERR_COOK_NO_PROC', {})
    start = readStart(process.env)
    program = readProgram(process.env)
    checkStart(start, environment)
  } catch (error) {
    if (!(error instanceof CookError)) throw error
    // An import does not throw: the first verb does.
    start = error
  }
  const typed = start instanceof CookError ? undefined : (start.launch ?? start.link)?.typed
  const command = startCommand(environment, typed)
  // Of what runs: where a symlink leads that was typed may have changed since.
  const [, script = '', ...rest] = process.argv
  const resolved = resolveCommand({ ...command, args: [script, ...rest], cwd: workingDirectory() })
  const url = import.meta.url
  const state: ProcessState = { version, url, environment, command, resolved, start, ...(program && { program }) }
  if (!(start instanceof CookError) && (start.launch ?? start.link) !== undefined) tellWhyItDies(state, start)
  // A process that we started is known to others from its first moment on.
  if (start instanceof CookError || (start.launch ?? start.link ?? program) !== undefined) keepInspectorShut()
  return state
}

/**
 * Variables that were set by hand, or that another process left: whoever wrote them for this
 * process gave it descriptors too.
 */
function checkStart({ link, launch }: Start, environment: ProcessState['environment']): void {
  if (launch !== undefined && statDescriptor(launch.fd)?.isSocket !== true) {
    const why = `descriptor ${launch.fd} is not the pipe to the process that started this one`
    throw new CookError('ERR_COOK_ENVIRONMENT', { variable: envLaunch, why })
  }
  if (link === undefined) return
  const broken = (why: string) => new CookError('ERR_COOK_ENVIRONMENT', { variable: envLink, why })
  if (link.predecessor[0] === process.pid) throw broken('it names this process as its own predecessor')
  // Node deletes the variable, so only Linux still shows it, and not to a process that acts as
  // another user than it is. With a launcher between, a predecessor that is gone has no link any
  // more.
  const isShown = environment.NODE_CHANNEL_FD === String(linkFd) || channelDescriptor() === linkFd
  const hasLink = process.platform !== 'linux' || launch !== undefined || isShown
  if (!hasLink) throw broken('no process gave this one a link')
}

/**
 * The launcher or the predecessor, whichever waits for this process, reads why it died, even where
 * stderr is /dev/null. Once it is up, neither listens any more.
 */
function tellWhyItDies(state: ProcessState, { launch, link }: Start): void {
  process.on('uncaughtExceptionMonitor', (error) => {
    const word = wordOf('dying', error)
    const { reason = '' } = word
    if (state.entered !== undefined) state.entered.launch?.tell(word)
    else if (launch !== undefined) tellLauncher(launch.fd, word)
    if (state.tellPredecessor !== undefined) state.tellPredecessor(reason)
    // Nobody has taken up the link yet.
    else if (link !== undefined && launch === undefined) {
      process.send?.(toWire({ type: 'dying', reason }), undefined, undefined, () => {})
    }
  })
}

/**
 * The state of this process for a verb. The first one takes what the environment says out of the
 * sight of other children.
 */
export function enterProcess(verb: string): EnteredState {
  const state = shared[key]
  if (process.platform === 'win32') throw new CookError('ERR_COOK_PLATFORM', { platform: process.platform })
  if (isWorkerThread()) throw new CookError('ERR_COOK_WORKER_THREAD', { verb })
  if (state === undefined) throw new Error('cook-daemon: the state of this process was deleted')
  if (state.version !== version) {
    const values = { mine: version, myUrl: import.meta.url, other: state.version, otherUrl: state.url }
    throw new CookError('ERR_COOK_TWO_COPIES', values)
  }
  if (state.start instanceof CookError) throw state.start
  if (state.environment.NODE_UNIQUE_ID !== undefined && isClusterWorker()) {
    throw new CookError('ERR_COOK_CLUSTER_WORKER', { verb })
  }
  state.entered ??= takeUp(state.start)
  return state as EnteredState
}

function takeUp(start: Start): Entered {
  for (const name of ownVariables) delete process.env[name]
  const generation = start.link?.generation ?? 1
  const isBetween = start.stage === 'parent'
  // Whoever stands between has started this process, and it was not systemd.
  const { handles, doubts } = start.stage === '' ? takeActivation(process.env) : { handles: [], doubts: [] }
  const claims = new Claims(isBetween ? [] : start.link === undefined ? handles : inheritedBy(start.link.handles))
  const launch = isBetween || start.launch === undefined ? undefined : reportTo(start.launch)
  return { start, generation, claims, doubts, ...(launch && { launch }) }
}

function isClusterWorker(): boolean {
  // The types describe the ES module; getBuiltinModule gives what require() gives.
  const cluster = process.getBuiltinModule('node:cluster') as unknown as { readonly isWorker: boolean }
  return cluster.isWorker
}
