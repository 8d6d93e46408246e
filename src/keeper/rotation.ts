/** Rotates the logs of a service: copies one that is too large, and empties it in place. */
import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  ftruncateSync,
  openSync,
  readSync,
  renameSync,
  writeSync,
} from 'node:fs'
import { dirname } from 'node:path'
import type { WarningRecord } from '../contract/messages.ts'
import { messageOf } from '../errors.ts'
import { removeFile, type Stat, statDescriptor, statPath, statTarget } from '../node/stat.ts'
import { openLogThere } from '../process/log.ts'
import { copyInMaking, rotatedLog, workerLogs } from '../process/log-files.ts'
import { faultAt, isTrusted, removeOwn } from '../process/trust.ts'
import { say } from './log-lines.ts'
import type { KeeperPlan } from './plan.ts'

/** How often sizes are looked at, in milliseconds. */
const interval = 1_000
/** How long a log is left alone that could not be rotated, in milliseconds. */
const pause = 60_000
/** How many are kept where nobody says how many. */
const defaultKeep = 14
const piece = Buffer.allocUnsafeSlow(64 * 1024)
/** What is copied in one turn of the event loop, in bytes, and at most before the cut. */
const inOneTurn = 1024 * 1024
const mostAtOnce = 16 * inOneTurn
const tooFast = 'it is written to faster than it can be copied'
const { O_CREAT, O_EXCL, O_NOFOLLOW, O_WRONLY } = constants

/** Whose logs they are; the plan changes with upgrades. */
type Logging = { readonly plan: Pick<KeeperPlan, 'options' | 'program'> }

export class Rotation {
  readonly #service: Logging
  readonly #tell: (text: string) => void
  /** Of logs that could not be rotated. */
  readonly #faults = new Map<string, WarningRecord & { readonly retryAt: number }>()
  #isBusy = false
  #copy: LogCopy | undefined

  constructor(service: Logging, tell: (text: string) => void = say) {
    this.#service = service
    this.#tell = tell
  }

  begin(): void {
    setInterval(() => void this.look(), interval).unref()
  }

  /** What is half done is undone: the log is as it was. */
  end(): void {
    this.#copy?.remove()
  }

