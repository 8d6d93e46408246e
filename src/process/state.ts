/** The one state of this library in this process, and the way every verb comes in. */

import {
  envLaunch,
  envLink,
  linkFd,
  ownVariables,
  type ProgramRecord,
  readProgram,
  readStart,
  runName,
  type Start,
  toWire,
} from '../contract/messages.ts'
import { nextPhase, type Phase, type Step } from '../contract/phase.ts'
import { CookError } from '../errors.ts'
import { Claims, Registry } from '../listen/registry.ts'
import { isWorkerThread } from '../node/sockets.ts'
import { type Command, startCommand, startEnvironment } from '../node/system.ts'
import { type Succession, type SuccessionPlan, succeed } from '../upgrade/successor.ts'
import { version } from '../version.ts'
import { type Foreground, foreground } from './foreground.ts'
import { type Launch, reportTo, tellLauncher, wordOf } from './launched.ts'

const { fstatSync, readlinkSync } = process.getBuiltinModule('node:fs')

export type State = {
  readonly version: string
  /** Where this copy was loaded from, for the error about two copies. */
  readonly url: string
  /** What a successor is started with: the start of this process, not its present. */
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly command: Command
  /** What the environment said, or why it cannot be believed. */
  readonly start: Start | CookError
  /** What the command line said of this program, if it started it. */
  readonly program?: ProgramRecord
  readonly registry: Registry
  /** Set by the first verb. */
  entered?: Entered
  phase: Phase
  /** notifyUpgradeDone() was called. */
  notified?: boolean
  /** The generation of the successor that is being started, while an upgrade is in progress. */
  upgradingTo?: number
  /** Reopened for each successor, so that a log that was moved away is left behind. */
  logFile?: string
  /** What writePid() wrote last. */
  pidFile?: string
  /** Where `cook-daemon run` waits. */
  foreground?: Foreground
  /** A successor has taken over: what is named here, a path or a pid file, is its own. */
  hasSuccessor?: boolean
  /** What serves in the place of a program that does not know this library, until that takes it up itself. */
  preload?: Preload
  /** Who takes what the predecessor hands over after the commit; the verbs leave that to the program. */
  receiver?: Receiver
}

/** Of a process in which a verb was called. */
export type EnteredState = State & { readonly entered: Entered }

export type Preload = {
  /** The program calls a verb: what it does from now on is its own. Throws `ERR_COOK_PRELOADED` if that comes too late. */
  stepAside(verb: string): void
  /** The program says that it is up, or why not. Resolves at the commit. */
  ready(ok: boolean, reason: string): Promise<void>
}

export type Receiver = Pick<SuccessionPlan, 'onConnection' | 'onTakeover' | 'onNews' | 'onOverdue'> & {
  /** This process has moved on in its life. */
  onPhase(phase: Phase): void
}

export type Entered = {
  readonly start: Start
  readonly generation: number
  readonly claims: Claims
  /** The upgrade that started this process. */
  readonly succession?: Succession
  /** The process that waits for this daemon to come up. */
  readonly launch?: Launch
}

// Versioned by its shape: a copy that knows another shape looks elsewhere, and is found out by the environment that the first one deleted.
const key = Symbol.for('cook-daemon.state.1')
const shared = globalThis as { [key]?: State }

// At import, before a program can change the environment or its working directory.
shared[key] ??= makeState()

function makeState(): State {
  const environment = startEnvironment()
  let start: Start | CookError
  let program: ProgramRecord | undefined
  try {
    start = readStart(process.env)
    program = readProgram(process.env)
    checkStart(start, environment)
  } catch (error) {
    if (!(error instanceof CookError)) throw error
    // An import does not throw: the first verb does.
    start = error
  }
  const state: State = {
    version,
    get url() {
      return import.meta.url
    },
    environment,
    command: startCommand(environment),
    start,
    ...(program && { program }),
    registry: new Registry(),
    phase: 'ready',
  }
  if (!(start instanceof CookError) && (start.launch ?? start.link) !== undefined) tellWhyItDies(state, start)
  // A process that we started is known to others from its first moment on.
  if (start instanceof CookError || (start.launch ?? start.link ?? program) !== undefined) keepInspectorShut()
  return state
}

