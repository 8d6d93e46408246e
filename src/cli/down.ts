/** Services of which only the record is left: stopped, crashed, or killed with their keeper. */
import { livingWorkers } from '../control/owner-files.ts'
import type { LastExit, Restarts } from '../control/status.ts'
import { CookError } from '../errors.ts'
import type { ServiceRecord } from '../keeper/plan.ts'
import { recordedNames, recordOf, writeRecord } from '../keeper/records.ts'
import { placeOfPids } from '../node/processes.ts'
import { attempt } from '../node/sessions.ts'
import { isAlive } from '../node/system.ts'
import { exitWords } from '../process/launcher.ts'
import { runDirectory } from '../process/run-dir.ts'
import { timeText } from './output.ts'
import { unitNamed, unitText } from './units.ts'

/** As `status` and `list` show it. */
export type Down = {
  readonly name: string
  readonly phase: 'stopped' | 'crashed' | 'failed'
  readonly generation: number
  readonly restarts: Restarts
  readonly lastExit?: LastExit
  /** Since when, in milliseconds since the epoch. */
  readonly at: number
}

export function downOf(name: string, folder: string = runDirectory(process.env)): Down | undefined {
  const record = recordOf(folder, name)
  // A worker whose keeper was killed serves on, and has another in a moment.
  const hasWorker = livingWorkers(folder, name).length > 0
  return record === undefined || hasWorker || isKept(record) ? undefined : toDown(record)
}

/** But for those that run, whoever runs them. */
export function allDown(running: readonly string[], folder: string = runDirectory(process.env)): readonly Down[] {
  const records = recordedNames(folder).filter((name) => !running.includes(name))
  return records.flatMap((name) => downOf(name, folder) ?? [])
}

function isKept({ place, keeper: { pid, startTime } }: ServiceRecord): boolean {
  // After a reboot the same pid may be a stranger's.
  return place === placeOfPids() && isAlive([pid, startTime])
}

/** A keeper that was killed left what it wrote last. */
function toDown({ plan, state, generation, restarts, lastExit, at }: ServiceRecord): Down {
  const phase = state === 'stopped' || state === 'failed' ? state : 'crashed'
  // What ended a worker whose keeper died with it, nobody has seen.
  const isSeen = state !== 'serving' && lastExit !== undefined
  return { name: plan.name, phase, generation, restarts, at, ...(isSeen && { lastExit }) }
}

/** A keeper that had to be killed could not write it down, nor one whose disk is full. */
export function noteStopped(name: string): void {
  const folder = runDirectory(process.env)
  const record = recordOf(folder, name)
  if (record === undefined || record.state === 'stopped' || isKept(record)) return
  // It has stopped, whether that can be written down or not.
  attempt(() => writeRecord(folder, { ...record, state: 'stopped', at: Date.now() }))
}

export function downText({ phase, at, lastExit }: Down): string {
  const ago = `${timeText((Date.now() - at) / 1000)} ago`
  if (phase === 'stopped') return `stopped ${ago}`
  return lastExit === undefined
    ? `${phase} ${ago}: its keeper was killed too, or the machine was rebooted`
    : `${phase} ${ago}: ${lastExitText(lastExit)}`
}

export function lastExitText({ pid, code, signal, at }: LastExit): string {
  const how = exitWords({ code, signal })
  return `${how} (pid ${pid}, ${new Date(at).toISOString()})`
}

/** Of a worker that serves and has no keeper; nothing can be started beside it. */
export function workerAlone(folder: string, name: string): CookError | undefined {
  const { pid } = livingWorkers(folder, name).at(-1) ?? {}
  return pid === undefined ? undefined : new CookError('ERR_COOK_KEEPER_GONE', { name, pid })
}

/** What was typed means a service that is known, or a unit, and does not run. */
export function explained(error: unknown): unknown {
  if (!(error instanceof CookError) || error.code !== 'ERR_COOK_NOT_RUNNING') return error
  const { name } = error.values as { readonly name?: string }
  if (name === undefined) return error
  const alone = workerAlone(runDirectory(process.env), name)
  if (alone !== undefined) return alone
  const down = downOf(name)
  if (down !== undefined) return new CookError('ERR_COOK_DOWN', { name, why: downText(down) }, { cause: error })
  // Its run directory went with it.
  const found = unitNamed(name)
  if (found === undefined) return error
  const { unit, state } = found
  return new CookError('ERR_COOK_UNIT_DOWN', { name, unit: unitText(unit), state }, { cause: error })
}
