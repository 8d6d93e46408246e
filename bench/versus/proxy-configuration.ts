/** What nginx and HAProxy are told: their configurations, and HAProxy at its socket. */
import { once } from 'node:events'
import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import type { Site } from './site.ts'

export function nginxConfiguration(site: Site, ports: readonly number[]): string {
  const folders = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((what) => `${what}_temp_path ${what};`)
  // As root it would become a user who may not enter the folder.
  const user = process.getuid?.() === 0 ? 'user root;' : ''
  // 0: the one that restarts is asked again at once. nginx ignores it where there is one server.
  const servers = ports.map((port) => `server 127.0.0.1:${port} max_fails=0;`)
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
    ${servers.join('\n    ')}
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

export function haproxyConfiguration(site: Site, ports: readonly number[]): string {
  const servers = ports.map((port, at) => `server app${at + 1} 127.0.0.1:${port}`)
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
  ${servers.join('\n  ')}
`
}

/** HAProxy answers a command that it takes with nothing but a line break. */
export async function askHaproxy(site: Site, command: string): Promise<void> {
  const socket = connect(site.path('haproxy.sock'))
  await once(socket, 'connect')
  socket.write(`${command}\n`)
  const answer = (await text(socket)).trim()
  if (answer !== '') throw new Error(`HAProxy, told to ${command}: ${answer}`)
}
