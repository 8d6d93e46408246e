/** What a process is told by its environment: variables and descriptors. Pure. */
import { CookError } from '../errors.ts'
import { isUser, type UserRecord, variablesOf } from './user.ts'

/**
 * Name of the variable with the stage of the original Go API: `''` in the launcher, `parent`
 * between two daemons, `daemon` in a daemon.
 */
export const ENV_NAME_DAEMON_STAGE = 'COOK_DAEMON_STAGE'
/**
 * Name of the variable with the summary of what was handed over, for people: `listen:1,admin:2`.
 */
export const ENV_NAME_LIVING_UPGRADE = 'COOK_DAEMON_LIVING_UPGRADE'
/** What the library believes: a {@link LinkRecord}. Its presence alone makes a start an upgrade. */
export const envLink = 'COOK_DAEMON_LINK'
/** From the process that starts a `daemon` stage and waits for it: a {@link LaunchRecord}. */
export const envLaunch = 'COOK_DAEMON_LAUNCH'
/**
 * What the command line was told of the program, a {@link ProgramRecord}: handed on to every
 * generation, and before what the program says itself.
 */
export const envProgram = 'COOK_DAEMON_PROGRAM'
/** How many workers the service has, for a program that shares something out among them. */
export const envWorkers = 'COOK_DAEMON_WORKERS'
/** Which of them it is, counted from 0: by the name that PM2 gave it. */
export const envInstance = 'NODE_APP_INSTANCE'
/** From `prove`: which version this is of those that it starts, and the header that tells it. */
export const envProveVersion = 'COOK_DAEMON_PROVE_VERSION'
export const proveHeader = 'cook-daemon-prove-version'
/** The folder of the control sockets; set by people. */
export const envHome = 'COOK_DAEMON_HOME'
/** The same, set by systemd for a unit with RuntimeDirectory=. */
export const envRuntime = 'RUNTIME_DIRECTORY'
/** Milliseconds of a lame duck, where nothing else says it; set by people, as in a manifest. */
export const envLameDuck = 'COOK_DAEMON_LAME_DUCK'
/** How long whoever ends the service waits before it kills, in milliseconds. */
export const envGracePeriod = 'COOK_DAEMON_GRACE_PERIOD'
/** Sockets that systemd has opened for this process, from descriptor 3 on (sd_listen_fds(3)). */
export const envListenPid = 'LISTEN_PID'
export const envListenFds = 'LISTEN_FDS'
export const envListenNames = 'LISTEN_FDNAMES'
export const listenVariables = [envListenPid, envListenFds, envListenNames] as const
/** Where systemd hears how a service is, and how often it wants to (sd_notify(3)). */
export const envNotify = 'NOTIFY_SOCKET'
export const envWatchdog = 'WATCHDOG_USEC'
export const envWatchdogPid = 'WATCHDOG_PID'
/** What systemd says to the main process of a unit alone, and to its ExecReload=. */
export const managerVariables = [...listenVariables, envNotify, envWatchdog, envWatchdogPid, 'MAINPID'] as const

/**
 * Node reads these two at its start; left in an environment they would make a child open a channel
 * that is not its own.
 */
const envNodeChannel = ['NODE_CHANNEL_FD', 'NODE_CHANNEL_SERIALIZATION_MODE']

/** What is said to one process alone. */
const startVariables = [ENV_NAME_DAEMON_STAGE, ENV_NAME_LIVING_UPGRADE, envLink, envLaunch] as const

/** Every variable that must reach no other child of the program. */
export const ownVariables = [...startVariables, envProgram] as const

/**
 * 0 to 2 are /dev/null and the log, 3 is the link, and from 4 come the handles, in order and
 * without a hole.
 */
export const linkFd = 3
export const firstHandleFd = 4

/** A reserved handle, whose name no program can give: the control socket. */
export const controlName = 'cook:control'
/** The listener of the admin port of a service without a keeper. */
export const adminName = 'cook:admin'
/** The pid file of a service that has given up the right to write there by its name. */
export const pidName = 'cook:pid'

export type Stage = '' | 'parent' | 'daemon'

/** Pid and start time: what tells a process from a later one with the same pid. */
export type Identity = readonly [pid: number, startTime: string]

/** A handle as it crosses: its number is its place in the list. */
export type HandleRecord = {
  readonly name: string
  /** What the descriptor is, so that a wrong one is seen before it is used: fstat's inode. */
  readonly inode: number
  /** Length of a listener's queue, where the program has set it. */
  readonly backlog?: number
  /** systemd has opened it, by an address alone: nobody knows yet what the program calls it. */
  readonly isActivated?: boolean
} & HandleShape

