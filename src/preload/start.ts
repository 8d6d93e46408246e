/** What the preload does: to an unmodified program it is what serve() is to others. */
import { checkDaemonOptions } from '../check.ts'
import { openControl } from '../control/server.ts'
import { beginDaemon } from '../daemon.ts'
import { enter } from '../enter.ts'
import { CookError, messageOf } from '../errors.ts'
import { takeAdmin } from '../host/admin.ts'
import { wordOf } from '../process/launched.ts'
import { releasePidFile } from '../process/pid-file.ts'
import type { Service } from '../service.ts'
import { ready } from '../upgrade/ready.ts'
import { watchBinds } from './bind-calls.ts'
import { watchListens } from './listen-calls.ts'
import { watchReadiness } from './readiness.ts'
import { refuseCluster } from './refusals.ts'
import { watchSignals } from './signals.ts'
import { drainWebSockets } from './web-sockets.ts'

/** What few programs need is bundled beside this. */
declare const require: <Module>(file: string) => Module

/** Before the first line of the program. */
export function takeUpProgram(): void {
  const service = enter('the preload')
  beginDaemon(service, {})
  const readiness = watchReadiness(service, () => start(service))
  const signals = watchSignals(service)
  const listens = watchListens(service, readiness)
  const binds = watchBinds(service, readiness)
  const cluster = service.keeper?.among.isOneOfSeveral === true ? undefined : refuseCluster()
  // For good: Node decides once what a process is, and a program that calls serve() stays a worker.
  if (cluster === undefined) {
    require<typeof import('./cluster.ts')>('./cluster.cjs').beClusterWorker(
      service,
      (verb) => new CookError('ERR_COOK_CLUSTER_PRIMARY', { verb }),
    )
  }
  service.hearing.push(binds.onEvent)
  service.ownDrains.push(
    (departure) => drainWebSockets(listens.webSockets, departure),
    (departure) => {
      const left = service.listeners.filter((one) => one.server.listening && departure.keeps(one))
      return listens.staying.drain(
        departure,
        left.map(({ server }) => server),
      )
    },
  )
  process.on('exit', () => {
    // A program that ends itself does not know of it.
    if (!service.hasSuccessor && service.pidFile !== undefined) releasePidFile(service.pidFile)
  })
  service.preload = {
    stepAside(verb) {
      if (service.hasAnswered || listens.isUsed()) throw new CookError('ERR_COOK_PRELOADED', { verb })
      for (const part of [signals, listens, binds, readiness, cluster]) part?.end()
      service.endPreload()
    },
    look: () => readiness.look(),
    async ready(ok, reason) {
      if (!ok) return readiness.refuse(reason)
      readiness.say()
      await readiness.started
    },
  }
  readiness.look()
}

/** The program is up: it becomes a daemon that others can reach, and takes the service over. */
async function start(service: Service): Promise<void> {
  try {
    // In a turn of its own: behind everything that the program does in the one in which it listens.
    await new Promise((turned) => setImmediate(turned))
    checkDaemonOptions(service.options)
    await openControl(service)
    await takeAdmin(service)
    await ready(service)
  } catch (error) {
    // Whoever started this process hears of it, and it ends: a program that catches everything must
    // not live on beside the one that serves.
    service.state.entered.launch?.tell(wordOf('refused', error))
    process.stderr.write(`${messageOf(error)}\n`)
    process.exit(1)
  }
}