  get warnings(): readonly WarningRecord[] {
    return [...this.#faults.values()].map(({ retryAt: _, ...warning }) => warning)
  }

  /** Rotates what is too large now, one after the other. */
  async look(): Promise<void> {
    const { options, program } = this.#service.plan
    const { logMaxSize = 0, logKeep = defaultKeep } = options
    const { logFile } = program
    if (this.#isBusy) return
    const files = logMaxSize === 0 || logFile === undefined ? [] : logsOf(logFile)
    for (const file of this.#faults.keys()) if (!files.includes(file)) this.#faults.delete(file)
    this.#isBusy = true
    for (const file of files) await this.#lookAt(file, logMaxSize, logKeep)
    this.#isBusy = false
  }

  async #lookAt(file: string, maxSize: number, keep: number): Promise<void> {
    const stat = statTarget(file)
    if (stat?.isFile !== true || stat.size <= maxSize) {
      this.#faults.delete(file)
      return
    }
    if (performance.now() < (this.#faults.get(file)?.retryAt ?? 0)) return
    try {
      await this.#rotate(file, keep)
      this.#faults.delete(file)
    } catch (error) {
      const text = `the log ${file} could not be rotated: ${messageOf(error)}`
      // Said once, however often it is tried.
      if (this.#faults.get(file)?.text !== text) this.#tell(text)
      this.#faults.set(file, { at: Date.now(), about: 'rotation', text, retryAt: performance.now() + pause })
    }
  }

  /**
   * Copies a log and empties it. By descriptors of files that were checked: what stands under their
   * names may be exchanged. Whoever writes goes on in the same file, from its start, since it is
   * open to append; what is written between the last look at its end and the cut is lost.
   */
  async #rotate(file: string, keep: number): Promise<void> {
    const { fd, path } = openLogThere(file)
    try {
      const fault = faultOfLog(path, fd)
      if (fault !== undefined) throw new Error(fault)
      const copy = new LogCopy(path, fd)
      this.#copy = copy
      try {
        await copy.takeSlowly()
        copy.moveTo(path, keep)
        copy.takeRest()
        ftruncateSync(fd)
      } catch (error) {
        copy.remove()
        throw error
      } finally {
        this.#copy = undefined
        copy.close()
      }
    } finally {
      closeSync(fd)
    }
  }
}

function logsOf(logFile: string): string[] {
  return [logFile, ...workerLogs(logFile).map(({ file }) => file)]
}

/** Why it is not for us to empty. */
function faultOfLog(path: string, fd: number): string | undefined {
  const stat = statDescriptor(fd)
  if (stat?.isFile !== true) return 'it is not a file'
  // In a folder of that user, who could exchange it between the look and the use.
  const folder = statTarget(dirname(path))
  if (!isTrusted(stat.uid) && !isTrusted(folder?.uid ?? stat.uid)) return `it belongs to user ${stat.uid}`
  const first = Buffer.alloc(1)
  // What the kernel fills up, in front of a place that a cut has not moved.
  const isHole = readSync(fd, first, 0, 1, 0) === 1 && first[0] === 0
  return isHole ? 'a process writes to it without O_APPEND' : undefined
}

/** A copy of a log, made beside it under a name that nobody reads. */
class LogCopy {
  readonly #log: number
  readonly #id: string
  readonly #fd: number
  #path: string
  #size = 0

  constructor(path: string, log: number) {
    this.#log = log
    this.#id = statOf(log).id
    this.#path = copyInMaking(path)
    // Of a keeper that was killed.
    removeOwn(this.#path)
    this.#fd = openSync(this.#path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600)
  }

  /** A little a turn, until its end: a keeper has more to do. */
  async takeSlowly(): Promise<void> {
    const most = 2 * statOf(this.#log).size + mostAtOnce
    while (!this.#takeUntil(this.#size + inOneTurn)) {
      if (this.#size > most) throw new Error(tooFast)
      await new Promise((turned) => setImmediate(turned))
    }
    const { uid, gid, mode } = statOf(this.#log)
    if (statOf(this.#fd).uid !== uid) fchownSync(this.#fd, uid, gid)
    fchmodSync(this.#fd, mode & 0o666)
  }

  /** What was written meanwhile, to the last byte. */
  takeRest(): void {
    if (!this.#takeUntil(this.#size + mostAtOnce)) throw new Error(tooFast)
  }

  /** `web.log.1`; those before it become older by one, and what is beyond the number goes. */
  moveTo(path: string, keep: number): void {
    // Others may rotate it too, and have cut it or put another one in its place.
    const isSame = statPath(path)?.id === this.#id && statOf(this.#log).size >= this.#size
    if (!isSame || statPath(this.#path)?.id !== statOf(this.#fd).id) throw new Error('another program rotated it')
    const before: string[] = []
    for (let name = rotatedLog(path, 1); statPath(name) !== undefined; name = rotatedLog(path, before.length + 1)) {
      const fault = statPath(name)?.isFile === true ? faultAt(name) : 'it is not a file'
      if (fault !== undefined) throw new Error(`${name} is in the way: ${fault}`)
      before.push(name)
    }
    for (const [index, name] of [...before.entries()].reverse()) {
      if (index + 1 < keep) renameSync(name, rotatedLog(path, index + 2))
      else removeFile(name)
    }
    renameSync(this.#path, rotatedLog(path, 1))
    this.#path = rotatedLog(path, 1)
  }

  /** False if the log goes on there. */
  #takeUntil(size: number): boolean {
    while (this.#size < size) {
      const count = readSync(this.#log, piece, 0, piece.length, this.#size)
      if (count === 0) return true
      for (let done = 0; done < count; ) done += writeSync(this.#fd, piece, done, count - done)
      this.#size += count
    }
    return false
  }

  remove(): void {
    try {
      if (statPath(this.#path)?.id === statOf(this.#fd).id) removeFile(this.#path)
    } catch {
      // The next one finds it in the way, or what is wrong with its folder.
    }
  }

  close(): void {
    closeSync(this.#fd)
  }
}

/** What is open has one. */
function statOf(fd: number): Stat {
  const stat = statDescriptor(fd)
  if (stat === undefined) throw new Error(`descriptor ${fd} is not open`)
  return stat
}
