/** What a daemon is at this moment, as its control socket tells it. */
import type { Server } from 'node:net'
import type { GenerationRecord } from '../contract/messages.ts'
import type { Listener } from '../handover/leave.ts'
import type { History } from '../history.ts'
import { residentMemory } from '../node/processes.ts'
import { connectionsOf } from '../node/sockets.ts'
import { identify } from '../node/system.ts'
import { withoutUndefined } from '../options.ts'
import type { EnteredState } from '../process/state.ts'
import { version } from '../version.ts'
import type { Status } from './status.ts'

export type Facts = {
  readonly state: EnteredState
  readonly listeners: readonly Listener[]
  readonly history: History
  /** In milliseconds. */
  readonly drainTimeout: number
}

export function statusOf(name: string, facts: Facts): Status {
  const { state, listeners, history, drainTimeout } = facts
  const open = connectionsOf(listeners.map(({ server }) => server))
  const { rss, heapUsed } = process.memoryUsage()
  const { command, program, logFile, pidFile } = state
  const self = recordOf(facts)
  return {
    name,
    version,
    node: process.version,
    pid: self.pid,
    startTime: self.startTime,
    generation: self.generation,
    phase: state.phase,
    startedAt: new Date(Date.now() - process.uptime() * 1000).toISOString(),
    uptime: process.uptime(),
    memory: { resident: rss, heapUsed },
    connections: self.connections,
    listeners: listeners.map(({ name: listener, server }) => ({
      name: listener,
      address: addressText(server.address()),
      connections: open.get(server)?.length ?? 0,
    })),
    upgrades: history.upgrades,
    ...(history.last && { lastUpgrade: history.last }),
    generations: [...history.older, self],
    drainTimeout,
    command,
    ...withoutUndefined({ program, logFile, pidFile }),
  }
}

/** This process among its generations. */
export function recordOf({ state, listeners }: Pick<Facts, 'state' | 'listeners'>): GenerationRecord {
  const [pid, startTime] = identify()
  const { generation } = state.entered
  const memory = residentMemory()
  return { generation, pid, startTime, phase: state.phase, connections: openConnections(listeners), memory }
}

export function openConnections(listeners: readonly Listener[]): number {
  const open = connectionsOf(listeners.map(({ server }) => server))
  return [...open.values()].reduce((sum, sockets) => sum + sockets.length, 0)
}

function addressText(address: ReturnType<Server['address']>): string {
  if (address === null || typeof address === 'string') return address ?? ''
  return address.family === 'IPv6' ? `[${address.address}]:${address.port}` : `${address.address}:${address.port}`
}
