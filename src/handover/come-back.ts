/** A successor that dies while the old process drains: that takes the service back. */
import { lookAround } from '../conditions.ts'
import { controlName } from '../contract/environment.ts'
import { CookError } from '../errors.ts'
import { restoreUnixPaths } from '../listen/restore-path.ts'
import { ownUnixPath } from '../listen/unix-path.ts'
import { reclaimPidFile } from '../process/pid-file.ts'
import type { Listener, Service } from '../service.ts'
import type { Spares } from './spares.ts'

/** Everything is ours again, and the departure is dropped. Returns the error of the upgrade. */
export async function comeBack(
  service: Service,
  listening: readonly Listener[],
  spares: Spares | undefined,
  generation: number,
): Promise<CookError> {
  await Promise.all(listening.map((listener) => listenAgain(service, listener, spares)))
  const control = spares?.take(controlName)
  spares?.close()
  service.departure = undefined
  service.hasSuccessor = false
  service.takeStep('return')
  await restoreUnixPaths(service, { isReturn: true })
  if (service.pidFile !== undefined) reclaimPidFile(service.pidFile)
  lookAround(service)
  service.emit({ type: 'successor-lost', generation })
  const error = new CookError('ERR_COOK_SUCCESSOR_LOST', { generation, self: process.pid })
  service.history.add({ generation, begin: performance.now(), code: error.code })
  service.runOnTakeover(undefined, { isReturn: true })
  void service.runHook('control', () => service.control?.reopen(control))
  return error
}

async function listenAgain(
  service: Service,
  { name, server, context }: Listener,
  spares: Spares | undefined,
): Promise<void> {
  if (server.listening) return
  const { paths, backlogs } = service.handles
  const path = paths.get(server)
  await service.runHook('listen', async () => {
    await context(() => spares?.listenAgain(name, server, backlogs.get(server)))
    if (path !== undefined) ownUnixPath(service, server, path)
  })
}
