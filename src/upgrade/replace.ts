/** One upgrade: what keeps it from beginning, what the new version gets, what is rolled back. */
import { closeSync, existsSync } from 'node:fs'
import { checkDaemonUpgradeOptions } from '../check.ts'
import { readProgram, writeProgram } from '../contract/environment.ts'
import { CookError } from '../errors.ts'
import { ticketKeys } from '../listen/listening.ts'
import { isPathLost, noteModes, restoreUnixPaths } from '../listen/restore-path.ts'
import { keepPathAtClose } from '../listen/unix-path.ts'
import { withoutInspectorIn } from '../node/node-options.ts'
import { type Command, isAlive, workingDirectory } from '../node/system.ts'
import { type DaemonUpgradeOptions, defaults, type UpgradeOptions } from '../options.ts'
import { openLog } from '../process/log.ts'
import { reclaimPidFile } from '../process/pid-file.ts'
import type { Service } from '../service.ts'
import { deferred } from '../waiting.ts'
import { type Committed, type NewVersion, startSuccessor, type UpgradeStep } from './predecessor.ts'

/**
 * Replaces this process by its new version. At the commit, with the link to the successor still
 * open, `follow` does what comes next, in the same turn; what it returns is resolved to. Rejects
 * with everything as it was. Until either is done, whoever stops the service waits.
 */
export async function replace<Result>(
  service: Service,
  options: DaemonUpgradeOptions,
  onStep: (step: UpgradeStep) => void,
  follow: (committed: Committed) => Result,
): Promise<Result> {
  const { history } = service
  const generation = service.generation + 1
  const begin = performance.now()
  const stop = new AbortController()
  const ended = deferred()
  const own = { generation, stop, ended: ended.promise }
  try {
    checkDaemonUpgradeOptions(options)
    checkMayBegin(service)
    service.upgrading = own
    const committed = await runUpgrade(service, options, stop.signal, onStep)
    history.add({ generation, begin })
    return follow(committed)
  } catch (error) {
    if (service.upgrading === own) {
      history.add({ generation, begin, code: (error as CookError).code })
      // Whoever hears of the failure may try again at once.
      service.upgrading = undefined
    }
    if (service.isDaemon) service.emit({ type: 'upgrade-failed', error: error as Error })
    throw error
  } finally {
    if (service.upgrading === own) service.upgrading = undefined
    ended.resolve()
  }
}

function checkMayBegin(service: Service): void {
  const { state, predecessor, options, phase, upgrading } = service
  const pid = process.pid
  if (state.entered.start.stage === 'parent') throw new CookError('ERR_COOK_STAGE', { verb: 'upgrade()' })
  demandCommit(service, 'upgrade()')
  if (phase === 'starting') throw new CookError('ERR_COOK_NOT_READY', { verb: 'upgrade()', self: pid })
  if (upgrading !== undefined) {
    throw new CookError('ERR_COOK_UPGRADE_IN_PROGRESS', { generation: upgrading.generation, pid })
  }
  if (phase === 'draining' || phase === 'gone') {
    throw new CookError(service.hasSuccessor ? 'ERR_COOK_UPGRADED' : 'ERR_COOK_STOPPING', { pid })
  }
  const most = options.maxGenerations ?? defaults.maxGenerations
  const older = service.isDaemon ? (predecessor?.living ?? []).filter((identity) => isAlive(identity)) : []
  const count = older.length + 1
  if (count + 1 > most) throw new CookError('ERR_COOK_TOO_MANY_GENERATIONS', { count, most, pid })
}

/**
 * Throws unless this process owns the service: it was the first, or its predecessor has accepted
 * it.
 */
export function demandCommit({ predecessor }: Service, verb: string): void {
  if (predecessor === undefined || predecessor.isCommitted) return
  throw new CookError('ERR_COOK_NOT_COMMITTED', { verb, predecessor: predecessor.identity[0] })
}