/** Variables that were set by hand, or that another process left: whoever wrote them for this process gave it descriptors too. */
function checkStart({ link, launch }: Start, environment: State['environment']): void {
  for (const fd of launch === undefined ? [] : [launch.fd, ...(launch.run === undefined ? [] : [launch.run])]) {
    if (isSocket(fd)) continue
    const why = `descriptor ${fd} is not the pipe to the process that started this one`
    throw new CookError('ERR_COOK_ENVIRONMENT', { variable: envLaunch, why })
  }
  if (link === undefined) return
  const broken = (why: string) => new CookError('ERR_COOK_ENVIRONMENT', { variable: envLink, why })
  if (link.predecessor[0] === process.pid) throw broken('it names this process as its own predecessor')
  // Node deletes the variable, so that only Linux still shows it. With a launcher between, a predecessor that is gone has no link any more.
  const hasLink = process.platform !== 'linux' || launch !== undefined || environment.NODE_CHANNEL_FD === String(linkFd)
  if (!hasLink) throw broken('no process gave this one a link')
}

function isSocket(fd: number): boolean {
  try {
    // A quarter of a millisecond less of each start than the first fstat of a process.
    if (process.platform === 'linux') return readlinkSync(`/proc/self/fd/${fd}`).startsWith('socket:')
    return fstatSync(fd).isSocket()
  } catch {
    // Not open.
    return false
  }
}

let isShut = false

/**
 * From here on SIGUSR1 opens no inspector: Node does that only as long as nobody listens to the signal. Nor does it end the process, when a program takes away its own last listener. Called before
 * anything tells the pid of this process: a pid file, a control socket, the report of a start.
 */
export function keepInspectorShut(): void {
  if (isShut || isWorkerThread()) return
  isShut = true
  process.on('SIGUSR1', () => {})
}

/** Whoever waits for this process reads why it died, even where stderr is /dev/null. Both are deaf once it is up. */
function tellWhyItDies(state: State, { launch }: Start): void {
  process.on('uncaughtExceptionMonitor', (error) => {
    const word = wordOf('dying', error)
    const { reason = '' } = word
    if (state.entered !== undefined) {
      state.entered.launch?.tell(word)
      state.entered.succession?.tellDying(reason)
    }
    // Before the first verb nobody has taken up either yet.
    else if (launch !== undefined) tellLauncher(launch.fd, word)
    else process.send?.(toWire({ type: 'dying', reason }), undefined, undefined, () => {})
  })
}

/**
 * The state of this process for a verb. The first one takes what the environment says out of the sight of other children. One that only asks leaves the preload in charge.
 */
export function enter(verb: string, { isQuestion = false } = {}): EnteredState {
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
  state.entered ??= begin(state, state.start)
  if (!isQuestion) state.preload?.stepAside(verb)
  return state as EnteredState
}

/** The preload of this process, if it still is in charge. */
export function preloadInCharge(): Preload | undefined {
  return shared[key]?.preload
}

function begin(state: State, start: Start): Entered {
  for (const name of ownVariables) delete process.env[name]
  const { stage, link } = start
  const generation = link?.generation ?? 1
  if (stage === 'parent') return { start, generation, claims: new Claims([]) }
  const claims = new Claims(link?.handles ?? [])
  const launch = start.launch && reportTo(start.launch)
  if (link !== undefined) state.phase = 'starting'
  const succession =
    link &&
    succeed(link, {
      released: launch?.released,
      onCommit: () => takeStep(state, 'serve'),
      onConnection: (arrival, socket) => state.receiver?.onConnection(arrival, socket) ?? false,
      onTakeover: (value) => state.receiver?.onTakeover(value),
      onNews: (news) => state.receiver?.onNews(news),
      onOverdue: (predecessor) => state.receiver?.onOverdue(predecessor),
    })
  tellForeground(state, start.launch?.run ?? claims.claimOne(runName, 'file')?.fd, generation)
  return { start, generation, claims, ...(launch && { launch }), ...(succession && { succession }) }
}

/** Under `cook-daemon run`: that process is told who serves and how each ends, since it started the first generation only. */
function tellForeground(state: State, fd: number | undefined, generation: number): void {
  if (fd === undefined) return
  state.registry.addReserved(runName, 'file', fd)
  state.foreground = foreground(fd, generation)
}

/** Moves this process on in its life. */
export function takeStep(state: State, step: Step): void {
  state.phase = nextPhase(state.phase, step)
  if (state.phase === 'ready') state.foreground?.serves()
  state.receiver?.onPhase(state.phase)
}

function isClusterWorker(): boolean {
  // The types describe the ES module; getBuiltinModule gives what require() gives.
  const cluster = process.getBuiltinModule('node:cluster') as unknown as { readonly isWorker: boolean }
  return cluster.isWorker
}
