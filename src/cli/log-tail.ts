/** The end of one log and what comes behind it, over rotations: as it was written. */
import { closeSync, openSync, readSync } from 'node:fs'
import { statDescriptor, statTarget } from '../node/stat.ts'
import { copyInMaking, isSafeLog, rotatedLog } from '../process/log-files.ts'

const piece = 64 * 1024
/** So many bytes of what was read last are looked for in a file, to know whether it is the same. */
const mostSeen = 1024
/** A copy to which nothing was added for so long, in milliseconds, was left by a killed keeper. */
const longestCopy = 10_000
/** Between two looks at one, in milliseconds, and how often it is looked again. */
const pause = 20
const mostTries = 200
const lineEnd = 10
const nothing = Buffer.alloc(0)

export class LogTail {
  readonly #file: string
  #fd: number
  /** Where in the log we are, or in the copy behind that of `#before`, if it was rotated. */
  #at = 0
  /** The bytes before that. */
  #seen: Buffer = nothing
  /** The newest copy of all that went before the log began. */
  #before: string | undefined

  constructor(file: string) {
    this.#file = file
    this.#fd = openSync(file, 'r')
  }

  /** The last lines, also those that were rotated; goes to the end. */
  async last(lines: number): Promise<Buffer> {
    for (let tries = 0; ; tries++) {
      const before = copiesOf(this.#file)
      const copies = openCopies(this.#file)
      try {
        const size = statDescriptor(this.#fd)?.size ?? 0
        const end = lastOf(this.#fd, lines, size)
        this.#goTo(size, readAt(this.#fd, Math.max(0, size - mostSeen), Math.min(size, mostSeen)))
        const after = copiesOf(this.#file)
        this.#before = after?.[0] ?? before?.[0]
        // Not while it is rotated: what was read could not be told from what is new.
        const isSettled = before !== undefined && after !== undefined && before[0] === after[0]
        if (isSettled || tries === mostTries) return withLinesBefore(end, copies, lines)
      } finally {
        for (const fd of copies) closeSync(fd)
      }
      await new Promise((done) => setTimeout(done, pause))
    }
  }

  /** What was written since. */
  *more(): Generator<Buffer> {
    yield* this.#rest()
    const now = statTarget(this.#file)
    // By its name, as `tail -F`: it may be another file now.
    if (now === undefined || now.id === statDescriptor(this.#fd)?.id) return
    const copies = copiesOf(this.#file)
    if (copies === undefined) return
    yield* this.#rest()
    this.close()
    this.#fd = openSync(this.#file, 'r')
    this.#goTo(0)
    this.#before = copies[0]
    yield* this.#rest()
  }

  close(): void {
    closeSync(this.#fd)
  }

  *#rest(): Generator<Buffer> {
    for (;;) {
      const bytes = this.#next(this.#fd)
      const isInLog = bytes !== undefined && this.#at > 0
      const copies = isInLog ? [] : copiesOf(this.#file)
      if (copies === undefined) return
      // A copy gets its name before the log is cut: at its start there is nothing to know it by.
      if (bytes !== undefined && (isInLog || copies[0] === this.#before)) {
        this.#note(bytes)
        if (bytes.length > 0) yield bytes
        if (bytes.length < piece) return
      } else {
        yield* this.#copy(copies)
      }
    }
  }

  /** It was rotated: goes on in the oldest copy that was made since. */
  *#copy(copies: readonly string[]): Generator<Buffer> {
    const known = copies.indexOf(this.#before ?? '')
    const made = known < 0 ? copies : copies.slice(0, known)
    const oldest = made.at(-1)
    if (oldest === undefined) {
      // It was cut, and nobody has made a copy.
      this.#goTo(0)
      this.#before = copies[0]
      return
    }
    const wasCut = this.#at > 0
    const file = rotatedLog(this.#file, made.length)
    // It has another name by now.
    if (statTarget(file)?.id !== oldest) return
    const fd = openSync(file, 'r')
    try {
      if (statDescriptor(fd)?.id !== oldest) return
      for (;;) {
        // What was written between the copy and the cut may have been read, and is not in it.
        const isBehind = (statDescriptor(fd)?.size ?? 0) <= this.#at
        const bytes = isBehind ? nothing : this.#next(fd)
        if (bytes === undefined) {
          // It was cut by somebody else before: this one begins behind that.
          this.#goTo(0)
          return
        }
        if (bytes.length === 0) break
        this.#note(bytes)
        yield bytes
      }
    } finally {
      closeSync(fd)
    }
    // One that is not complete yet is gone through again, from where we are.
    if (!wasCut && made.length === 1 && this.#at > 0) return
    this.#goTo(0)
    this.#before = oldest
  }

  /** What comes next; undefined if that is not behind what was read last. */
  #next(fd: number): Buffer | undefined {
    const bytes = readAt(fd, this.#at, piece)
    // Afterwards: it may be cut, and grow again, while it is read.
    const { length } = this.#seen
    return this.#seen.equals(readAt(fd, this.#at - length, length)) ? bytes : undefined
  }

  #note(bytes: Buffer): void {
    this.#goTo(this.#at + bytes.length, Buffer.concat([this.#seen, bytes]))
  }

  #goTo(at: number, seen: Buffer = nothing): void {
    this.#at = at
    this.#seen = seen.subarray(-mostSeen)
  }
}

/** What each copy is, the newest first; undefined: they change their names right now. */
function copiesOf(file: string): string[] | undefined {
  const ids: string[] = []
  for (let id = copyOf(file, 1); id !== undefined; id = copyOf(file, ids.length + 1)) ids.push(id)
  const inMaking = statTarget(copyInMaking(file))
  const isRotated = inMaking !== undefined && Date.now() - inMaking.mtimeMs < longestCopy
  return isRotated || copyOf(file, 1) !== ids[0] ? undefined : ids
}

function copyOf(file: string, times: number): string | undefined {
  const copy = rotatedLog(file, times)
  return isSafeLog(copy) ? statTarget(copy)?.id : undefined
}

/** The newest first. */
function openCopies(file: string): number[] {
  const opened: number[] = []
  while (isSafeLog(rotatedLog(file, opened.length + 1))) opened.push(openSync(rotatedLog(file, opened.length + 1), 'r'))
  return opened
}

/** As many as are missing, from the copies. */
function withLinesBefore(end: Buffer, copies: readonly number[], lines: number): Buffer {
  const parts = [end]
  let missing = lines - count(end)
  for (const fd of copies) {
    if (missing <= 0) break
    const part = lastOf(fd, missing)
    // A rotation may cut a line in two.
    parts.unshift(part, part.length > 0 && part.at(-1) !== lineEnd ? Buffer.of(lineEnd) : nothing)
    missing -= count(part)
  }
  return Buffer.concat(parts)
}

/** Whole lines from the end of a file. */
function lastOf(fd: number, lines: number, size = statDescriptor(fd)?.size ?? 0): Buffer {
  for (let length = Math.min(size, piece); ; length = Math.min(size, 2 * length)) {
    const text = readAt(fd, size - length, length)
    const start = startOfLast(text, lines)
    if (start !== undefined) return text.subarray(start)
    if (length === size) return text
  }
}

/** Undefined: it has no more lines than these. */
function startOfLast(text: Buffer, lines: number): number | undefined {
  if (lines === 0) return text.length
  let left = lines
  // Behind the last line end there is nothing.
  for (let at = text.length - 2; at >= 0; at--) {
    if (text[at] === lineEnd && --left === 0) return at + 1
  }
  return undefined
}

/** What has no line end yet counts too. */
function count(text: Buffer): number {
  let lines = text.length > 0 && text.at(-1) !== lineEnd ? 1 : 0
  for (const byte of text) if (byte === lineEnd) lines++
  return lines
}

function readAt(fd: number, from: number, length: number): Buffer {
  const bytes = Buffer.allocUnsafe(length)
  return bytes.subarray(0, readSync(fd, bytes, 0, length, from))
}
