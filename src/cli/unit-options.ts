/** Options of `start`, as the command of a unit has them. */
import { resolve } from 'node:path'
import type { ProgramRecord } from '../contract/environment.ts'
import type { KeepOptions } from '../keeper/plan.ts'
import type { Command } from '../node/system.ts'
import { withoutUndefined } from '../options.ts'
import type { FileOptions } from './described.ts'
import { ownArguments, placeOf } from './program.ts'

export type UnitOptions = Omit<FileOptions, 'workers'> & {
  /** As typed: `max` stays that. */
  readonly workers?: string
  readonly userManager?: boolean
  /** True: the listeners that it has now. */
  readonly socket?: true | readonly string[]
  readonly install?: boolean
}

/** What was typed, or is known of a service, as words that mean the same anywhere. */
export function optionWords(options: Omit<UnitOptions, 'env'>): readonly string[] {
  const { waitReady, listen, readyTimeout, drainTimeout, lameDuck, overlap, log, pid, moveConnections } = options
  const { nodeArg = [], hangTimeout, maxMemory, logMaxSize, logKeep, workers, admin, moveTls, moveTlsFor } = options
  const path = (file: string | undefined) => file && resolve(placeOf(options), file)
  const values = {
    ...{ workers, 'ready-timeout': readyTimeout, 'drain-timeout': drainTimeout, 'lame-duck': lameDuck, overlap },
    ...{ log: path(log), pid: path(pid), 'hang-timeout': hangTimeout, 'max-memory': maxMemory },
    ...{ 'log-max-size': logMaxSize, 'log-keep': logKeep, admin, 'move-tls-for': moveTlsFor },
  }
  const flags = {
    'wait-ready': waitReady === true,
    'no-listen': listen === false,
    'no-move-connections': moveConnections === false,
    'move-tls': moveTls === true,
  }
  return [
    ...Object.entries(values).flatMap(([name, value]) => (value === undefined ? [] : [`--${name}`, String(value)])),
    ...Object.entries(flags).flatMap(([name, isSet]) => (isSet ? [`--${name}`] : [])),
    // Its value may look like an option.
    ...nodeArg.map((arg) => `--node-arg=${arg}`),
  ]
}

/**
 * Those of a service that is known, as they would have been typed. Not its log: what a unit prints
 * is for the journal.
 */
export function knownOptions(command: Command, record: ProgramRecord, keep: KeepOptions): UnitOptions {
  const { noListen, waitReady, readyTimeout, drainTimeout, lameDuck, overlap, pidFile, moveConnections } = record
  const { user, admin, moveTls, moveTlsFor } = record
  const { hangTimeout, maxMemory, workers } = keep
  return withoutUndefined({
    ...{ waitReady, readyTimeout, drainTimeout, lameDuck, admin, overlap, pid: pidFile, moveConnections },
    ...{ moveTls, moveTlsFor },
    ...{ uid: user && (user.name ?? String(user.uid)), gid: user && String(user.gid) },
    ...{ hangTimeout, maxMemory, listen: noListen === true ? false : undefined },
    ...{
      cwd: command.cwd,
      node: command.execPath === process.execPath ? undefined : command.execPath,
      nodeArg: ownArguments(command),
      workers: workers === undefined ? undefined : String(workers),
    },
  })
}
