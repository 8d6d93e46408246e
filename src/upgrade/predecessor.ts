/** The old process's end of an upgrade: starts the new version, and returns at the commit. */
import type { ChildProcess } from 'node:child_process'
import { type Identity, type LinkRecord, type TypedRecord, writeStart } from '../contract/environment.ts'
import { type OldSide, oldSide } from '../contract/old-side.ts'
import { protocolVersion } from '../contract/protocol.ts'
import { CookError, messageOf } from '../errors.ts'
import { identityOfChild } from '../node/sessions.ts'
import { type Command, identify, isAlive, system } from '../node/system.ts'
import { type DaemonOptions, defaults, type UpgradePhases, withoutUndefined } from '../options.ts'
import { typedOf } from '../process/command.ts'
import type { Packed } from '../process/handles.ts'
import { exitWords, spawned, spawnFault } from '../process/launcher.ts'
import { lastWords, linesSince, markLog } from '../process/log.ts'
import type { Service, StopReason } from '../service.ts'
import type { Value } from '../service-parts.ts'
import { sendValue } from './cloned-values.ts'
import { type Conversation, converse, type OnStep, type Partner } from './conversation.ts'
import { keeperLineOf } from './keeper-line.ts'
import { type Link, openLink } from './link.ts'

/** How the new version is started. */
export type NewVersion = {
  readonly stage: 'parent' | 'daemon'
  readonly command: Command
  /** What was typed, where the command is not that. */
  readonly typed?: TypedRecord | undefined
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly generation: number
  readonly handles: readonly Packed[]
  /** Descriptor for its stdout and stderr; undefined: our own. */
  readonly output: number | undefined
  readonly readyTimeout: number
  readonly overlap: number
  /** Undefined in the original API, whose programs drain themselves. */
  readonly drainTimeout: number | undefined
  readonly signal: AbortSignal
  /** TLS ticket keys by handle name, base64. */
  readonly tickets: Readonly<Record<string, string>>
  /** One of several workers, which waits for the others. */
  readonly isHeld: boolean
}

/** What follows the commit begins with this: the successor, and the link to it, still open. */
export type Committed = {
  readonly identity: Identity
  readonly generation: number
  readonly phases: UpgradePhases
  /** Names of what it was handed, but for what it has left to us. */
  readonly handed: ReadonlySet<string>
  /** Names of listeners that it has left to us: we serve them until the program closes them. */
  readonly left: ReadonlySet<string>
  /** It takes TLS connections, sealed for this key. */
  readonly tlsKey?: string | undefined
} & Pick<Conversation, 'link' | 'hear'>

/**
 * Resolves at the commit. Rejects with a `CookError`, and then nothing of the new version runs any
 * more.
 */
export async function startSuccessor(service: Service, version: NewVersion, onStep: OnStep): Promise<Committed> {
  const nonce = process.getBuiltinModule('node:crypto').randomBytes(16).toString('hex')
  const mark = markLog(version.output ?? 2)
  const called = performance.now()
  const partner = await startPartner(service, version, nonce)
  const [pid] = partner.identity
  const started = performance.now()
  onStep('started')
  const older = service.predecessor?.living ?? []
  const { stage, readyTimeout, overlap, drainTimeout, tickets, isHeld } = version
  const living = [...older.filter((one) => isAlive(one)), identify()]
  const begin = oldSide({
    ...{ stage, nonce, living, tickets, readyTimeout, overlap, isHeld },
    ...(drainTimeout !== undefined && { drainTimeout }),
  })
  const { end, times, seen, printed, ...line } = await converse(partner, begin, {
    signal: version.signal,
    handed: version.handles.map(({ record }) => record.inode),
    onStep,
    save: (name, link) => void answer(service, link, name),
    overlap: () => service.takeStep('overlap'),
    printed: () => linesSince(mark),
    hold: (overlaps) => service.keeper?.among.hold(overlaps) ?? Promise.resolve(false),
    opened(link) {
      if (service.upgrading !== undefined) service.upgrading.tellClosed = (name) => link.send({ type: 'closed', name })
    },
  })
  if (end.at !== 'committed' || end.successor === undefined) {
    throw failed(service, end, pid, { seen, lines: printed })
  }
  partner.unref()
  const { greeted = started, ready = greeted, committed = ready } = times
  const phases = { spawn: started - called, boot: greeted - started, ready: ready - greeted, commit: committed - ready }
  const { left = [], tlsKey } = end
  const names = version.handles.map(({ record }) => record.name)
  const handed = new Set(names.filter((name) => !left.includes(name)))
  const { successor: identity } = end
  return { identity, generation: version.generation, phases, handed, left: new Set(left), tlsKey, ...line }
}

/** The keeper starts it, if there is one, and else this process does. */
async function startPartner(service: Service, version: NewVersion, nonce: string): Promise<Partner> {
  const { stage, command, environment, generation, output, handles } = version
  const link = {
    protocol: protocolVersion,
    nonce,
    generation,
    predecessor: identify(),
    handles: handles.map(({ record }) => record),
    typed: version.typed ?? typedOf(command),
  }
  // Goes on in enter.ts of the new process.
  try {
    const line = keeperLineOf(service)
    const isKept = line !== undefined && (await line.regained())
    const request = { link, command, environment, patience: version.readyTimeout, signal: version.signal }
    // A keeper can hold listeners, and no plain descriptor.
    if (isKept && handles.every(({ handle }) => handle !== undefined)) {
      return await line.spawn(request)
    }
    const pair = isKept ? await line.pair(request) : undefined
    const record = pair === undefined ? link : { ...link, keeper: line?.besideRecord }
    const env = writeStart(environment, { stage, link: withoutUndefined(record) as LinkRecord })
    const fds = [...handles.map(({ fd }) => fd), ...(pair === undefined ? [] : [pair.fd])]
    const stdio = ['ignore', output ?? 1, output ?? 2, 'ipc', ...fds] as const
    const partner = partnerOf(await spawned(() => system.spawn(command, { env, stdio })))
    pair?.born(partner.identity)
    return partner
  } catch (cause) {
    if (version.signal.aborted) throw stopped(stopReason(service), 'no new version was started')
    const values = { command: command.execPath, why: spawnFault(command, cause), self: process.pid }
    throw new CookError('ERR_COOK_SUCCESSOR_SPAWN', values, { cause })
  }
}

