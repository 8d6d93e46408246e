/** A daemon: its listeners, its state, its upgrades and its end, in steps. `serve()` is all of them in one call. */
import type { Server, Socket } from 'node:net'
import { becomeDaemon } from './core/daemonizing.ts'
import { Mover } from './core/mover.ts'
import { nextPhase, type Phase, type Step } from './core/phase.ts'
import { reclaimPidFile, releasePidFile, writePidFile } from './core/pid-file.ts'
import type { Upgraded, UpgradePhases } from './core/predecessor.ts'
import { takeoverName } from './core/protocol.ts'
import { type Entered, enter, type State } from './core/state.ts'
import { openUnixPath, ownUnixPath } from './core/unix-path.ts'
import { demandCommit, runUpgrade } from './core/upgrading.ts'
import { fromText, toPieces, toText, type Value } from './core/values.ts'
import { drain } from './drain/drainer.ts'
import { armKeepAlive, isTls } from './drain/http.ts'
import { trackSessions } from './drain/http2.ts'
import { CookError, messageOf } from './errors.ts'
import { adoptConnection, startReading, stopReading } from './node/sockets.ts'
import { isAlive } from './node/system.ts'
import {
  checkDaemonOptions,
  checkListenOptions,
  checkUpgradeOptions,
  type DaemonEvent,
  type DaemonOptions,
  type DrainCounts,
  type DrainReport,
  type ListenOptions,
  type UpgradeOptions,
} from './options.ts'

const { resolve } = process.getBuiltinModule('node:path')
const channel = process.getBuiltinModule('node:diagnostics_channel').channel('cook-daemon')

const defaults = { drainTimeout: 30_000, stateTimeout: 10_000, maxGenerations: 4 }

/** What an upgrade that succeeded was like. */
export type DaemonReport = {
  /** Process of the new version. */
  readonly pid: number
  readonly generation: number
  /** What took how long, in milliseconds. */
  readonly phases: UpgradePhases
  /** Resolves when this process has drained. */
  readonly drained: Promise<DrainReport>
}

/**
 * Takes up the life of a daemon in this process. With `detach`, becomes one first: the process that is not the daemon exits here, with 0 once the daemon is ready and with 1
 * and the reason on stderr if it is not. Rejects with `ERR_COOK_OPTION`, `ERR_COOK_DAEMON_TWICE`, and what `daemonize()` rejects with.
 */
export async function createDaemon(options: DaemonOptions = {}): Promise<Daemon> {
  const state = enter('createDaemon()')
  checkDaemonOptions(options)
  if (state.receiver !== undefined) throw new CookError('ERR_COOK_DAEMON_TWICE', {})
  const daemon = new Daemon(state, options)
  if (options.detach === true) {
    const { logFile, cwd, umask, readyTimeout } = options
    const given = { logFile, cwd, umask, readyTimeout, waitReady: true }
    const isDaemon = await becomeDaemon(state, withoutUndefined(given))
    // One of the three places where this library ends a process: the launcher has nothing more to do.
    if (!isDaemon) process.exit(0)
  }
  return daemon
}

type Listener = { readonly name: string; readonly server: Server }

export type { Daemon }

