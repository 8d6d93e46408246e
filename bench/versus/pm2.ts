/** PM2 in cluster mode, installed from npm at the first run, never a dependency. */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { environmentToFetch } from '../environment.ts'
import { programPath, type Site } from './site.ts'
import { type Availability, number, type Service, type System } from './system.ts'

const version = '7.0.4'
const folder = fileURLToPath(new URL(`../../../node_modules/.cache/pm2-${version}`, import.meta.url))
const command = join(folder, 'node_modules/pm2/bin/pm2')

export function pm2(workers: number): System {
  const several = workers === 1 ? '' : ` (\`instances: ${workers}\`, which is \`-i ${workers}\`)`
  return {
    name: 'pm2',
    title: 'PM2, cluster reload',
    setup: `Cluster mode, ${number(workers, 'worker')}${several}, \`wait_ready\` and \`kill_timeout: 3000\`; the program says \`ready\` when it listens, and at SIGINT drains with \`server.close()\`. \`pm2 reload\` upgrades it.`,
    documentation: "PM2's pages Graceful Start/Shutdown and Cluster Mode",
    look,
    start: (site) => startPm2(site, workers),
  }
}

function look(): Availability {
  if (!existsSync(command)) {
    mkdirSync(folder, { recursive: true })
    const flags = ['--ignore-scripts', '--no-save', '--no-audit', '--no-fund', '--loglevel=error']
    spawnSync('npm', ['install', ...flags, '--prefix', folder, `pm2@${version}`], {
      env: environmentToFetch,
      stdio: ['ignore', 2, 2],
    })
  }
  return existsSync(command) ? { version } : { missing: 'npm could not install it' }
}

export async function startPm2(site: Site, instances: number): Promise<Service> {
  const file = site.path('ecosystem.config.cjs')
  const app = {
    name: 'app',
    script: programPath('unmodified'),
    exec_mode: 'cluster',
    instances,
    wait_ready: true,
    listen_timeout: 10_000,
    kill_timeout: 3_000,
  }
  writeFileSync(file, `module.exports = ${JSON.stringify({ apps: [app] })}\n`)
  await runPm2(site, ['start', file])
  return {
    upgrade: () => runPm2(site, ['reload', 'app']),
    // Its daemon too.
    end: () => runPm2(site, ['kill']),
  }
}

export function runPm2(site: Site, args: readonly string[]): Promise<void> {
  return site.run(process.execPath, [command, ...args])
}