export type HandleShape =
  | { readonly kind: 'tcp'; readonly address: string; readonly port: number; readonly family: 'IPv4' | 'IPv6' }
  | ({ readonly kind: 'unix' } & UnixPath)
  | { readonly kind: 'udp'; readonly address: string; readonly port: number; readonly family: 'IPv4' | 'IPv6' }
  | { readonly kind: 'file' }

export type UnixPath = {
  readonly path: string
  /** Device and inode of the file: what stands at the path otherwise is somebody else's. */
  readonly file?: string
  /** The mode that the file had last, for one that is made again. */
  readonly mode?: number
  /** A second name stands beside it, from which it is put back. */
  readonly hasSpare?: boolean
  /** It is systemd's: neither removed nor made again. */
  readonly isActivated?: boolean
}

export type HandleKind = HandleShape['kind']

/**
 * What a process cannot see of its own start: what was typed, with nothing resolved. Each successor
 * follows the symlinks in it again.
 */
export type TypedRecord = {
  readonly execPath: string
  readonly cwd: string
  /** Relative to `cwd`, or absolute; where it is not known, the path in `argv` is as good. */
  readonly script?: string
}

export type LinkRecord = {
  readonly protocol: number
  readonly nonce: string
  readonly generation: number
  readonly predecessor: Identity
  readonly handles: readonly HandleRecord[]
  readonly typed?: TypedRecord
  /** Of a worker: its link is the descriptor behind the handles, and 3 leads to its keeper. */
  readonly keeper?: KeeperRecord
}

export type KeeperRecord = {
  readonly pid: number
  readonly startTime: string
  /** The place of the worker, counted from 0. */
  readonly slot: number
  /**
   * Its predecessor has started it, to hand on what no keeper can hold: 3 is the link then, and the
   * descriptor behind the handles leads to the keeper.
   */
  readonly isBeside?: boolean
  /** How many workers the service has; absent: one. */
  readonly workers?: number
}

/** Of the control socket of a worker, and of its files; no name that a person gives has an @. */
export function workerName(name: string, slot: number): string {
  return `${name}@${slot}`
}

/** Of a start while nobody serves: the keeper plays the predecessor, and has no state to give. */
export function isFirstStart({ predecessor, keeper }: LinkRecord): boolean {
  return keeper !== undefined && keeper.pid === predecessor[0]
}

export type LaunchRecord = {
  /**
   * The descriptor on which the starting process waits for `started`, and with waitReady for
   * `ready`.
   */
  readonly fd: number
  readonly waitReady: boolean
  /** Descriptors that slipped through the launcher and are to be closed. */
  readonly close: readonly number[]
  readonly typed?: TypedRecord
}

/**
 * What the operator said; each generation reads it, so that it goes before what the program says.
 */
export type ProgramRecord = {
  readonly name?: string
  /** For the preload: the program itself says when it is ready. */
  readonly waitReady?: boolean
  /** For the preload: it listens nowhere, and is up at its word or once it has lived a while. */
  readonly noListen?: boolean
  readonly moveConnections?: boolean
  readonly moveTls?: boolean
  readonly moveTlsFor?: number
  readonly readyTimeout?: number
  readonly drainTimeout?: number
  readonly lameDuck?: number
  /** `[HOST:]PORT`, where probes and Prometheus ask. */
  readonly admin?: string
  readonly overlap?: number
  readonly logFile?: string
  readonly pidFile?: string
  /** For the preload, and for one upgrade: listeners that the new version may leave. */
  readonly release?: readonly string[]
  /** Only its first start runs as root, until it is ready. */
  readonly user?: UserRecord
}

export type Start = { readonly stage: Stage; readonly link?: LinkRecord; readonly launch?: LaunchRecord }

/**
 * What the environment says about this start; anything half there, forged or broken throws
 * `ERR_COOK_ENVIRONMENT`.
 */
