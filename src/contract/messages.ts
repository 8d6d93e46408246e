/**
 * The contract between two processes: environment, descriptors, messages, and what each side does at each event.
 * Pure: nothing here touches the system. Old and new may run different versions of this file: add, ignore the unknown,
 * never reuse a meaning. docs/protocol.md tells the same in prose.
 */
import { CookError } from '../errors.ts'

/** Version of this contract. Both sides tell theirs; each ignores what it does not know. */
export const protocolVersion = 2

/** From this version on a successor sends second handles of the listeners back. */
export const protocolOfSpares = 2

/**
 * The oldest version that this library still speaks. Each side compares the other's with its own, so the newer one decides. The words for that never change: `protocol` and
 * `nonce` in the link record, `hello`, `done` with a no, and `refused`.
 */
export const oldestProtocol: number = 1

/** The documents' stage: `''` in the launcher, `parent` in the process between two daemons, `daemon` in a daemon. */
export const ENV_NAME_DAEMON_STAGE = 'COOK_DAEMON_STAGE'
/** The documents' summary of what was handed over, for people: `listen:1,admin:2`. */
export const ENV_NAME_LIVING_UPGRADE = 'COOK_DAEMON_LIVING_UPGRADE'
/** What the library believes: a {@link LinkRecord}. Its presence alone makes a start an upgrade. */
export const envLink = 'COOK_DAEMON_LINK'
/** What the process that started a `daemon` stage and waits for it tells it: a {@link LaunchRecord}. */
export const envLaunch = 'COOK_DAEMON_LAUNCH'
/** What the command line was told of the program, a {@link ProgramRecord}: handed on to every generation, and before what the program says itself. */
export const envProgram = 'COOK_DAEMON_PROGRAM'
/** The folder of the control sockets; set by people. */
export const envHome = 'COOK_DAEMON_HOME'

/** Node reads these two at its start; left in an environment they would make a child open a channel that is not its own. */
const envNodeChannel = ['NODE_CHANNEL_FD', 'NODE_CHANNEL_SERIALIZATION_MODE']

/** What is said to one process alone. */
const startVariables = [ENV_NAME_DAEMON_STAGE, ENV_NAME_LIVING_UPGRADE, envLink, envLaunch] as const

/** Every variable that must reach no other child of the program. */
export const ownVariables = [...startVariables, envProgram] as const

/** 0 to 2 are /dev/null and the log, 3 is the link, and from 4 come the handles, in order and without a hole. */
export const linkFd = 3
export const firstHandleFd = 4

/** Reserved handles, whose names no program can give: the control socket, and the pipe to the waiting process of `cook-daemon run`. */
export const controlName = 'cook:control'
export const runName = 'cook:run'

/** A reason is cut at this many bytes: on Node 26 a message of 200 KB before process.exit() was lost 14 times of 15. */
const reasonLimit = 8 * 1024

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
} & HandleShape

export type HandleShape =
  | { readonly kind: 'tcp'; readonly address: string; readonly port: number; readonly family: 'IPv4' | 'IPv6' }
  | { readonly kind: 'unix'; readonly path: string }
  | { readonly kind: 'udp'; readonly address: string; readonly port: number; readonly family: 'IPv4' | 'IPv6' }
  | { readonly kind: 'file' }

export type HandleKind = HandleShape['kind']

export type LinkRecord = {
  readonly protocol: number
  readonly nonce: string
  readonly generation: number
  readonly predecessor: Identity
  readonly handles: readonly HandleRecord[]
}

export type LaunchRecord = {
  /** The descriptor on which the starting process waits for `started`, and with waitReady for `ready`. */
  readonly fd: number
  readonly waitReady: boolean
  /** Descriptors that slipped through the launcher and are to be closed. */
  readonly close: readonly number[]
  /** The descriptor of the pipe to a process that waits in the foreground for the end of the last generation. */
  readonly run?: number
}

/** What the operator said; each generation reads it, so that it goes before what the program says. */
export type ProgramRecord = {
  readonly protocol: number
  readonly name?: string
  /** For the preload: the program itself says when it is ready. */
  readonly waitReady?: boolean
  readonly handOver?: boolean
  readonly readyTimeout?: number
  readonly drainTimeout?: number
  readonly overlap?: number
  readonly logFile?: string
  readonly pidFile?: string
  /** For the preload, and for one upgrade: listeners that the new version may leave. */
  readonly release?: readonly string[]
}