/** A child of this process, whose channel is the link. */
function partnerOf(child: ChildProcess): Partner {
  return {
    identity: identityOfChild(child),
    open: (onEvent) => openLink(child, onEvent),
    onExit: (hear) => void child.once('exit', (code, signal) => hear({ code, signal })),
    kill() {},
    unref: () => child.unref(),
  }
}

/** Sends the value of the saveState hook that the successor asks for, or why there is none. */
async function answer({ options, context }: Service, link: Link, name: string): Promise<void> {
  try {
    await sendValue(link, name, await context(() => saveState(options, name)))
  } catch (error) {
    const known: Readonly<Record<string, string | number>> = error instanceof CookError ? error.values : {}
    const names = known.names === undefined ? {} : { names: String(known.names).split(', ') }
    const fault = String(known.why ?? messageOf(error))
    link.send({ type: 'value', name, version: 0, part: '', isLast: true, fault, ...names })
  }
}

async function saveState(
  { saveState: hooks, stateTimeout: ms = defaults.stateTimeout }: DaemonOptions,
  name: string,
): Promise<Value> {
  if (hooks === undefined) return { value: undefined, version: 0 }
  const hook = Object.hasOwn(hooks, name) ? hooks[name] : undefined
  if (hook === undefined) throw new CookError('ERR_COOK_STATE_NAME', { name, names: Object.keys(hooks).join(', ') })
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    const why = `its save() took longer than ${ms} ms`
    timer = setTimeout(() => reject(new CookError('ERR_COOK_STATE', { name, why })), ms)
  })
  try {
    return { value: await Promise.race([hook.save(), late]), version: hook.version ?? 0 }
  } finally {
    clearTimeout(timer)
  }
}

/** The failure in words. */
function failed(
  service: Service,
  end: OldSide,
  started: number,
  { seen, lines }: { readonly seen: string; readonly lines: string },
): CookError {
  const self = process.pid
  const pid = end.successor?.[0] ?? end.known.at(-1)?.[0] ?? started
  const who = `pid ${pid}`
  const words = seen + lastWords(end.dying, lines)
  const failure = end.failure ?? { why: 'exited' }
  const { reason = '', listens = [], missing = [] } = end.waits ?? {}
  const listenersMissing = (how: string) => {
    const elsewhere = listens.length === 0 ? 'does not listen' : `listens on ${listens.join(' and ')}, but not`
    const values = { who, elsewhere, missing: missing.join(' and '), how, words, self }
    return new CookError('ERR_COOK_LISTENERS_MISSING', values)
  }
  switch (failure.why) {
    case 'exited': {
      // With a `parent` stage the process that we can wait for is the one in between.
      const isSeen = end.exit !== undefined && (end.stage === 'daemon' || end.known.length === 0)
      const how = isSeen && end.exit !== undefined ? exitWords(end.exit) : 'its link ended'
      return new CookError('ERR_COOK_SUCCESSOR_EXITED', { who, how, words, self })
    }
    case 'said-no':
      return new CookError('ERR_COOK_SUCCESSOR_FAILED', { pid, reason: failure.reason || 'no reason given', self })
    case 'idle':
      return listenersMissing('it has nothing left to do, so it will not open it')
    case 'timeout': {
      const { ms, step } = failure
      const isElsewhere = end.dying === undefined && listens.length > 0 && missing.length > 0
      if (isElsewhere) return listenersMissing(`it was not ready after ${ms / 1000} s`)
      const waits = reason && `: ${reason}`
      return new CookError('ERR_COOK_SUCCESSOR_TIMEOUT', { who, ms, step, waits, words, self })
    }
    case 'broken':
      return new CookError('ERR_COOK_LINK_BROKEN', { who, why: failure.detail, self })
    case 'protocol':
      return new CookError('ERR_COOK_PROTOCOL', { why: failure.reason, pid: self })
    case 'others':
    case 'stopped': {
      const reason = failure.why === 'others' ? 'others' : stopReason(service)
      return stopped(reason, `the new version (${who}) was killed`)
    }
  }
}

/** Of an upgrade that was given up. A signal of the caller's own has any reason that they like. */
function stopReason({ upgrading }: Service): StopReason {
  const { aborted, reason } = upgrading?.stop.signal ?? {}
  return aborted === true ? (reason as StopReason) : 'caller'
}

const stopWords = {
  stopping: 'because the service is being stopped',
  keeper: 'because its keeper is gone',
  caller: 'by its caller',
}

function stopped(reason: StopReason, what: string): CookError {
  const values = { what, self: process.pid }
  if (reason === 'others') return new CookError('ERR_COOK_OTHERS_FAILED', values)
  return new CookError('ERR_COOK_STOPPED', { ...values, why: stopWords[reason] })
}
