/** Pods of docs/kubernetes.md: they start as the page has them, and are replaced without a loss. */
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { get } from 'node:http'
import { test } from 'node:test'
import { setTimeout as later } from 'node:timers/promises'
import { Endpoints } from '../support/endpoints.ts'
import { freePort } from '../support/free-port.ts'
import { connectionClients } from '../support/load/connection-clients.ts'
import { keepAliveClients } from '../support/load/keep-alive-clients.ts'
import { mixed } from '../support/load/requests.ts'
import { inContainersOnHost, installIn, Podman, program, repository } from '../support/podman.ts'
import { eventually } from '../support/waiting.ts'

const manifest = () => {
  const page = readFileSync(`${repository}/docs/kubernetes.md`, 'utf8')
  return /```yaml\n(.*?)```/s.exec(page)?.[1] ?? ''
}

/** With the manifest's image: its Dockerfile is tested with containers. */
async function open(): Promise<Podman> {
  const podman = await Podman.open()
  installIn(podman.root)
  writeFileSync(`${podman.root}/srv/web/package.json`, '{"type":"module"}')
  writeFileSync(`${podman.root}/srv/web/app.js`, program('v1', 'process.env.PORT'))
  // What servers do without a library: they wait for their clients, but not for ever.
  const byHand = `process.on('SIGTERM', () => {
  server.close(() => process.exit(0))
  setTimeout(process.exit, 10_000, 0)
})`
  writeFileSync(`${podman.root}/srv/web/plain.js`, program('v1', 'process.env.PORT', byHand))
  await podman.imports('base:1')
  const lines = ['FROM localhost/base:1', 'WORKDIR /srv/web', 'ENV PATH=/srv/web/node_modules/.bin:$PATH', 'USER node']
  writeFileSync(podman.path('Dockerfile'), `${lines.join('\n')}\n`)
  await podman.does(['build', '--tag', 'web:1', '--file', podman.path('Dockerfile'), podman.path('t')], 120_000)
  return podman
}

test(
  'podman play kube runs the manifest of docs/kubernetes.md as it stands, and exec upgrades it',
  inContainersOnHost,
  async () => {
    await using podman = await open()
    writeFileSync(podman.path('web.yaml'), manifest())
    await podman.does(['play', 'kube', '--network', 'none', podman.path('web.yaml')], 120_000)
    const names = (await podman.does(['ps', '--format', '{{.Names}}'])).split('\n')
    const container = names.find((name) => name.endsWith('-web')) ?? assert.fail(names.join(' '))
    const asks = `fetch('http://127.0.0.1:9464/readyz').then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))`
    await eventually('that it is ready', async () => {
      const { code } = await podman.runs(['exec', container, 'node', '-e', asks])
      return code === 0 || undefined
    })
    const { code, stdout, stderr } = await podman.cook(container, 'upgrade')
    assert.equal(code, 0, stdout + stderr)
    const { warnings } = await podman.status(container)
    assert.deepEqual(warnings, [])
    await podman.does(['play', 'kube', '--down', podman.path('web.yaml')], 120_000)
    assert.equal((await podman.does(['ps', '--all', '--quiet'])).trim(), '')
  },
)

/** How late the proxies hear that a pod is leaving, in milliseconds. */
const endpointDelay = 5_000
/** `terminationGracePeriodSeconds` of the page. */
const gracePeriod = '45'

type Pod = { readonly name: string; readonly port: number; readonly probe: number }

/** The page's pod on ports of its own; `isPlain`: the program alone, which has no admin port. */
async function start(podman: Podman, name: string, isPlain: boolean): Promise<Pod> {
  const port = await freePort()
  const probe = isPlain ? port : await freePort()
  const text = manifest()
    .replace('name: web\n', `name: ${name}\n`)
    .replace(/replicas: .*/, 'replicas: 1')
    .replace('"8080"', `"${port}"`)
    .replaceAll('9464', `${probe}`)
    // This engine makes it a volume of that name, which all pods share.
    .replaceAll('name: tmp', `name: tmp-${name}`)
  writeFileSync(podman.path('pod.yaml'), isPlain ? text.replace(/args: .*/, 'args: [node, plain.js]') : text)
  await podman.does(['play', 'kube', '--network', 'host', podman.path('pod.yaml')], 120_000)
  const pod = { name: `${name}-pod-0`, port, probe }
  await eventually(`that ${name} is ready`, async () => (await isReady(pod)) || undefined, 60_000)
  return pod
}

