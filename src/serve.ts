/** The one call: inherit or listen, ready, signals, drain, exit. */
import type { Server } from 'node:net'
import { createDaemon, type Daemon } from './daemon.ts'
import { checkServeOptions, type ServeOptions } from './options.ts'

const defaultSignals = { upgrade: 'SIGUSR2', stop: ['SIGTERM', 'SIGINT'] } as const

/**
 * Makes a server upgradable: it listens, on the predecessor's listener if there is one, and is ready; SIGUSR2 replaces the process by its new version, with live connections; SIGTERM and SIGINT finish what
 * was accepted and end it. Resolves when this process owns the service. Rejects with what `createDaemon()`, `listen()` and `ready()` reject with.
 */
export async function serve(server: Server, options: ServeOptions): Promise<Daemon> {
  checkServeOptions(options)
  const { signals, name, port, host, backlog, path, mode, ...rest } = options
  const given = Object.entries({ name, port, host, backlog, path, mode }).filter(([, value]) => value !== undefined)
  let daemon: Daemon | undefined
  // Before anything else: a signal without a handler kills.
  for (const signal of new Set(signals?.stop ?? defaultSignals.stop)) {
    process.on(signal, () => void (daemon === undefined ? exit(0) : daemon.stop().then(() => exit(0))))
  }
  process.on(signals?.upgrade ?? defaultSignals.upgrade, () => {
    // A failure is an event, and this process keeps serving.
    daemon?.upgrade().then(
      ({ drained }) => drained.then(() => daemon?.phase === 'gone' && exit(0)),
      () => {},
    )
  })
  const created = await createDaemon(rest)
  await created.listen(server, Object.fromEntries(given))
  await created.ready()
  daemon = created
  return created
}

/** One of the three places where this library ends a process: everything is drained, and timers of the program must not hold it. */
function exit(code: number): void {
  process.exit(code)
}
