/** The old process's end of an upgrade: starts the new version, and returns at the commit. */
import type { ChildProcess } from 'node:child_process'
import { type Identity, writeStart } from '../contract/environment.ts'
import type { MessageOf } from '../contract/messages.ts'
import { endGrace, type OldEffect, type OldEvent, type OldSide, oldSide, stepOld } from '../contract/old-side.ts'
import { protocolVersion } from '../contract/protocol.ts'
import { CookError, messageOf } from '../errors.ts'
import { untilGone } from '../node/processes.ts'
import { endSession, identityOfChild, killSession } from '../node/sessions.ts'
import { servedBy } from '../node/sockets.ts'
import { type Command, identify, isAlive, system } from '../node/system.ts'
import { type DaemonOptions, defaults, type UpgradePhases } from '../options.ts'
import { typedOf } from '../process/command.ts'
import type { Packed } from '../process/handles.ts'
import { exitWords, servedWords, spawned, spawnFault } from '../process/launcher.ts'
import { lastWords, linesSince, markLog } from '../process/log.ts'
import type { Service } from '../service.ts'
import type { Value } from '../service-parts.ts'
import { patientTimer } from '../waiting.ts'
import { sendValue } from './cloned-values.ts'
import { type Link, type LinkEvent, openLink } from './link.ts'

/** How the new version is started. */
export type NewVersion = {
  readonly stage: 'parent' | 'daemon'
  readonly command: Command
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
}

/** How far it is; `waits` comes each time when the new version says what it waits for. */
export type OnStep = (step: 'started' | 'booted' | 'waits' | 'ready', waits?: MessageOf<'waits'>) => void

/** What follows the commit begins with this: the successor, and the link to it, still open. */
export type Committed = {
  readonly identity: Identity
  readonly generation: number
  readonly phases: UpgradePhases
  /** Names of what it was handed, but for what it has left to us. */
  readonly handed: ReadonlySet<string>
  /** Names of listeners that it has left to us: we serve them until the program closes them. */
  readonly left: ReadonlySet<string>
  /** Whoever has it says `bye` and closes it. */
  readonly link: Link
  /** Takes what comes over the link from now on. */
  hear(listener: (event: LinkEvent) => void): void
}

/**
 * Resolves at the commit. Rejects with a `CookError`, and then nothing of the new version runs any
 * more.
 */
export async function startSuccessor(service: Service, version: NewVersion, onStep: OnStep): Promise<Committed> {
  const nonce = process.getBuiltinModule('node:crypto').randomBytes(16).toString('hex')
  const mark = markLog(version.output ?? 2)
  const called = performance.now()
  const child = await spawnSuccessor(version, nonce)
  const identity = identityOfChild(child)
  const started = performance.now()
  onStep('started')
  const older = service.predecessor?.living ?? []
  const { stage, readyTimeout, overlap, drainTimeout, tickets } = version
  const living = [...older.filter((one) => isAlive(one)), identify()]
  const begin = oldSide({
    ...{ stage, nonce, living, tickets, readyTimeout, overlap },
    ...(drainTimeout !== undefined && { drainTimeout }),
  })
  const { end, times, seen, ...line } = await converse(service, version, { child, identity }, begin, onStep)
  if (end.at !== 'committed' || end.successor === undefined) {
    throw failed(service, end, identity[0], { seen, lines: linesSince(mark) })
  }
  child.unref()
  const { greeted = started, ready = greeted, committed = ready } = times
  const phases = { spawn: started - called, boot: greeted - started, ready: ready - greeted, commit: committed - ready }
  const { left = [] } = end
  const names = version.handles.map(({ record }) => record.name)
  const handed = new Set(names.filter((name) => !left.includes(name)))
  return { identity: end.successor, generation: version.generation, phases, handed, left: new Set(left), ...line }
}

async function spawnSuccessor(version: NewVersion, nonce: string): Promise<ChildProcess> {
  const { stage, command, environment, generation, output } = version
  const handles = version.handles.map(({ record }) => record)
  const link = {
    protocol: protocolVersion,
    nonce,
    generation,
    predecessor: identify(),
    handles,
    typed: typedOf(command),
  }
  const env = writeStart(environment, { stage, link })
  const stdio = ['ignore', output ?? 1, output ?? 2, 'ipc', ...version.handles.map(({ fd }) => fd)] as const
  try {
    // Goes on in enter.ts of the new process.
    return await spawned(() => system.spawn(command, { env, stdio }))
  } catch (cause) {
    const values = { command: command.execPath, why: spawnFault(command, cause), self: process.pid }
    throw new CookError('ERR_COOK_SUCCESSOR_SPAWN', values, { cause })
  }
}

