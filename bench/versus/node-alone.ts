/**
 * What Node alone can do: an upgrade written by hand, and the rolling restart of node:cluster, each
 * with the two ways of draining.
 */
import { system as os } from '../../src/node/system.ts'
import { programPath } from './site.ts'
import type { System } from './system.ts'

const drains = {
  close: 'drains with `server.close()`, which ends idle connections at once',
  soft: 'stops accepting, and ends each connection with `Connection: close` in its next answer',
} as const

const byHand =
  'SIGUSR2 starts a new process that inherits the descriptor of the listener; when that listens, the old one'
const cluster =
  'One worker. SIGUSR2 makes the primary fork a new one; when that listens, the old one is told to shut down and disconnected, and'

export const nodeAlone: readonly System[] = [
  nodeSystem('by-hand', 'by hand, server.close()', 'by-hand', 'close', byHand),
  nodeSystem('by-hand-soft', 'by hand, Connection: close', 'by-hand', 'soft', byHand),
  nodeSystem('cluster', 'node:cluster, server.close()', 'cluster', 'close', cluster),
  nodeSystem('cluster-soft', 'node:cluster, Connection: close', 'cluster', 'soft', cluster),
]

function nodeSystem(
  name: string,
  title: string,
  program: 'by-hand' | 'cluster',
  drain: keyof typeof drains,
  before: string,
): System {
  return {
    name,
    title,
    setup: `${before} ${drains[drain]}. WebSockets are closed with 1001; 5 seconds later (10 with \`Connection: close\`) the old process exits in any case.`,
    documentation:
      program === 'cluster'
        ? "Node's documentation of `worker.disconnect()` and of `server.close()`"
        : "Node's documentation of `options.stdio` of `spawn()`, of `server.listen({ fd })` and of `server.close()`",
    look: () => ({ version: process.version }),
    start(site) {
      const first = site.spawn(process.execPath, [programPath(program)], { BENCH_DRAIN: drain })
      return {
        upgrade(old) {
          if (program === 'cluster') first.kill('SIGUSR2')
          else os.kill(old, 'SIGUSR2')
        },
        async end() {
          // The workers of a primary that has ended end by themselves.
          if (program === 'cluster') first.kill('SIGTERM')
          else os.kill((await site.serving()).identity, 'SIGTERM')
        },
      }
    },
  }
}