export type Start = { readonly stage: Stage; readonly link?: LinkRecord; readonly launch?: LaunchRecord }

/** What the environment says about this start; anything half there, forged or broken throws `ERR_COOK_ENVIRONMENT`. */
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
    throw broken(ENV_NAME_LIVING_UPGRADE, `it does not say the same as ${envLink}`)
  }
  const launchFd = link === undefined ? linkFd : firstHandleFd + link.handles.length
  if (launch !== undefined && launch.fd !== launchFd) {
    throw broken(envLaunch, `it names descriptor ${launch.fd}, and by ${envLink} it is ${launchFd}`)
  }
  return { stage, ...(link && { link }), ...(launch && { launch }) }
}

/** The environment of a process that we start: that of our own start, without what was meant for us alone. */
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
  delete own[envProgram]
  if (program !== undefined) own[envProgram] = JSON.stringify(program)
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
    throw new CookError('ERR_COOK_ENVIRONMENT', { variable, why: 'it is no JSON' }, { cause })
  }
  const why = isFields(value) ? fault(value) : 'it is no object'
  if (why !== undefined) throw broken(variable, why)
  // The one cast of what comes from outside: `fault` has just looked at every field.
  return value as Value
}

type Fields = Readonly<Record<string, unknown>>

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

export function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0
}

function linkFault(link: Fields): string | undefined {
  if (!isCount(link.protocol) || link.protocol < 1) return 'its protocol is no version'
  if (typeof link.nonce !== 'string' || link.nonce === '') return 'it has no nonce'
  if (!isCount(link.generation) || link.generation < 2) return 'its generation is not that of a successor'
  if (!isIdentity(link.predecessor)) return 'it names no predecessor'
  if (!Array.isArray(link.handles)) return 'it lists no handles'
  return link.handles.every(isHandleRecord) ? undefined : 'it has a handle that is none'
}

export function isIdentity(value: unknown): value is Identity {
  return Array.isArray(value) && isCount(value[0]) && value[0] > 0 && typeof value[1] === 'string'
}

function isHandleRecord(value: unknown): value is HandleRecord {
  if (!isFields(value) || typeof value.name !== 'string' || !isWhole(value.name) || !isCount(value.inode)) return false
  if (value.kind === 'unix') return typeof value.path === 'string'
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
  if (!isCount(launch.fd) || launch.fd < linkFd) return 'it names no descriptor'
  if (typeof launch.waitReady !== 'boolean') return 'it does not say what is waited for'
  if (launch.run !== undefined && launch.run !== launch.fd + 1)
    return 'its descriptor of the foreground is not the next'
  return Array.isArray(launch.close) && launch.close.every(isCount) ? undefined : 'it lists no descriptors to close'
}

function programFault(program: Fields): string | undefined {
  if (!isCount(program.protocol) || program.protocol < 1) return 'its protocol is no version'
  const wrong = (names: readonly string[], type: string) =>
    names.find((name) => program[name] !== undefined && typeof program[name] !== type)
  const field =
    wrong(['name', 'logFile', 'pidFile'], 'string') ??
    wrong(['waitReady', 'handOver'], 'boolean') ??
    wrong(['readyTimeout', 'drainTimeout', 'overlap'], 'number')
  if (field !== undefined) return `its ${field} is of a wrong type`
  const { release = [] } = program
  return Array.isArray(release) && release.every((one) => typeof one === 'string')
    ? undefined
    : 'its release is no list'
}

/** Why the version at the other end cannot be spoken with any more, in words that both sides tell; undefined if it can. */
function tooOld(other: 'old' | 'new', protocol: number): string | undefined {
  if (protocol >= oldestProtocol) return undefined
  const spoken = oldestProtocol === protocolVersion ? `${protocolVersion}` : `${oldestProtocol} to ${protocolVersion}`
  const self = other === 'old' ? 'new' : 'old'
  return `the ${other} version speaks protocol ${protocol} of cook-daemon and the ${self} one ${spoken}: deploy a version between the two first, or stop the service and start it`
}

// ---------------------------------------------------------------------------------------------- messages on the link

