/**
 * The service with an upgrade written by hand: at SIGUSR2 the listener's descriptor goes to a new
 * process, and when that listens the old one drains.
 */
import { spawn } from 'node:child_process'
import { createApp, drain, drainAsTold, host, port } from './app.ts'

const { LISTEN_FD } = process.env
const app = createApp()

process.once('SIGUSR2', () => {
  const { fd } = (app.server as unknown as { readonly _handle: { readonly fd: number } })._handle
  const successor = spawn(process.execPath, process.argv.slice(1), {
    env: { ...process.env, LISTEN_FD: '4' },
    stdio: ['ignore', 'inherit', 'inherit', 'ipc', fd],
    detached: true,
  })
  successor.once('message', () => {
    successor.disconnect()
    successor.unref()
    drain(app, drainAsTold, () => process.exit(0))
  })
})

app.server.listen(LISTEN_FD === undefined ? { host, port } : { fd: Number(LISTEN_FD) }, () => process.send?.('ready'))
