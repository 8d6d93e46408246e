/**
 * `npm run demo`: a server is upgraded five times, once to a broken version, under clients that
 * never retry. Exit code 1 if one of them noticed.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { connectionClients } from '../test/support/load/connection-clients.ts'
import { keepAliveClients } from '../test/support/load/keep-alive-clients.ts'
import type { Weights } from '../test/support/load/requests.ts'
import { Service } from './demo/service.ts'
import { Story, type Upgrade } from './demo/story.ts'
import { milliseconds, seconds } from './demo/text.ts'
import { isGood, verdict } from './demo/verdict.ts'
import { openView } from './demo/view.ts'

/** DEMO_SHORT=1 shows the same in a moment, for the tests. */
const plan =
  process.env.DEMO_SHORT === '1'
    ? { upgrades: 3, rest: 300, keepAlive: 10, newConnection: 2 }
    : { upgrades: 5, rest: 2_500, keepAlive: 50, newConnection: 10 }
/**
 * Each client waits this long between two requests, in milliseconds: users do, and two cores are to
 * be enough.
 */
const pause = [5, 45] as const
const weights: Weights = { small: 80, chunked: 8, post: 6, pipelined: 6 }
/** Time for whatever must happen, in milliseconds. */
const patience = 30_000

const stopped = new AbortController()
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, () => stopped.abort())
// Whoever read our output is gone.
process.stdout.on('error', () => stopped.abort())

const story = new Story(plan.upgrades)
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
  } catch (error) {
    if (!stopped.signal.aborted) story.tell(service.log, 'why')
    throw error
  } finally {
    view.close()
  }
}

async function run(service: Service): Promise<void> {
  service.deploy('v1')
  const ended = service.run((line) => story.hear(line))
  await until(service, 'the first version', () => service.port > 0)
  const where = { host: '127.0.0.1', port: service.port }
  await using keepAlive = keepAliveClients(where, { count: plan.keepAlive, pause, weights })
  await using newConnection = connectionClients(where, { count: plan.newConnection, pause })
  story.clients = [
    { kind: 'keep-alive', count: plan.keepAlive, load: keepAlive },
    { kind: 'new-connection', count: plan.newConnection, load: newConnection },
  ]
  const loads = story.clients.map(({ load }) => load)
  await Promise.all(loads.map(({ ready }) => ready))
  story.beginLoad()
  await rest()
  for (let number = 1; number <= plan.upgrades; number++) {
    await upgrade(service, `v${number + 1}`, number === plan.upgrades - 1)
    await rest()
  }
  story.endLoad()
  await Promise.all(loads.map((load) => load.stop()))
  service.signal('SIGTERM')
  await ended
}

async function upgrade(service: Service, version: string, isBroken: boolean): Promise<void> {
  const { pid } = service
  service.deploy(version, isBroken)
  const one = story.beginUpgrade(version, `kill -s SIGUSR2 ${pid}`)
  service.signal('SIGUSR2')
  await until(service, `the end of the upgrade to ${version}`, () => one.to !== undefined)
  tellSummary(one)
}

function tellSummary({ from, to = from, moved, failedPid }: Upgrade): void {
  const what = failedPid === undefined ? `${moved} moved` : 'none moved'
  const failures = story.failures()
  const longest = milliseconds(story.longestPause(from))
  const words = `upgrade ${story.upgrades.length}: ${what}, ${failures} failed, longest pause ${longest}`
  story.tell(`${words}, took ${seconds(to - from)}`, failures === 0 ? 'plain' : 'bad')
}

async function rest(): Promise<void> {
  await sleep(plan.rest, undefined, { signal: stopped.signal })
}

async function until(service: Service, name: string, isTrue: () => boolean): Promise<void> {
  const end = performance.now() + patience
  while (!isTrue()) {
    if (service.isOver) throw new Error(`the service has ended before ${name}`)
    if (performance.now() > end) throw new Error(`waited in vain for ${name}`)
    await sleep(10, undefined, { signal: stopped.signal })
  }
}
