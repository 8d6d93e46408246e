/** The verbs of the original Go API: daemonize, inherit and hand on handles, upgrade, notify. */

import type { Socket as UdpSocket } from 'node:dgram'
import type { Server } from 'node:net'
import { resolve } from 'node:path'
import { checkDaemonizeOptions, checkListenUnixOptions, checkUpgradeOptions } from '../check.ts'
import type { HandleKind } from '../contract/environment.ts'
import { enter, preloadInCharge } from '../enter.ts'
import { CookError } from '../errors.ts'
import { openUnixPath, ownUnixPath } from '../listen/unix-path.ts'
import { keepInspectorShut } from '../node/signals.ts'
import type { DaemonizeOptions, ListenUnixOptions, UpgradeOptions, UpgradeResult } from '../options.ts'
import type { HandleSource, Inherited } from '../process/handles.ts'
import { writePidFile } from '../process/pid-file.ts'
import { becomeItsUser } from '../process/user.ts'
import { upgradeText, withText } from '../report.ts'
import type { Service } from '../service.ts'
import { demandCommit, replace } from '../upgrade/replace.ts'
import { becomeDaemon } from '../upgrade/stages.ts'

/** A TCP listener of the predecessor: give it to `server.listen(inherited)`. */
export type InheritedListener = {
  /** Kind of the handle. */
  readonly kind: 'tcp'
  /** The name under which the predecessor registered it. */
  readonly name: string
  /** Its descriptor, for `server.listen()`. */
  readonly fd: number
  /** Address to which it is bound. */
  readonly address: string
  /** Port to which it is bound. */
  readonly port: number
  /** Family of the address. */
  readonly family: 'IPv4' | 'IPv6'
}

/**
 * A Unix listener of the predecessor: give it to `server.listen(inherited)`. `server.address()` of
 * Node does not return its path; `path` has it.
 */
export type InheritedUnixListener = {
  /** Kind of the handle. */
  readonly kind: 'unix'
  /** The name under which the predecessor registered it. */
  readonly name: string
  /** Its descriptor, for `server.listen()`. */
  readonly fd: number
  /** Path by which clients find it. */
  readonly path: string
}

/** A UDP socket of the predecessor: give it to `socket.bind(inherited)`. */
export type InheritedUdpSocket = {
  /** Kind of the handle. */
  readonly kind: 'udp'
  /** The name under which the predecessor registered it. */
  readonly name: string
  /** Its descriptor, for `socket.bind()`. */
  readonly fd: number
  /** Address to which it is bound. */
  readonly address: string
  /** Port to which it is bound. */
  readonly port: number
  /** Family of the address. */
  readonly family: 'IPv4' | 'IPv6'
}

/** A plain descriptor of the predecessor, for `node:fs`. */
export type InheritedFile = {
  /** Kind of the handle. */
  readonly kind: 'file'
  /** The name under which the predecessor registered it. */
  readonly name: string
  /** The descriptor. */
  readonly fd: number
}

/**
 * Turns this process into a daemon: `Daemonize()` of the original Go API. Resolves to true in the
 * daemon, and to false in the process that must now exit, which is the launcher, or in an upgrade
 * the process between two daemons. The daemon is a new process with its own session, without a
 * terminal, and with stdin from /dev/null. It is a session leader, so a terminal opened without
 * O_NOCTTY would become its controlling terminal: Node has no second fork.
 *
 * Rejects only in a process that would exit: `ERR_COOK_DAEMON_SPAWN`, `ERR_COOK_DAEMON_EXITED`
 * (with exit code, signal and last stderr lines), `ERR_COOK_DAEMON_FAILED`,
 * `ERR_COOK_DAEMON_TIMEOUT`, `ERR_COOK_OPTION`. Nothing is left running then.
 */
export async function daemonize(options: DaemonizeOptions = {}): Promise<boolean> {
  const { state } = enter('daemonize()')
  checkDaemonizeOptions(options)
  return becomeDaemon(state, options)
}

/**
 * True in a process that was started by an upgrade, from its start on: `In_upgrade()` of the
 * original Go API. Throws `ERR_COOK_ENVIRONMENT` if the environment is broken.
 */
export function inUpgrade(): boolean {
  return inherits(enter('inUpgrade()', { isQuestion: true }))
}

/**
 * Claims the TCP listeners that the old process registered under a name, in the order in which it
 * added them: `Inherit_TCPListeners(name)` of the original Go API. Give each to
 * `server.listen(inherited)`; both processes accept until the old one closes. A process can listen
 * on a descriptor only once. Throws `ERR_COOK_NOT_IN_UPGRADE`, `ERR_COOK_UNKNOWN_NAME`,
 * `ERR_COOK_STAGE`, `ERR_COOK_ENVIRONMENT`.
 */
export function inheritTcpListeners(name: string): InheritedListener[] {
  return claim('inheritTcpListeners()', name, 'tcp')
}

