/** What old and new process send each other: one table, from which types and checking come. */
import { type Fields, isFields } from './environment.ts'
import {
  byName,
  count,
  type Field,
  type FieldTable,
  flag,
  identity,
  list,
  number,
  object,
  oneOf,
  optional,
  pid,
  type Read,
  type Shape,
  text,
} from './fields.ts'

// Old and new may run different versions of this file: add, ignore the unknown, never reuse a
// meaning.

/** Cut at 8 KiB. */
const reason: Field<string> = (value) => (typeof value === 'string' ? cutReason(value) : undefined)

const connectionCounts = { handedOver: count, served: count, closed: count, cut: count }

/** When a drain came to each of its points, in milliseconds since its begin. */
const drainTimes = { stoppedAccepting: optional(count), toldToEnd: optional(count), cut: optional(count), ended: count }

const generationRecord = object({
  generation: count,
  pid,
  startTime: text,
  phase: text,
  /** Open now. */
  connections: count,
  /** Resident memory in bytes. */
  memory: count,
  /** The place of its worker, where there are several. */
  slot: optional(count),
  /** How far its drain is: `moving`, `finishing`, `ending` or `cutting`. */
  stage: optional(text),
})

const upgradeCounts = object({ succeeded: count, failed: count })

const lastUpgrade = object({
  outcome: oneOf('succeeded', 'failed'),
  /** The generation that it made, or would have. */
  generation: count,
  /** When it ended, in milliseconds since the epoch. */
  at: number,
  /** From its start to its commit or failure, in seconds. */
  seconds: number,
  /** Of one that failed: the code of its error. */
  code: optional(text),
  /** What became of the connections of the old version; there when it has drained. */
  connections: optional(object(connectionCounts)),
  /** How far the drain of the old version came, and when; there when it is over. */
  drain: optional(object(drainTimes)),
})

const warning = {
  /** In milliseconds since the epoch. */
  at: number,
  /** An option, a hook, or another word for what is wrong: one at a time about each. */
  about: text,
  text: reason,
  /** Of the error that it was. */
  code: optional(text),
}

/** From the new version to the old one. */
const upward = {
  /** From a `parent` stage: the daemon that it started, so that a timeout can end that too. */
  spawned: { pid, startTime: text },
  /** Who speaks, so that it can be killed: not always the process that was started. */
  hello: { protocol: count, nonce: text, pid, startTime: text },
  /** Why it ends: an uncaught exception, or what a `parent` stage saw of its daemon. */
  dying: { reason },
  /**
   * What it still waits for before it is up; `reason` for people, empty: nothing any more.
   */
  waits: {
    reason,
    /** Where the program listens although the old version does not, as `*:3125` or a path. */
    listens: optional(list(text)),
    /** Where the old version listens, and the program does not yet. */
    missing: optional(list(text)),
    /** Nothing is left in its loop that could open what is missing. */
    isIdle: optional(flag),
  },
  /** A value of the predecessor's saveState hook is wanted, before `done`. */
  ask: { name: text },
  /** It is up, or (`ok` false) it will not come up. */
  done: {
    ok: flag,
    reason,
    /** Names of listeners with a port that the system chose, and that it does not ask for. */
    left: optional(list(text)),
  },
  /** The answer to `accepted`: the new version has taken over, and only now the old one leaves. */
  confirmed: {},
  /**
   * Connection `id` is kept, and so are those before it that have no answer; or, `isKept` false, it
   * was closed.
   */
  taken: { id: count, isKept: flag },
  /**
   * TLS connections are taken too; what they need to go on is sealed for this key (X25519, DER,
   * base64).
   */
  takesTls: { key: text },
  /** The first record of TLS connection `id` has opened: the sender alone goes on with it. */
  proven: { id: count },
  /** TLS connection `id` goes on to a third process: it comes back only if that is said. */
  passing: { id: count },
  /** These bytes of TLS connection `id`, base64, do not open: who sent it goes on with them. */
  returned: { id: count, bytes: text },
  /**
   * The service ends: no connection is taken any more, what is idle goes now, the rest when the
   * link ends.
   */
  stop: {},
  /** From the commit on: what the sender met that an operator must hear of. */
  warning,
  /** Which second handles of the predecessor's listeners follow, by its names of them. */
  spares: { names: list(text) },
  spare: { name: text },
  /**
   * The sender starts a successor, which takes the service if the sender dies; `isOn` false: that
   * has failed.
   */
  replacing: { isOn: flag },
} as const satisfies Readonly<Record<string, FieldTable>>

