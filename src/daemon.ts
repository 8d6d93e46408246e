/** A daemon: its listeners, its state, its upgrades and its end, in steps. `serve()` is all of them in one call. */
import type { Server, Socket } from 'node:net'
import type { News, ProgramRecord } from './contract/messages.ts'
import type { Phase } from './contract/phase.ts'
import { commandsOf } from './control/commands.ts'
import { recordOf } from './control/facts.ts'
import { type Control, openControl } from './control/server.ts'
import { defaults } from './defaults.ts'
import { CookError, messageOf } from './errors.ts'
import type { OwnDrain } from './handover/drain.ts'
import { armKeepAlive } from './handover/http.ts'
import { type DrainHooks, type DrainView, Leaving, type Listener } from './handover/leave.ts'
import { trackSessions } from './handover/sessions.ts'
import { History } from './history.ts'
import { listening } from './listen/listen.ts'
import { listenBehind } from './listen/listen-behind.ts'
import { checkName, tcpName, unixName } from './listen/registry.ts'
import { setTicketKeys } from './listen/tickets.ts'
import { openUnixPath, ownUnixPath } from './listen/unix-path.ts'
import { now } from './node/clock.ts'
import { isHttp, isTls } from './node/servers.ts'
import { adoptConnection, type ListenerHandle, listenerHandle, tieConnection } from './node/sockets.ts'
import {
  checkDaemonOptions,
  checkListenOptions,
  type DaemonizeOptions,
  type DaemonOptions,
  type DaemonUpgradeOptions,
  type DrainReport,
  type HandOverRule,
  type ListenOptions,
  withoutUndefined,
} from './options.ts'
import { writePidFile } from './process/pid-file.ts'
import { type EnteredState, enter, keepInspectorShut, takeStep } from './process/state.ts'
import { Teller } from './service.ts'
import { fromText } from './upgrade/cloned-values.ts'
import type { UpgradeStep } from './upgrade/predecessor.ts'
import { becomeDaemon } from './upgrade/stages.ts'
import type { Arrival, Destination } from './upgrade/successor.ts'
import { type DaemonReport, noteUpgrade, replace } from './upgrade/upgrades.ts'

const { resolve } = process.getBuiltinModule('node:path')

/**
 * Takes up the life of a daemon in this process. With `detach`, becomes one first: the process that is not the daemon exits here, with 0 once the daemon is ready and with 1
 * and the reason on stderr if it is not. What the operator told the command line goes before the options. Rejects with `ERR_COOK_OPTION` and `ERR_COOK_DAEMON_TWICE`; with a `name`
 * also with `ERR_COOK_NAME_TAKEN` and `ERR_COOK_RUN_DIR`.
 */
export async function createDaemon(options: DaemonOptions = {}): Promise<Daemon> {
  const plan = enterAs('createDaemon()', options)
  if (plan.options.detach === true) {
    const { logFile, cwd, umask, readyTimeout } = plan.options
    await detach(plan.state, withoutUndefined({ logFile, cwd, umask, readyTimeout, waitReady: true }))
  }
  const daemon = begin(plan)
  await insideOf(daemon).openControl()
  return daemon
}

/** For the preload, which has entered already. Without the control socket: that is opened when it is known that the program brings no daemon of its own. */
export function takeUp(state: EnteredState, options: DaemonOptions): Daemon {
  return begin({ state, options: checkedWith(state, options) })
}

type Plan = { readonly state: EnteredState; readonly options: DaemonOptions }

function enterAs(verb: string, given: DaemonOptions): Plan {
  const state = enter(verb)
  checkDaemonOptions(given)
  const options = checkedWith(state, given)
  if (state.receiver !== undefined) throw new CookError('ERR_COOK_DAEMON_TWICE', {})
  return { state, options }
}

/** What the operator said goes before what the program says. */
function checkedWith({ program }: EnteredState, given: DaemonOptions): DaemonOptions {
  const options = { ...given, ...wordsOf(program) }
  checkDaemonOptions(options)
  return options
}

function begin({ state, options }: Plan): Daemon {
  if (state.program?.logFile !== undefined) state.logFile = resolve(state.program.logFile)
  if (state.entered.succession === undefined) state.phase = 'starting'
  keepInspectorShut()
  return new Daemon(state, options)
}

function wordsOf(program: ProgramRecord | undefined): DaemonOptions {
  if (program === undefined) return {}
  const { name, handOver, readyTimeout, drainTimeout, overlap, pidFile } = program
  return withoutUndefined({ name, handOver, readyTimeout, drainTimeout, overlap, pidFile })
}

