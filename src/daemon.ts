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
import { ready } from './upgrade/ready.ts'
import { becomeDaemon } from './upgrade/stages.ts'

export type { Daemon, DaemonReport }

/** Which of the processes that serve side by side this one is. */
export type WorkerPlace = {
  /** Counted from 0. */
  readonly slot: number
  /** How many there are now. */
  readonly workers: number
}

/**
 * Takes up the life of a daemon in this process. With `detach`, becomes one first: the process that
 * is not the daemon exits here, with 0 once the daemon is ready and with 1 and the reason on stderr
 * if it is not. What the operator told the command line goes before the options. Rejects with
 * `ERR_COOK_OPTION` and `ERR_COOK_DAEMON_TWICE`; with a `name` also with `ERR_COOK_NAME_TAKEN` and
 * `ERR_COOK_RUN_DIR`.
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
 * A process that serves until its successor does; {@link createDaemon} makes it. One for each
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
   * Where this process is in its life. After an upgrade or a stop it is `gone` when everything has
   * drained.
   */
  get phase(): Phase {
    return this.#service.phase
  }

  /**
   * The place of this process among those that serve side by side, counted from 0, and how many
   * there are; undefined without a keeper.
   */
  get worker(): WorkerPlace | undefined {
    const { keeper } = this.#service
    return keeper && { slot: keeper.slot, workers: keeper.among.workers }
  }

  /** True if this process was started by an upgrade. */
  get isUpgrade(): boolean {
    return this.#service.state.entered.start.link !== undefined && !this.#service.isFirstStart
  }

  /**
   * Resolves with what became of the connections when this process has nothing more to do, after an
   * upgrade or at a stop: end it then. Stays pending while the service comes back because the
   * successor was lost.
   */
  get gone(): Promise<DrainReport> {
    return this.#service.gone.promise
  }

  /**
   * Makes a server listen: on the listener that the predecessor handed over under this name,
   * otherwise on a new one. Before `ready()`. Any `net.Server` will do: net, http, https, http2.
   * Rejects with `ERR_COOK_LISTEN`, `ERR_COOK_OPTION`, `ERR_COOK_HANDLE_NAME`, and for a Unix path
   * with `ERR_COOK_PATH_IN_USE`, `ERR_COOK_PATH_TOO_LONG` and `ERR_COOK_UNIX_PATH`.
   */
  listen(server: Server, options: ListenOptions): Promise<void> {
    return listen(this.#service, server, options)
  }

  /**
   * The predecessor's value of this name, as its `saveState` hook gives it now; undefined if there
   * is no predecessor, or one without the hook. Before `ready()`. `versions` are those that this
   * program can read, by default all. Rejects with `ERR_COOK_STATE`, `ERR_COOK_STATE_NAME`,
   * `ERR_COOK_STATE_VERSION`, `ERR_COOK_STATE_LATE`, and with `ERR_COOK_REFUSED` or
   * `ERR_COOK_PROTOCOL` if the predecessor has given up on this process: let it end the program,
   * and the old version keeps serving.
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
   * Says that this process serves. Resolves at the commit, from which on it owns the service and
   * its pid file. Rejects with `ERR_COOK_REFUSED` or `ERR_COOK_PROTOCOL` if the predecessor has
   * given up on it, and in a first start with `ERR_COOK_PID_FILE` and `ERR_COOK_PID_FILE_TAKEN`:
   * let that end the program.
   */
  ready(): Promise<void> {
    this.#ready ??= ready(this.#service)
    return this.#ready
  }

  /**
   * Replaces this process by its new version. Resolves at the commit; the report's `drained`
   * resolves when this process has finished what it had accepted. Rejects if the upgrade failed,
   * with the codes of `upgrade()` and with `ERR_COOK_TOO_MANY_GENERATIONS`, `ERR_COOK_NOT_READY`
   * and `ERR_COOK_STOPPING`: this process keeps serving then.
   */
  upgrade(options: DaemonUpgradeOptions = {}): Promise<DaemonReport> {
    return upgradeService(this.#service, options)
  }

  /**
   * Ends this process's service: stops accepting, finishes what is in flight, closes what is idle;
   * older generations that still drain do the same, and an upgrade that runs is given up. Called
   * again, or in a process that drains after an upgrade for the second time, it cuts the rest: but
   * within a second of another stop, however that was asked for, it is the same stop.
   * Resolves with what became of the connections; ending the process is left to the caller.
   */
  stop(): Promise<DrainReport> {
    return stopService(this.#service)
  }

  /**
   * Hands a live connection of the program's own protocol to the successor, with a value that goes
   * along; call it in an `onDrain` listener. From the call on nothing is read from it here, and
   * what was read but given to nobody goes along. Resolves to true when the successor has it, false
   * if it stays here after all. Rejects with `ERR_COOK_HAND_OVER` for a TLS or closed socket, or
   * outside a drain, and with `ERR_COOK_STATE` for a value that cannot be cloned.
   */
  async handOver(name: string, socket: Socket, state?: unknown): Promise<boolean> {
    const { departure } = this.#service
    if (departure === undefined) throw new CookError('ERR_COOK_HAND_OVER', { why: 'there is no successor' })
    return departure.handOver(name, socket, state)
  }

  /**
   * Takes the connections that the predecessor hands over under a name. The socket is readable and
   * nothing of it is lost. Before `ready()`.
   */
  onHandedOver(name: string, listener: (socket: Socket, state: unknown) => void): void {
    this.#service.receivers.set(`own:${name}`, { take: listener, context: currentContext() })
  }

  /**
   * Called when this process begins to drain, after an upgrade or at a stop: the time to hand over
   * connections of one's own. What it returns is awaited before the drain ends.
   */
  onDrain(listener: () => unknown): void {
    this.#service.onDrain.push(inContext(listener))
  }
}
