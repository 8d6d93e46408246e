/** The one call: inherit or listen, ready, signals, drain, exit. */
import type { Server } from 'node:net'
import { checkServeOptions } from './check.ts'
import { createDaemon, type Daemon, serviceOf } from './daemon.ts'
import { tellFailedUpgrade } from './handover/leave.ts'
import { stopBySignal } from './handover/stop.ts'
import { signalNumbers } from './node/signals.ts'
import { defaults, type ListenOptions, type ServingOptions, withoutUndefined } from './options.ts'

/**
 * Options of {@link serve}: all of {@link DaemonOptions}, `port`, `host`, `backlog`, `path` and
 * `mode` of {@link ListenOptions}, `prepare`, and `signals`: `upgrade` upgrades to the new version
 * (default `'SIGUSR2'`), each of `stop` finishes what was accepted and exits (default `['SIGTERM',
 * 'SIGINT']`).
 */
export type ServeOptions = ServingOptions & {
  /**
   * Called before the server listens, and awaited: the place for `inherited()`, `onHandedOver()`,
   * `onDrain()` and for `handOverWebSockets()`.
   */
  prepare?(daemon: Daemon): unknown
}

/**
 * Makes a server upgradable: it listens, on the listener of the old process if there is one, and
 * becomes ready. SIGUSR2 upgrades to the new version, with live connections; SIGTERM and SIGINT
 * finish what was accepted, then exit. Resolves when this process owns the service; the process
 * exits when it has drained. Rejects with the errors of `createDaemon()`, `listen()` and `ready()`.
 */
export async function serve(server: Server, options: ServeOptions): Promise<Daemon> {
  const { prepare, ...checked } = options
  checkServeOptions(checked, signalNumbers())
  const { signals, port, host, backlog, path, mode, ...rest } = checked
  // Before anything else: a signal without a handler kills.
  let isServing = false
  let wasUpgradeAsked = false
  let daemon: Daemon | undefined
  for (const signal of new Set(signals?.stop ?? defaults.stopSignals)) {
    process.on(signal, () => {
      // Before it serves there is nothing to finish, and whoever waits for it reads in the exit
      // code what ended it.
      if (daemon === undefined || !isServing) process.exit(128 + signalNumbers()[signal])
      void stopBySignal(serviceOf(daemon), signal)
    })
  }
  process.on(signals?.upgrade ?? defaults.upgradeSignal, () => {
    if (daemon === undefined) wasUpgradeAsked = true
    else upgradeBySignal(daemon)
  })
  daemon = await createDaemon(rest)
  // Timers of the program must not hold the process; whoever waits for the report goes first.
  void daemon.gone.then(() => setImmediate(() => process.exit(0)))
  // It came too early to be carried out, which is an event as well.
  if (wasUpgradeAsked) upgradeBySignal(daemon)
  await prepare?.(daemon)
  await daemon.listen(server, withoutUndefined({ port, host, backlog, path, mode }) as ListenOptions)
  await daemon.ready()
  isServing = true
  return daemon
}

/** A signal has no answer. */
function upgradeBySignal(daemon: Daemon): void {
  daemon.upgrade().catch((error: Error) => tellFailedUpgrade(serviceOf(daemon), error))
}