/** Claims Unix listeners; see {@link inheritTcpListeners}, whose errors it throws. */
export function inheritUnixListeners(name: string): InheritedUnixListener[] {
  return claim('inheritUnixListeners()', name, 'unix')
}

/**
 * Claims UDP sockets; see {@link inheritTcpListeners}. Until the old process closes its socket,
 * each datagram goes to one of the two. Throws what that throws.
 */
export function inheritUdpSockets(name: string): InheritedUdpSocket[] {
  return claim('inheritUdpSockets()', name, 'udp')
}

/** Claims plain descriptors; see {@link inheritTcpListeners}, whose errors it throws. */
export function inheritFiles(name: string): InheritedFile[] {
  return claim('inheritFiles()', name, 'file')
}

/**
 * A keeper hands on what it holds, after a crash too, and systemd what it has opened; else a first
 * start has nothing.
 */
function inherits({ claims, isFirstStart }: Service): boolean {
  return !isFirstStart || !claims.isEmpty
}

function claim<Kind extends HandleKind>(verb: string, name: string, kind: Kind): Extract<Inherited, { kind: Kind }>[] {
  const service = enter(verb)
  const { claims, state } = service
  const { start } = state.entered
  if (!inherits(service)) throw new CookError('ERR_COOK_NOT_IN_UPGRADE', { verb })
  if (start.stage === 'parent') throw new CookError('ERR_COOK_STAGE', { verb })
  return claims.claim(name, kind)
}

/**
 * Registers a listening server, or a claimed listener, for the next upgrade:
 * `AddInherit_TCPListener(name, l, true)` of the original Go API. Takes any `net.Server`: net,
 * http, https, http2. Several can have the same name; adding the same one twice has no effect. The
 * original Go API does not define its boolean: here, `replace` first removes everything of this
 * kind that is registered under the name. Throws `ERR_COOK_NOT_LISTENING`, `ERR_COOK_HANDLE_KIND`,
 * `ERR_COOK_HANDLE_NAME`, `ERR_COOK_CLUSTER_WORKER`.
 */
export function addInheritTcpListener(name: string, server: Server | InheritedListener, replace = false): void {
  add('addInheritTcpListener()', name, 'tcp', server, replace)
}

/**
 * Registers a Unix listener; see {@link addInheritTcpListener}. Its path stays when this process
 * closes it after an upgrade. Opened with {@link listenUnix} it stays without a gap; opened with
 * `server.listen(path)`, clients may find no file for some microseconds. Throws what that throws.
 */
export function addInheritUnixListener(name: string, server: Server | InheritedUnixListener, replace = false): void {
  const service = enter('addInheritUnixListener()')
  if (typeof server === 'object' && server !== null && 'listen' in server) knowPath(service, server)
  add('addInheritUnixListener()', name, 'unix', server, replace)
}

/** Registers a bound UDP socket; see {@link addInheritTcpListener}, whose errors it throws. */
export function addInheritUdpSocket(name: string, socket: UdpSocket | InheritedUdpSocket, replace = false): void {
  add('addInheritUdpSocket()', name, 'udp', socket, replace)
}

/**
 * Registers a plain descriptor, its number or anything with an `fd`; see {@link
 * addInheritTcpListener}. Keep it open until the upgrade. Throws what that throws.
 */
export function addInheritFile(name: string, file: number | { readonly fd: number }, replace = false): void {
  add('addInheritFile()', name, 'file', file, replace)
}

function add(verb: string, name: string, kind: HandleKind, source: HandleSource, isReplacing: boolean): void {
  enter(verb).handles.add(name, kind, source, isReplacing)
}

/** An inherited Unix listener does not know its path: we do, by its descriptor. */
function knowPath(service: Service, server: Server): void {
  if (service.handles.paths.has(server)) return
  const inherited = service.claims.unixPathOf(server)
  if (inherited !== undefined) ownUnixPath(service, server, inherited)
}

/**
 * Opens a Unix listener whose path survives upgrades without a gap: bound under a private name next
 * to the path and published with link(2). The file of a dead process is replaced. Resolves when the
 * server listens; its `address()` returns the path. Rejects with `ERR_COOK_PATH_TOO_LONG`,
 * `ERR_COOK_PATH_IN_USE`, `ERR_COOK_UNIX_PATH`, `ERR_COOK_OPTION`. Not in the original Go API.
 */
export async function listenUnix(server: Server, path: string, options: ListenUnixOptions = {}): Promise<void> {
  const service = enter('listenUnix()')
  checkListenUnixOptions(options)
  await openUnixPath(service, server, path, options)
}

