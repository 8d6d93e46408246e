/**
 * The service as workers of node:cluster, which their primary replaces at SIGUSR2, one after the
 * other, as Node's documentation of `worker.disconnect()` shows, and forks again after a crash.
 */
import cluster, { type Worker } from 'node:cluster'
import { once } from 'node:events'
import { createApp, drain, drainAsTold, host, port } from './app.ts'

/** That of the documentation, in milliseconds. */
const killAfter = 2_000

if (cluster.isPrimary) {
  const current = Array.from({ length: Number(process.env.BENCH_WORKERS ?? 1) }, () => cluster.fork())
  void Promise.all(current.map((worker) => once(worker, 'listening'))).then(() => process.send?.('ready'))
  cluster.on('exit', (worker) => {
    const at = current.indexOf(worker)
    if (at >= 0) current[at] = cluster.fork()
  })
  process.on('SIGUSR2', async () => {
    for (const [at, old] of [...current.entries()]) {
      const young = cluster.fork()
      await once(young, 'listening')
      current[at] = young
      retire(old)
    }
    process.send?.('reloaded')
  })
} else {
  const app = createApp()
  process.on('message', (message) => {
    if (message !== 'shutdown') return
    drain(app, drainAsTold, () => process.exit(0))
  })
  app.server.listen(port, host)
}

function retire(worker: Worker): void {
  worker.send('shutdown')
  worker.disconnect()
  const timeout = setTimeout(() => worker.kill(), killAfter)
  worker.once('disconnect', () => clearTimeout(timeout))
}
