/**
 * nginx and HAProxy in front of one Node process: the new version starts beside the old one, and a
 * reload leads new connections to it.
 */

import { type ChildProcess, spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { system as os } from '../../src/node/system.ts'
import { freePort } from '../../test/support/free-port.ts'
import { eventually } from '../../test/support/waiting.ts'
import { programPath, type Site } from './site.ts'
import type { Service, System } from './system.ts'

type Proxy = {
  readonly binary: string
  start(site: Site): ChildProcess
  configure(site: Site, backend: number): void
  reload(site: Site, master: number): Promise<void> | void
}

const both =
  'A new Node process starts on another port; when it listens, the configuration names it and is loaded anew; the old Node process gets SIGTERM when the workers of the old configuration are gone, which they are when their last WebSocket is.'

export const nginx = proxySystem(
  'nginx',
  'nginx reload, one Node process behind',
  `\`nginx -s reload\` with \`worker_processes auto\`, \`keepalive\` to the backend, and no \`worker_shutdown_timeout\`, which is the default; connections are not limited in requests. ${both}`,
  "nginx's pages Controlling nginx, WebSocket proxying and ngx_http_upstream_module",
  {
    binary: 'nginx',
    start: (site) => site.spawn('nginx', ['-p', site.folder, '-c', site.path('nginx.conf')]),
    configure: (site, backend) => writeFileSync(site.path('nginx.conf'), nginxConfiguration(site, backend)),
    reload: (site) => site.run('nginx', ['-p', site.folder, '-c', site.path('nginx.conf'), '-s', 'reload']),
  },
)

export const haproxy = proxySystem(
  'haproxy',
  'HAProxy reload, one Node process behind',
  `Master-worker mode, SIGUSR2 to the master, listeners handed over (\`expose-fd listeners\`), no \`hard-stop-after\`, which is the default. ${both}`,
  "HAProxy's Management Guide, Stopping and restarting HAProxy, and its Configuration Manual",
  {
    binary: 'haproxy',
    start: (site) => site.spawn('haproxy', ['-W', '-db', '-f', site.path('haproxy.cfg')]),
    configure: (site, backend) => writeFileSync(site.path('haproxy.cfg'), haproxyConfiguration(site, backend)),
    reload: (_, master) => void process.kill(master, 'SIGUSR2'),
  },
)

function proxySystem(name: string, title: string, setup: string, documentation: string, proxy: Proxy): System {
  return {
    name,
    title,
    setup,
    documentation,
    look() {
      const { stdout, stderr, error } = spawnSync(proxy.binary, ['-v'], { encoding: 'utf8' })
      if (error !== undefined) return { missing: `${proxy.binary} is not installed (apt-get install ${proxy.binary})` }
      const [found] = /\d+\.\d+\.\d+/.exec(`${stdout}${stderr}`) ?? []
      return found === undefined ? { missing: `${proxy.binary} -v says no version` } : { version: found }
    },
    start: (site) => startBehind(site, proxy),
  }
}

async function startBehind(site: Site, proxy: Proxy): Promise<Service> {
  proxy.configure(site, await startBackend(site))
  const master = proxy.start(site)
  const retired: Promise<void>[] = []
  let isOver = false
  return {
    async upgrade(old) {
      const before = childrenOf(master.pid)
      proxy.configure(site, await startBackend(site))
      await proxy.reload(site, master.pid ?? 0)
      retired.push(retire(before, () => os.kill(old, 'SIGTERM')))
    },
    async end() {
      isOver = true
      os.kill((await site.serving()).identity, 'SIGTERM')
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

/** Gives its port when it listens. */
async function startBackend(site: Site): Promise<number> {
  const port = await freePort()
  site.spawn(process.execPath, [programPath('unmodified')], { PORT: String(port) })
  await site.serving(port)
  return port
}

function childrenOf(pid: number | undefined): number[] {
  const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim()
  return text === '' ? [] : text.split(' ').map(Number)
}

function nginxConfiguration(site: Site, backend: number): string {
  const folders = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((what) => `${what}_temp_path ${what};`)
  // As root it would become a user who may not enter the folder.
  const user = process.getuid?.() === 0 ? 'user root;' : ''
  return `${user}
daemon off;
worker_processes auto;
pid nginx.pid;
error_log error.log;
events {
  worker_connections 4096;
}
http {
  access_log off;
  ${folders.join('\n  ')}
  keepalive_requests 1000000;
  client_max_body_size 2m;
  map $http_upgrade $connection_upgrade {
    default upgrade;
    '' '';
  }
  upstream app {
    server 127.0.0.1:${backend};
    keepalive 32;
    keepalive_requests 1000000;
  }
  server {
    listen 127.0.0.1:${site.port};
    location / {
      proxy_pass http://app;
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      proxy_set_header Host $host;
      proxy_read_timeout 1h;
    }
  }
}
`
}

function haproxyConfiguration(site: Site, backend: number): string {
  return `global
  stats socket ${site.path('haproxy.sock')} mode 600 level admin expose-fd listeners
defaults
  mode http
  timeout connect 5s
  timeout client 1m
  timeout server 1m
  timeout tunnel 1h
frontend web
  bind 127.0.0.1:${site.port}
  default_backend app
backend app
  server app1 127.0.0.1:${backend}
`
}
