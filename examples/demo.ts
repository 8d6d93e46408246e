/**
 * `npm run demo`: three workers are upgraded, once to a version that fails, and one is killed,
 * under clients that never retry. Exit code 1 if anything else was lost than what was killed.
 */
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { WebSocket } from 'ws'
import type { Status } from '../src/control/status.ts'
import { connectionClients } from '../test/support/load/connection-clients.ts'
import { keepAliveClients } from '../test/support/load/keep-alive-clients.ts'
import type { Weights } from '../test/support/load/requests.ts'
import type { Told } from './demo/server.ts'
import { Service, serviceName } from './demo/service.ts'
import { type Losses, Story } from './demo/story.ts'
import { isGood, verdict } from './demo/verdict.ts'
import { openView } from './demo/view.ts'

/** DEMO_SHORT=1 shows the same in a moment, for the tests. */
const plan =
  process.env.DEMO_SHORT === '1'
    ? { rest: 300, keepAlive: 10, newConnection: 2, good: ['v4'] }
    : { rest: 2_500, keepAlive: 50, newConnection: 10, good: ['v4', 'v5'] }
const workers = 3
/**
 * Each client waits this long between two requests, in milliseconds: users do, and two cores are to
 * be enough.
 */
const pause = [5, 45] as const
const weights: Weights = { small: 80, chunked: 8, post: 6, pipelined: 6 }
/** From one message on the WebSocket to the next, and from one look at the workers, in ms. */
const interval = 100
/** Time for whatever must happen, in milliseconds. */
const patience = 30_000

const stopped = new AbortController()
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, () => stopped.abort())
// Whoever read our output is gone.
process.stdout.on('error', () => stopped.abort())

// An upgrade, one that fails, a crash, and the rest.
const story = new Story(3 + plan.good.length)
process.exitCode = 1
try {
  await show()
  for (const line of verdict(story)) console.log(line)
  if (isGood(story)) process.exitCode = 0
} catch (error) {
  if (!stopped.signal.aborted) throw error
  process.exitCode = 130
}

async function show(): Promise<void> {
  await using service = new Service()
  const view = openView(story)
  try {
    await run(service)
  } finally {
    view.close()
  }
}

async function run(service: Service): Promise<void> {
  service.deploy('v1')
  await types(service, ['start', 'current.mjs', '--name', serviceName, '--workers', String(workers)])
  story.serves('v1')
  const where = { host: '127.0.0.1', port: portOf(await service.status()) }
  await using keepAlive = keepAliveClients(where, { count: plan.keepAlive, pause, weights, reconnect: true })
  await using newConnection = connectionClients(where, { count: plan.newConnection, pause, goOn: true })
  await using webSocket = await openWebSocket(where.port)
  await using _ = watch(service)
  story.clients = [
    { kind: 'keep-alive', count: plan.keepAlive, load: keepAlive },
    { kind: 'new-connection', count: plan.newConnection, load: newConnection },
  ]
  const loads = story.clients.map(({ load }) => load)
  await Promise.all(loads.map(({ ready }) => ready))
  story.beginLoad()
  await rest()
  await upgrade(service, 'v2')
  await upgradeToBroken(service, 'v3')
  await crash(service)
  for (const version of plan.good) await upgrade(service, version)
  story.to = performance.now()
  await Promise.all(loads.map((load) => load.stop()))
  webSocket.end()
  await types(service, ['stop', serviceName])
}

async function upgrade(service: Service, version: string): Promise<void> {
  service.deploy(version)
  const event = story.begin('upgrade')
  const code = await types(service, ['upgrade', serviceName])
  if (code !== 0) throw new Error(`the upgrade to ${version} ended with ${code}`)
  story.serves(version, (await service.status()).lastUpgrade?.connections?.handedOver ?? 0)
  event.to = performance.now()
  await rest()
}

