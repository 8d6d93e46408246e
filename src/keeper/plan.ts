/** What a keeper is told of a service, and writes down: what to start, and by which rules. */
import {
  isCount,
  isFields,
  isProgramRecord,
  isTyped,
  type ProgramRecord,
  type TypedRecord,
} from '../contract/environment.ts'
import { byName, count, type Field, flag, list, object, oneOf, optional, pid, text } from '../contract/fields.ts'
import { command } from '../contract/keeper-messages.ts'
import type { LastExit, Restarts, WorkerState } from '../control/status.ts'
import type { Command } from '../node/system.ts'

/** A version as it was when it was started: with symlinks followed, and its environment. */
export type Release = {
  /** With nothing left to be resolved. */
  readonly command: Command
  /** What was typed, which an upgrade follows again. */
  readonly typed: TypedRecord
  /** Secrets too. */
  readonly environment: Readonly<Record<string, string>>
}

/** Each is a whole Node process. */
export const mostWorkers = 1024

export type KeepOptions = {
  /** `run`: the keeper is in the foreground, and ends as its worker does unless told to keep. */
  readonly isRun?: boolean
  readonly keep?: boolean
  /** Milliseconds in which the event loop must turn; undefined: it is not looked at. */
  readonly hangTimeout?: number
  /** Bytes of resident memory above which the worker is replaced by itself. */
  readonly maxMemory?: number
  /** How many workers serve side by side; undefined: one, as a service that was asked for none. */
  readonly workers?: number
  /** Bytes above which a log is rotated; 0 or undefined: never. */
  readonly logMaxSize?: number
  /** How many logs that were rotated are kept. */
  readonly logKeep?: number
}

export type KeeperPlan = {
  readonly name: string
  /** The run directory; undefined: this user has no place for one. */
  readonly folder?: string
  readonly command: Command
  readonly environment: Readonly<Record<string, string>>
  readonly program: ProgramRecord
  readonly options: KeepOptions
  /** The program of a keeper, by which a worker starts another one. */
  readonly file: string
  /** Of the generation that is started first. */
  readonly generation?: number
}

/** What a worker says of itself when it serves; times in milliseconds. */
export type Said = {
  readonly drainTimeout: number
  readonly lameDuck: number
  /** Where probes ask the keeper. */
  readonly admin?: string | undefined
}

/** How it went: the answer to whoever started the keeper. */
export type KeeperAnswer =
  | { readonly type: 'ready' }
  | { readonly type: 'refused'; readonly message: string; readonly code?: string; readonly help?: string }

/** From a worker whose keeper is gone: it serves, and is to be kept. */
export type Attach = {
  readonly name: string
  readonly folder?: string
  readonly slot: number
  readonly generation: number
  readonly pid: number
}

/** What outlives the service: enough to start it again. */
export type ServiceRecord = {
  readonly format: 1
  readonly plan: KeeperPlan
  readonly state: WorkerState
  readonly keeper: { readonly pid: number; readonly startTime: string }
  /** Where its pid means something (node/processes.ts). */
  readonly place: string
  /** That of the last commit. */
  readonly release: Release
  /** All slots are to run it: not after an upgrade one by one that has failed. */
  readonly isUnited?: boolean
  readonly generation: number
  readonly restarts: Restarts
  readonly lastExit?: LastExit
  readonly slots: readonly SlotRecord[]
  /** When it was written, in milliseconds since the epoch. */
  readonly at: number
}

/** Of one place for a worker. */
export type SlotRecord = {
  readonly slot: number
  readonly release: Release
  readonly before?: Release
  /** The release has served for long enough once. */
  readonly isProven?: boolean
  readonly generation: number
  readonly restarts: Restarts
  readonly lastExit?: LastExit
}

/** Of a value that another function knows. */
function such<Value>(isIt: (value: unknown) => value is Value): Field<Value> {
  return (value) => (isIt(value) ? value : undefined)
}

const typed = such((value): value is TypedRecord => value !== undefined && isTyped(value))
const release = object({ command, typed, environment: byName(text) })
const options = object({
  ...{ isRun: optional(flag), keep: optional(flag), hangTimeout: optional(count), maxMemory: optional(count) },
  workers: optional(count),
  ...{ logMaxSize: optional(count), logKeep: optional(count) },
})
/** Only one of the two is known of an exit. */
const code = such((value): value is number | null => value === null || isCount(value))
const signal = such((value): value is string | null => value === null || typeof value === 'string')

const restarts = object({ crash: count, hang: count, memory: count })
const lastExit = object({ generation: count, pid, code, signal, at: count, words: text })
const slot = object({
  ...{ slot: count, release, before: optional(release), isProven: optional(flag), generation: count },
  ...{ restarts, lastExit: optional(lastExit) },
})

const record = object({
  plan: object({
    ...{ name: text, folder: optional(text), command, environment: byName(text), program: such(isProgramRecord) },
    ...{ options, file: text, generation: optional(count) },
  }),
  state: oneOf('serving', 'starting', 'waiting', 'failed', 'stopped', 'crashed'),
  keeper: object({ pid, startTime: text }),
  place: text,
  release,
  isUnited: optional(flag),
  generation: count,
  restarts,
  lastExit: optional(lastExit),
  slots: list(slot),
  at: count,
})

/** Undefined: it is broken, or of another release of this library. */
export function readRecord(value: unknown): ServiceRecord | undefined {
  const read = isFields(value) && value.format === 1 ? record(value) : undefined
  return read === undefined ? undefined : ({ format: 1, ...read } as ServiceRecord)
}

/** What a command changes of how a service is kept; undefined: it is broken. */
export function readKeepOptions(value: unknown): KeepOptions | undefined {
  return value === undefined ? {} : (options(value) as KeepOptions | undefined)
}
