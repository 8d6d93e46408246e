/** A daemon in steps: the public face of the service. `serve()` is all of them in one call. */

import type { Server, Socket } from 'node:net'
import { resolve } from 'node:path'
import { checkDaemonOptions } from './check.ts'
import { envLameDuck, pidName } from './contract/environment.ts'
import type { Phase } from './contract/phase.ts'
import { beforeUser, openControl } from './control/server.ts'
import { enter } from './enter.ts'
import { CookError, messageOf } from './errors.ts'
import { type DaemonReport, stopService } from './handover/leave.ts'
import { give, retire, takeFrom, upgradeService } from './handover/one-of-several.ts'
import { stopAsBySignal } from './handover/stop.ts'
import { takeAdmin } from './host/admin.ts'
import { listen } from './listen/listen.ts'
import { moveTls } from './move-tls.ts'
import { currentContext, inContext } from './node/context.ts'
import { keepInspectorShut } from './node/signals.ts'
import { beforeRootIsGivenUp } from './node/users.ts'
import {
  type DaemonOptions,
  type DaemonUpgradeOptions,
  type DrainReport,
  type ListenOptions,
  withoutUndefined,
} from './options.ts'
import { keepPidFile } from './process/pid-file.ts'
import type { ProcessState } from './process/state.ts'
import type { Service } from './service.ts'
import { prepareToClone } from './upgrade/cloned-values.ts'
import { ready } from './upgrade/ready.ts'
import { becomeDaemon } from './upgrade/stages.ts'

export type { Daemon, DaemonReport }

/** The place of this process among the workers of a service. */
export type WorkerPlace = {
  /** Number of the slot, from 0. */
  readonly slot: number
  /** Current number of workers. */
  readonly workers: number
}

/**
 * Makes this process a daemon that can be upgraded. With `detach`, it first becomes a background
 * process: the launcher exits here, with 0 once the daemon is ready, or with 1 and the reason on
 * stderr. Options of the command line override these options. Rejects with `ERR_COOK_OPTION` and
 * `ERR_COOK_DAEMON_TWICE`; with a `name` also with `ERR_COOK_NAME_TAKEN` and `ERR_COOK_RUN_DIR`.
 */
export async function createDaemon(options: DaemonOptions = {}): Promise<Daemon> {
  const service = enter('createDaemon()')
  checkDaemonOptions(options)
  if (service.isDaemon) throw new CookError('ERR_COOK_DAEMON_TWICE', {})
  const whole = { ...options, ...wordsOf(service.state) }
  checkDaemonOptions(whole)
  if (whole.detach === true) await detach(service, whole)
  beginDaemon(service, whole)
  try {
    await openControl(service)
    await takeAdmin(service)
  } catch (error) {
    // Nothing was begun: the program may try another name.
    service.isDaemon = false
    throw error
  }
  return new Daemon(service)
}

/** The service is a daemon's from now on. */
export function beginDaemon(service: Service, options: DaemonOptions): void {
  const { state } = service
  service.options = { ...options, ...wordsOf(state) }
  if (options.saveState !== undefined || options.onRelease !== undefined) prepareToClone()
  service.context = currentContext()
  service.isDaemon = true
  moveTls(service)
  service.end = () => stopAsBySignal(service)
  service.renew = () => upgradeService(service, {}, { isSame: true })
  service.sideways = {
    retire: (to) => retire(service, to),
    take: (from) => takeFrom(service, from),
    give: (to, count) => give(service, to, count),
  }
  if (state.program?.logFile !== undefined) state.logFile = resolve(state.program.logFile)
  service.begin()
  keepInspectorShut()
  beforeRootIsGivenUp((user) => keepWhatIsRoots(service, user))
}

/** What this process opens by its name later on, root opens now. */
function keepWhatIsRoots(service: Service, user: number): void {
  beforeUser(service, user)
  const { pidFile } = service.options
  const fd = pidFile === undefined || service.keeper !== undefined ? undefined : keepPidFile(resolve(pidFile))
  if (fd !== undefined) service.handles.addReserved(pidName, 'file', fd)
}

/** What the operator said goes before what the program says. */
function wordsOf({ program = {}, environment }: ProcessState): DaemonOptions {
  const { name, moveConnections, moveTls, moveTlsFor, readyTimeout, drainTimeout, admin, overlap, pidFile } = program
  const { [envLameDuck]: told } = environment
  const lameDuck = program.lameDuck ?? (told === undefined ? undefined : Number(told))
  const times = { readyTimeout, drainTimeout, lameDuck, moveTlsFor, overlap }
  return withoutUndefined({ name, moveConnections, moveTls, admin, pidFile, ...times })
}

/** Returns in the daemon only. Ends the launcher, which has nothing more to do. */
async function detach({ state }: Service, options: DaemonOptions): Promise<void> {
  const { logFile, cwd, umask, readyTimeout } = options
  try {
    if (await becomeDaemon(state, withoutUndefined({ logFile, cwd, umask, readyTimeout, waitReady: true }))) return
  } catch (error) {
    process.stderr.write(`${messageOf(error)}\n`)
    process.exit(1)
  }
  process.exit(0)
}

let open: (daemon: Daemon) => Service

/** For the modules of protocols, which may do what a program may not. */
export function serviceOf(daemon: Daemon): Service {
  return open(daemon)
}

/**
 * A process that serves until its successor does; made by {@link createDaemon}, once for each
 * process.
 */
class Daemon {
  static {
    open = (daemon) => daemon.#service
  }

  readonly #service: Service
  #ready: Promise<void> | undefined

