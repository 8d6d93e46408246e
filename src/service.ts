/** The daemon inside: options, listeners, phase, history, events. One object, passed whole. */
import { channel as diagnosticsChannel } from 'node:diagnostics_channel'
import type { Server, Socket } from 'node:net'
import { isFirstStart, workerName } from './contract/environment.ts'
import type { GenerationRecord } from './contract/messages.ts'
import { nextPhase, type Phase, type Step } from './contract/phase.ts'
import { CookError } from './errors.ts'
import { History } from './history.ts'
import { connectionsOf, serverOf } from './node/connections.ts'
import type { Context } from './node/context.ts'
import { residentMemory } from './node/processes.ts'
import { identify } from './node/system.ts'
import { type DaemonEvent, type DaemonOptions, type DrainReport, defaults } from './options.ts'
import type { Claims } from './process/claims.ts'
import { Registry } from './process/handles.ts'
import { writeToLog } from './process/log.ts'
import type { EnteredState } from './process/state.ts'
import type {
  ControlSocket,
  Departure,
  KeeperEnd,
  OwnDrain,
  Predecessor,
  Preload,
  Receiving,
  Sideways,
  TlsMoves,
} from './service-parts.ts'
import { Stops } from './stops.ts'
import { deferred } from './waiting.ts'
import { Warnings, warningOf } from './warnings.ts'

const channel = diagnosticsChannel('cook-daemon')

export type Listener = {
  readonly name: string
  /** The predecessor's name of it, if it had it. */
  readonly oldName?: string | undefined
  readonly server: Server
  /** That of its listen(): its connections are announced in it, those handed over too. */
  readonly context: Context
  /** No other version can ask for it, and none gets it: it ends in this process. */
  readonly stays?: boolean
}

/** Who takes connections of a protocol of the program's own. */
type Receiver = { readonly take: (socket: Socket, state: unknown) => void; readonly context: Context }

/** Why an upgrade that is in progress is given up. */
export type StopReason = 'stopping' | 'caller' | 'others' | 'keeper'

/** An upgrade that is in progress. */
type Upgrading = {
  readonly generation: number
  readonly stop: AbortController
  readonly ended: Promise<unknown>
  /** Tells the new version that a listener that it was handed is closed here. */
  tellClosed?: (name: string) => void
}

export class Service {
  readonly state: EnteredState
  /** What this process was handed. */
  readonly claims: Claims
  /** What it will hand on. */
  readonly handles = new Registry()
  readonly listeners: Listener[] = []
  readonly history = new History()
  readonly warnings = new Warnings()
  /** Parts of ours that hear of events; a program has `onEvent`. */
  readonly hearing: ((event: DaemonEvent) => void)[] = []
  readonly stops = new Stops()
  /** Who takes connections of the program's own protocols, by name. */
  readonly receivers = new Map<string, Receiver>()
  /**
   * Called when a departure begins: by the program, and for protocols with a module of their own.
   */
  readonly onDrain: (() => unknown)[] = []
  readonly ownDrains: ((departure: Departure) => OwnDrain)[] = []
  /** The end of the service in this process: all connections, and then all that there was to do. */
  readonly drained = deferred<DrainReport>()
  readonly gone = deferred<DrainReport>()
  options: DaemonOptions = {}
  /** That in which the program gave the options: its hooks are called in it. */
  context: Context = (call) => call()
  /** False where the original API alone is used: its programs close and drain themselves. */
  isDaemon = false
  /** ready() was called. */
  hasAnswered = false
  /** notifyUpgradeDone() was called. */
  wasNotified = false
  /** A successor has taken over: what is named here, a path or a pid file, is its own. */
  hasSuccessor = false
  /** What this process wrote last. */
  pidFile: string | undefined
  upgrading: Upgrading | undefined
  /**
   * Registered by upgrade/successor.ts and handover/receive.ts, in a process with a predecessor.
   */
  predecessor: Predecessor | undefined
  receiving: Receiving | undefined
  /** By handover/lame-duck.ts: it is over now. */
  endLameDuck: (() => void) | undefined
  /** By handover/leave.ts, while this process leaves. */
  departure: Departure | undefined
  /** By control/server.ts and preload/start.ts. */
  control: ControlSocket | undefined
  /** By upgrade/keeper-line.ts, in a worker. */
  keeper: KeeperEnd | undefined
  /** By daemon.ts: ends the service as a stop by the control socket does. */
  end: (() => void) | undefined
  /** By daemon.ts: replaces this process by what it runs, wherever symlinks lead to now. */
  renew: (() => Promise<unknown>) | undefined
  /** By daemon.ts. */
  sideways: Sideways | undefined
  /** By daemon.ts, with the option `moveTls`. */
  tls: TlsMoves | undefined
  preload: Preload | undefined
  #phase: Phase
  #wasTakenOver = false
  #wasToldToEnd = false

  constructor(state: EnteredState) {
    this.state = state
    const { start } = state.entered
    const isBetween = start.stage === 'parent'
    this.claims = state.entered.claims
    this.#phase = start.link === undefined || isBetween ? 'ready' : 'starting'
    this.handles.onChange = () => this.keeper?.changed()
  }

  get generation(): number {
    return this.state.entered.generation
  }

  /** Nobody served when it was started: by hand, or by a keeper after a crash. */
  get isFirstStart(): boolean {
    const { link } = this.state.entered.start
    return link === undefined || isFirstStart(link)
  }