/** From the new version to the old one. */
export type Upward =
  /** From a `parent` stage: the daemon that it started, so that a timeout can end that too. */
  | { readonly type: 'spawned'; readonly pid: number; readonly startTime: string }
  /** Whoever it is that came to speak, for a kill: not always the process that was started. */
  | {
      readonly type: 'hello'
      readonly protocol: number
      readonly nonce: string
      readonly pid: number
      readonly startTime: string
    }
  /** How it came to its end, while it still can tell: an uncaught exception, or what a `parent` stage saw of its daemon. */
  | { readonly type: 'dying'; readonly reason: string }
  /** What it still waits for before it says that it is up, for the words of a timeout; empty: nothing any more. */
  | { readonly type: 'waits'; readonly reason: string }
  /** A value of the predecessor's saveState hook is wanted, before `done`. */
  | { readonly type: 'ask'; readonly name: string }
  | { readonly type: 'done'; readonly ok: boolean; readonly reason: string }
  /** The answer to `accepted`: the new version has taken over, and only now the old one leaves. */
  | { readonly type: 'confirmed' }
  /** A live connection is kept here, and so are those before it that have no answer yet; or, `isKept` false, nobody here wanted it, and it was closed. */
  | { readonly type: 'taken'; readonly id: number; readonly isKept: boolean }
  /** The service ends: no connection is taken any more, what is idle goes now, and when the link ends the rest does. */
  | { readonly type: 'stop' }
  /** Which second handles of the predecessor's listeners follow, by its names of them: with these it can take the service back. */
  | { readonly type: 'spares'; readonly names: readonly string[] }
  | { readonly type: 'spare'; readonly name: string }
  /** The sender starts a successor of its own, which takes the service if the sender dies; or, `isOn` false, that has failed. */
  | { readonly type: 'replacing'; readonly isOn: boolean }

/** From the old version to the new one. */
export type Downward =
  /** All generations alive, oldest first, the sender last: none of them is a stranger to the pid file. */
  | {
      readonly type: 'welcome'
      readonly protocol: number
      readonly living: readonly Identity[]
      /** TLS ticket keys by handle name, base64, to be set before the successor accepts. */
      readonly tickets?: Readonly<Record<string, string>>
      /** How long both accept before the commit, in milliseconds: the successor from its yes on. Absent: it accepts from the commit on. */
      readonly overlap?: number
    }
  /** A piece of what was asked for, or of what onRelease returned: v8.serialize bytes, base64; several pieces make one value. */
  | {
      readonly type: 'value'
      readonly name: string
      readonly version: number
      readonly part: string
      readonly isLast: boolean
      /** Set instead: why there is no value. */
      readonly fault?: string
      /** Set instead: there is none of that name, but of these. */
      readonly names?: readonly string[]
    }
  /** With the time that the old version's drain may take, in milliseconds: when much more has passed it stands still. Such a one takes the service back if it must. */
  | { readonly type: 'accepted'; readonly drainTimeout?: number }
  /**
   * A live connection comes with this message, for the server or the program's own protocol of that name, in the second case with the listener that accepted
   * it; `unread`, base64, is what had been read of it and was given to nobody.
   */
  | {
      readonly type: 'connection'
      readonly id: number
      readonly to: string
      readonly listener?: string | undefined
      readonly state?: string | undefined
      readonly unread?: string | undefined
    }
  | { readonly type: 'refused'; readonly reason: string }
  /** After the commit, each second of the drain and at its end: what the new version shows of the generations before it. */
  | ({ readonly type: 'news' } & News)
  /** The old version needs the link no more. */
  | { readonly type: 'bye' }

export type Message = Upward | Downward

/** What a service has behind it, told from generation to generation. */
export type News = {
  /** Those that drain, oldest first, the sender last. */
  readonly generations: readonly GenerationRecord[]
  /** Upgrades so far, by outcome. */
  readonly upgrades: UpgradeCounts
  readonly last?: LastUpgrade
}

export type UpgradeCounts = { readonly succeeded: number; readonly failed: number }

export type GenerationRecord = {
  readonly generation: number
  readonly pid: number
  readonly startTime: string
  readonly phase: string
  /** Open now. */
  readonly connections: number
  /** Resident memory in bytes. */
  readonly memory: number
}

