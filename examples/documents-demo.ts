/**
 * The demo of the original Go API, ported line by line: a daemon that logs what it accepts, and
 * upgrades itself on SIGUSR1.
 */
import { on, once } from 'node:events'
import { mkdtempSync, openSync, writeSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  addInheritTcpListener,
  daemonize,
  ENV_NAME_DAEMON_STAGE,
  ENV_NAME_LIVING_UPGRADE,
  type InheritedListener,
  inheritTcpListeners,
  inUpgrade,
  notifyUpgradeDone,
  restoreInheritFiles,
  upgrade,
} from 'cook-daemon'

let logFp = 2
const connections = new Set<Socket>()

function logf(line: string): void {
  writeSync(logFp, `${process.pid} ${line}\n`)
}

async function main(): Promise<void> {
  const log = process.env.DEMO_LOG ?? join(mkdtempSync(join(tmpdir(), 'cook-daemon-demo-')), 'log')
  const port = process.env.DEMO_PORT ?? String(await freePort())
  try {
    logFp = openSync(log, 'a+', 0o755)
  } catch (err) {
    logf(`open log file failed: ${text(err)}`)
    return
  }

  const { env } = process
  logf(
    `running environ: stage = ${env[ENV_NAME_DAEMON_STAGE] ?? ''} living_upgrade= ${env[ENV_NAME_LIVING_UPGRADE] ?? ''}`,
  )

  try {
    // The daemon and its successors are to find the same log and port.
    const inDaemon = await daemonize({ env: { DEMO_LOG: log, DEMO_PORT: port } })
    if (!inDaemon) {
      logf('daemonized success. parent will exit')
      process.stdout.write(`log: ${log}, port: ${port}\n`)
      process.exit(0)
    }
  } catch (err) {
    logf(`daemonized failed: ${text(err)}`)
    process.exitCode = 1
    return
  }

  logf('daemonized success. child-daemon begin running')

  if (inUpgrade()) {
    await upgradeHandler()
  } else {
    await normalHandler(Number(port))
  }
  logf('child-daemon end')
}

async function normalHandler(port: number): Promise<void> {
  let listener: Listener
  try {
    listener = await listen({ host: '127.0.0.1', port })
  } catch (err) {
    logf(`create listener failed: ${text(err)}`)
    return
  }
  registerSignal(listener)
  await acceptLoop('normal', listener)
}

async function upgradeHandler(): Promise<void> {
  let listener: Listener
  try {
    const [inherited] = inheritTcpListeners('listen')
    listener = await listen(inherited as InheritedListener)
  } catch (err) {
    await notifyUpgradeDone(false, text(err))
    logf(`fetch inherit listener failed: ${text(err)}`)
    return
  }

  await notifyUpgradeDone(true)

  registerSignal(listener)
  await acceptLoop('upgrade', listener)
}

/**
 * `for { listener.SetDeadline(10 s); conn, err := listener.Accept(); … }`: ends when the listener
 * is closed.
 */
async function acceptLoop(name: string, { accepts }: Listener): Promise<void> {
  const deadline = setInterval(() => logf(`${name} listener timeout: ${new Date().toISOString()}`), 10_000)
  for await (const [conn] of accepts) {
    deadline.refresh()
    logf(`${name} listener accept from: ${conn.remoteAddress}:${conn.remotePort}`)
  }
  clearInterval(deadline)
}

const goNames = {
  SIGINT: 'interrupt',
  SIGPIPE: 'broken pipe',
  SIGCHLD: 'child exited',
  SIGTERM: 'terminated',
  SIGUSR1: 'user defined signal 1',
} as const

/** The original list without SIGKILL, which no process can catch and Node refuses to try. */
function registerSignal(listener: Listener): void {
  let isReceiving = true
  for (const name of Object.keys(goNames) as (keyof typeof goNames)[]) {
    process.on(name, async () => {
      // Go's channel is unbuffered: a signal that comes while the last one is handled is dropped.
      if (!isReceiving) return
      isReceiving = false
      await onSignal(name, listener)
      isReceiving = true
    })
  }
}

async function onSignal(name: keyof typeof goNames, { server }: Listener): Promise<void> {
  logf(`receive signal: ${goNames[name]}`)
  if (name !== 'SIGUSR1') return
  try {
    addInheritTcpListener('listen', server, true)
  } catch (err) {
    logf(`add listener to remain file list failed: ${text(err)}`)
    return // ignore failed
  }
  logf('add listener to inherit file')
  try {
    await upgrade()
  } catch (err) {
    logf(`upgrade error: ${text(err)}`)
    restoreInheritFiles()
    return // ignore failed
  }
  logf('execute upgrade')
  // here you would do something about clean. or wait client exit
  await sleep(Number(process.env.DEMO_LINGER ?? 10_000))
  server.close()
  await Promise.all([...connections].map((conn) => new Promise((closed) => conn.once('close', closed))))
  process.exit(0)
}

/**
 * Node accepts from the first moment on: what comes before the loop waits in `accepts`, as it would
 * in Go's queue.
 */
type Listener = { readonly server: Server; readonly accepts: AsyncIterable<[Socket]> }

async function listen(where: InheritedListener | { readonly host: string; readonly port: number }): Promise<Listener> {
  const server = createServer((conn) => {
    connections.add(conn)
    conn.once('close', () => connections.delete(conn))
    // A client that goes away in a hurry is its own affair.
    conn.on('error', () => {}).resume()
  })
  const accepts = on(server, 'connection', { close: ['close'] }) as AsyncIterable<[Socket]>
  server.listen(where)
  await once(server, 'listening')
  return { server, accepts }
}

async function freePort(): Promise<number> {
  const { server } = await listen({ host: '127.0.0.1', port: 0 })
  const { port } = server.address() as { port: number }
  await new Promise((closed) => server.close(closed))
  return port
}

function text(err: unknown): string {
  return err instanceof Error ? err.message : String(err)
}

await main()
