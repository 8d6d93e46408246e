/**
 * This project, with serve() and, for a program that knows nothing of it, through the command line.
 */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { system as os } from '../../src/node/system.ts'
import { eventually } from '../../test/support/waiting.ts'
import { programPath, type Site } from './site.ts'
import type { System } from './system.ts'

const packageFile = new URL('../../../package.json', import.meta.url)
export const command = fileURLToPath(new URL('../../bin/cook-daemon.js', import.meta.url))
const { version } = JSON.parse(readFileSync(packageFile, 'utf8')) as { version: string }

export const withServe: System = {
  name: 'serve',
  title: 'cook-daemon, serve()',
  setup: 'The program calls `serve()`, and `handOverWebSockets()` for its WebSockets; SIGUSR2 upgrades it.',
  documentation: 'README.md, docs/websockets.md',
  look: () => ({ version }),
  start(site) {
    site.spawn(process.execPath, [programPath('with-serve')])
    const pid = () => readFileSync(site.path('app.pid'), 'utf8').trim()
    return {
      async upgrade(old) {
        os.kill(old, 'SIGUSR2')
        // It names the new one from the commit on, which is when that can be upgraded too.
        await eventually('the pid file to name the new process', () => pid() !== String(old[0]) || undefined)
      },
      end: async () => os.kill((await site.serving()).identity, 'SIGTERM'),
    }
  },
}

export const withCommand: System = {
  name: 'command',
  title: 'cook-daemon, unmodified program',
  setup: '`cook-daemon start app.js --wait-ready`, then `cook-daemon upgrade`: the program does not know of it.',
  documentation: 'docs/cli.md, docs/unmodified-programs.md',
  look: () => ({ version }),
  async start(site) {
    await cookDaemon(site, ['start', programPath('unmodified'), '--name', 'app', '--wait-ready'])
    return {
      upgrade: () => cookDaemon(site, ['upgrade', 'app']),
      end: () => cookDaemon(site, ['stop', 'app']),
    }
  },
}

export function cookDaemon(site: Site, args: readonly string[]): Promise<void> {
  return site.run(process.execPath, [command, ...args])
}
