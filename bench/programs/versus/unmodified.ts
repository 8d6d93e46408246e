/**
 * The service as a program that knows of no system, only of signals: runs alone, under PM2, behind
 * a proxy, and under the preload.
 */
import { createApp, drain, drainAsTold, host, port } from './app.ts'

const app = createApp()
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => drain(app, drainAsTold, () => process.exit(0)))
}
app.server.listen(port, host, () => {
  // What PM2 waits for, and the preload too.
  process.send?.('ready')
})