class Daemon {
  readonly #state: State & { readonly entered: Entered }
  readonly #options: DaemonOptions
  readonly #listeners: Listener[] = []
  readonly #receivers = new Map<string, (socket: Socket, state: unknown) => void>()
  readonly #onDrain: (() => unknown)[] = []
  readonly #ownCounts: { -readonly [Name in keyof DrainCounts]: number } = {
    handedOver: 0,
    served: 0,
    closed: 0,
    cut: 0,
  }
  #isReady = false
  #wasTakenOver = false
  #mover: Mover | undefined
  #upgrading: AbortController | undefined
  /** Aborted by the first stop of a process that drains: idle connections are closed. */
  #hurry = new AbortController()
  /** Aborted by the second, and at the deadline. */
  #end = new AbortController()
  #stopped: Promise<DrainReport> | undefined

  constructor(state: State & { readonly entered: Entered }, options: DaemonOptions) {
    this.#state = state
    this.#options = options
    if (state.entered.succession === undefined) state.phase = 'starting'
    state.receiver = {
      onConnection: (to, socket, text) => this.#receive(to, socket, text),
      onTakeover: (value) => this.#takeOver(value),
    }
  }

  /** 1 for the first start, one more for each successor. */
  get generation(): number {
    return this.#state.entered.generation
  }

  get phase(): Phase {
    return this.#state.phase
  }

  /** True if this process was started by an upgrade. */
  get isUpgrade(): boolean {
    return this.#state.entered.start.link !== undefined
  }

  /**
   * Makes a server listen: on the listener that the predecessor handed over under this name, otherwise on a new one. Before `ready()`.
   * Any `net.Server` will do: net, http, https, http2. Rejects with `ERR_COOK_LISTEN`, `ERR_COOK_OPTION`, and for a Unix path with
   * `ERR_COOK_PATH_IN_USE`, `ERR_COOK_PATH_TOO_LONG` and `ERR_COOK_UNIX_PATH`.
   */
  async listen(server: Server, options: ListenOptions): Promise<void> {
    checkListenOptions(options)
    const { registry, entered } = this.#state
    const name = options.name ?? addressName(options)
    if (this.#isReady) throw new CookError('ERR_COOK_LISTEN', { name, why: 'ready() was called already' })
    if (this.#listeners.some((one) => one.name === name || one.server === server)) {
      throw new CookError('ERR_COOK_LISTEN', { name, why: 'another server has this name, or this server has another' })
    }
    this.#listeners.push({ name, server })
    trackSessions(server)
    const kind = options.path === undefined ? 'tcp' : 'unix'
    const inherited = entered.claims.find(name, kind)
    try {
      if (inherited !== undefined) {
        await this.#setTicketKeys(name, server)
        await listening(server, [inherited, options.backlog])
        if (inherited.kind === 'unix') ownUnixPath(this.#state, server, inherited.path)
      } else if (options.path === undefined) {
        await listening(server, [{ port: options.port, host: options.host, backlog: options.backlog }])
      } else {
        await openUnixPath(this.#state, server, options.path, options.mode)
      }
    } catch (cause) {
      this.#listeners.splice(
        this.#listeners.findIndex((one) => one.server === server),
        1,
      )
      if (cause instanceof CookError) throw cause
      throw new CookError('ERR_COOK_LISTEN', { name, why: messageOf(cause) }, { cause })
    }
    registry.add(name, kind, server, false)
  }

  /**
   * The predecessor's value of this name, as its `saveState` hook gives it now; undefined if there is no predecessor, or one without the hook. Before `ready()`.
   * `versions` are those that this program can read. Rejects with `ERR_COOK_STATE`, `ERR_COOK_STATE_VERSION`, `ERR_COOK_STATE_LATE`: let it end the program, and the old version keeps serving.
   */
  async inherited(name: string, { versions }: { readonly versions?: readonly number[] } = {}): Promise<unknown> {
    if (this.#isReady) throw new CookError('ERR_COOK_STATE_LATE', {})
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
  async ready(): Promise<void> {
    if (this.#isReady) return
    this.#isReady = true
    const { succession, launch, claims } = this.#state.entered
    if (succession !== undefined) {
      await succession.notify(true, '')
      const names = claims.closeUnclaimed()
      if (names.length > 0) this.#emit({ type: 'unclaimed', names })
      // A predecessor that was lost cannot tell what its onRelease returned.
      void succession.bye.then(() => this.#takeOver(undefined))
    } else {
      this.#step('serve')
    }
    this.#writePid()
    if (succession === undefined) this.#takeOver(undefined)
    launch?.tell({ type: 'ready' })
    launch?.close()
    this.#emit({ type: 'phase', phase: this.phase, generation: this.generation })
  }

  /**
   * Replaces this process by its new version. Resolves at the commit; the report's `drained` resolves when this process has finished what it had accepted. Rejects if the upgrade failed,
   * with the codes of `upgrade()` and with `ERR_COOK_TOO_MANY_GENERATIONS`: this process keeps serving then.
   */
  async upgrade(options: UpgradeOptions = {}): Promise<DaemonReport> {
    checkUpgradeOptions(options)
    demandCommit('upgrade()', this.#state.entered)
    if (!this.#isReady) throw new CookError('ERR_COOK_NOT_COMMITTED', { verb: 'upgrade()', predecessor: process.pid })
    this.#checkGenerations()
    const { readyTimeout, overlap } = this.#options
    const stop = new AbortController()
    const signal = options.signal === undefined ? stop.signal : AbortSignal.any([stop.signal, options.signal])
    const given = withoutUndefined({ readyTimeout, overlap })
    this.#upgrading ??= stop
    this.#emit({ type: 'upgrade', generation: this.generation + 1 })
    try {
      const upgraded = await runUpgrade(
        this.#state,
        'upgrade()',
        { stage: 'daemon', ...given, ...options, signal },
        { tickets: this.#ticketKeys(), save: (name) => this.#save(name) },
      )
      const { pid, generation, phases } = upgraded
      this.#emit({ type: 'upgraded', pid, generation })
      const drained = this.#drainTo(upgraded)
      return { pid, generation, phases, drained }
    } catch (error) {
      this.#emit({ type: 'upgrade-failed', error: error as Error })
      throw error
    } finally {
      if (this.#upgrading === stop) this.#upgrading = undefined
    }
  }

  /**
   * Ends this process's service without a successor: stops accepting, finishes what is in flight, closes what is idle. Called while it drains already, it closes what is idle at once, and
   * called again it cuts the rest. Resolves with what became of the connections; ending the process is left to the caller.
   */
  async stop(): Promise<DrainReport> {
    if (this.#upgrading !== undefined) {
      this.#upgrading.abort()
      while (this.phase === 'upgrading' || this.phase === 'overlapping') await new Promise((done) => setImmediate(done))
    }
    if (this.#stopped !== undefined) {
      if (this.#hurry.signal.aborted) this.#end.abort()
      this.#hurry.abort()
      return this.#stopped
    }
    this.#step('stop')
    this.#stopped = this.#drain(undefined).then(({ report }) => {
      if (this.#options.pidFile !== undefined) releasePidFile(resolve(this.#options.pidFile))
      return report
    })
    return this.#stopped
  }

  /**
   * Hands a live connection of the program's own protocol to the successor, with a value that goes along; call it in an `onDrain` listener. From the call on nothing is read from it here. Resolves to true when the
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
    stopReading(socket)
    // What the program has written goes out first.
    if (socket.writableLength > 0) await new Promise<void>((written) => socket.write('', () => written()))
    const moved = await mover.move(socket, `own:${name}`, { isFree: () => true, state: text })
    if (moved === 'moved') this.#ownCounts.handedOver++
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

  async #setTicketKeys(name: string, server: Server): Promise<void> {
    if (!isTls(server)) return
    const keys = (await this.#state.entered.succession?.tickets)?.[name]
    if (keys !== undefined) (server as unknown as TicketServer).setTicketKeys(Buffer.from(keys, 'base64'))
  }

  #receive(to: string, socket: Socket, text: string | undefined): boolean {
    if (this.#mover?.isOpen === true) {
      // We are on our way out ourselves: on to our own successor.
      stopReading(socket)
      void this.#mover.move(socket, to, { isFree: () => true, state: text, isUrgent: true })
      return true
    }
    const listener = this.#listeners.find(({ name }) => name === to)
    if (listener?.server.listening === true) {
      armKeepAlive(listener.server, socket)
      adoptConnection(listener.server, socket)
      return true
    }
    const own = this.#receivers.get(to)
    if (own === undefined) return false
    own(socket, text === undefined ? undefined : fromText(text))
    return true
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
      const names = Object.keys(saveState).join(', ') || 'none'
      throw new CookError('ERR_COOK_STATE', {
        name,
        why: `the predecessor has no state of that name; it has: ${names}`,
      })
    }
    const value = await inTime(stateTimeout, Promise.resolve(hook.save()), () => {
      throw new CookError('ERR_COOK_STATE', { name, why: `its save() took longer than ${stateTimeout} ms` })
    })
    return { value, version: hook.version ?? 0 }
  }

  async #drainTo(upgraded: Upgraded & { readonly generation: number }): Promise<DrainReport> {
    const { link, onLink } = upgraded
    const mover = new Mover(link)
    onLink((event) => mover.onLink(event))
    this.#mover = mover
    const released = this.#release(upgraded)
    const drained = this.#drain(mover)
    this.#stopped = drained.then(({ report }) => report)
    const { report, isBack } = await drained
    await released
    if (isBack) {
      this.#comeBack(upgraded.generation)
      return report
    }
    // Connections of our own predecessor go through us: it leaves first.
    await Promise.race([this.#state.entered.succession?.bye, aborted(this.#end.signal)])
    await new Promise<void>((sent) => link.send({ type: 'bye' }, sent))
    link.close()
    return report
  }

  async #release({ link }: Upgraded): Promise<void> {
    const value = await this.#runHook('onRelease', () => this.#options.onRelease?.())
    try {
      for (const piece of toPieces(takeoverName, { value, version: 0 })) {
        await new Promise<void>((sent) => link.send(piece, sent))
      }
    } catch (error) {
      this.#emit({ type: 'hook-failed', hook: 'onRelease', error: error as Error })
    }
  }

  async #drain(mover: Mover | undefined): Promise<{ report: DrainReport; isBack: boolean }> {
    const deadline = this.#end
    const timer = setTimeout(() => deadline.abort(), this.#options.drainTimeout ?? defaults.drainTimeout)
    this.#emit({ type: 'phase', phase: this.phase, generation: this.generation })
    const rule = this.#options.handOver ?? true
    const own = Promise.all(this.#onDrain.map((listener) => this.#runHook('onDrain', listener)))
    const { counts, isBack } = await drain({
      servers: this.#listeners.map(({ name, server }) => ({ name, server, mover, rule })),
      deadline: deadline.signal,
      hurry: this.#hurry.signal,
      isStop: mover === undefined,
    })
    await Promise.race([own, aborted(deadline.signal)])
    clearTimeout(timer)
    const report = toReport(counts, this.#ownCounts)
    if (!isBack) this.#step('end')
    this.#emit({ type: 'drained', report })
    return { report, isBack }
  }

  /** The successor died while we were still accepting: the service is ours again. */
  #comeBack(generation: number): void {
    this.#mover = undefined
    this.#stopped = undefined
    this.#end = new AbortController()
    this.#hurry = new AbortController()
    delete this.#state.hasSuccessor
    this.#step('return')
    if (this.#state.pidFile !== undefined) reclaimPidFile(this.#state.pidFile)
    this.#emit({ type: 'successor-lost', generation })
    this.#wasTakenOver = false
    this.#takeOver(undefined)
  }

  // ------------------------------------------------------------------------------------------ both

  #step(step: Step): void {
    this.#state.phase = nextPhase(this.#state.phase, step)
  }

  /** A hook that throws is told, and costs nothing else. */
  async #runHook(hook: string, run: () => unknown): Promise<unknown> {
    try {
      return await run()
    } catch (error) {
      this.#emit({ type: 'hook-failed', hook, error: error as Error })
      return undefined
    }
  }

  #emit(event: DaemonEvent): void {
    channel.publish(event)
    try {
      this.#options.onEvent?.(event)
    } catch (error) {
      // A listener's fault is the program's, but not in the middle of an upgrade.
      setImmediate(() => {
        throw error
      })
    }
  }
}

type TicketServer = { getTicketKeys(): Buffer; setTicketKeys(keys: Buffer): void }

function addressName({ port, host, path }: ListenOptions): string {
  if (path !== undefined) return `unix:${resolve(path)}`
  return `tcp:${host ?? '*'}:${port}`
}

function listening(server: Server, args: readonly unknown[]): Promise<void> {
  return new Promise((done, failed) => {
    const settle = (error?: Error) => {
      server.removeListener('error', settle)
      server.removeListener('listening', settle)
      if (error === undefined) done()
      else failed(error)
    }
    server.once('error', settle).once('listening', settle)
    server.listen(...(args as Parameters<Server['listen']>))
  })
}

function toReport(counts: ReadonlyMap<string, DrainCounts>, own: DrainCounts): DrainReport {
  const all = [...counts.values(), own]
  const sum = (name: keyof DrainCounts) => all.reduce((total, one) => total + one[name], 0)
  return {
    handedOver: sum('handedOver'),
    served: Math.max(0, sum('served') - own.handedOver),
    closed: sum('closed'),
    cut: sum('cut'),
    listeners: Object.fromEntries(counts),
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

/** exactOptionalPropertyTypes: an option that is not given is not there. */
function withoutUndefined<Options extends object>(
  options: Options,
): { [Name in keyof Options]: NonNullable<Options[Name]> } {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as never
}
