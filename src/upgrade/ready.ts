/** This process serves: at the commit it takes over control socket, pid file and hooks. */
import { resolve } from 'node:path'
import { lookAround } from '../conditions.ts'
import { pidName } from '../contract/environment.ts'
import { CookError } from '../errors.ts'
import { givePaths } from '../listen/give-paths.ts'
import { isPathLost, noteModes, restoreUnixPaths } from '../listen/restore-path.ts'
import { unaskedText } from '../process/activation.ts'
import { placeOfHandle } from '../process/addresses.ts'
import { inheritPidFile, writePidFile } from '../process/pid-file.ts'
import { becomeItsUser, isRootForNow } from '../process/user.ts'
import type { Service } from '../service.ts'
import type { Predecessor } from '../service-parts.ts'

/**
 * Resolves at the commit. Rejects with `ERR_COOK_REFUSED`, `ERR_COOK_PROTOCOL` or, for `moveTls`
 * without TLS, `ERR_COOK_OPTION`, and in a first start with `ERR_COOK_USER` and what a pid file may
 * reject with.
 */
export async function ready(service: Service): Promise<void> {
  const { predecessor, state } = service
  checkTls(service)
  service.hasAnswered = true
  noteModes(service)
  const { user } = state.program ?? {}
  if (user !== undefined && isRootForNow(state)) givePaths(service, user)
  becomeItsUser(state)
  if (predecessor === undefined) startServing(service)
  else await readyAsSuccessor(service, predecessor)
  if (service.isFirstStart) doubtActivation(service)
  const { launch } = state.entered
  launch?.tell({ type: 'ready' })
  launch?.close()
}

/** Wanted where there is none: of a program that does not know of it, servers may still come. */
function checkTls(service: Service): void {
  const { tls, listeners, preload } = service
  const why = tls?.whyNone(listeners.map(({ server }) => server))
  if (why === undefined) return
  if (preload === undefined) throw new CookError('ERR_COOK_OPTION', { option: 'moveTls', why })
  service.emit({ type: 'warning', about: 'moveTls', text: `moveTls ${why}` })
}

function startServing(service: Service): void {
  writePid(service)
  service.takeStep('serve')
  service.runOnTakeover(undefined)
  lookAround(service)
}

async function readyAsSuccessor(service: Service, predecessor: Predecessor): Promise<void> {
  const { claims, control, history, receiving } = service
  const pidFile = claims.claimOne(pidName, 'file')
  await predecessor.notify(true, '')
  await service.runHook('control', () => control?.takeOver())
  receiving?.sendSpares()
  if (isPathLost(service)) await restoreUnixPaths(service)
  // What nobody asked for yet waits with the keeper too, as before the first one asked.
  const names = service.isFirstStart ? [] : claims.closeUnclaimed()
  if (names.length > 0) service.emit({ type: 'unclaimed', names })
  // A predecessor that was lost cannot tell what its onRelease returned.
  void receiving?.bye.then(() => {
    service.runOnTakeover(undefined)
    history.forget()
  })
  if (pidFile !== undefined) keepPidFile(service, pidFile.fd)
  // Too late for a no: the service is ours, and goes on.
  await service.runHook('pidFile', () => writePid(service))
  lookAround(service)
}

/** What systemd has opened and nobody serves: its clients wait. */
function doubtActivation(service: Service): void {
  const { claims, state } = service
  const places = claims.unclaimed.filter(({ isActivated }) => isActivated === true).map(placeOfHandle)
  const texts = [...state.entered.doubts, ...(places.length > 0 ? [unaskedText(places)] : [])]
  if (texts.length > 0) service.emit({ type: 'warning', about: 'activation', text: texts.join('; ') })
}

/** Of a service that has given up root: each generation writes where the first one could. */
function keepPidFile({ options, handles }: Service, fd: number): void {
  if (options.pidFile !== undefined) inheritPidFile(resolve(options.pidFile), fd)
  handles.addReserved(pidName, 'file', fd)
}

function writePid(service: Service): void {
  const { pidFile } = service.options
  // A keeper's is the pid of the service.
  if (pidFile === undefined || service.keeper !== undefined) return
  const path = resolve(pidFile)
  writePidFile(path, service.predecessor?.living ?? [])
  service.pidFile = path
}
