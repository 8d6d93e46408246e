/** The one call: inherit or listen, ready, signals, drain, exit. */
import type { Server } from 'node:net'
import { createDaemon, type Daemon } from './daemon.ts'
import { defaults } from './defaults.ts'
import { signalNumbers } from './node/system.ts'
import { checkServeOptions, type DaemonEvent, type ServingOptions } from './options.ts'

const { subscribe } = process.getBuiltinModule('node:diagnostics_channel')

/**
 * What {@link serve} takes: all of {@link DaemonOptions}, `port`, `host`, `backlog`, `path` and `mode` of {@link ListenOptions}, `prepare`, and
 * `signals`: `upgrade` replaces the process by its new version (default `'SIGUSR2'`), each of `stop` finishes what was accepted and ends it (default `['SIGTERM', 'SIGINT']`).
 */
export type ServeOptions = ServingOptions & {
  /** Called before the server listens, and awaited: the place for `inherited()`, `onHandedOver()`, `onDrain()` and for `handOverWebSockets()`. */
  prepare?(daemon: Daemon): unknown
}

/**
 * Makes a server upgradable: it listens, on the predecessor's listener if there is one, and is ready; SIGUSR2 replaces the process by its new version, with live connections; SIGTERM and SIGINT finish what
 * was accepted and end it. Resolves when this process owns the service; when it has drained, it exits. Rejects with what `createDaemon()`, `listen()` and `ready()` reject with.
 */
export async function serve(server: Server, options: ServeOptions): Promise<Daemon> {
  const { prepare, ...checked } = options
  checkServeOptions(checked, signalNumbers())
  const { signals, port, host, backlog, path, mode, ...rest } = checked
  const given = Object.entries({ port, host, backlog, path, mode }).filter(([, value]) => value !== undefined)
  let created: Daemon | undefined
  let daemon: Daemon | undefined
  // Before anything else: a signal without a handler kills.
  for (const signal of new Set(signals?.stop ?? defaults.stopSignals)) {
    // Before it serves there is nothing to finish, and whoever waits for it reads in the exit code what ended it.
    process.on(signal, () => void (daemon === undefined ? exit(128 + signalNumbers()[signal]) : daemon.stop()))
  }
  process.on(signals?.upgrade ?? defaults.upgradeSignal, () => {
    // A failure is an event, and this process keeps serving.
    created?.upgrade().catch(() => {})
  })
  subscribe('cook-daemon', (event) => {
    // Whoever waits for the report goes first. An upgrade whose successor was lost has a report too, and its process stays.
    if ((event as DaemonEvent).type === 'drained' && daemon?.phase === 'gone') setImmediate(exit, 0)
  })
  created = await createDaemon(rest)
  await prepare?.(created)
  await created.listen(server, Object.fromEntries(given))
  await created.ready()
  daemon = created
  return created
}

/** Timers of the program must not hold the process. */
function exit(code: number): void {
  process.exit(code)
}
