/** A daemon: its listeners, its state, its upgrades and its end, in steps. `serve()` is all of them in one call. */
import type { Server, Socket } from 'node:net'
import { type Control, openControl } from './control/server.ts'
import type { Progress, Status } from './control/status.ts'
import { becomeDaemon } from './core/daemonizing.ts'
import { checkName, type Inherited } from './core/handles.ts'
import { History } from './core/history.ts'
import { listening } from './core/listening.ts'
import { openLog } from './core/log.ts'
import { Mover } from './core/mover.ts'
import type { Phase } from './core/phase.ts'
import { reclaimPidFile, releasePidFile, writePidFile } from './core/pid-file.ts'
import type { Upgraded, UpgradeStep } from './core/predecessor.ts'
import { type GenerationRecord, type News, type ProgramRecord, takeoverName } from './core/protocol.ts'
import { upgradeText, withText } from './core/report.ts'
import { type Entered, enter, type State, takeStep } from './core/state.ts'
import type { Arrival } from './core/successor.ts'
import { openUnixPath, ownUnixPath } from './core/unix-path.ts'
import { demandCommit, runUpgrade } from './core/upgrading.ts'
import { fromText, toPieces, toText, type Value } from './core/values.ts'
import { version } from './core/version.ts'
import { type Counting, countMove, noCounts, toReport } from './drain/counts.ts'
import { drain, type OwnDrain } from './drain/drainer.ts'
import { armKeepAlive, isHttp, isTls } from './drain/http.ts'
import { trackSessions } from './drain/http2.ts'
import { CookError, messageOf } from './errors.ts'
import type { Link } from './node/link.ts'
import {
  adoptConnection,
  connectionsOf,
  redirectOutput,
  serverOf,
  startReading,
  stopReading,
  tieConnection,
} from './node/sockets.ts'
import { identify, isAlive } from './node/system.ts'
import {
  checkDaemonOptions,
  checkDaemonUpgradeOptions,
  checkListenOptions,
  type DaemonEvent,
  type DaemonizeOptions,
  type DaemonOptions,
  type DaemonUpgradeOptions,
  type DrainReport,
  type HandOverRule,
  type ListenOptions,
  type UpgradeResult,
  withoutUndefined,
} from './options.ts'

const { closeSync } = process.getBuiltinModule('node:fs')
const { resolve } = process.getBuiltinModule('node:path')
const channel = process.getBuiltinModule('node:diagnostics_channel').channel('cook-daemon')

export const defaults = { drainTimeout: 30_000, stateTimeout: 10_000, maxGenerations: 4 }

/** How often a process that drains tells how far it is: its successor, and whoever looks on, in milliseconds. */
const newsInterval = 1_000
const progressInterval = 250

/** What an upgrade that succeeded was like, and what follows it. */
export type DaemonReport = UpgradeResult & {
  /** Resolves when this process has drained. */
  readonly drained: Promise<DrainReport>
}

/**
 * Takes up the life of a daemon in this process. With `detach`, becomes one first: the process that is not the daemon exits here, with 0 once the daemon is ready and with 1
 * and the reason on stderr if it is not. What the operator told the command line goes before the options. Rejects with `ERR_COOK_OPTION` and `ERR_COOK_DAEMON_TWICE`; with a `name`
 * also with `ERR_COOK_NAME_TAKEN` and `ERR_COOK_RUN_DIR`.
 */
export async function createDaemon(options: DaemonOptions = {}): Promise<Daemon> {
  const daemon = await takeUp('createDaemon()', options)
  await insideOf(daemon).openControl()
  return daemon
}

/** Without the control socket: the preload opens that when it is known that the program brings no daemon of its own. */
export async function takeUp(verb: string, given: DaemonOptions): Promise<Daemon> {
  const state = enter(verb)
  checkDaemonOptions(given)
  const options = { ...given, ...wordsOf(state.program) }
  checkDaemonOptions(options)
  if (state.receiver !== undefined) throw new CookError('ERR_COOK_DAEMON_TWICE', {})
  if (options.detach === true) {
    const { logFile, cwd, umask, readyTimeout } = options
    await detach(state, withoutUndefined({ logFile, cwd, umask, readyTimeout, waitReady: true }))
  }
  if (state.program?.logFile !== undefined) state.logFile = resolve(state.program.logFile)
  return new Daemon(state, options)
}

/** What the operator said, which is more than what the program says. */
function wordsOf(program: ProgramRecord | undefined): DaemonOptions {
  if (program === undefined) return {}
  const { name, handOver, readyTimeout, drainTimeout, overlap, pidFile } = program
  return withoutUndefined({ name, handOver, readyTimeout, drainTimeout, overlap, pidFile })
}