export type LastUpgrade = {
  readonly outcome: 'succeeded' | 'failed'
  /** The generation that it made, or would have. */
  readonly generation: number
  /** When it ended, in milliseconds since the epoch. */
  readonly at: number
  /** From its start to its commit or failure, in seconds. */
  readonly seconds: number
  /** Of one that failed: the code of its error. */
  readonly code?: string
  /** What became of the connections of the old version; there when it has drained. */
  readonly connections?: ConnectionCounts
}

export type ConnectionCounts = {
  readonly handedOver: number
  readonly served: number
  readonly closed: number
  readonly cut: number
}

/** The value that the predecessor's onRelease returned; the names of states that a program gives do not begin so. */
export const takeoverName = 'cook:takeover'

/** Node keeps messages whose `cmd` begins with NODE_ away from the program's own listeners (they are `internalMessage`). */
const cmd = 'NODE_COOK'

export function toWire(message: Message): { readonly cmd: string } & Message {
  return { cmd, ...message }
}

/** What came over the link: one of our messages, `unknown` if it is none of ours or of a later version, `broken` if it is wrong. */
export function fromWire(raw: unknown): Message | 'unknown' | 'broken' {
  if (!isFields(raw) || raw.cmd !== cmd) return 'unknown'
  switch (raw.type) {
    case 'spawned':
      return isIdentity([raw.pid, raw.startTime])
        ? { type: 'spawned', pid: Number(raw.pid), startTime: String(raw.startTime) }
        : 'broken'
    case 'hello':
      return isCount(raw.protocol) && typeof raw.nonce === 'string' && isIdentity([raw.pid, raw.startTime])
        ? {
            type: 'hello',
            protocol: raw.protocol,
            nonce: raw.nonce,
            pid: Number(raw.pid),
            startTime: String(raw.startTime),
          }
        : 'broken'
    case 'dying':
      return typeof raw.reason === 'string' ? { type: 'dying', reason: cutReason(raw.reason) } : 'broken'
    case 'waits':
      return typeof raw.reason === 'string' ? { type: 'waits', reason: cutReason(raw.reason) } : 'broken'
    case 'ask':
      return typeof raw.name === 'string' ? { type: 'ask', name: raw.name } : 'broken'
    case 'taken':
      return isCount(raw.id) && typeof raw.isKept === 'boolean'
        ? { type: 'taken', id: raw.id, isKept: raw.isKept }
        : 'broken'
    case 'value':
      return typeof raw.name === 'string' && isCount(raw.version) && typeof raw.part === 'string'
        ? {
            type: 'value',
            name: raw.name,
            version: raw.version,
            part: raw.part,
            isLast: raw.isLast === true,
            ...(typeof raw.fault === 'string' && { fault: cutReason(raw.fault) }),
            ...(Array.isArray(raw.names) && { names: raw.names.filter((name) => typeof name === 'string') }),
          }
        : 'broken'
    case 'connection':
      return isCount(raw.id) && typeof raw.to === 'string'
        ? {
            type: 'connection',
            id: raw.id,
            to: raw.to,
            ...(typeof raw.listener === 'string' && { listener: raw.listener }),
            ...(typeof raw.state === 'string' && { state: raw.state }),
            ...(typeof raw.unread === 'string' && { unread: raw.unread }),
          }
        : 'broken'
    case 'done':
      return typeof raw.ok === 'boolean' && typeof raw.reason === 'string'
        ? { type: 'done', ok: raw.ok, reason: cutReason(raw.reason) }
        : 'broken'
    case 'welcome':
      return isCount(raw.protocol) && Array.isArray(raw.living) && raw.living.every(isIdentity)
        ? {
            type: 'welcome',
            protocol: raw.protocol,
            living: raw.living,
            ...(isFields(raw.tickets) && { tickets: stringsOf(raw.tickets) }),
            ...(typeof raw.overlap === 'number' && { overlap: raw.overlap }),
          }
        : 'broken'
    case 'refused':
      return typeof raw.reason === 'string' ? { type: 'refused', reason: cutReason(raw.reason) } : 'broken'
    case 'news':
      return newsOf(raw) ?? 'broken'
    case 'spares':
      return Array.isArray(raw.names) ? { type: 'spares', names: raw.names.map(String) } : 'broken'
    case 'spare':
      return typeof raw.name === 'string' ? { type: 'spare', name: raw.name } : 'broken'
    case 'replacing':
      return typeof raw.isOn === 'boolean' ? { type: 'replacing', isOn: raw.isOn } : 'broken'
    case 'accepted':
      return { type: 'accepted', ...(isCount(raw.drainTimeout) && { drainTimeout: raw.drainTimeout }) }
    case 'confirmed':
    case 'stop':
    case 'bye':
      return { type: raw.type }
    default:
      return 'unknown'
  }
}

