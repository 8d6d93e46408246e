/** Node's channel between two processes, out of the program's sight. Private parts of Node. */
import type { ChildProcess } from 'node:child_process'
import { type Emitter, wrapEmit } from './emitters.ts'
import { InFlight } from './in-flight.ts'
import { disown, privateProperty, usable } from './private.ts'

/** What happens on the channel between two Node processes. */
export type ChannelEvents = {
  /**
   * An internal message, unseen by the program, and the handle that came with it; returns whether
   * it was for us.
   */
  message(raw: unknown, handle: unknown): boolean
  closed(): void
  /** Garbage arrived. In plain Node it would be an uncaught exception here (measured). */
  broken(error: unknown): void
}

/**
 * lib/internal/child_process.js, Control: the descriptor of the channel to the process that started
 * this one.
 */
export function channelDescriptor(): number | undefined {
  return usable((process.channel as { fd?: number } | undefined)?.fd)
}

/** Runs what needs the channel of this process on `process`, where Node keeps it. */
export type Lend = <Value>(call: () => Value) => Value

/**
 * Takes the channel to the process that started this one out of the program's sight:
 * `process.connected`, `channel`, `disconnect` and `send` are as in a process that was started by
 * hand, and what the program sets there is its own. Node's own code
 * (lib/internal/child_process.js, setupChannel) finds those of the channel in what is lent.
 */
export function hideChannel(): Lend {
  let depth = 0
  for (const name of ['connected', 'channel', 'disconnect', 'send']) {
    let value: unknown = process[name as 'channel']
    let shown: unknown
    const get = () => (depth > 0 ? value : shown)
    const set = (given: unknown) => {
      if (depth > 0) value = given
      else shown = given
    }
    Object.defineProperty(process, name, { get, set, configurable: true, enumerable: false })
  }
  return (call) => {
    depth++
    try {
      return call()
    } finally {
      depth--
    }
  }
}

/**
 * Watches the channel of a child, or of this process to the one that started it: the program's
 * `message` and `disconnect` listeners see nothing of it. Returns what ends the watch.
 */
export function watchChannel(
  target: ChildProcess | NodeJS.Process,
  events: ChannelEvents,
  lend: Lend = (call) => call(),
  inFlight: InFlight = new InFlight(target),
): () => void {
  let isClosed = false
  const closed = () => {
    if (isClosed) return
    isClosed = true
    inFlight.end()
    events.closed()
  }
  guardReader(target, events, closed, lend)
  return wrapEmit(target as unknown as Emitter, (emit, name, ...args) => {
    if (name === 'disconnect') {
      closed()
      return true
    }
    if (name !== 'internalMessage') return emit(name, ...args)
    try {
      if (events.message(args[0], args[1])) return true
      const { cmd } = (args[0] ?? {}) as { readonly cmd?: unknown }
      let wasHeard = true
      const pass = () => {
        wasHeard = lend(() => emit(name, ...args))
      }
      if (cmd === 'NODE_HANDLE_ACK' || cmd === 'NODE_HANDLE_NACK') inFlight.answered(cmd === 'NODE_HANDLE_ACK', pass)
      else pass()
      return wasHeard
    } catch (error) {
      events.broken(error)
      return true
    }
  })
}

/**
 * lib/internal/child_process.js, setupChannel: the reader parses what arrives in the handle's
 * `onread` and hands it on through `emit` in a later tick; bytes that are no message throw here.
 */
function guardReader(target: object, events: Pick<ChannelEvents, 'broken'>, closed: () => void, lend: Lend): void {
  const channel = privateProperty<{ onread?: (...args: unknown[]) => void }>(target, 'kChannelHandle')
  const onread = channel?.onread
  if (channel === undefined || onread === undefined) return
  let lineBytes = 0
  channel.onread = function (...args) {
    const [bytes] = args
    if (bytes instanceof ArrayBuffer) {
      const end = Buffer.from(bytes).lastIndexOf(0x0a)
      lineBytes = end < 0 ? lineBytes + bytes.byteLength : bytes.byteLength - end - 1
    }
    try {
      // Node keeps what is no whole line yet, without end.
      if (lineBytes > longestMessage) throw new Error(`a message of more than ${longestMessage} bytes`)
      lend(() => onread.apply(this, args))
    } catch (error) {
      events.broken(error)
    }
    // The end of the stream comes without data. Node holds its `disconnect` back for as long as a
    // handle that it sent is not acknowledged, which a process that died never does; what was read
    // is handed on before.
    if (bytes === undefined) process.nextTick(closed)
  }
}

/**
 * Puts Node's channel on a connected Unix socket. lib/internal/child_process.js sets one up in
 * `ChildProcess.prototype.spawn`, of which everything else is left out: what it would start is the
 * handle's `spawn`, which opens the descriptor instead. From Node 24 on that gets its arguments one
 * by one, before as one object. The descriptor is the channel's from now on.
 */
export function adoptChannel(fd: number): ChildProcess {
  const { ChildProcess: Child } = process.getBuiltinModule('node:child_process') as unknown as ChildProcesses
  const child = new Child()
  const { _handle: unused } = child
  let error: unknown = 'its channel is not where it was'
  child._handle.spawn = (...args) => {
    const [first] = args
    const given = [...args, isWithStdio(first) ? first.stdio : undefined].filter(Array.isArray).flat()
    const handle = (given as Stdio).find((one) => one?.ipc === true)?.handle
    error = handle?.open === undefined ? error : (handle.open(fd) ?? 0)
    return 0
  }
  const stdio = ['ignore', 'ignore', 'ignore', 'ipc'] as const
  child.spawn({ file: 'none', args: [], envPairs: [], stdio, serialization: 'json' })
  Object.assign(child, { _handle: null })
  // It was never begun, and so nothing closes it.
  disown(unused)
  Object.assign(unused, { onexit: undefined })
  if (error !== 0) throw new Error(`no channel could be opened on descriptor ${fd}: ${error}`)
  return child as unknown as ChildProcess
}

type Stdio = readonly (
  | { readonly ipc?: boolean; readonly handle?: { open?(fd: number): number | undefined } }
  | undefined
)[]

type ChildProcesses = {
  readonly ChildProcess: new () => {
    _handle: { spawn(...args: readonly unknown[]): number }
    spawn(options: object): void
  }
}

function isWithStdio(value: unknown): value is { readonly stdio: unknown } {
  return typeof value === 'object' && value !== null && 'stdio' in value
}

/** Bytes of one message at most. The longest of ours is a connection with the largest state. */
const longestMessage = 128 * 1024 * 1024
