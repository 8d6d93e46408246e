/**
 * The service as a worker of node:cluster, which its primary replaces at SIGUSR2 as Node's
 * documentation of `worker.disconnect()` shows.
 */
import cluster, { type Worker } from 'node:cluster'
import { createApp, drain, host, port } from './app.ts'

/** That of the documentation, in milliseconds. */
const killAfter = 2_000

if (cluster.isPrimary) {
  let current = cluster.fork()
  process.on('SIGUSR2', () => {
    const old = current
    current = cluster.fork()
    current.once('listening', () => retire(old))
  })
} else {
  const app = createApp()
  process.on('message', (message) => {
    if (message !== 'shutdown') return
    drain(app, process.env.BENCH_DRAIN === 'soft' ? 'soft' : 'close', () => process.exit(0))
  })
  app.server.listen(port, host)
}

function retire(worker: Worker): void {
  worker.send('shutdown')
  worker.disconnect()
  const timeout = setTimeout(() => worker.kill(), killAfter)
  worker.once('disconnect', () => clearTimeout(timeout))
}