/** Returns in the daemon only. One of the three places where this library ends a process: the launcher has nothing more to do. */
async function detach(state: State & { readonly entered: Entered }, options: DaemonizeOptions): Promise<void> {
  try {
    if (await becomeDaemon(state, options)) return
  } catch (error) {
    process.stderr.write(`${messageOf(error)}\n`)
    process.exit(1)
  }
  process.exit(0)
}

type Listener = {
  readonly name: string
  /** The predecessor's name of it, where that is another. */
  readonly oldName?: string
  readonly server: Server
}

export type { Daemon }

/** A drain as a protocol with a module of its own (src/ws.ts) sees it. */
export type DrainView = {
  /** Undefined at a stop. */
  readonly mover: Mover | undefined
  /** Aborted when what is idle is to be closed; at a stop it is from the start. */
  readonly hurry: AbortSignal
  readonly deadline: AbortSignal
  /** From its begin to the deadline, in milliseconds. */
  readonly time: number
  /** The successor was lost while we still accept: nothing is to be closed. */
  isComingBack(): boolean
  /** Where what becomes of a connection is counted. */
  countsOf(socket: Socket): Counting
}

/** What such a module may do that a program may not. */
export type Inside = {
  isReady(): boolean
  /** Of a daemon with a name. */
  openControl(): Promise<void>
  /** For a server that the program itself makes listen, at any time: it is drained, and handed over, as one of listen(). Before it listens. */
  expect(server: Server, inherited: Inherited | undefined, tickets: Readonly<Record<string, string>>): void
  /** It listens. */
  admit(name: string, kind: 'tcp' | 'unix', server: Server, oldName: string | undefined): void
  /** Its listener was closed: it is handed over no more, and it is drained only as long as it has connections. */
  dismiss(server: Server): void
  /** The program ends this process itself: an upgrade that runs is given up, and older generations come to an end. */
  leaveToProgram(): void
  onDrain(begin: (view: DrainView) => OwnDrain): void
  /** For a connection of the protocol of this name. */
  arrival(name: string, socket: Socket): Omit<Arrival, 'state'>
  hookFailed(hook: string, thrown: unknown): void
}

let open: (daemon: Daemon) => Inside

export function insideOf(daemon: Daemon): Inside {
  return open(daemon)
}

/** A process that serves until its successor does; {@link createDaemon} makes it. One for each process. */
class Daemon {
  static {
    open = (daemon) => daemon.#inside()
  }

  readonly #state: State & { readonly entered: Entered }
  readonly #options: DaemonOptions
  readonly #listeners: Listener[] = []
  readonly #receivers = new Map<string, (socket: Socket, state: unknown) => void>()
  readonly #onDrain: (() => unknown)[] = []
  readonly #ownDrains: ((view: DrainView) => OwnDrain)[] = []
  /** Connections of our predecessor on their way through us. */
  readonly #passing = new Set<Promise<unknown>>()
  #ready: Promise<void> | undefined
  #wasTakenOver = false
  #upgrading: { readonly stop: AbortController; readonly ended: Promise<unknown> } | undefined
  #leaving: Promise<DrainReport> | undefined
  #mover: Mover | undefined
  /** Of the drain that runs, by listener. */
  #counts = new Map<string, Counting>()
  #otherCounts = noCounts()
  /** Aborted at a stop, also one of a process that drains after an upgrade: idle connections are closed. */
  #hurry = new AbortController()
  /** Aborted by the second stop, and at the deadline. */
  #end = new AbortController()
  readonly #history = new History()
  #control: Control | undefined
  /** Of the drain that runs, or will. */
  #drainTimeout: number
  /** Whoever waits for the end of the drain, on the control socket. */
  #drainListeners: ((end: DrainReport | CookError) => void)[] = []
  #tellNews: (() => void) | undefined
  /** What stdout and stderr were redirected to. */
  #log: number | undefined

  constructor(state: State & { readonly entered: Entered }, options: DaemonOptions) {
    this.#state = state
    this.#options = options
    this.#drainTimeout = options.drainTimeout ?? defaults.drainTimeout
    if (state.entered.succession === undefined) state.phase = 'starting'
    state.receiver = {
      onConnection: (arrival, socket) => this.#receive(arrival, socket),
      onTakeover: (value) => this.#takeOver(value),
      onNews: (news) => this.#takeNews(news),
      onPhase: (phase) => this.#onPhase(phase),
    }
  }

  /** 1 for the first start, one more for each successor. */
  get generation(): number {
    return this.#state.entered.generation
  }

  /** Where this process is in its life. After an upgrade or a stop it is `gone` when everything has drained. */
  get phase(): Phase {
    return this.#state.phase
  }

  /** True if this process was started by an upgrade. */
  get isUpgrade(): boolean {
    return this.#state.entered.start.link !== undefined
  }