function newsOf({ generations, upgrades, last }: Fields): Extract<Message, { type: 'news' }> | undefined {
  if (!Array.isArray(generations) || !generations.every(isGenerationRecord)) return undefined
  if (!isFields(upgrades) || !isCount(upgrades.succeeded) || !isCount(upgrades.failed)) return undefined
  return {
    type: 'news',
    generations,
    upgrades: { succeeded: upgrades.succeeded, failed: upgrades.failed },
    ...(isLastUpgrade(last) && { last }),
  }
}

function isGenerationRecord(value: unknown): value is GenerationRecord {
  if (!isFields(value) || typeof value.phase !== 'string' || !isIdentity([value.pid, value.startTime])) return false
  return [value.generation, value.connections, value.memory].every(isCount)
}

function isLastUpgrade(value: unknown): value is LastUpgrade {
  if (!isFields(value) || (value.outcome !== 'succeeded' && value.outcome !== 'failed')) return false
  if (typeof value.at !== 'number' || typeof value.seconds !== 'number' || !isCount(value.generation)) return false
  const { code, connections } = value
  if (code !== undefined && typeof code !== 'string') return false
  if (connections === undefined) return true
  if (!isFields(connections)) return false
  return [connections.handedOver, connections.served, connections.closed, connections.cut].every(isCount)
}

function stringsOf(value: unknown): Readonly<Record<string, string>> {
  const entries = isFields(value) ? Object.entries(value) : []
  return Object.fromEntries(entries.filter((entry): entry is [string, string] => typeof entry[1] === 'string'))
}

/** At most 8 KiB of it, cut between two characters. */
export function cutReason(reason: string): string {
  const bytes = new TextEncoder().encode(reason)
  if (bytes.length <= reasonLimit) return reason
  return new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes.subarray(0, reasonLimit - 4), { stream: true })
}

// ------------------------------------------------------------------------------------------------ the old one's side

/** Why an upgrade failed, before it is put into words. */
export type Failure =
  | { readonly why: 'exited' }
  | { readonly why: 'said-no'; readonly reason: string }
  | { readonly why: 'timeout'; readonly step: string; readonly ms: number }
  | { readonly why: 'broken'; readonly detail: string }
  | { readonly why: 'protocol'; readonly protocol: number; readonly reason: string }
  | { readonly why: 'stopped' }

export type Exit = { readonly code: number | null; readonly signal: string | null }

/** How long a successor that said no, or that was killed, may take to be gone, in milliseconds; then it is killed, or left to the kernel. */
export const endGrace = 2_000

/** The predecessor's end of one upgrade. */
export type OldSide = {
  readonly at: 'waiting' | 'greeted' | 'overlapping' | 'offered' | 'committed' | 'ending' | 'failed'
  readonly stage: 'parent' | 'daemon'
  readonly nonce: string
  readonly living: readonly Identity[]
  readonly tickets: Readonly<Record<string, string>>
  readonly readyTimeout: number
  readonly overlap: number
  /** Undefined with the verbs, whose programs drain themselves. */
  readonly drainTimeout?: number
  /** Who said hello, and the version of the contract that it speaks. */
  readonly successor?: { readonly identity: Identity; readonly protocol: number }
  /** Processes of the new version that are told of on the link: the one that we started may be none of them. */
  readonly known: readonly Identity[]
  /** What the new version told of its end. */
  readonly dying?: string
  /** What it said that it still waits for. */
  readonly waits?: string
  /** The end of the process that we started ourselves. */
  readonly exit?: Exit
  /** End-of-file: no process holds the other end any more. */
  readonly closed: boolean
  readonly killed: boolean
  readonly failure?: Failure
}

export type OldEvent =
  | { readonly type: 'message'; readonly message: Message | 'unknown' | 'broken' }
  | { readonly type: 'exit'; readonly exit: Exit }
  | { readonly type: 'closed' }
  | { readonly type: 'broken'; readonly detail: string }
  | { readonly type: 'timer' }
  | { readonly type: 'stop' }