/** As a readiness probe finds out: a program without one is ready when it accepts. */
function isReady({ probe }: Pod): Promise<boolean> {
  return new Promise((done) => {
    get({ host: '127.0.0.1', port: probe, path: '/readyz', agent: false }, (response) => {
      response.resume()
      done(response.statusCode === 200)
    }).on('error', () => done(false))
  })
}

/**
 * As when a pod is deleted: it gets SIGTERM, and whoever sends clients there hears of it later. Not
 * by `play kube --down`, which in podman 4.3 kills at once, whatever grace period the manifest has.
 */
async function end(podman: Podman, endpoints: Endpoints, pod: Pod) {
  const ordered = performance.now()
  const stopped = podman.does(['pod', 'stop', '--time', gracePeriod, pod.name], 120_000)
  const left = eventually(`that ${pod.name} leaves`, async () => !(await isReady(pod)) || undefined)
  await Promise.all([later(endpointDelay), left])
  endpoints.remove(pod.port)
  const removed = performance.now()
  await stopped
  return { delay: removed - ordered, code: await podman.shows(`${pod.name}-web`, '{{.State.ExitCode}}') }
}

/** Three pods, each replaced by another one as soon as that is ready. */
async function rollOut(podman: Podman, kind: 'plain' | 'kept') {
  const isPlain = kind === 'plain'
  using endpoints = await Endpoints.open()
  const old: Pod[] = []
  for (const number of [1, 2, 3]) old.push(await start(podman, `${kind}-old-${number}`, isPlain))
  for (const { port } of old) endpoints.add(port)
  // A client that pipelines must ask again whatever was behind an answer that closes.
  const { pipelined: _, ...weights } = mixed
  await using keepAlive = keepAliveClients(endpoints.address, { count: 10, weights, pause: [0, 20], reconnect: true })
  await using single = connectionClients(endpoints.address, { count: 5, pause: [0, 50], goOn: true })
  await Promise.all([keepAlive.ready, single.ready])
  const ends: ReturnType<typeof end>[] = []
  for (const [index, pod] of old.entries()) {
    const next = await start(podman, `${kind}-new-${index + 1}`, isPlain)
    endpoints.add(next.port)
    ends.push(end(podman, endpoints, pod))
  }
  const ended = await Promise.all(ends)
  const results = await Promise.all([keepAlive.stop(), single.stop()])
  const sum = (what: 'requests' | 'failedRequests') => results.reduce((total, result) => total + result[what], 0)
  const delay = Math.max(...ended.map((one) => one.delay)) / 1_000
  const codes = ended.map(({ code }) => code)
  return { codes, results, requests: sum('requests'), lost: sum('failedRequests'), delay: delay.toFixed(1) }
}

test(
  'pods that are replaced lose no request, though clients come for seconds after SIGTERM',
  inContainersOnHost,
  async (context) => {
    await using podman = await open()
    for (const kind of ['plain', 'kept'] as const) {
      const { codes, results, requests, lost, delay } = await rollOut(podman, kind)
      const how = results.map(({ failures }) => JSON.stringify(failures)).join(' ')
      context.diagnostic(
        `${kind}: ${requests} requests, ${lost} lost, sent to a pod up to ${delay} s after its end was ordered, exit codes ${codes}; ${how}`,
      )
      if (kind === 'plain') assert.ok(lost > 0)
      else {
        assert.equal(lost, 0, JSON.stringify(results.map(({ faults }) => faults)))
        assert.deepEqual(codes, ['0', '0', '0'])
      }
    }
  },
)