  /**
   * Makes a server listen: on the listener that the predecessor handed over under this name, otherwise on a new one. Before `ready()`.
   * Any `net.Server` will do: net, http, https, http2. Rejects with `ERR_COOK_LISTEN`, `ERR_COOK_OPTION`, `ERR_COOK_HANDLE_NAME`, and for a Unix path with
   * `ERR_COOK_PATH_IN_USE`, `ERR_COOK_PATH_TOO_LONG` and `ERR_COOK_UNIX_PATH`.
   */
  async listen(server: Server, options: ListenOptions): Promise<void> {
    checkListenOptions(options)
    const { registry, entered } = this.#state
    const name = options.name ?? addressName(options)
    checkName(name)
    if (this.#ready !== undefined) throw new CookError('ERR_COOK_LISTEN', { name, why: 'ready() was called already' })
    if (this.#listeners.some((one) => one.name === name || one.server === server)) {
      throw new CookError('ERR_COOK_LISTEN', { name, why: 'another server has this name, or this server has another' })
    }
    this.#listeners.push({ name, server })
    trackSessions(server)
    const kind = options.path === undefined ? 'tcp' : 'unix'
    const inherited = entered.claims.find(name, kind)
    const backlog = options.backlog ?? inherited?.backlog
    if (backlog !== undefined) registry.backlogs.set(server, backlog)
    try {
      if (inherited !== undefined) {
        await this.#setTicketKeys(name, server)
        await listening(server, inherited, backlog)
        if (inherited.kind === 'unix') ownUnixPath(this.#state, server, inherited.path)
      } else if (options.path === undefined) {
        await listening(server, { port: options.port, host: options.host, backlog })
      } else {
        await openUnixPath(this.#state, server, options.path, options)
      }
      registry.add(name, kind, server, false)
    } catch (cause) {
      this.#listeners.splice(
        this.#listeners.findIndex((one) => one.server === server),
        1,
      )
      if (cause instanceof CookError) throw cause
      throw new CookError('ERR_COOK_LISTEN', { name, why: messageOf(cause) }, { cause })
    }
  }

  /**
   * The predecessor's value of this name, as its `saveState` hook gives it now; undefined if there is no predecessor, or one without the hook. Before `ready()`.
   * `versions` are those that this program can read. Rejects with `ERR_COOK_STATE`, `ERR_COOK_STATE_NAME`, `ERR_COOK_STATE_VERSION`, `ERR_COOK_STATE_LATE`: let it end the program, and the old version keeps serving.
   */
  async inherited(name: string, { versions }: { readonly versions?: readonly number[] } = {}): Promise<unknown> {
    if (this.#ready !== undefined) throw new CookError('ERR_COOK_STATE_LATE', {})
    const answer = await this.#state.entered.succession?.ask(name)
    if (answer === undefined || (answer.value === undefined && answer.version === 0)) return undefined
    if (versions !== undefined && !versions.includes(answer.version)) {
      throw new CookError('ERR_COOK_STATE_VERSION', { name, version: answer.version, wanted: versions.join(', ') })
    }
    return answer.value
  }

  /**
   * Says that this process serves. Resolves at the commit, from which on it owns the service and its pid file. Rejects with `ERR_COOK_REFUSED` if the predecessor has given up on it: let that
   * end the program.
   */
  ready(): Promise<void> {
    this.#ready ??= this.#serve()
    return this.#ready
  }

  /**
   * Replaces this process by its new version. Resolves at the commit; the report's `drained` resolves when this process has finished what it had accepted. Rejects if the upgrade failed,
   * with the codes of `upgrade()` and with `ERR_COOK_TOO_MANY_GENERATIONS`: this process keeps serving then.
   */
  async upgrade(options: DaemonUpgradeOptions = {}): Promise<DaemonReport> {
    return this.#upgrade(options, () => {})
  }

  async #upgrade(options: DaemonUpgradeOptions, onStep: (step: UpgradeStep) => void): Promise<DaemonReport> {
    const stop = new AbortController()
    const replacing = this.#replace(options, stop.signal, onStep)
    const own = { stop, ended: replacing.catch(() => {}) }
    this.#upgrading ??= own
    try {
      return await replacing
    } catch (error) {
      this.#emit({ type: 'upgrade-failed', error: error as Error })
      throw error
    } finally {
      if (this.#upgrading === own) this.#upgrading = undefined
    }
  }

  /**
   * Ends this process's service: stops accepting, finishes what is in flight, closes what is idle; older generations that still drain do the same, and an upgrade that runs is given up. Called once more, or in a process
   * that drains after an upgrade for the second time, it cuts the rest. Resolves with what became of the connections; ending the process is left to the caller.
   */
  async stop(): Promise<DrainReport> {
    this.#upgrading?.stop.abort()
    await this.#upgrading?.ended
    const { succession } = this.#state.entered
    if (this.phase === 'starting') await succession?.notify(false, 'it was stopped')
    if (this.#leaving !== undefined) {
      if (this.#hurry.signal.aborted) this.#end.abort()
      this.#hurry.abort()
      return this.#leaving
    }
    this.#hurry.abort()
    this.#step('stop')
    succession?.stop()
    this.#leaving = this.#leave(undefined)
    return this.#leaving
  }

  /**
   * Hands a live connection of the program's own protocol to the successor, with a value that goes along; call it in an `onDrain` listener. From the call on nothing is read from it here, and what was read but given to nobody goes along. Resolves to true when the
   * successor has it, false if it stays here after all. Rejects with `ERR_COOK_HAND_OVER` for a TLS or closed socket, or outside a drain.
   */
  async handOver(name: string, socket: Socket, state?: unknown): Promise<boolean> {
    const mover = this.#mover
    if (mover === undefined || !mover.isOpen)
      throw new CookError('ERR_COOK_HAND_OVER', { why: 'there is no successor' })
    if (socket.destroyed) throw new CookError('ERR_COOK_HAND_OVER', { why: 'it is closed' })
    if ('encrypted' in socket)
      throw new CookError('ERR_COOK_HAND_OVER', { why: 'it is a TLS connection, whose keys cannot move' })
    const text = toText(name, state)
    const counts = this.#countsOf(socket)
    stopReading(socket)
    // What the program has written goes out first.
    if (socket.writableLength > 0) await new Promise<void>((written) => socket.write('', () => written()))
    const moved = await mover.move(socket, this.#ownArrival(name, socket), {
      isFree: () => true,
      state: text,
      isUrgent: true,
    })
    countMove(counts, moved)
    if (moved === 'busy' && !socket.destroyed) startReading(socket)
    return moved === 'moved'
  }

  /** Takes the connections that the predecessor hands over under a name. The socket is readable and nothing of it is lost. Before `ready()`. */
  onHandedOver(name: string, listener: (socket: Socket, state: unknown) => void): void {
    this.#receivers.set(`own:${name}`, listener)
  }

  /** Called when this process begins to drain, after an upgrade or at a stop: the time to hand over connections of one's own. What it returns is awaited before the drain ends. */
  onDrain(listener: () => unknown): void {
    this.#onDrain.push(listener)
  }

  // ------------------------------------------------------------------------------------------ the new side

  async #serve(): Promise<void> {
    const { succession, launch, claims } = this.#state.entered
    if (succession !== undefined) {
      await succession.notify(true, '')
      await this.#runHook('control', () => this.#control?.takeOver())
      const names = claims.closeUnclaimed()
      if (names.length > 0) this.#emit({ type: 'unclaimed', names })
      // A predecessor that was lost cannot tell what its onRelease returned.
      void succession.bye.then(() => {
        this.#takeOver(undefined)
        this.#history.forget()
      })
      // Too late for a no: the service is ours, and goes on.
      await this.#runHook('pidFile', () => this.#writePid())
    } else {
      this.#writePid()
      this.#step('serve')
      this.#takeOver(undefined)
    }
    launch?.tell({ type: 'ready' })
    launch?.close()
  }

  async #setTicketKeys(name: string, server: Server): Promise<void> {
    if (!isTls(server)) return
    const keys = (await this.#state.entered.succession?.tickets())?.[name]
    if (keys !== undefined) setTicketKeys(server, keys)
  }

  #admit(name: string, kind: 'tcp' | 'unix', server: Server, oldName: string | undefined): void {
    this.#listeners.push({ name, server, ...(oldName !== undefined && { oldName }) })
    this.#state.registry.add(name, kind, server, false)
  }

  #dismiss(server: Server): void {
    this.#state.registry.remove(server)
    const forget = () => {
      // Some servers listen again, and are there a second time by then.
      const index = this.#listeners.findIndex((one) => one.server === server)
      if (index >= 0) this.#listeners.splice(index, 1)
    }
    server.once('close', forget)
  }