export type OldEffect =
  | { readonly do: 'send'; readonly message: Downward }
  /** Sets the one timer; it takes the place of the one before. */
  | { readonly do: 'timer'; readonly ms: number }
  /** SIGKILL for every process of the new version that we know. */
  | { readonly do: 'kill' }
  /** Ask the saveState hook and send what it gives. */
  | { readonly do: 'save'; readonly name: string }
  /** Both accept for a while. */
  | { readonly do: 'overlap' }
  | { readonly do: 'commit' }
  | { readonly do: 'fail' }

/** The state after the spawn, with its first timer: {@link OldSide.readyTimeout}. */
export function oldSide(
  settings: Pick<OldSide, 'stage' | 'nonce' | 'living' | 'readyTimeout' | 'overlap'> &
    Partial<Pick<OldSide, 'tickets' | 'drainTimeout'>>,
): OldSide {
  return { tickets: {}, ...settings, at: 'waiting', known: [], closed: false, killed: false }
}

/** One event on the predecessor's side. */
export function stepOld(state: OldSide, event: OldEvent): readonly [OldSide, readonly OldEffect[]] {
  if (state.at === 'committed' || state.at === 'failed') return [state, []]
  switch (event.type) {
    case 'message':
      return onMessage(state, event.message)
    case 'exit': {
      const next = { ...state, exit: event.exit }
      // The end of a `parent` stage says nothing: it exits in a good upgrade too.
      return state.at !== 'ending' && state.stage === 'daemon' ? end(next, { why: 'exited' }) : finish(next)
    }
    case 'closed': {
      const next = { ...state, closed: true }
      return state.at === 'ending' ? finish(next) : end(next, { why: 'exited' })
    }
    case 'broken':
      return end(state, { why: 'broken', detail: event.detail })
    case 'stop':
      // Once offered, the service may be taken already: the answer is a moment away and decides.
      return state.at === 'offered' ? [state, []] : end(state, { why: 'stopped' })
    case 'timer':
      return onTimer(state)
  }
}

function onMessage(state: OldSide, message: Message | 'unknown' | 'broken'): readonly [OldSide, readonly OldEffect[]] {
  if (message === 'unknown') return [state, []]
  if (state.at === 'ending') return lastWord(state, message)
  if (message === 'broken') return end(state, { why: 'broken', detail: 'a message that is none' })
  switch (message.type) {
    case 'spawned':
      return [know(state, message), []]
    case 'dying':
      return [{ ...state, dying: message.reason }, []]
    case 'waits':
      return [{ ...state, waits: message.reason }, []]
    case 'hello': {
      if (state.at !== 'waiting') return end(state, { why: 'broken', detail: 'a second hello' })
      if (message.nonce !== state.nonce) return end(state, { why: 'broken', detail: 'a hello with a wrong nonce' })
      const reason = tooOld('new', message.protocol)
      if (reason !== undefined) {
        return end(know(state, message), {
          why: 'protocol',
          protocol: message.protocol,
          reason,
        })
      }
      return [
        {
          ...know(state, message),
          at: 'greeted',
          successor: { identity: [message.pid, message.startTime], protocol: message.protocol },
        },
        [
          {
            do: 'send',
            message: {
              type: 'welcome',
              protocol: protocolVersion,
              living: state.living,
              tickets: state.tickets,
              ...(state.overlap > 0 && { overlap: state.overlap }),
            },
          },
        ],
      ]
    }
    case 'done':
      if (state.at !== 'greeted') return end(state, { why: 'broken', detail: 'a done without a hello' })
      if (!message.ok) return end(state, { why: 'said-no', reason: message.reason })
      return state.overlap > 0
        ? [{ ...state, at: 'overlapping' }, [{ do: 'overlap' }, { do: 'timer', ms: state.overlap }]]
        : offer(state)
    case 'ask':
      if (state.at !== 'greeted') return end(state, { why: 'broken', detail: 'a question for state without a hello' })
      return [state, [{ do: 'save', name: message.name }]]
    case 'confirmed':
      if (state.at !== 'offered') return end(state, { why: 'broken', detail: 'a confirmation of nothing' })
      return [{ ...state, at: 'committed' }, [{ do: 'commit' }]]
    default:
      return end(state, { why: 'broken', detail: `a message ${message.type} out of place` })
  }
}

