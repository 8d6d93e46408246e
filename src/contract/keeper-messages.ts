/** What a worker and its keeper say to each other, over the channel that both keep for life. */
import { type Fields, isFields } from './environment.ts'
import {
  byName,
  count,
  type Field,
  type FieldTable,
  flag,
  list,
  object,
  optional,
  pid,
  type Shape,
  text,
} from './fields.ts'

/** Checked where it is used. */
const record: Field<Fields> = (value) => (isFields(value) ? value : undefined)

/** How a process is started, as node/system.ts has it. */
export const command = object({
  execPath: text,
  execArgv: list(text),
  args: list(text),
  cwd: text,
  script: optional(text),
})

const messages = {
  // From the worker to the keeper.
  /** A handle comes with it, to be held. */
  handle: { record },
  /** All that are to be held now, by the inodes of their descriptors: others are let go of. */
  handles: { inodes: list(count) },
  /** Starts a successor of the worker, with these of the handles; `log`: where it writes. */
  spawn: { id: count, record, command, environment: byName(text), log: optional(text) },
  /** It starts that itself, since it hands on what no keeper can hold, and asks for a channel. */
  pair: { id: count, record, command, environment: byName(text), log: optional(text) },
  /** The process of a `pair` is there. */
  born: { id: count, pid, startTime: text },
  /** The worker is done with it: SIGKILL for all of its session. */
  kill: { id: count },
  /** This generation owns the service from now on, or again. */
  serves: {
    ...{ generation: count, drainTimeout: count, lameDuck: optional(count) },
    ...{ pidFile: optional(text), admin: optional(text) },
  },
  /** It was told to end: its exit is no crash. */
  stopping: {},
  /** The answer to `ping`: its event loop turns. */
  pong: {},
  /** The upgrade that the keeper asked for has failed. */
  failed: { why: text },
  /**
   * Its successor is ready, or has overlapped for long enough: it waits for `release`. Or it is the
   * successor itself, and its predecessor is gone. `overlaps`: it has its overlap before it, and
   * waits again behind that.
   */
  held: { overlaps: optional(flag) },
  /** Connections that are open now, of one of several workers. */
  open: { count },
  /** The answer to `give`: how many have moved. */
  given: { moved: count },
  /** The program has asked for an upgrade of the service, which is more than this worker. */
  wish: { options: record },
  /** The program uses node:cluster, and was told that it is a worker. */
  cluster: {},

  // From the keeper to the worker.
  /** How to start another keeper, should this one be gone. */
  keeper: { execPath: text, file: text, name: text, folder: optional(text), isUnit: optional(flag) },
  /** The answer to `spawn`; the worker's end of the link comes with it. */
  spawned: { id: count, pid, startTime: text },
  spawnFailed: { id: count, why: text },
  /** The answer to `pair`; the end of the channel for the new process comes with it. */
  paired: { id: count },
  /** How a process of a `spawn` has ended. */
  exit: { id: count, code: optional(count), signal: optional(text) },
  /** The worker is to be replaced by what it runs itself: a crash or a keeper is no deploy. */
  upgrade: {},
  /** It is to end, as at a stop by the control socket: a signal may kill it. */
  stop: {},
  ping: {},
  /** The answer to `held`: all workers are as far, or one of them has failed. */
  release: { mayGo: flag },
  /** The answer to `wish`, where the service was not upgraded. */
  wishFailed: { why: text },
  /** It goes for good: its connections move to this worker, over the handle that comes with it. */
  retire: { pid, startTime: text },
  /** So many idle connections go there, and it serves on. */
  give: { pid, startTime: text, count },
  /** The other end of such a channel: connections come from this worker. */
  take: { pid, startTime: text },
  /** How many workers the service has now. */
  workers: { count },
  /** The keeper ends: the worker starts another, on this Node and from this file. */
  renew: { execPath: text, file: text },
} as const satisfies Readonly<Record<string, FieldTable>>

export type KeeperMessage = {
  [Type in keyof typeof messages]: { readonly type: Type } & Shape<(typeof messages)[Type]>
}[keyof typeof messages]

export type KeeperMessageOf<Type extends KeeperMessage['type']> = Extract<KeeperMessage, { readonly type: Type }>

/** Internal to Node, so that no listener of the program sees it (see messages.ts). */
const cmd = 'NODE_COOK_KEEPER'

export function toKeeperWire(message: KeeperMessage): object {
  return { cmd, ...message }
}

const readers = new Map(Object.entries(messages).map(([type, table]) => [type, object(table as FieldTable)]))

/** Undefined: it is not ours, of a later version, or broken. */
export function fromKeeperWire(raw: unknown): KeeperMessage | undefined {
  if (!isFields(raw) || raw.cmd !== cmd) return undefined
  const fields = readers.get(raw.type as string)?.(raw)
  return fields === undefined ? undefined : ({ type: raw.type, ...fields } as KeeperMessage)
}