export function readStart(env: Readonly<Record<string, string | undefined>>): Start {
  const stage = env[ENV_NAME_DAEMON_STAGE] ?? ''
  const [living, linkText, launchText] = [env[ENV_NAME_LIVING_UPGRADE], env[envLink], env[envLaunch]]
  if (stage !== '' && stage !== 'parent' && stage !== 'daemon') {
    throw broken(ENV_NAME_DAEMON_STAGE, `it is ${JSON.stringify(stage)}, not '', 'parent' or 'daemon'`)
  }
  if (linkText === undefined) {
    // Set counts, not what to: in an upgrade without handles it is empty.
    if (living !== undefined) throw broken(ENV_NAME_LIVING_UPGRADE, `it is set, but ${envLink} is missing`)
    if (stage === 'parent') throw broken(ENV_NAME_DAEMON_STAGE, `it is 'parent', but ${envLink} is missing`)
    if (stage === 'daemon' && launchText === undefined) {
      throw broken(ENV_NAME_DAEMON_STAGE, `it is 'daemon', but neither ${envLink} nor ${envLaunch} is set`)
    }
  } else if (stage === '') {
    throw broken(ENV_NAME_DAEMON_STAGE, `it is missing, but ${envLink} is set`)
  }
  if (launchText !== undefined && stage !== 'daemon') {
    throw broken(envLaunch, `it is set, but ${ENV_NAME_DAEMON_STAGE} is not 'daemon'`)
  }
  const link = linkText === undefined ? undefined : parse<LinkRecord>(envLink, linkText, linkFault)
  const launch = launchText === undefined ? undefined : parse<LaunchRecord>(envLaunch, launchText, launchFault)
  if (link !== undefined && living !== summary(link.handles)) {
    throw broken(ENV_NAME_LIVING_UPGRADE, `it does not match ${envLink}`)
  }
  const launchFd = link === undefined ? linkFd : firstHandleFd + link.handles.length
  if (launch !== undefined && launch.fd !== launchFd) {
    throw broken(envLaunch, `it names descriptor ${launch.fd}, but ${envLink} requires ${launchFd}`)
  }
  return { stage, ...(link && { link }), ...(launch && { launch }) }
}

/**
 * The environment of a process that we start: that of our own start, without what was meant for us
 * alone.
 */
export function writeStart(
  env: Readonly<Record<string, string | undefined>>,
  start: Start,
): Record<string, string | undefined> {
  const own: Record<string, string | undefined> = { ...env }
  for (const name of [...startVariables, ...envNodeChannel]) delete own[name]
  own[ENV_NAME_DAEMON_STAGE] = start.stage
  if (start.link !== undefined) {
    own[ENV_NAME_LIVING_UPGRADE] = summary(start.link.handles)
    own[envLink] = JSON.stringify(start.link)
  }
  if (start.launch !== undefined) own[envLaunch] = JSON.stringify(start.launch)
  return own
}

/** What the command line said of this program; broken, it throws `ERR_COOK_ENVIRONMENT`. */
export function readProgram(env: Readonly<Record<string, string | undefined>>): ProgramRecord | undefined {
  const text = env[envProgram]
  return text === undefined ? undefined : parse<ProgramRecord>(envProgram, text, programFault)
}

/** An environment for a program of which the command line says this; undefined: nothing. */
export function writeProgram(
  env: Readonly<Record<string, string | undefined>>,
  program: ProgramRecord | undefined,
): Record<string, string | undefined> {
  const own: Record<string, string | undefined> = { ...env }
  for (const name of [envProgram, ...managerVariables]) delete own[name]
  if (program?.user !== undefined) Object.assign(own, variablesOf(program.user))
  if (program !== undefined) own[envProgram] = JSON.stringify(program)
  return own
}

/** What was given to a process, without what was meant for that one alone. */
export function withoutOwn(
  env: Readonly<Record<string, string | undefined>>,
): Readonly<Record<string, string | undefined>> {
  const own: Record<string, string | undefined> = { ...env }
  for (const name of [...ownVariables, ...envNodeChannel]) delete own[name]
  return own
}

/** `listen:1,admin:2`, names percent-encoded, in descriptor order. */
function summary(handles: readonly HandleRecord[]): string {
  const counts = new Map<string, number>()
  for (const { name } of handles) counts.set(name, (counts.get(name) ?? 0) + 1)
  return [...counts].map(([name, count]) => `${encodeURIComponent(name)}:${count}`).join(',')
}

function broken(variable: string, why: string): CookError {
  return new CookError('ERR_COOK_ENVIRONMENT', { variable, why })
}

function parse<Value>(variable: string, text: string, fault: (value: Fields) => string | undefined): Value {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    throw new CookError('ERR_COOK_ENVIRONMENT', { variable, why: 'it is not JSON' }, { cause })
  }
  const why = isFields(value) ? fault(value) : 'it is not an object'
  if (why !== undefined) throw broken(variable, why)
  // The one cast of what comes from outside: `fault` has just looked at every field.
  return value as Value
}

