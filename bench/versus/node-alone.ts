/**
 * What Node alone can do: an upgrade written by hand, and the rolling restart of node:cluster, each
 * with the two ways of draining.
 */
import type { ChildProcess } from 'node:child_process'
import { within } from '../../test/support/waiting.ts'
import { messageFrom } from '../processes.ts'
import { programPath, type Site } from './site.ts'
import { number, type Service, type System, signal } from './system.ts'

const drains = {
  close: {
    title: 'server.close()',
    words: 'drains with `server.close()`, which ends idle connections at once',
  },
  soft: {
    title: 'Connection: close',
    words: 'stops accepting, and ends each connection with `Connection: close` in its next answer',
  },
} as const
type Drain = keyof typeof drains

/** Milliseconds for what a primary reports. */
const patience = 120_000

/** By hand there is one process. */
export function nodeAlone(workers: number): readonly System[] {
  const cluster = [clusterSystem('cluster', 'close', workers), clusterSystem('cluster-soft', 'soft', workers)]
  return workers === 1 ? [byHandSystem('by-hand', 'close'), byHandSystem('by-hand-soft', 'soft'), ...cluster] : cluster
}

function byHandSystem(name: string, drain: Drain): System {
  const before =
    'SIGUSR2 starts a new process that inherits the descriptor of the listener; when that listens, the old one'
  return {
    name,
    title: `by hand, ${drains[drain].title}`,
    setup: setupOf(before, drain),
    documentation:
      "Node's documentation of `options.stdio` of `spawn()`, of `server.listen({ fd })` and of `server.close()`",
    look: () => ({ version: process.version }),
    start(site) {
      site.spawn(process.execPath, [programPath('by-hand')], { BENCH_DRAIN: drain })
      return {
        upgrade: (old) => signal(old, 'SIGUSR2'),
        end: (serving) => signal(serving, 'SIGTERM'),
      }
    },
  }
}

function clusterSystem(name: string, drain: Drain, workers: number): System {
  const before =
    workers === 1
      ? 'One worker. SIGUSR2 makes the primary fork a new one; when that listens,'
      : `${number(workers, 'worker')}. SIGUSR2 makes the primary replace one after the other: it forks a new one; when that listens,`
  return {
    name,
    title: `node:cluster, ${drains[drain].title}`,
    setup: setupOf(`${before} the old one is told to shut down and disconnected, and`, drain),
    documentation: "Node's documentation of `worker.disconnect()` and of `server.close()`",
    look: () => ({ version: process.version }),
    start: (site) => startCluster(site, drain, workers),
  }
}

function setupOf(before: string, drain: Drain): string {
  return `${before} ${drains[drain].words}. WebSockets are closed with 1001; 5 seconds later (10 with \`Connection: close\`) the old process exits in any case.`
}

/** When this resolves, all workers listen. */
export async function startCluster(
  site: Site,
  drain: Drain,
  workers: number,
): Promise<Service & { readonly primary: ChildProcess }> {
  const env = { BENCH_DRAIN: drain, BENCH_WORKERS: String(workers) }
  const primary = site.spawn(process.execPath, [programPath('cluster')], env, 'ipc')
  await within('the workers to listen', messageFrom(primary), patience)
  return {
    primary,
    async upgrade() {
      const reloaded = messageFrom(primary)
      primary.kill('SIGUSR2')
      await within('the end of the reload', reloaded, patience)
    },
    // The workers of a primary that has ended end by themselves.
    end: () => void primary.kill('SIGTERM'),
  }
}