/** Returns in the daemon only. Ends the launcher, which has nothing more to do. */
async function detach(state: EnteredState, options: DaemonizeOptions): Promise<void> {
  try {
    if (await becomeDaemon(state, options)) return
  } catch (error) {
    process.stderr.write(`${messageOf(error)}\n`)
    process.exit(1)
  }
  process.exit(0)
}

export type { Daemon, DaemonReport }

/** What a module of a protocol of its own (ws/, preload/) may do that a program may not. */
export type Inside = {
  isReady(): boolean
  /** Of a daemon with a name. */
  openControl(): Promise<void>
  /** A server that the program itself made listen, at any time: it is drained, and handed over, as one of listen(). */
  admit(name: string, kind: 'tcp' | 'unix', server: Server, oldName: string | undefined): void
  /** Its listener was closed: it is handed over no more, and it is drained only as long as it has connections. */
  dismiss(server: Server): void
  /** The program ends this process itself: an upgrade that runs is given up, and older generations come to an end. */
  leaveToProgram(): void
  onDrain(begin: (view: DrainView) => OwnDrain): void
  /** When the time of the drain that runs, or has ended, is over, by now(). */
  drainEndsAt(): number
  /** For a connection of the protocol of this name. */
  arrival(name: string, socket: Socket): Destination
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

  readonly #state: EnteredState
  readonly #options: DaemonOptions
  readonly #listeners: Listener[] = []
  readonly #receivers = new Map<string, (socket: Socket, state: unknown) => void>()
  readonly #history = new History()
  readonly #teller: Teller
  readonly #drainHooks: DrainHooks = { listeners: [], own: [] }
  #leavingMade: Leaving | undefined
  #ready: Promise<void> | undefined
  #wasTakenOver = false
  #upgrading: { readonly stop: AbortController; readonly ended: Promise<unknown> } | undefined
  #control: Control | undefined

  constructor(state: EnteredState, options: DaemonOptions) {
    this.#state = state
    this.#options = options
    this.#teller = new Teller(options.onEvent)
    state.receiver = {
      onConnection: (arrival, socket) => this.#receive(arrival, socket),
      onTakeover: (value) => this.#takeOver(value),
      onNews: (news) => this.#takeNews(news),
      onOverdue: ([pid]) => this.#teller.emit({ type: 'predecessor-killed', pid }),
      onPhase: (phase) => this.#onPhase(phase),
    }
  }

  /** Made when an upgrade, a stop or the control socket first asks for it: what it is made of is no part of a start. */
  get #leaving(): Leaving {
    this.#leavingMade ??= new Leaving({
      state: this.#state,
      teller: this.#teller,
      listeners: this.#listeners,
      history: this.#history,
      hooks: this.#drainHooks,
      rule: () => this.#rule(),
      onRelease: () => this.#options.onRelease?.(),
      control: () => this.#control,
      record: () => recordOf({ state: this.#state, listeners: this.#listeners }),
      onReturn: (error) => this.#return(error),
    })
    return this.#leavingMade
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
    const kind = options.path === undefined ? 'tcp' : 'unix'
    const inherited = entered.claims.claimOne(name, kind)
    this.#listeners.push({ name, server, ...(inherited && { oldName: name }) })
    trackSessions(server)
    const backlog = options.backlog ?? inherited?.backlog
    if (backlog !== undefined) registry.backlogs.set(server, backlog)
    try {
      if (inherited !== undefined) {
        await this.#setTicketKeys(name, server)
        const listen = () => server.listen(inherited, backlog)
        await listening(server, () => listenBehind(entered.succession, server, listen))
        if (inherited.kind === 'unix') ownUnixPath(this.#state, server, inherited.path)
      } else if (options.path === undefined) {
        await listening(server, () => server.listen({ port: options.port, host: options.host, backlog }))
      } else {
        await openUnixPath(this.#state, server, options.path, options)
      }
      if (!server.listening) throw new Error('it was closed as soon as it listened')
      registry.addListening(name, kind, server)
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
   * `versions` are those that this program can read, by default all. Rejects with `ERR_COOK_STATE`, `ERR_COOK_STATE_NAME`, `ERR_COOK_STATE_VERSION`, `ERR_COOK_STATE_LATE`, and with `ERR_COOK_REFUSED` or
   * `ERR_COOK_PROTOCOL` if the predecessor has given up on this process: let it end the program, and the old version keeps serving.
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
   * Says that this process serves. Resolves at the commit, from which on it owns the service and its pid file. Rejects with `ERR_COOK_REFUSED` or `ERR_COOK_PROTOCOL` if the predecessor has given up on it, and
   * in a first start with `ERR_COOK_PID_FILE` and `ERR_COOK_PID_FILE_TAKEN`: let that end the program.
   */
  ready(): Promise<void> {
    this.#ready ??= this.#serve()
    return this.#ready
  }

  /**
   * Replaces this process by its new version. Resolves at the commit; the report's `drained` resolves when this process has finished what it had accepted. Rejects if the upgrade failed,
   * with the codes of `upgrade()` and with `ERR_COOK_TOO_MANY_GENERATIONS`, `ERR_COOK_NOT_READY` and `ERR_COOK_STOPPING`: this process keeps serving then.
   */
  async upgrade(options: DaemonUpgradeOptions = {}): Promise<DaemonReport> {
    return this.#upgrade(options, () => {})
  }

  async #upgrade(options: DaemonUpgradeOptions, onStep: (step: UpgradeStep) => void): Promise<DaemonReport> {
    const stop = new AbortController()
    const daemon = {
      state: this.#state,
      options: this.#options,
      listeners: this.#listeners,
      history: this.#history,
      teller: this.#teller,
      leaving: this.#leaving,
      drainTimeout: this.#drainTimeout,
      control: () => this.#control,
    }
    const replacing = replace(daemon, options, stop.signal, onStep)
    const own = { stop, ended: replacing.catch(() => {}) }
    this.#upgrading ??= own
    try {
      return await replacing
    } catch (error) {
      this.#teller.emit({ type: 'upgrade-failed', error: error as Error })
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
    if (this.phase === 'starting') await this.#state.entered.succession?.notify(false, 'it was stopped')
    return this.#leaving.stop(this.#drainTimeout)
  }

  /**
   * Hands a live connection of the program's own protocol to the successor, with a value that goes along; call it in an `onDrain` listener. From the call on nothing is read from it here, and what was read but given to nobody goes along. Resolves to true when the
   * successor has it, false if it stays here after all. Rejects with `ERR_COOK_HAND_OVER` for a TLS or closed socket, or outside a drain, and with `ERR_COOK_STATE` for a value that cannot be cloned.
   */
  async handOver(name: string, socket: Socket, state?: unknown): Promise<boolean> {
    return this.#leaving.handOver(name, this.#ownArrival(name, socket), socket, state)
  }

  /** Takes the connections that the predecessor hands over under a name. The socket is readable and nothing of it is lost. Before `ready()`. */
  onHandedOver(name: string, listener: (socket: Socket, state: unknown) => void): void {
    this.#receivers.set(`own:${name}`, listener)
  }

  /** Called when this process begins to drain, after an upgrade or at a stop: the time to hand over connections of one's own. What it returns is awaited before the drain ends. */
  onDrain(listener: () => unknown): void {
    this.#drainHooks.listeners.push(listener)
  }

  // ------------------------------------------------------------------------------------------ the new side

  async #serve(): Promise<void> {
    const { succession, launch, claims } = this.#state.entered
    if (succession !== undefined) {
      await succession.notify(true, '')
      succession.sendSpares(this.#claimed())
      await this.#teller.runHook('control', () => this.#control?.takeOver())
      const names = claims.closeUnclaimed()
      if (names.length > 0) this.#teller.emit({ type: 'unclaimed', names })
      // A predecessor that was lost cannot tell what its onRelease returned.
      void succession.bye.then(() => {
        this.#takeOver(undefined)
        this.#history.forget()
      })
      // Too late for a no: the service is ours, and goes on.
      await this.#teller.runHook('pidFile', () => this.#writePid())
    } else {
      this.#writePid()
      takeStep(this.#state, 'serve')
      this.#takeOver(undefined)
    }
    launch?.tell({ type: 'ready' })
    launch?.close()
  }

  async #setTicketKeys(name: string, server: Server): Promise<void> {
    if (!isTls(server)) return
    const tickets = await this.#state.entered.succession?.tickets()
    // A listener may be called `constructor`.
    if (tickets !== undefined && Object.hasOwn(tickets, name)) setTicketKeys(server, String(tickets[name]))
  }

  #admit(name: string, kind: 'tcp' | 'unix', server: Server, oldName: string | undefined): void {
    this.#listeners.push({ name, server, ...(oldName !== undefined && { oldName }) })
    this.#state.registry.addListening(name, kind, server)
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
    const keep = () => this.#keep(arrival, socket)
    return this.#leavingMade?.passOn(arrival, socket, keep) || keep()
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
    let value: unknown
    try {
      value = state === undefined ? undefined : fromText(state)
    } catch (error) {
      // A newer Node may have cloned what this one does not know: that costs one connection, not the service.
      this.#teller.hookFailed('onHandedOver', error)
      return false
    }
    // One of its listener's, as where it was accepted: counted there, and waited for.
    const home = from === undefined ? undefined : this.#serverOf(from)
    if (home?.listening === true) tieConnection(home, socket)
    own(socket, value)
    return true
  }

  #serverOf(listener: string): Server | undefined {
    return this.#listeners.find(({ name, oldName }) => name === listener || oldName === listener)?.server
  }

  /** Handles of the listeners that we have from the predecessor, by its names of them. */
  #claimed(): ReadonlyMap<string, ListenerHandle> {
    const claimed = this.#listeners.flatMap(({ oldName, server }) => {
      const handle = oldName === undefined ? undefined : listenerHandle(server)
      return oldName === undefined || handle === undefined ? [] : [[oldName, handle] as const]
    })
    return new Map(claimed)
  }

  #ownArrival(name: string, socket: Socket): Destination {
    return { to: `own:${name}`, listener: this.#leaving.listenerOf(socket)?.name }
  }

  /** Once in a life, unless the successor is lost and everything comes back. */
  #takeOver(value: unknown): void {
    if (this.#wasTakenOver) return
    this.#wasTakenOver = true
    void this.#teller.runHook('onTakeover', () => this.#options.onTakeover?.(value))
  }

  #writePid(): void {
    if (this.#options.pidFile === undefined) return
    const path = resolve(this.#options.pidFile)
    writePidFile(path, this.#state.entered.succession?.living ?? [])
    this.#state.pidFile = path
  }

  // ------------------------------------------------------------------------------------------ the old side

  /** A function that throws is told of once, and hands nothing over. */
  #rule(): HandOverRule {
    const { handOver = true } = this.#options
    if (typeof handOver === 'boolean') return handOver
    let hasFailed = false
    return (socket) => {
      try {
        return handOver(socket) === true
      } catch (error) {
        if (!hasFailed) this.#teller.hookFailed('handOver', error)
        hasFailed = true
        return false
      }
    }
  }

  /** The successor is dead, and the service is ours again. */
  #return(error: CookError): void {
    noteUpgrade(this.#history, { generation: this.generation + 1, begin: now(), code: error.code })
    this.#wasTakenOver = false
    this.#takeOver(undefined)
  }

  // ------------------------------------------------------------------------------------------ what is told of it

  async #openControl(): Promise<void> {
    const { name } = this.#options
    if (name === undefined) return
    try {
      const facts = {
        state: this.#state,
        listeners: this.#listeners,
        history: this.#history,
        drainTimeout: this.#drainTimeout,
      }
      const commands = commandsOf({
        name,
        facts,
        leaving: this.#leaving,
        upgrade: (options, onStep) => this.#upgrade(options, onStep),
        stop: () => void this.stop(),
      })
      this.#control = await openControl(this.#state, name, commands)
    } catch (error) {
      delete this.#state.receiver
      throw error
    }
  }

  get #drainTimeout(): number {
    return this.#options.drainTimeout ?? defaults.drainTimeout
  }

  #takeNews(news: News): void {
    this.#history.take(news)
    this.#leavingMade?.tellNews()
  }

  // ------------------------------------------------------------------------------------------ both

  #inside(): Inside {
    return {
      isReady: () => this.#ready !== undefined,
      openControl: () => this.#openControl(),
      admit: (name, kind, server, oldName) => this.#admit(name, kind, server, oldName),
      dismiss: (server) => this.#dismiss(server),
      leaveToProgram: () => {
        this.#upgrading?.stop.abort()
        this.#state.entered.succession?.stop()
      },
      onDrain: (begin) => this.#drainHooks.own.push(begin),
      drainEndsAt: () => this.#leaving.endsAt,
      arrival: (name, socket) => this.#ownArrival(name, socket),
      hookFailed: (hook, thrown) => this.#teller.hookFailed(hook, thrown),
    }
  }

  #onPhase(phase: Phase): void {
    this.#teller.emit({ type: 'phase', phase, generation: this.generation })
    if (phase === 'upgrading') this.#teller.emit({ type: 'upgrade', generation: this.generation + 1 })
  }
}

function addressName({ port, host, path }: ListenOptions): string {
  return path === undefined ? tcpName(host, port) : unixName(resolve(path))
}