export type Fields = Readonly<Record<string, unknown>>

export function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

export function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0
}

/** Of a process that says so: it is checked as what comes through the environment. */
export function isLinkRecord(value: unknown): value is LinkRecord {
  return isFields(value) && linkFault(value) === undefined
}

function linkFault(link: Fields): string | undefined {
  if (!isCount(link.protocol) || link.protocol < 1) return 'its protocol is not a version'
  if (typeof link.nonce !== 'string' || link.nonce === '') return 'it has no nonce'
  if (!isIdentity(link.predecessor)) return 'it has no predecessor'
  if (!isKeeper(link.keeper)) return 'its record of the keeper is invalid'
  // The first one of all has a keeper before it.
  const least = isFields(link.keeper) && link.keeper.pid === link.predecessor[0] ? 1 : 2
  if (!isCount(link.generation) || link.generation < least) return `its generation must be ${least} or more`
  if (!Array.isArray(link.handles)) return 'it has no list of handles'
  if (!isTyped(link.typed)) return 'its record of the command is invalid'
  return link.handles.every(isHandleRecord) ? undefined : 'it contains an invalid handle'
}

function isKeeper(keeper: unknown): boolean {
  if (keeper === undefined) return true
  if (!isFields(keeper)) return false
  const { pid, startTime, slot, isBeside, workers = 1 } = keeper
  return isIdentity([pid, startTime]) && isCount(slot) && isFlag(isBeside) && isCount(workers)
}

function isFlag(value: unknown): boolean {
  return value === undefined || typeof value === 'boolean'
}

export function isIdentity(value: unknown): value is Identity {
  return Array.isArray(value) && isCount(value[0]) && value[0] > 0 && typeof value[1] === 'string'
}

export function isHandleRecord(value: unknown): value is HandleRecord {
  if (!isFields(value) || typeof value.name !== 'string' || !isWhole(value.name) || !isCount(value.inode)) return false
  if (!isFlag(value.isActivated)) return false
  if (value.kind === 'unix') {
    const { path, file = '', mode = 0 } = value
    return typeof path === 'string' && typeof file === 'string' && isCount(mode)
  }
  if (value.kind === 'file') return true
  // Of a later version: nobody here can claim it, and it is closed with what is unclaimed.
  if (value.kind !== 'tcp' && value.kind !== 'udp') return typeof value.kind === 'string' && value.kind !== ''
  const isFamily = value.family === 'IPv4' || value.family === 'IPv6'
  return isFamily && typeof value.address === 'string' && isCount(value.port)
}

/** Whether a name can cross: half a character, a lone surrogate, has no percent-encoding. */
export function isWhole(name: string): boolean {
  return name.isWellFormed()
}

function launchFault(launch: Fields): string | undefined {
  if (!isCount(launch.fd) || launch.fd < linkFd) return 'it has no descriptor'
  if (typeof launch.waitReady !== 'boolean') return 'it has no waitReady'
  if (!isTyped(launch.typed)) return 'its record of the command is invalid'
  return Array.isArray(launch.close) && launch.close.every(isCount)
    ? undefined
    : 'it has no list of descriptors to close'
}

export function isTyped(typed: unknown): boolean {
  if (typed === undefined) return true
  if (!isFields(typed)) return false
  const { execPath, cwd, script = '' } = typed
  const isPath = (path: unknown) => typeof path === 'string' && path.startsWith('/')
  return isPath(execPath) && isPath(cwd) && typeof script === 'string'
}

export function isProgramRecord(value: unknown): value is ProgramRecord {
  return isFields(value) && programFault(value) === undefined
}

function programFault(program: Fields): string | undefined {
  const wrong = (names: readonly string[], type: string) =>
    names.find((name) => program[name] !== undefined && typeof program[name] !== type)
  const field =
    wrong(['name', 'logFile', 'pidFile', 'admin'], 'string') ??
    wrong(['waitReady', 'noListen', 'moveConnections', 'moveTls'], 'boolean') ??
    wrong(['readyTimeout', 'drainTimeout', 'moveTlsFor', 'lameDuck', 'overlap'], 'number')
  if (field !== undefined) return `its ${field} has a wrong type`
  const { release = [], user } = program
  if (user !== undefined && !isUser(user)) return 'its user is invalid'
  return Array.isArray(release) && release.every((one) => typeof one === 'string')
    ? undefined
    : 'its release must be a list of names'
}