  #receive(arrival: Arrival, socket: Socket): boolean {
    if (this.#mover?.isOpen !== true) return this.#keep(arrival, socket)
    // We are on our way out ourselves: on to our own successor.
    stopReading(socket)
    const { state, ...on } = arrival
    const passing = this.#mover.move(socket, on, { isFree: () => true, state, isUrgent: true }).then((moved) => {
      if (moved === 'busy' && !socket.destroyed && !this.#keep(arrival, socket)) socket.destroy()
      this.#passing.delete(passing)
    })
    this.#passing.add(passing)
    return true
  }

  /** Returns whether anybody here wants the connection. */
  #keep({ to, listener: from, state }: Arrival, socket: Socket): boolean {
    const server = this.#serverOf(to)
    if (server?.listening === true) {
      if (isHttp(server)) armKeepAlive(server, socket)
      adoptConnection(server, socket)
      return true
    }
    const own = this.#receivers.get(to)
    if (own === undefined) return false
    // One of its listener's, as where it was accepted: counted there, and waited for.
    const home = from === undefined ? undefined : this.#serverOf(from)
    if (home?.listening === true) tieConnection(home, socket)
    own(socket, state === undefined ? undefined : fromText(state))
    return true
  }

  #serverOf(listener: string): Server | undefined {
    return this.#listeners.find(({ name, oldName }) => name === listener || oldName === listener)?.server
  }

  #ownArrival(name: string, socket: Socket): Omit<Arrival, 'state'> {
    return { to: `own:${name}`, listener: this.#listenerOf(socket)?.name }
  }

  /** Once in a life, unless the successor is lost and everything comes back. */
  #takeOver(value: unknown): void {
    if (this.#wasTakenOver) return
    this.#wasTakenOver = true
    void this.#runHook('onTakeover', () => this.#options.onTakeover?.(value))
  }

  #writePid(): void {
    if (this.#options.pidFile === undefined) return
    const path = resolve(this.#options.pidFile)
    writePidFile(path, this.#state.entered.succession?.living ?? [])
    this.#state.pidFile = path
  }

  // ------------------------------------------------------------------------------------------ the old side

  async #replace(
    { drainTimeout, release, ...options }: DaemonUpgradeOptions,
    signal: AbortSignal,
    onStep: (step: UpgradeStep) => void,
  ): Promise<DaemonReport> {
    checkDaemonUpgradeOptions({ ...options, ...withoutUndefined({ drainTimeout, release }) })
    demandCommit('upgrade()', this.#state.entered)
    if (this.phase === 'starting') {
      throw new CookError('ERR_COOK_NOT_READY', { verb: 'upgrade()', self: process.pid })
    }
    this.#checkGenerations()
    const { readyTimeout, overlap } = this.#options
    const given = {
      stage: 'daemon' as const,
      ...withoutUndefined({ readyTimeout, overlap }),
      ...options,
      signal: options.signal === undefined ? signal : AbortSignal.any([signal, options.signal]),
    }
    const hooks = { tickets: this.#ticketKeys(), save: (name: string) => this.#save(name), onStep }
    const begin = performance.now()
    const upgraded = await runUpgrade(this.#state, 'upgrade()', given, { ...hooks, ...(release && { release }) }).catch(
      (error: CookError) => {
        // One that another one kept from beginning is none.
        if (!/_(UPGRADE_IN_PROGRESS|UPGRADED|STOPPING)$/.test(error.code)) this.#noteUpgrade(begin, error.code)
        throw error
      },
    )
    const { pid, generation, phases } = upgraded
    this.#control?.release()
    this.#noteUpgrade(begin)
    this.#drainTimeout = drainTimeout ?? this.#options.drainTimeout ?? defaults.drainTimeout
    this.#emit(withText({ type: 'upgraded', pid, generation, phases } as const, upgradeText))
    this.#leaving = this.#leave(upgraded)
    return withText({ pid, generation, phases, drained: this.#leaving }, upgradeText)
  }

  #noteUpgrade(begin: number, code?: string): void {
    const seconds = (performance.now() - begin) / 1000
    const generation = this.generation + 1
    const outcome = code === undefined ? 'succeeded' : 'failed'
    this.#history.add({ outcome, generation, at: Date.now(), seconds, ...(code !== undefined && { code }) })
  }

  #checkGenerations(): void {
    const most = this.#options.maxGenerations ?? defaults.maxGenerations
    const older = this.#state.entered.succession?.living.filter((identity) => isAlive(identity)) ?? []
    const count = older.length + 2
    if (count > most) throw new CookError('ERR_COOK_TOO_MANY_GENERATIONS', { count: count - 1, most, pid: process.pid })
  }

  #ticketKeys(): Record<string, string> {
    const secure = this.#listeners.filter(({ server }) => isTls(server))
    return Object.fromEntries(
      secure.map(({ name, server }) => [name, (server as unknown as TicketServer).getTicketKeys().toString('base64')]),
    )
  }

  async #save(name: string): Promise<Value> {
    const { saveState, stateTimeout = defaults.stateTimeout } = this.#options
    if (saveState === undefined) return { value: undefined, version: 0 }
    const hook = Object.hasOwn(saveState, name) ? saveState[name] : undefined
    if (hook === undefined) {
      throw new CookError('ERR_COOK_STATE_NAME', { name, names: Object.keys(saveState).join(', ') })
    }
    const value = await inTime(stateTimeout, Promise.resolve(hook.save()), () => {
      throw new CookError('ERR_COOK_STATE', { name, why: `its save() took longer than ${stateTimeout} ms` })
    })
    return { value, version: hook.version ?? 0 }
  }

  /** Finishes what this process has accepted: after an upgrade, or at a stop. */
  async #leave(upgraded: Upgrading | undefined): Promise<DrainReport> {
    const timer = setTimeout(() => this.#end.abort(), this.#drainTimeout)
    const end = aborted(this.#end.signal)
    const { succession } = this.#state.entered
    this.#mover = upgraded && this.#openMover(upgraded)
    const released = upgraded && this.#release(upgraded.link)
    const news = upgraded && this.#beginNews(upgraded.link)
    const isDone = await this.#drain(end)
    const report = toReport(this.#counts, this.#otherCounts)
    await Promise.race([released, end])
    if (upgraded !== undefined && !isDone) {
      clearTimeout(timer)
      clearInterval(news)
      this.#emit({ type: 'drained', report })
      const isStopping = this.#hurry.signal.aborted
      this.#comeBack(upgraded.generation)
      return isStopping ? this.stop() : report
    }
    // Connections of our own predecessor go through us: it leaves first.
    await Promise.race([succession?.bye, end])
    await Promise.race([Promise.all(this.#passing), end])
    clearTimeout(timer)
    clearInterval(news)
    this.#history.drained(report)
    this.#tellDrainListeners(report)
    await this.#control?.idle
    if (upgraded !== undefined) {
      this.#tellNews?.()
      // To a successor that stands still it is never sent; the end of the link says the same.
      const sent = new Promise<void>((done) => upgraded.link.send({ type: 'bye' }, done))
      await Promise.race([sent, end])
      upgraded.link.close()
    } else if (this.#options.pidFile !== undefined) {
      releasePidFile(resolve(this.#options.pidFile))
    }
    this.#control?.release()
    this.#step('end')
    this.#emit({ type: 'drained', report })
    return report
  }

  #openMover({ link, onLink }: Upgrading): Mover {
    const mover = new Mover(link, {
      onStop: () => {
        this.#hurry.abort()
        this.#state.entered.succession?.stop()
      },
      onEnd: () => this.#end.abort(),
    })
    onLink((event) => mover.onLink(event))
    return mover
  }

  /** False if the successor was lost before we stopped accepting. */
  async #drain(end: Promise<void>): Promise<boolean> {
    const mover = this.#mover
    const rule = this.#rule()
    // One that does not listen any more has no counterpart in the successor.
    const servers = this.#listeners.map(({ name, server }) => {
      return { name, server, mover: server.listening ? mover : undefined, rule, counts: noCounts() }
    })
    this.#counts = new Map(servers.map(({ name, counts }) => [name, counts]))
    this.#otherCounts = noCounts()
    const own = Promise.all(this.#onDrain.map((listener) => this.#runHook('onDrain', listener)))
    const others = this.#ownDrains.map((begin) => begin(this.#view()))
    const isDone = await drain({ servers, others, deadline: this.#end.signal, hurry: this.#hurry.signal })
    if (isDone) await Promise.race([own, end])
    return isDone
  }

  #inside(): Inside {
    return {
      isReady: () => this.#ready !== undefined,
      openControl: () => this.#openControl(),
      expect(server, inherited, tickets) {
        trackSessions(server)
        const keys = inherited && tickets[inherited.name]
        if (keys !== undefined && isTls(server)) setTicketKeys(server, keys)
      },
      admit: (name, kind, server, oldName) => this.#admit(name, kind, server, oldName),
      dismiss: (server) => this.#dismiss(server),
      leaveToProgram: () => {
        this.#upgrading?.stop.abort()
        this.#state.entered.succession?.stop()
      },
      onDrain: (begin) => this.#ownDrains.push(begin),
      arrival: (name, socket) => this.#ownArrival(name, socket),
      hookFailed: (hook, thrown) => this.#hookFailed(hook, thrown),
    }
  }

  #view(): DrainView {
    const mover = this.#mover
    return {
      mover,
      hurry: this.#hurry.signal,
      deadline: this.#end.signal,
      time: this.#drainTimeout,
      isComingBack: () => mover?.isLost === true && this.#listeners.some(({ server }) => server.listening),
      countsOf: (socket) => this.#countsOf(socket),
    }
  }

  #listenerOf(socket: Socket): Listener | undefined {
    return this.#listeners.find(({ server }) => server === serverOf(socket))
  }

  #countsOf(socket: Socket): Counting {
    return this.#counts.get(this.#listenerOf(socket)?.name ?? '') ?? this.#otherCounts
  }

  /** A function that throws is told of once, and hands nothing over. */
  #rule(): HandOverRule {
    const { handOver = true } = this.#options
    if (typeof handOver === 'boolean') return handOver
    let hasFailed = false
    return (socket) => {
      try {
        return handOver(socket) === true
      } catch (error) {
        if (!hasFailed) this.#hookFailed('handOver', error)
        hasFailed = true
        return false
      }
    }
  }

  async #release(link: Link): Promise<void> {
    const value = await this.#runHook('onRelease', () => this.#options.onRelease?.())
    try {
      await sendTakeover(link, value)
    } catch (error) {
      this.#hookFailed('onRelease', error)
      await sendTakeover(link, undefined)
    }
  }

  /** The successor died while we were still accepting: the service is ours again. */
  #comeBack(generation: number): void {
    this.#mover = undefined
    this.#leaving = undefined
    this.#tellNews = undefined
    this.#end = new AbortController()
    this.#hurry = new AbortController()
    delete this.#state.hasSuccessor
    this.#step('return')
    if (this.#state.pidFile !== undefined) reclaimPidFile(this.#state.pidFile)
    this.#emit({ type: 'successor-lost', generation })
    const error = new CookError('ERR_COOK_SUCCESSOR_LOST', { generation, self: process.pid })
    this.#noteUpgrade(performance.now(), error.code)
    this.#tellDrainListeners(error)
    void this.#runHook('control', () => this.#control?.reopen())
    this.#wasTakenOver = false
    this.#takeOver(undefined)
  }

  // ------------------------------------------------------------------------------------------ what is told of it

  async #openControl(): Promise<void> {
    const { name } = this.#options
    if (name === undefined) return
    try {
      this.#control = await openControl(this.#state, name, {
        status: () => this.#status(name),
        upgrade: (options, onProgress) => this.#upgradeFor(options, onProgress),
        stop: (onProgress) => this.#stopFor(onProgress),
        reopenLog: () => this.#reopenLog(),
      })
    } catch (error) {
      delete this.#state.receiver
      throw error
    }
  }

  #status(name: string): Status {
    const servers = this.#listeners.map(({ server }) => server)
    const open = connectionsOf(servers)
    const listeners = this.#listeners.map(({ name: listener, server }) => ({
      name: listener,
      address: addressText(server.address()),
      connections: open.get(server)?.length ?? 0,
    }))
    const { rss, heapUsed } = process.memoryUsage()
    const { command, program, logFile, pidFile } = this.#state
    const self = this.#record()
    return {
      name,
      version,
      node: process.version,
      pid: self.pid,
      startTime: self.startTime,
      generation: self.generation,
      phase: this.phase,
      startedAt: new Date(Date.now() - process.uptime() * 1000).toISOString(),
      uptime: process.uptime(),
      memory: { resident: rss, heapUsed },
      connections: self.connections,
      listeners,
      upgrades: this.#history.upgrades,
      ...(this.#history.last && { lastUpgrade: this.#history.last }),
      generations: [...this.#history.older, self],
      drainTimeout: this.#options.drainTimeout ?? defaults.drainTimeout,
      command,
      ...withoutUndefined({ program, logFile, pidFile }),
    }
  }

  #record(): GenerationRecord {
    const [pid, startTime] = identify()
    const connections = this.#openConnections()
    const memory = process.memoryUsage.rss()
    return { generation: this.generation, pid, startTime, phase: this.phase, connections, memory }
  }

  #openConnections(): number {
    const open = connectionsOf(this.#listeners.map(({ server }) => server))
    return [...open.values()].reduce((sum, sockets) => sum + sockets.length, 0)
  }

  /** One upgrade for the control socket, until this process has drained. */
  async #upgradeFor(options: DaemonUpgradeOptions, onProgress: (progress: Progress) => void): Promise<void> {
    const ms = stopwatch()
    const { pid, generation } = await this.#upgrade(options, (type) => {
      if (type !== 'serves') onProgress({ type, ms: ms() })
    })
    onProgress({ type: 'serves', ms: ms(), pid, generation })
    await this.#watchDrain(ms, onProgress)
  }

  /** A program that handles SIGTERM ends as it is used to; where nothing does, the daemon alone is stopped. */
  async #stopFor(onProgress: (progress: Progress) => void): Promise<void> {
    const ms = stopwatch()
    const drainTimeout = this.#options.drainTimeout ?? defaults.drainTimeout
    onProgress({ type: 'stopping', ms: ms(), drainTimeout, generations: [...this.#history.older, this.#record()] })
    const drained = this.#watchDrain(ms, onProgress)
    if (process.listenerCount('SIGTERM') > 0) process.kill(process.pid, 'SIGTERM')
    else void this.stop()
    await drained
  }

  async #watchDrain(ms: () => number, onProgress: (progress: Progress) => void): Promise<void> {
    const of = this.#openConnections()
    const handedOver = () =>
      [...this.#counts.values(), this.#otherCounts].reduce((sum, counts) => sum + counts.handedOver, 0)
    const timer = setInterval(
      () => onProgress({ type: 'draining', ms: ms(), handedOver: handedOver(), of }),
      progressInterval,
    )
    const end = await new Promise<DrainReport | CookError>((settle) => this.#drainListeners.push(settle))
    clearInterval(timer)
    if (end instanceof CookError) throw end
    const { handedOver: moved, served, closed, cut } = end
    onProgress({ type: 'drained', ms: ms(), handedOver: moved, served, closed, cut })
  }

  #tellDrainListeners(end: DrainReport | CookError): void {
    for (const tell of this.#drainListeners.splice(0)) tell(end)
  }

  /** What stdout and stderr write from now on goes into the file that has the log's name now. */
  #reopenLog(): void {
    const { logFile } = this.#state
    if (logFile === undefined) throw new CookError('ERR_COOK_CONTROL', { why: 'this daemon knows no log file' })
    const log = openLog(logFile)
    if (!redirectOutput(log)) {
      closeSync(log)
      throw new CookError('ERR_COOK_CONTROL', { why: 'stdout and stderr of this daemon are no files' })
    }
    if (this.#log !== undefined) closeSync(this.#log)
    this.#log = log
  }

  #beginNews(link: Link): NodeJS.Timeout {
    this.#tellNews = () => link.send({ type: 'news', ...this.#history.news(this.#record()) })
    this.#tellNews()
    return setInterval(this.#tellNews, newsInterval).unref()
  }

  #takeNews(news: News): void {
    this.#history.take(news)
    // Those before us are shown by those after us.
    this.#tellNews?.()
  }

  // ------------------------------------------------------------------------------------------ both

  #step(step: Parameters<typeof takeStep>[1]): void {
    takeStep(this.#state, step)
  }

  #onPhase(phase: Phase): void {
    this.#emit({ type: 'phase', phase, generation: this.generation })
    if (phase === 'upgrading') this.#emit({ type: 'upgrade', generation: this.generation + 1 })
  }

  /** A hook that throws is told, and costs nothing else. */
  async #runHook(hook: string, run: () => unknown): Promise<unknown> {
    try {
      return await run()
    } catch (error) {
      this.#hookFailed(hook, error)
      return undefined
    }
  }

  #hookFailed(hook: string, thrown: unknown): void {
    const error = thrown instanceof Error ? thrown : new Error(String(thrown))
    // Where nobody listens to events, or the listener is what failed, the fault must still be seen.
    if (this.#options.onEvent === undefined || hook === 'onEvent') process.emitWarning(error)
    if (hook === 'onEvent') channel.publish({ type: 'hook-failed', hook, error } satisfies DaemonEvent)
    else this.#emit({ type: 'hook-failed', hook, error })
  }

  #emit(event: DaemonEvent): void {
    channel.publish(event)
    void this.#tell(event)
  }

  async #tell(event: DaemonEvent): Promise<void> {
    try {
      await this.#options.onEvent?.(event)
    } catch (error) {
      this.#hookFailed('onEvent', error)
    }
  }
}