function know(state: OldSide, { pid, startTime }: { readonly pid: number; readonly startTime: string }): OldSide {
  const isKnown = state.known.some(([one, started]) => one === pid && started === startTime)
  return isKnown ? state : { ...state, known: [...state.known, [pid, startTime]] }
}

/** What still comes from a new version that has failed. */
function lastWord(state: OldSide, message: Message | 'broken'): readonly [OldSide, readonly OldEffect[]] {
  if (message === 'broken') return [state, []]
  // Started in the moment in which we killed the others; it can have read no `refused`.
  if (message.type === 'spawned' || (message.type === 'hello' && message.nonce === state.nonce)) {
    return [know(state, message), state.killed ? [{ do: 'kill' }] : []]
  }
  // The exit of a process is often seen before what it wrote last: that says better why it ended.
  if (state.failure?.why !== 'exited') return [state, []]
  if (message.type === 'dying') return [{ ...state, dying: message.reason }, []]
  if (message.type !== 'done' || message.ok) return [state, []]
  return [{ ...state, failure: { why: 'said-no', reason: message.reason } }, []]
}

/** `done` is answered; the commit waits for the answer to that, so that a successor which dies after its `done` costs nothing. */
function offer(state: OldSide): readonly [OldSide, readonly OldEffect[]] {
  return [
    { ...state, at: 'offered' },
    [
      {
        do: 'send',
        message: { type: 'accepted', ...(state.drainTimeout !== undefined && { drainTimeout: state.drainTimeout }) },
      },
      { do: 'timer', ms: state.readyTimeout },
    ],
  ]
}

function onTimer(state: OldSide): readonly [OldSide, readonly OldEffect[]] {
  if (state.at === 'overlapping') return offer(state)
  if (state.at === 'ending') {
    return state.killed
      ? [{ ...state, at: 'failed' }, [{ do: 'fail' }]]
      : [{ ...state, killed: true }, [{ do: 'kill' }, { do: 'timer', ms: endGrace }]]
  }
  const step = {
    waiting: 'it never said hello',
    greeted: 'it said hello, but not that it is up',
    offered: 'it was accepted, but did not confirm',
  }
  return end(state, { why: 'timeout', step: step[state.at as keyof typeof step], ms: state.readyTimeout })
}

/** The upgrade has failed: tell the other side, see that it ends, and only then report. */
function end(state: OldSide, failure: Failure): readonly [OldSide, readonly OldEffect[]] {
  if (state.at === 'ending') return finish(state)
  // Who said no, or hears one, may still write its log and go; who closed the link is most likely dying: its exit is awaited.
  const kill = failure.why !== 'said-no' && failure.why !== 'exited' && failure.why !== 'protocol'
  const [next, effects] = finish({ ...state, at: 'ending', failure, killed: kill })
  if (next.at === 'failed') return [next, effects]
  const reason = {
    exited: 'it ended',
    'said-no': 'it said no',
    timeout: 'it was too late',
    broken: 'the link broke',
    protocol: failure.why === 'protocol' ? failure.reason : '',
    stopped: 'the upgrade was stopped',
  }
  return [
    next,
    [
      { do: 'send', message: { type: 'refused', reason: reason[failure.why] } },
      ...(kill ? [{ do: 'kill' } as const] : []),
      { do: 'timer', ms: endGrace },
    ],
  ]
}

/** Ends a failed upgrade once the process that we started is reaped and nobody holds the link. */
function finish(state: OldSide): readonly [OldSide, readonly OldEffect[]] {
  if (state.at !== 'ending' || state.exit === undefined || !state.closed) return [state, []]
  return [{ ...state, at: 'failed' }, [{ do: 'fail' }]]
}

// ------------------------------------------------------------------------------------------------ the new one's side

/** The successor's end of the upgrade that started it. */
export type NewSide = {
  readonly at: 'silent' | 'greeting' | 'welcomed' | 'asking' | 'accepted' | 'refused' | 'free'
  readonly nonce: string
  readonly self: Identity
  /** That of the predecessor. */
  readonly protocol: number
  /** What the program said, which may be before the predecessor's welcome came. */
  readonly answer?: { readonly ok: boolean; readonly reason: string }
}