/** From the old version to the new one. */
const downward = {
  welcome: {
    protocol: count,
    /**
     * All generations alive, oldest first, the sender last: none of them is a stranger to the pid
     * file.
     */
    living: list(identity),
    /** TLS ticket keys by handle name, base64, to be set before the successor accepts. */
    tickets: optional(byName(text)),
    /**
     * How long both accept before the commit, in milliseconds. Absent: the successor accepts from
     * the commit on.
     */
    overlap: optional(number),
  },
  /** A piece of what was asked for, or of what onRelease returned: v8.serialize bytes, base64. */
  value: {
    name: text,
    version: count,
    part: text,
    isLast: flag,
    /** Set instead: why there is no value. */
    fault: optional(reason),
    /** Set instead: there is none of that name, but of these. */
    names: optional(list(text)),
  },
  /**
   * The answer to `done`. An old version that sends the time of its drain, in milliseconds, takes
   * the service back if the new one dies in that time.
   */
  accepted: { drainTimeout: optional(count) },
  /** A live connection comes with this message. */
  connection: {
    id: count,
    /** A server, or a protocol of the program's own. */
    to: text,
    /** In the second case the listener that accepted it. */
    listener: optional(text),
    /** What goes along, as cloned-values.ts writes it. */
    state: optional(text),
    /** What had been read of it and was given to nobody, base64. */
    unread: optional(text),
    /**
     * Of HTTP/1.1: how long ago it had its last answer, in milliseconds. Absent: it has not asked
     * anything yet.
     */
    idle: optional(count),
    /** Of TLS: keys and numbers, sealed for the receiver. What comes along is its TCP handle. */
    tls: optional(text),
  },
  refused: { reason },
  /** After the commit, each second of the drain and at its end: what the service has behind it. */
  news: {
    /** Those that drain, oldest first, the sender last. */
    generations: list(generationRecord),
    /** Upgrades so far, by outcome. */
    upgrades: upgradeCounts,
    last: optional(lastUpgrade),
    /** What went wrong since the upgrade began, for the status of the new version. */
    warnings: optional(list(object(warning))),
  },
  /** The service is stopped, and only the old version was told: the new one stops as at SIGTERM. */
  stopToo: {},
  /** Before the commit: the program has closed a listener that was handed over. */
  closed: { name: text },
  /** The old version needs the link no more. */
  bye: {},
} as const satisfies Readonly<Record<string, FieldTable>>

type MessagesOf<Table extends Readonly<Record<string, FieldTable>>> = {
  [Type in keyof Table]: { readonly type: Type } & Shape<Table[Type]>
}[keyof Table]

export type Upward = MessagesOf<typeof upward>
export type Downward = MessagesOf<typeof downward>
export type Message = Upward | Downward
export type MessageOf<Type extends Message['type']> = Extract<Message, { readonly type: Type }>

export type News = Shape<typeof downward.news>
export type UpgradeCounts = Read<typeof upgradeCounts>
export type GenerationRecord = Read<typeof generationRecord>
export type WarningRecord = Shape<typeof warning>
export type LastUpgrade = Read<typeof lastUpgrade>
export type ConnectionCounts = Shape<typeof connectionCounts>

/**
 * The value that the predecessor's onRelease returned; the names of states that a program gives do
 * not begin so.
 */
export const takeoverName = 'cook:takeover'

/**
 * Node keeps messages whose `cmd` begins with NODE_ away from the program's own listeners (they are
 * `internalMessage`).
 */
const cmd = 'NODE_COOK'

export function toWire(message: Message): { readonly cmd: string } & Message {
  return { cmd, ...message }
}

const readers = new Map(Object.entries({ ...upward, ...downward }).map(([type, table]) => [type, object(table)]))

/**
 * What came over the link: one of our messages, `unknown` if it is not ours or of a later version,
 * `broken` if a field is wrong.
 */
export function fromWire(raw: unknown): Message | 'unknown' | 'broken' {
  if (!isFields(raw) || raw.cmd !== cmd) return 'unknown'
  const read = readers.get(raw.type as string)
  if (read === undefined) return 'unknown'
  const fields = read(raw)
  return fields === undefined ? 'broken' : ({ type: raw.type, ...(fields as Fields) } as Message)
}

/**
 * A reason is cut at this many bytes: on Node 26 a message of 200 KB before process.exit() was lost
 * 14 times of 15.
 */
const reasonLimit = 8 * 1024

/** At most 8 KiB of it, cut between two characters. */
export function cutReason(whole: string): string {
  const bytes = new TextEncoder().encode(whole)
  if (bytes.length <= reasonLimit) return whole
  return new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes.subarray(0, reasonLimit - 4), { stream: true })
}