/** When our side of the contract came to each point, by performance.now(). */
type Times = { greeted?: number; ready?: number; committed?: number }

type Conversation = {
  readonly end: OldSide
  readonly times: Times
  /** What was seen of a new version that failed, before its end. */
  readonly seen: string
} & Pick<Committed, 'link' | 'hear'>

type Started = { readonly child: ChildProcess; readonly identity: Identity }

/** Plays our side of the contract until it is decided. */
function converse(
  service: Service,
  { signal, handles }: NewVersion,
  { child, identity }: Started,
  begin: OldSide,
  onStep: OnStep,
): Promise<Conversation> {
  return new Promise((settle) => {
    let side = begin
    const times: Times = {}
    let seen: string | undefined
    let stopTimer = () => {}
    let later: ((event: LinkEvent) => void) | undefined
    /** What came right behind the commit, before anybody listened. */
    const early: LinkEvent[] = []
    const link: Link = openLink(child, (event) => {
      if (later !== undefined) later(event)
      else if (side.at === 'committed') early.push(event)
      else step(event)
    })
    if (service.upgrading !== undefined) service.upgrading.tellClosed = (name) => link.send({ type: 'closed', name })
    const stop = () => step({ type: 'stop' })

    function step(event: OldEvent): void {
      const [next, effects] = stepOld(side, event)
      const before = side
      side = next
      if (next.at !== before.at) note(next.at)
      if (next.waits !== before.waits) onStep('waits', next.waits)
      for (const effect of effects) carryOut(effect)
    }

    function note(at: OldSide['at']): void {
      if (at === 'greeted') {
        times.greeted = performance.now()
        onStep('booted')
      }
      // The overlap is part of the way to the commit: the new version is up when it begins.
      if ((at === 'overlapping' || at === 'offered') && times.ready === undefined) {
        times.ready = performance.now()
        onStep('ready')
      }
      if (at === 'committed') times.committed = performance.now()
    }

    function carryOut(effect: OldEffect): void {
      switch (effect.do) {
        case 'send':
          link.send(effect.message)
          return
        case 'save':
          void answer(service, link, effect.name)
          return
        case 'overlap':
          service.takeStep('overlap')
          return
        case 'timer':
          stopTimer()
          stopTimer = patientTimer(effect.ms, () => step({ type: 'timer' }))
          return
        case 'kill':
          look()
          for (const one of [identity, ...side.known]) killSession(one)
          return
        case 'commit':
          decided()
          return
        case 'fail':
          look()
          link.close()
          void endAll([identity, ...side.known]).then(decided)
          return
      }
    }

    function look(): void {
      const inherited = handles.map(({ record }) => record.inode)
      seen ??= [identity, ...side.known].map((one) => servedWords(servedBy(one, inherited))).join('')
    }

    function decided(): void {
      stopTimer()
      signal.removeEventListener('abort', stop)
      settle({
        end: side,
        times,
        seen: seen ?? '',
        link,
        hear(listener) {
          later = listener
          for (const event of early.splice(0)) listener(event)
        },
      })
    }

    child.once('exit', (code, exitSignal) => step({ type: 'exit', exit: { code, signal: exitSignal } }))
    carryOut({ do: 'timer', ms: begin.readyTimeout })
    if (signal.aborted) stop()
    else signal.addEventListener('abort', stop)
  })
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

/**
 * Nothing of a new version that failed stays, nor of what it has started. A daemon that a `parent`
 * stage started is no child of ours: that its link has ended is no proof that it is gone.
 */
async function endAll(identities: readonly Identity[]): Promise<void> {
  if (!(await untilGone(identities, endGrace))) for (const identity of identities) killSession(identity)
  await Promise.all(identities.map(endSession))
}

/** The failure in words. */
function failed(
  { upgrading }: Service,
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
      return new CookError('ERR_COOK_SUCCESSOR_SAID_NO', { pid, reason: failure.reason || 'no reason given', self })
    case 'idle':
      return listenersMissing('it has nothing left to do that would open it')
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
    case 'stopped': {
      const isStopping = upgrading?.stop.signal.aborted === true
      const why = isStopping ? 'the service is being stopped' : 'its caller aborted it'
      return new CookError('ERR_COOK_STOPPED', { why, who, self })
    }
  }
}
