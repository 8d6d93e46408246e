/** What a daemon shows of itself on its control socket, and how it reports progress. */

import type { Server } from 'node:net'
import { lookAround } from '../conditions.ts'
import { addressText as textOf } from '../contract/admin-address.ts'
import type { Identity, ProgramRecord } from '../contract/environment.ts'
import type {
  ConnectionCounts,
  GenerationRecord,
  LastUpgrade,
  UpgradeCounts,
  WarningRecord,
} from '../contract/messages.ts'
import type { Phase } from '../contract/phase.ts'
import { pathFault } from '../listen/restore-path.ts'
import { connectionsOf } from '../node/connections.ts'
import type { Command } from '../node/system.ts'
import { type DrainTimes, withoutUndefined } from '../options.ts'
import type { Resolved } from '../process/command.ts'
import type { Service } from '../service.ts'
import type { DrainStage } from '../service-parts.ts'
import { version } from '../version.ts'

export type Status = {
  readonly name: string
  /** Of this library, and of Node. */
  readonly version: string
  readonly node: string
  readonly pid: number
  readonly startTime: string
  readonly generation: number
  readonly phase: Phase
  /** New clients may be sent here, as `/readyz` of the admin port says. */
  readonly ready: boolean
  /** When this process started, in ISO 8601. */
  readonly startedAt: string
  /** In seconds. */
  readonly uptime: number
  /** In bytes. */
  readonly memory: { readonly resident: number; readonly heapUsed: number }
  /** Open now, all listeners together. */
  readonly connections: number
  readonly listeners: readonly ListenerStatus[]
  readonly upgrades: UpgradeCounts
  readonly lastUpgrade?: LastUpgrade
  /** Alive, oldest first; the last one answers. */
  readonly generations: readonly GenerationRecord[]
  /** In milliseconds; earlier versions did not say `lameDuck`. */
  readonly drainTimeout: number
  readonly lameDuck?: number
  /** What a restart starts, as it was typed, and where that led to when this process started. */
  readonly command: Command
  readonly resolved?: Resolved
  readonly program?: ProgramRecord
  readonly logFile?: string
  readonly pidFile?: string
  /**
   * What is wrong, oldest first, until it is in order or an upgrade has succeeded; earlier versions
   * did not say it.
   */
  readonly warnings?: readonly WarningRecord[]
  /** Of a service that is kept. */
  readonly keeper?: KeeperStatus
  readonly workers?: readonly WorkerStatus[]
  /** What a restart after a crash starts: the version of the last start or upgrade. */
  readonly release?: {
    readonly script: string
    readonly cwd: string
    readonly execPath: string
    /** It is an old one, since the last one crashed again and again. */
    readonly wentBack: boolean
  }
}

/** Of the process that keeps a service. */
type KeeperStatus = {
  readonly pid: number
  readonly startTime: string
  /** In ISO 8601. */
  readonly startedAt: string
  /** Resident, in bytes. */
  readonly memory: number
  readonly node: string
  readonly version: string
}

/** How the worker of a slot fares. */
export type WorkerStatus = {
  readonly slot: number
  /** Absent: there is no process now. */
  readonly pid?: number
  readonly generation: number
  /** `silent`: it does not answer. */
  readonly state: WorkerState | 'silent'
  readonly phase: Phase
  readonly connections: number
  /** Resident, in bytes; 0 where it does not answer. */
  readonly memory: number
  /** How often it was started again, and why. */
  readonly restarts: Restarts
  readonly lastExit?: LastExit
}

/** `waiting`: it is started again in a moment; `failed`: it has crashed too often for that. */
export type WorkerState = 'serving' | 'starting' | 'waiting' | 'failed' | 'stopped' | 'crashed'

export type Restarts = { readonly crash: number; readonly hang: number; readonly memory: number }

/** How a worker has ended, as its keeper saw it. */
export type LastExit = {
  readonly generation: number
  readonly pid: number
  readonly code: number | null
  readonly signal: string | null
  /** In milliseconds since the epoch. */
  readonly at: number
  /** What it wrote last. */
  readonly words: string
}

