/**
 * nginx and HAProxy in front of Node processes, upgraded as teams do today: the new version starts
 * beside the old one, and a reload leads new connections to it; or, where several processes are
 * behind, each is restarted on its port, and the configuration stays.
 */

import { type ChildProcess, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { system as os } from '../../src/node/system.ts'
import { freePort } from '../../test/support/free-port.ts'
import { eventually } from '../../test/support/waiting.ts'
import { askHaproxy, haproxyConfiguration, nginxConfiguration } from './proxy-configuration.ts'
import { programPath, type Site } from './site.ts'
import { number, type Service, type System, signal } from './system.ts'

type Proxy = {
  readonly binary: string
  start(site: Site): ChildProcess
  /** In front of processes on these ports. */
  configure(site: Site, ports: readonly number[]): void
  reload(site: Site, master: number): Promise<void> | void
}

const nginx: Proxy = {
  binary: 'nginx',
  start: (site) => site.spawn('nginx', ['-p', site.folder, '-c', site.path('nginx.conf')]),
  configure: (site, ports) => writeFileSync(site.path('nginx.conf'), nginxConfiguration(site, ports)),
  reload: (site) => site.run('nginx', ['-p', site.folder, '-c', site.path('nginx.conf'), '-s', 'reload']),
}

const haproxy: Proxy = {
  binary: 'haproxy',
  start: (site) => site.spawn('haproxy', ['-W', '-db', '-f', site.path('haproxy.cfg')]),
  configure: (site, ports) => writeFileSync(site.path('haproxy.cfg'), haproxyConfiguration(site, ports)),
  reload: (_, master) => void process.kill(master, 'SIGUSR2'),
}

export function proxies(workers: number): readonly System[] {
  const behind = `${number(workers, 'Node process')} behind`
  const both =
    workers === 1
      ? 'A new Node process starts on another port; when it listens, the configuration names it and is loaded anew; the old Node process gets SIGTERM when the workers of the old configuration are gone, which they are when their last WebSocket is.'
      : `${workers} new Node processes start on other ports; when all listen, the configuration names them and is loaded anew; the old Node processes get SIGTERM when the workers of the old configuration are gone, which they are when their last WebSocket is.`
  const byReload: readonly System[] = [
    {
      name: 'nginx',
      title: `nginx reload, ${behind}`,
      setup: `\`nginx -s reload\` with \`worker_processes auto\`, \`keepalive\` to the backend, and no \`worker_shutdown_timeout\`, which is the default; connections are not limited in requests. ${both}`,
      documentation: "nginx's pages Controlling nginx, WebSocket proxying and ngx_http_upstream_module",
      look: () => look(nginx),
      start: (site) => startBehind(site, nginx, workers),
    },
    {
      name: 'haproxy',
      title: `HAProxy reload, ${behind}`,
      setup: `Master-worker mode, SIGUSR2 to the master, listeners handed over (\`expose-fd listeners\`), no \`hard-stop-after\`, which is the default. ${both}`,
      documentation: "HAProxy's Management Guide, Stopping and restarting HAProxy, and its Configuration Manual",
      look: () => look(haproxy),
      start: (site) => startBehind(site, haproxy, workers),
    },
  ]
  return workers === 1 ? byReload : [...byReload, ...rolling(workers)]
}

/** Milliseconds for what a server has got, or is on its way to it, before it is stopped. */
const settling = 1_000

/** What is done for each process before it is stopped, and when it is there again. */
type Turn = {
  readonly env?: Readonly<Record<string, string>>
  before(at: number): Promise<void>
  after?(at: number): Promise<void>
}

/** No reload: the list of servers stays, so clients keep their connections to the proxy. */
function rolling(workers: number): readonly System[] {
  const each = 'The configuration stays; one Node process after the other gets SIGTERM'
  const then = 'exits, and is started again on its port'
  return [
    {
      name: 'nginx-rolling',
      title: `nginx, ${workers} Node processes restarted by turns`,
      setup: `Configured as for the reload, with \`max_fails=0\`: whatever a stopped process refuses goes to the next one (\`proxy_next_upstream\`, as it is by default). ${each}, stops accepting, ends each connection with \`Connection: close\` in its next answer and WebSockets with 1001, ${then}; the next one follows a second after it listens.`,
      documentation: "nginx's pages ngx_http_upstream_module and ngx_http_proxy_module",
      look: () => look(nginx),
      start: (site) =>
        startRolling(site, nginx, workers, {
          env: { BENCH_DRAIN: 'soft' },
          // Without it the next one is closed with a queue of what the one before it has refused,
          // and those requests have no third server to go to (seen on a busy machine).
          before: (at) => sleep(at === 0 ? 0 : settling),
        }),
    },
    {
      name: 'haproxy-rolling',
      title: `HAProxy, ${workers} Node processes drained by turns`,
      setup: `Configured as for the reload. ${each} a second after \`set server app/app1 state drain\`, drains with \`server.close()\`, closes WebSockets with 1001, ${then}; when that listens, \`set server app/app1 state ready\`.`,
      documentation: "HAProxy's Management Guide, Unix Socket commands",
      look: () => look(haproxy),
      start: (site) =>
        startRolling(site, haproxy, workers, {
          async before(at) {
            await askHaproxy(site, `set server app/app${at + 1} state drain`)
            await sleep(settling)
          },
          after: (at) => askHaproxy(site, `set server app/app${at + 1} state ready`),
        }),
    },
  ]
}

function look({ binary }: Proxy): ReturnType<System['look']> {
  const { stdout, stderr, error } = spawnSync(binary, ['-v'], { encoding: 'utf8' })
  if (error !== undefined) return { missing: `${binary} is not installed (apt-get install ${binary})` }
  const [found] = /\d+\.\d+\.\d+/.exec(`${stdout}${stderr}`) ?? []
  return found === undefined ? { missing: `${binary} -v says no version` } : { version: found }
}

async function startBehind(site: Site, proxy: Proxy, workers: number): Promise<Service> {
  proxy.configure(site, await startBackends(site, workers))
  const master = proxy.start(site)
  const retired: Promise<void>[] = []
  let isOver = false
  return {
    async upgrade(old) {
      const before = childrenOf(master.pid)
      proxy.configure(site, await startBackends(site, workers))
      await proxy.reload(site, master.pid ?? 0)
      retired.push(retire(before, () => signal(old, 'SIGTERM')))
    },
    async end(serving) {
      isOver = true
      signal(serving, 'SIGTERM')
      master.kill('SIGTERM')
      await Promise.all(retired)
    },
  }

  async function retire(workers: readonly number[], end: () => void): Promise<void> {
    const known = workers.map((pid) => [pid, os.startTime(pid)] as const)
    const look = () => isOver || known.every(([pid, start]) => os.startTime(pid) !== start) || undefined
    await eventually('the end of the old workers', look, Number.POSITIVE_INFINITY)
    end()
  }
}

async function startRolling(site: Site, proxy: Proxy, workers: number, { env, before, after }: Turn): Promise<Service> {
  const ports = await Promise.all(Array.from({ length: workers }, freePort))
  const backends = await Promise.all(ports.map((port) => startBackend(site, port, env)))
  proxy.configure(site, ports)
  const master = proxy.start(site)
  return {
    async upgrade() {
      for (const [at, port] of ports.entries()) {
        await before(at)
        const old = backends[at]
        if (old?.kill('SIGTERM')) await once(old, 'exit')
        backends[at] = await startBackend(site, port, env)
        await after?.(at)
      }
    },
    end(serving) {
      signal(serving, 'SIGTERM')
      master.kill('SIGTERM')
    },
  }
}

/** Gives their ports when all listen. */
async function startBackends(site: Site, workers: number): Promise<number[]> {
  const ports = await Promise.all(Array.from({ length: workers }, freePort))
  await Promise.all(ports.map((port) => startBackend(site, port)))
  return ports
}

/** It listens then. */
async function startBackend(site: Site, port: number, env: Turn['env'] = {}): Promise<ChildProcess> {
  const child = site.spawn(process.execPath, [programPath('unmodified')], { ...env, PORT: String(port) })
  await site.serving(port)
  return child
}

function childrenOf(pid: number | undefined): number[] {
  const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim()
  return text === '' ? [] : text.split(' ').map(Number)
}