type Upgrading = Upgraded & { readonly generation: number }

type TicketServer = { getTicketKeys(): Buffer; setTicketKeys(keys: Buffer): void }

function addressText(address: ReturnType<Server['address']>): string {
  if (address === null || typeof address === 'string') return address ?? ''
  return address.family === 'IPv6' ? `[${address.address}]:${address.port}` : `${address.address}:${address.port}`
}

/** Whole milliseconds since now. */
function stopwatch(): () => number {
  const begin = performance.now()
  return () => Math.round(performance.now() - begin)
}

function setTicketKeys(server: Server, keys: string): void {
  ;(server as unknown as TicketServer).setTicketKeys(Buffer.from(keys, 'base64'))
}

function addressName({ port, host, path }: ListenOptions): string {
  if (path !== undefined) return `unix:${resolve(path)}`
  return `tcp:${host ?? '*'}:${port}`
}

async function sendTakeover(link: Link, value: unknown): Promise<void> {
  for (const piece of toPieces(takeoverName, { value, version: 0 })) {
    await new Promise<void>((sent) => link.send(piece, sent))
  }
}

async function inTime<Result>(ms: number, result: Promise<Result>, late: () => never): Promise<Result> {
  let timer: NodeJS.Timeout | undefined
  const end = new Promise<'late'>((settle) => {
    timer = setTimeout(() => settle('late'), ms)
  })
  try {
    const first = await Promise.race([result, end])
    return first === 'late' ? late() : (first as Result)
  } finally {
    clearTimeout(timer)
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((done) => {
    if (signal.aborted) done()
    else signal.addEventListener('abort', () => done(), { once: true })
  })
}