/**
 * Starts the new version, hands over what is registered, and waits for its answer: `Upgrade()` of
 * the original Go API. Resolves at the commit: the new version serves, and this process closes its
 * listeners, finishes what it accepted and exits. Rejects if the upgrade failed: no process of the
 * new version is left, and this process still serves.
 *
 * The new version is the command as typed to start this one, with symlinks followed again, and with
 * the environment of that start.
 *
 * Rejects with `ERR_COOK_SUCCESSOR_EXITED` (exit code or signal, and its last stderr lines, in the
 * text), `ERR_COOK_SUCCESSOR_FAILED`, `ERR_COOK_SUCCESSOR_TIMEOUT`, `ERR_COOK_SUCCESSOR_SPAWN`,
 * `ERR_COOK_LINK_BROKEN`, `ERR_COOK_STOPPED`, `ERR_COOK_UPGRADE_IN_PROGRESS`, `ERR_COOK_UPGRADED`,
 * `ERR_COOK_NOT_COMMITTED`, `ERR_COOK_NOT_LISTENING`, `ERR_COOK_PROTOCOL`, `ERR_COOK_STAGE`,
 * `ERR_COOK_OPTION`.
 */
export async function upgrade(options: UpgradeOptions = {}): Promise<UpgradeResult> {
  const service = enter('upgrade()')
  checkUpgradeOptions(options)
  const given = { ...options, stage: options.stage ?? 'parent' }
  return replace(service, given, {}, ({ identity, generation, phases, link }) => {
    link.send({ type: 'bye' }, () => link.close())
    return withText({ pid: identity[0], generation, phases }, upgradeText)
  })
}

/**
 * Empties the registry after a failed upgrade: `Restore_inherit_files()` of the original Go API.
 * Closes nothing. Inherited handles are not registered automatically: register again what the next
 * upgrade should hand over.
 */
export function restoreInheritFiles(): void {
  enter('restoreInheritFiles()').handles.restore()
}

/**
 * Reports to the process that started this one whether it is ready: `Notify_upgrade_done(bool)` of
 * the original Go API. In an upgrade that is the old process: resolves at the commit, from which on
 * this process owns the service; unclaimed handles are closed. At the first start of a daemon it is
 * the launcher, with its option `waitReady`. With `ok` false it resolves when the old process has
 * received it, and this process must exit; `reason`, at most 8 KiB, is in its error.
 *
 * Under the preload it reports that the program is ready.
 *
 * If the old process is gone by then, this process serves. Rejects with `ERR_COOK_REFUSED` (too
 * late: exit), `ERR_COOK_PROTOCOL`, `ERR_COOK_NOT_IN_UPGRADE`, `ERR_COOK_NOTIFIED_TWICE`,
 * `ERR_COOK_STAGE`, `ERR_COOK_OPTION`, `ERR_COOK_USER`.
 */
export async function notifyUpgradeDone(ok = true, reason = ''): Promise<void> {
  const verb = 'notifyUpgradeDone()'
  const preload = preloadInCharge()
  if (preload !== undefined) return preload.ready(ok, reason)
  const service = enter(verb)
  const { state, predecessor, receiving, claims } = service
  const { start, launch } = state.entered
  if (start.stage === 'parent') throw new CookError('ERR_COOK_STAGE', { verb })
  if (predecessor === undefined && launch?.waitReady !== true) throw new CookError('ERR_COOK_NOT_IN_UPGRADE', { verb })
  if (typeof ok !== 'boolean') throw new CookError('ERR_COOK_OPTION', { option: 'ok', why: 'must be true or false' })
  if (service.wasNotified) throw new CookError('ERR_COOK_NOTIFIED_TWICE', {})
  service.wasNotified = true
  if (ok) becomeItsUser(state)
  if (predecessor !== undefined) {
    await predecessor.notify(ok, reason)
    // Its listeners are the program's, and so is what becomes of them.
    receiving?.sendSpares()
    // Not at the commit itself: with a predecessor that died early that comes before the program
    // has claimed anything.
    if (ok) claims.closeUnclaimed()
    return
  }
  launch?.tell(ok ? { type: 'ready' } : { type: 'refused', reason })
  launch?.close()
}

/**
 * Writes this process's pid into a file: `Write_pid(file)` of the original Go API. The file is
 * replaced atomically, but not if it names a living process other than a predecessor. From here on
 * SIGUSR1 does not open the inspector in this process. Throws `ERR_COOK_PID_FILE`,
 * `ERR_COOK_PID_FILE_TAKEN`, and `ERR_COOK_NOT_COMMITTED` before `notifyUpgradeDone()` has
 * resolved: until then the old process owns the file.
 */
export function writePid(file: string): void {
  const verb = 'writePid()'
  const service = enter(verb)
  demandCommit(service, verb)
  if (typeof file !== 'string' || file === '') {
    throw new CookError('ERR_COOK_PID_FILE', { file: String(file), why: 'it is not a path' })
  }
  const path = resolve(file)
  keepInspectorShut()
  writePidFile(path, service.predecessor?.living ?? [])
  service.pidFile = path
}