async function upgradeToBroken(service: Service, version: string): Promise<void> {
  service.deploy(version, true)
  const event = story.begin('upgrade')
  const code = await types(service, ['upgrade', serviceName])
  if (code !== 1) throw new Error(`the upgrade to a version that fails ended with ${code}`)
  story.versions.push({ name: version, state: 'refused', moved: 0 })
  event.isRefused = true
  event.to = performance.now()
  await rest()
}

/** Of a worker that does not have the WebSocket. */
async function crash(service: Service): Promise<void> {
  const { workers: all = [] } = await service.status()
  const victim = all.find(({ pid }) => pid !== undefined && pid !== story.webSocket?.pid)
  if (victim?.pid === undefined) throw new Error('there is no worker to be killed')
  const before = story.losses()
  const event = story.begin('crash')
  story.tell(`$ kill -9 ${victim.pid}     slot ${victim.slot} crashes`, 'step')
  service.kill(victim.pid)
  await until('a new worker', async () => {
    const { workers: now = [] } = await service.status()
    const again = now.find(({ slot }) => slot === victim.slot)
    return again?.state === 'serving' && again.pid !== victim.pid
  })
  event.to = performance.now()
  await rest()
  story.crashCost = minus(story.losses(), before)
  const { requests, connections } = story.crashCost
  story.tell(
    `its keeper restarted it. Lost: ${requests} requests that had been sent to it; ${connections} idle connections`,
  )
}

async function types(service: Service, args: readonly string[]): Promise<number | null> {
  stopped.signal.throwIfAborted()
  story.tell(`$ cook-daemon ${args.join(' ')}`, 'step')
  const code = await service.types(args, (line) => {
    // Of a stack the error alone is of interest here.
    if (/^ {4}(?!Error)/.test(line) || /^\s*(}|Node\.js v.*|node:.*)?$/.test(line)) return
    story.tell(line, line.startsWith('✓') ? 'good' : /^(✗|cook-daemon:)|Error/.test(line) ? 'bad' : 'plain')
  })
  stopped.signal.throwIfAborted()
  return code
}

/** One that says something all the time, and must be answered in order by whoever has it. */
async function openWebSocket(port: number): Promise<AsyncDisposable & { end(): void }> {
  const socket = new WebSocket(`ws://127.0.0.1:${port}`)
  await once(socket, 'open')
  let isOver = false
  socket.on('message', (text) => {
    const told = JSON.parse(String(text)) as Told
    if (told.count !== (story.webSocket?.count ?? 0) + 1) story.webSocketFaults++
    story.webSocket = told
  })
  socket.on('close', () => isOver || story.webSocketFaults++)
  socket.on('error', () => {})
  const timer = setInterval(() => socket.send('?'), interval)
  function end(): void {
    isOver = true
    clearInterval(timer)
    socket.terminate()
  }
  return { end, [Symbol.asyncDispose]: async () => end() }
}

/** Looks at the workers, for who watches. */
function watch(service: Service): AsyncDisposable {
  const ended = new AbortController()
  const looking = (async () => {
    while (!ended.signal.aborted) {
      story.workers = (await service.status().catch(() => undefined))?.workers ?? story.workers
      await sleep(interval, undefined, { signal: ended.signal }).catch(() => {})
    }
  })()
  return {
    async [Symbol.asyncDispose]() {
      ended.abort()
      await looking
    },
  }
}

function portOf({ listeners: [first] }: Status): number {
  return Number(/:(\d+)$/.exec(first?.address ?? '')?.[1])
}

function minus(after: Losses, before: Losses): Losses {
  return { requests: after.requests - before.requests, connections: after.connections - before.connections }
}

async function rest(): Promise<void> {
  await sleep(plan.rest, undefined, { signal: stopped.signal })
}

async function until(name: string, isTrue: () => Promise<boolean>): Promise<void> {
  const end = performance.now() + patience
  while (!(await isTrue())) {
    if (performance.now() > end) throw new Error(`waited in vain for ${name}`)
    await sleep(10, undefined, { signal: stopped.signal })
  }
}
