/** One upgrade: what keeps it from beginning, what the new version gets, what is rolled back. */
import { closeSync } from 'node:fs'
import { resolve } from 'node:path'
import { checkDaemonUpgradeOptions } from '../check.ts'
import { lookAround } from '../conditions.ts'
import { type ProgramRecord, readProgram, writeProgram } from '../contract/environment.ts'
import { CookError, messageOf } from '../errors.ts'
import { ticketKeys } from '../listen/listening.ts'
import { isPathLost, noteModes, restoreUnixPaths } from '../listen/restore-path.ts'
import { keepPathAtClose } from '../listen/unix-path.ts'
import { withoutInspectorIn } from '../node/node-options.ts'
import { identify, isAlive, workingDirectory } from '../node/system.ts'
import { type DaemonUpgradeOptions, defaults } from '../options.ts'
import { exactCommand, nextCommand, typedOf } from '../process/command.ts'
import { isHandedOnLog, openLog } from '../process/log.ts'
import { checkPidFile, reclaimPidFile, releasePidFile } from '../process/pid-file.ts'
import type { Service } from '../service.ts'
import { deferred } from '../waiting.ts'
import { warningOfError } from '../warnings.ts'
import type { OnStep } from './conversation.ts'
import { type Committed, type NewVersion, startSuccessor } from './predecessor.ts'

/** With what the command line says anew of the program, which the new version keeps. */
type Asked = DaemonUpgradeOptions & {
  readonly program: ProgramRecord
  /** The release that runs, and no other. */
  readonly isSame?: boolean
  readonly isHeld?: boolean
}

/** Who asked, and for what, beside the options. */
export type HowAsked = {
  readonly program?: ProgramRecord | undefined
  readonly onStep?: OnStep
  readonly isSame?: boolean
  /** By the keeper: one of several, which waits for the others before it goes on. */
  readonly isHeld?: boolean | undefined
}

/**
 * Replaces this process by its new version. At the commit, with the link to the successor still
 * open, `follow` does what comes next, in the same turn; what it returns is resolved to. Rejects
 * with everything as it was. Until either is done, whoever stops the service waits.
 */
export async function replace<Result>(
  service: Service,
  options: DaemonUpgradeOptions,
  { program = {}, onStep = () => {}, isSame = false, isHeld = false }: HowAsked,
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
    const committed = await runUpgrade(service, { ...options, program, isSame, isHeld }, stop.signal, onStep)
    history.add({ generation, begin })
    return follow(committed)
  } catch (error) {
    if (service.upgrading === own) {
      history.add({ generation, begin, code: (error as CookError).code })
      // The worker that failed tells it.
      if ((error as CookError).code !== 'ERR_COOK_OTHERS_FAILED') service.warnings.add(warningOfError('upgrade', error))
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
  if (phase === 'lame' || phase === 'draining' || phase === 'gone') {
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
async function runUpgrade(service: Service, asked: Asked, stop: AbortSignal, onStep: OnStep): Promise<Committed> {
  const { receiving } = service
  // Who cannot be reached by its path now would not be after the upgrade either.
  noteModes(service)
  if (isPathLost(service)) await restoreUnixPaths(service)
  const version = newVersion(service, asked, stop)
  service.warnings.beginUpgrade()
  const { logFile, pidFile } = asked.program
  // A keeper's is the pid of the service.
  if (pidFile !== undefined && service.keeper === undefined)
    checkPidFile(pidFile, [identify(), ...(service.predecessor?.living ?? [])])
  const output = logFile === undefined ? reopenedLog(service) : openLog(logFile)
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
    lookAround(service)
    // The new version may have removed one before it listened, as programs do with that of a dead
    // process.
    if (isPathLost(service)) await restoreUnixPaths(service)
    throw error
  } finally {
    if (output !== undefined) closeSync(output)
  }
}

/** All that the new version is started with but its output; what cannot cross throws here. */
function newVersion(service: Service, asked: Asked, stop: AbortSignal): Omit<NewVersion, 'output'> {
  const own = service.options
  const { program: told, isSame, isHeld = false, ...options } = asked
  const { state } = service
  return {
    // A keeper starts daemons.
    stage: options.stage ?? (service.isDaemon || service.keeper !== undefined ? 'daemon' : 'parent'),
    // A daemon that went elsewhere at its start does not need the place where it was started any
    // more.
    ...(isSame
      ? { command: exactCommand(state.command, state.resolved), typed: typedOf(state.command) }
      : { command: nextCommand(state.command, options, workingDirectory) }),
    environment: environmentFor(service, asked),
    generation: service.generation + 1,
    handles: service.handles.pack(),
    readyTimeout: options.readyTimeout ?? told.readyTimeout ?? own.readyTimeout ?? defaults.readyTimeout,
    overlap: options.overlap ?? told.overlap ?? own.overlap ?? 0,
    drainTimeout: service.isDaemon
      ? Math.round(options.drainTimeout ?? told.drainTimeout ?? service.drainTimeout)
      : undefined,
    signal: options.signal === undefined ? stop : AbortSignal.any([stop, options.signal]),
    tickets: ticketKeys(service),
    isHeld,
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
  // The new version has another one.
  const { pidFile } = service
  if (pidFile !== undefined && resolve(program?.pidFile ?? pidFile) !== pidFile) releasePidFile(pidFile)
  control?.release({ identity, command, environment, ...(program && { program }) })
}

/**
 * The log under its name, which is another file after a rotation; undefined: our own stdout and
 * stderr.
 */
function reopenedLog(service: Service): number | undefined {
  const { logFile } = service.state
  if (logFile === undefined) return undefined
  try {
    return openLog(logFile)
  } catch (error) {
    if (isHandedOnLog()) return undefined
    // Its folder is gone or full: no reason to refuse an upgrade, since our own log is still open.
    const text = `the new version writes to the old log file, because the log could not be reopened: ${messageOf(error)}`
    service.emit({ type: 'warning', about: 'log', text })
    return undefined
  }
}

/**
 * What the command line said goes on, now and at the first start, whatever else the environment is;
 * a release is for one upgrade.
 */
function environmentFor({ state }: Service, { env, release, program: told }: Asked) {
  // Also the environment of a shell in which somebody debugs comes with --update-env.
  const own = withoutInspectorIn(env ?? state.environment)
  const { release: _, ...kept } = state.program ?? {}
  const program = { ...kept, ...told, ...(release && { release }) }
  return writeProgram(own, state.program === undefined && Object.keys(program).length === 0 ? undefined : program)
}
