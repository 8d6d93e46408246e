/**
 * This project, with serve() and, for a program that knows nothing of it, through the command line;
 * several workers are started by the command in both.
 */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { eventually } from '../../test/support/waiting.ts'
import { programPath, type Site } from './site.ts'
import { type Service, type System, signal } from './system.ts'

const packageFile = new URL('../../../package.json', import.meta.url)
export const command = fileURLToPath(new URL('../../bin/cook-daemon.js', import.meta.url))
const { version } = JSON.parse(readFileSync(packageFile, 'utf8')) as { version: string }

export function withServe(workers: number): System {
  const calls = 'The program calls `serve()`, and `handOverWebSockets()` for its WebSockets;'
  return {
    name: 'serve',
    title: 'cook-daemon, serve()',
    setup:
      workers === 1
        ? `${calls} SIGUSR2 upgrades it.`
        : `${calls} \`cook-daemon start app.js --workers ${workers}\`, then \`cook-daemon upgrade\`.`,
    documentation: `README.md, docs/websockets.md${workers === 1 ? '' : ', docs/workers.md'}`,
    look: () => ({ version }),
    start: (site) =>
      workers === 1 ? startAlone(site) : startCommand(site, 'with-serve', ['--workers', String(workers)]),
  }
}

export function withCommand(workers: number): System {
  const options = [...(workers === 1 ? [] : ['--workers', String(workers)]), '--wait-ready']
  return {
    name: 'command',
    title: 'cook-daemon, unmodified program',
    setup: `\`cook-daemon start app.js ${options.join(' ')}\`, then \`cook-daemon upgrade\`: the program does not know of it.`,
    documentation: `docs/cli.md, docs/unmodified-programs.md${workers === 1 ? '' : ', docs/workers.md'}`,
    look: () => ({ version }),
    start: (site) => startCommand(site, 'unmodified', options),
  }
}

function startAlone(site: Site): Service {
  site.spawn(process.execPath, [programPath('with-serve')])
  const pid = () => readFileSync(site.path('app.pid'), 'utf8').trim()
  return {
    async upgrade(old) {
      signal(old, 'SIGUSR2')
      // It names the new one from the commit on, which is when that can be upgraded too.
      await eventually('the pid file to name the new process', () => pid() !== String(old[0]?.[0]) || undefined)
    },
    end: (serving) => signal(serving, 'SIGTERM'),
  }
}

export async function startCommand(
  site: Site,
  program: 'with-serve' | 'unmodified',
  options: readonly string[],
): Promise<Service> {
  await cookDaemon(site, ['start', programPath(program), '--name', 'app', ...options])
  return {
    upgrade: () => cookDaemon(site, ['upgrade', 'app']),
    end: () => cookDaemon(site, ['stop', 'app']),
  }
}

export function cookDaemon(site: Site, args: readonly string[]): Promise<void> {
  return site.run(process.execPath, [command, ...args])
}