  constructor(service: Service) {
    this.#service = service
  }

  /** 1 for the first start, one more for each successor. */
  get generation(): number {
    return this.#service.generation
  }

  /**
   * The phase of this process. After an upgrade or a stop it is `gone` when everything has drained.
   */
  get phase(): Phase {
    return this.#service.phase
  }

  /** The slot of this process, from 0, and the number of workers; undefined without a keeper. */
  get worker(): WorkerPlace | undefined {
    const { keeper } = this.#service
    return keeper && { slot: keeper.slot, workers: keeper.among.workers }
  }

  /** True if this process was started by an upgrade. */
  get isUpgrade(): boolean {
    return this.#service.state.entered.start.link !== undefined && !this.#service.isFirstStart
  }

  /**
   * Resolves with the report of the connections when this process has nothing more to do, after an
   * upgrade or a stop: exit then. Stays pending if the service comes back because the successor was
   * lost.
   */
  get gone(): Promise<DrainReport> {
    return this.#service.gone.promise
  }

  /**
   * Makes a server listen: on the listener that the old process handed over under this name,
   * otherwise on a new one. Before `ready()`. Takes any `net.Server`: net, http, https, http2.
   * Rejects with `ERR_COOK_LISTEN`, `ERR_COOK_OPTION`, `ERR_COOK_HANDLE_NAME`, and for a Unix path
   * with `ERR_COOK_PATH_IN_USE`, `ERR_COOK_PATH_TOO_LONG` and `ERR_COOK_UNIX_PATH`.
   */
  listen(server: Server, options: ListenOptions): Promise<void> {
    return listen(this.#service, server, options)
  }

  /**
   * The value that `saveState` of the old process returns for this name now; undefined if there is
   * no old process, or it has no `saveState`. Before `ready()`. `versions` are the versions that
   * this program can read (default: all). Rejects with `ERR_COOK_STATE`, `ERR_COOK_STATE_NAME`,
   * `ERR_COOK_STATE_VERSION`, `ERR_COOK_STATE_LATE`, and with `ERR_COOK_REFUSED` or
   * `ERR_COOK_PROTOCOL` if the old process has refused this one: let the error end the program, and
   * the old version still serves.
   */
  async inherited<Type = unknown>(
    name: string,
    { versions }: { readonly versions?: readonly number[] } = {},
  ): Promise<Type | undefined> {
    if (this.#service.hasAnswered) throw new CookError('ERR_COOK_STATE_LATE', {})
    const answer = await this.#service.predecessor?.ask(name)
    if (answer === undefined || (answer.value === undefined && answer.version === 0)) return undefined
    if (versions !== undefined && !versions.includes(answer.version)) {
      throw new CookError('ERR_COOK_STATE_VERSION', { name, version: answer.version, wanted: versions.join(', ') })
    }
    return answer.value as Type
  }

  /**
   * Reports that this process is ready. Resolves at the commit, from which on it owns the service
   * and its pid file. Rejects with `ERR_COOK_REFUSED` or `ERR_COOK_PROTOCOL` if the old process has
   * refused it, and at a first start with `ERR_COOK_PID_FILE` and `ERR_COOK_PID_FILE_TAKEN`: let
   * the error end the program.
   */
  ready(): Promise<void> {
    this.#ready ??= ready(this.#service)
    return this.#ready
  }

  /**
   * Replaces this process with its new version. Resolves at the commit; `drained` of the report
   * resolves when this process has finished what it had accepted. Rejects if the upgrade failed,
   * with the codes of `upgrade()` and with `ERR_COOK_TOO_MANY_GENERATIONS`, `ERR_COOK_NOT_READY`
   * and `ERR_COOK_STOPPING`.
   */
  upgrade(options: DaemonUpgradeOptions = {}): Promise<DaemonReport> {
    return upgradeService(this.#service, options)
  }

  /**
   * Stops this service: stops accepting, finishes requests in flight, closes idle connections.
   * Older generations that still drain do the same, and a running upgrade is aborted. A second
   * call, at least a second after any other stop, cuts the rest. Resolves with the report of the
   * connections; the caller ends the process.
   */
  stop(): Promise<DrainReport> {
    return stopService(this.#service)
  }

  /**
   * Hands a live connection of the program's own protocol to the successor, with a value; call it
   * in an `onDrain` listener. From the call on nothing is read from it here; bytes that were read
   * but not delivered move along. Resolves to true when the successor has it, to false if it stays
   * here. Rejects with `ERR_COOK_HAND_OVER` for a TLS or closed socket, or outside a drain, and
   * with `ERR_COOK_STATE` for a value that cannot be cloned.
   */
  async handOver(name: string, socket: Socket, state?: unknown): Promise<boolean> {
    const { departure } = this.#service
    if (departure === undefined) throw new CookError('ERR_COOK_HAND_OVER', { why: 'there is no successor' })
    return departure.handOver(name, socket, state)
  }

  /**
   * Receives the connections that the old process hands over under a name. The socket is readable,
   * and no data is lost. Before `ready()`.
   */
  onHandedOver(name: string, listener: (socket: Socket, state: unknown) => void): void {
    prepareToClone()
    this.#service.receivers.set(`own:${name}`, { take: listener, context: currentContext() })
  }

  /**
   * Called when this process begins to drain, after an upgrade or at a stop: hand over connections
   * of your own protocol here. A returned promise is awaited before the drain ends.
   */
  onDrain(listener: () => unknown): void {
    this.#service.onDrain.push(inContext(listener))
  }
}