export type ListenerStatus = {
  readonly name: string
  /** As `127.0.0.1:8080`, `[::]:8080` or a path. */
  readonly address: string
  readonly connections: number
  /** Of an HTTP server, in milliseconds: how long a connection may be idle between two requests. */
  readonly keepAliveTimeout?: number
  /** Why no client finds it there, if none does: its path was removed or replaced. */
  readonly fault?: string
  /** No other version can ask for it: it stays with this process until that closes it. */
  readonly stays?: boolean
}

/** A line of the answer to POST /upgrade and POST /stop; `slot`: of which of several workers. */
export type Progress = { readonly slot?: number } & ProgressStep

type ProgressStep =
  /** How far it has come, in milliseconds since its begin. */
  | { readonly type: 'started' | 'booted' | 'ready'; readonly ms: number }
  /** What the new version waits for, where that takes longer or is not what the old one has. */
  | { readonly type: 'waiting'; readonly ms: number; readonly reason: string }
  /** Something is wrong that does not end the upgrade. */
  | ({ readonly type: 'warning'; readonly ms: number } & WarningRecord)
  /** The new version owns the service: the upgrade has succeeded. */
  | {
      readonly type: 'serves'
      readonly ms: number
      readonly pid: number
      readonly generation: number
      readonly stays?: readonly string[]
    }
  /** All workers of several that were to be replaced are: the last line but for a warning. */
  | { readonly type: 'upgraded'; readonly ms: number; readonly generation: number }
  | {
      readonly type: 'stopping'
      readonly ms: number
      readonly drainTimeout: number
      /** What will be gone. */
      readonly generations: readonly GenerationRecord[]
      /** The process that keeps it, which goes last. */
      readonly keeper?: Identity
    }
  /** Connections that have moved so far, of those that were open when the drain began. */
  | {
      readonly type: 'draining'
      readonly ms: number
      readonly handedOver: number
      readonly of: number
      readonly stage?: DrainStage
    }
  | ({ readonly type: 'drained'; readonly ms: number; readonly times: DrainTimes } & ConnectionCounts)
  | Failure

/** Why it was not done; also the body of every answer that is an error. */
export type Failure = {
  readonly type: 'error'
  readonly code: string
  readonly message: string
  readonly help: string
  /** Of several workers the one that failed. */
  readonly slot?: number
}

export function statusOf(service: Service): Status {
  lookAround(service)
  const { state, listeners, history, drainTimeout, options, pidFile, phase, record } = service
  const open = connectionsOf(listeners.map(({ server }) => server))
  const { rss, heapUsed } = process.memoryUsage()
  const { command, resolved, program, logFile } = state
  return {
    name: String(options.name),
    version,
    node: process.version,
    pid: record.pid,
    startTime: record.startTime,
    generation: record.generation,
    phase,
    ready: isReady(service),
    startedAt: new Date(Date.now() - process.uptime() * 1000).toISOString(),
    uptime: process.uptime(),
    memory: { resident: rss, heapUsed },
    connections: record.connections,
    listeners: listeners.map(({ name, server, stays }) => ({
      name,
      address: addressText(server.address()),
      connections: open.get(server)?.length ?? 0,
      ...withoutUndefined({ keepAliveTimeout: keepAliveTimeOf(server), fault: pathFault(service, server), stays }),
    })),
    upgrades: history.upgrades,
    ...(history.last && { lastUpgrade: history.last }),
    generations: [...history.older, record],
    drainTimeout,
    lameDuck: service.lameDuck,
    command,
    resolved,
    ...withoutUndefined({ program, logFile, pidFile }),
    warnings: service.warnings.all,
  }
}

function keepAliveTimeOf(server: Server): number | undefined {
  return 'keepAliveTimeout' in server ? Number(server.keepAliveTimeout) : undefined
}

/** Whoever asks just at the commit asks about the service, which the successor has. */
export function isReady({ hasSuccessor, phase }: Service): boolean {
  return hasSuccessor || phase === 'ready' || phase === 'upgrading' || phase === 'overlapping'
}

export function addressText(address: ReturnType<Server['address']>): string {
  if (address === null || typeof address === 'string') return address ?? ''
  return textOf({ host: address.address, port: address.port })
}