export type NewEvent =
  /** The process that started us reads the link no more: hello may be said. */
  | { readonly type: 'go' }
  | { readonly type: 'notify'; readonly ok: boolean; readonly reason: string }
  | { readonly type: 'message'; readonly message: Message | 'unknown' | 'broken' }
  | { readonly type: 'closed' }
  /** The answer to the effect `look`. */
  | { readonly type: 'looked'; readonly predecessorLives: boolean }

export type NewEffect =
  | { readonly do: 'send'; readonly message: Upward }
  /** We own the service from here on. */
  | { readonly do: 'commit' }
  | { readonly do: 'refuse'; readonly reason: string; readonly isTooOld?: boolean }
  /** Find out whether the predecessor lives: an end-of-file alone does not tell. */
  | { readonly do: 'look' }
  | { readonly do: 'close' }

/** The state before anything was said. */
export function newSide(nonce: string, self: Identity, protocol: number = protocolVersion): NewSide {
  return { at: 'silent', nonce, self, protocol }
}

/** One event on the successor's side. */
export function stepNew(state: NewSide, event: NewEvent): readonly [NewSide, readonly NewEffect[]] {
  const decided = state.at === 'accepted' || state.at === 'refused' || state.at === 'free'
  switch (event.type) {
    case 'go': {
      if (state.at !== 'silent') return [state, []]
      const { nonce, self } = state
      const hello = { type: 'hello', protocol: protocolVersion, nonce, pid: self[0], startTime: self[1] } as const
      const reason = tooOld('old', state.protocol)
      if (reason === undefined) return [{ ...state, at: 'greeting' }, [{ do: 'send', message: hello }]]
      // The program does not come to say it: this predecessor hears no but in these two words. It closes the link.
      const no = { type: 'done', ok: false, reason } as const
      const refusal = { do: 'refuse', reason, isTooOld: true } as const
      return [{ ...state, at: 'refused' }, [{ do: 'send', message: hello }, { do: 'send', message: no }, refusal]]
    }
    case 'notify': {
      const next = { ...state, answer: { ok: event.ok, reason: cutReason(event.reason) } }
      return state.at === 'welcomed' ? ask(next) : [next, []]
    }
    case 'closed':
      if (state.at === 'accepted') return [{ ...state, at: 'free' }, [{ do: 'close' }]]
      return decided ? [state, []] : [state, [{ do: 'look' }]]
    case 'looked':
      if (decided) return [state, []]
      return event.predecessorLives
        ? refuse(state, 'it closed the link without a word')
        : [{ ...state, at: 'free' }, [{ do: 'commit' }, { do: 'close' }]]
    case 'message':
      return decided && state.at !== 'accepted' ? [state, []] : onAnswer(state, event.message)
  }
}

function onAnswer(state: NewSide, message: Message | 'unknown' | 'broken'): readonly [NewSide, readonly NewEffect[]] {
  if (message === 'unknown') return [state, []]
  if (message === 'broken')
    return state.at === 'accepted' ? [state, []] : refuse(state, 'it sent a message that is none')
  switch (message.type) {
    case 'welcome':
      if (state.at !== 'greeting') return [state, []]
      return state.answer === undefined ? [{ ...state, at: 'welcomed' }, []] : ask(state)
    case 'accepted':
      if (state.at !== 'asking') return [state, []]
      return [{ ...state, at: 'accepted' }, [{ do: 'send', message: { type: 'confirmed' } }, { do: 'commit' }]]
    case 'refused':
      return state.at === 'accepted' ? [state, []] : refuse(state, message.reason)
    case 'bye':
      return state.at === 'accepted' ? [{ ...state, at: 'free' }, [{ do: 'close' }]] : [state, []]
    default:
      return [state, []]
  }
}

function ask(state: NewSide): readonly [NewSide, readonly NewEffect[]] {
  const { ok = true, reason = '' } = state.answer ?? {}
  return [{ ...state, at: 'asking' }, [{ do: 'send', message: { type: 'done', ok, reason } }]]
}

function refuse(state: NewSide, reason: string): readonly [NewSide, readonly NewEffect[]] {
  return [{ ...state, at: 'refused' }, [{ do: 'refuse', reason }, { do: 'close' }]]
}