  /** Of its control socket: a worker has one beside that of the service. */
  get controlName(): string | undefined {
    const { name } = this.options
    return name === undefined || this.keeper === undefined ? name : workerName(name, this.keeper.slot)
  }

  get phase(): Phase {
    return this.#phase
  }

  get lameDuck(): number {
    return this.options.lameDuck ?? defaults.lameDuck
  }

  get drainTimeout(): number {
    return this.options.drainTimeout ?? defaults.drainTimeout
  }

  /**
   * Whether paths and the pid file are this process's: not a predecessor's still, nor a successor's
   * already.
   */
  get ownsNames(): boolean {
    return !this.hasSuccessor && (this.#phase !== 'starting' || this.predecessor === undefined)
  }

  /** If an upgrade is in progress: the new version is killed, unless it has been accepted. */
  stopUpgrade(reason: StopReason): void {
    this.upgrading?.stop.abort(reason)
  }

  /** The program was told to end, and does so by itself. */
  leaveToProgram(): void {
    this.#wasToldToEnd = true
    this.keeper?.stopping()
  }

  get isLeftToProgram(): boolean {
    return this.#wasToldToEnd
  }

  /** It serves, and nobody has asked it to end: if it does, it has crashed. */
  get isServing(): boolean {
    const isUp = this.#phase !== 'starting' && this.#phase !== 'lame' && !this.hasSuccessor
    return isUp && this.departure === undefined && !this.#wasToldToEnd
  }

  /** Open now, all listeners together. */
  get openConnections(): number {
    const open = connectionsOf(this.listeners.map(({ server }) => server))
    return [...open.values()].reduce((sum, sockets) => sum + sockets.length, 0)
  }

  /** This process among its generations. */
  get record(): GenerationRecord {
    const [pid, startTime] = identify()
    const { generation, phase, openConnections: connections, departure } = this
    const record = { generation, pid, startTime, phase, connections, memory: residentMemory() }
    return departure === undefined ? record : { ...record, stage: departure.clock.stage }
  }

  /** A first start of a daemon serves only when it says so. */
  begin(): void {
    if (this.predecessor === undefined) this.#phase = 'starting'
  }

  /** The preload leaves everything to the program: all is as if it had not begun. */
  endPreload(): void {
    if (this.predecessor === undefined) this.#phase = 'ready'
    this.preload = undefined
    this.options = {}
    this.isDaemon = false
    this.ownDrains.length = 0
    this.hearing.length = 0
  }

  /** Moves this process on in its life. */
  takeStep(step: Step): void {
    this.#phase = nextPhase(this.#phase, step)
    if (this.#phase === 'ready') this.keeper?.serves()
    if (step === 'stop' || step === 'go lame') this.keeper?.stopping()
    if (!this.isDaemon) return
    this.emit({ type: 'phase', phase: this.#phase, generation: this.generation })
    if (step === 'upgrade') this.emit({ type: 'upgrade', generation: this.generation + 1 })
  }

  /** The listener that accepted a connection, or adopted it. */
  listenerOf(socket: Socket): Listener | undefined {
    const server = serverOf(socket)
    return this.listeners.find((one) => one.server === server)
  }

  /** A listener by our name of it or the predecessor's. */
  listenerNamed(listener: string): Listener | undefined {
    return this.listeners.find(({ name, oldName }) => name === listener || oldName === listener)
  }

  forgetListener(server: Server): void {
    // Some servers listen again, and are there a second time by then.
    const index = this.listeners.findIndex((one) => one.server === server)
    if (index >= 0) this.listeners.splice(index, 1)
  }

  /** Once in a life, unless the successor is lost and everything comes back. */
  runOnTakeover(value: unknown, { isReturn = false } = {}): void {
    if (this.#wasTakenOver && !isReturn) return
    this.#wasTakenOver = true
    void this.runHook('onTakeover', () => this.context(() => this.options.onTakeover?.(value)))
  }

  emit(event: DaemonEvent): void {
    channel.publish(event)
    this.#warn(event)
    for (const hear of this.hearing) hear(event)
    void this.#tell(event)
  }

  /** The log is for what nobody else hears. */
  #warn(event: DaemonEvent): void {
    const warning = warningOf(event)
    if (warning === undefined) return
    const isNew = this.warnings.add(warning)
    // A listener that fails does not hear of that.
    const isUnheard = this.options.onEvent === undefined || warning.about === 'onEvent'
    if (!isNew || !isUnheard) return
    const stack = event.type === 'hook-failed' && !(event.error instanceof CookError) ? event.error.stack : undefined
    writeToLog(warning.text, stack)
  }

  async #tell(event: DaemonEvent): Promise<void> {
    try {
      await this.context(() => this.options.onEvent?.(event))
    } catch (error) {
      this.hookFailed('onEvent', error)
    }
  }

  /** A hook that throws is an event, and costs nothing else. */
  async runHook(hook: string, run: () => unknown): Promise<unknown> {
    try {
      return await run()
    } catch (error) {
      this.hookFailed(hook, error)
      return undefined
    }
  }

  hookFailed(hook: string, thrown: unknown): void {
    const error = thrown instanceof Error ? thrown : new Error(String(thrown))
    const event = { type: 'hook-failed', hook, error } as const
    if (hook !== 'onEvent') {
      this.emit(event)
      return
    }
    channel.publish(event)
    this.#warn(event)
  }
}