/** Resolves at the commit. If it fails, everything is put back. */
async function runUpgrade(
  service: Service,
  options: DaemonUpgradeOptions,
  stop: AbortSignal,
  onStep: (step: UpgradeStep) => void,
): Promise<Committed> {
  const { state, receiving } = service
  // Who cannot be reached by its path now would not be after the upgrade either.
  noteModes(service)
  if (isPathLost(service)) await restoreUnixPaths(service)
  const version = newVersion(service, options, stop)
  const output = reopenedLog(state.logFile)
  service.takeStep('upgrade')
  // Should this process die now, the new one takes over, and not the one that drains before us.
  receiving?.tellReplacing(true)
  try {
    const committed = await startSuccessor(service, { ...version, output }, onStep)
    commit(service, committed, version)
    return committed
  } catch (error) {
    receiving?.tellReplacing(false)
    service.takeStep('roll back')
    if (service.pidFile !== undefined) reclaimPidFile(service.pidFile)
    // The new version may have removed one before it listened, as programs do with that of a dead
    // process.
    if (isPathLost(service)) await restoreUnixPaths(service)
    throw error
  } finally {
    if (output !== undefined) closeSync(output)
  }
}

/** All that the new version is started with but its output; what cannot cross throws here. */
function newVersion(service: Service, options: DaemonUpgradeOptions, stop: AbortSignal): Omit<NewVersion, 'output'> {
  const own = service.options
  return {
    stage: options.stage ?? (service.isDaemon ? 'daemon' : 'parent'),
    command: commandFor(service, options),
    environment: environmentFor(service, options),
    generation: service.generation + 1,
    handles: service.handles.pack(),
    readyTimeout: options.readyTimeout ?? own.readyTimeout ?? defaults.readyTimeout,
    overlap: options.overlap ?? own.overlap ?? 0,
    drainTimeout: service.isDaemon ? Math.round(options.drainTimeout ?? service.drainTimeout) : undefined,
    signal: options.signal === undefined ? stop : AbortSignal.any([stop, options.signal]),
    tickets: ticketKeys(service),
  }
}

/** The successor owns the service, and its paths, pid file and control socket. */
function commit(service: Service, { identity }: Committed, { command, environment }: Omit<NewVersion, 'output'>): void {
  const { handles, control } = service
  service.hasSuccessor = true
  service.takeStep('commit')
  for (const server of handles.unixListeners()) {
    if (!handles.paths.has(server)) keepPathAtClose(server, String(server.address()))
  }
  const program = readProgram(environment)
  control?.release({ identity, command, environment, ...(program && { program }) })
}

/**
 * The log under its name, which is another file after a rotation; undefined: our own stdout and
 * stderr.
 */
function reopenedLog(logFile: string | undefined): number | undefined {
  if (logFile === undefined) return undefined
  try {
    return openLog(logFile)
  } catch {
    // Its folder is gone or full: no reason to refuse an upgrade, since our own log is still open.
    return undefined
  }
}

/**
 * What the command line said goes on, whatever else the environment is; a release is for one
 * upgrade.
 */
function environmentFor({ state }: Service, { env, release }: DaemonUpgradeOptions) {
  // Also the environment of a shell in which somebody debugs comes with --update-env.
  const own = withoutInspectorIn(env ?? state.environment)
  if (state.program === undefined && release === undefined) return writeProgram(own, undefined)
  const { release: _, ...kept } = state.program ?? {}
  return writeProgram(own, { ...kept, ...(release && { release }) })
}

function commandFor({ state: { command } }: Service, options: UpgradeOptions): Command {
  const [script, ...args] = command.args
  const typed = options.script ?? script
  return {
    execPath: options.execPath ?? command.execPath,
    execArgv: options.execArgv ?? command.execArgv,
    args: typed === undefined ? [] : [typed, ...(options.args ?? args)],
    // A daemon that went elsewhere at its start does not need the place where it was started any
    // more.
    cwd: options.cwd ?? (existsSync(command.cwd) ? command.cwd : workingDirectory()),
  }
}
