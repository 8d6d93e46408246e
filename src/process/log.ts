/** The log that a daemon's stdout and stderr go to, and what a process that died left in it. */
import { closeSync, constants, openSync, readlinkSync, readSync, statfsSync, writeSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { CookError, messageOf } from '../errors.ts'
import { type Stat, statDescriptor, statPath, statTarget } from '../node/stat.ts'
import { faultAt, faultOf, faultOnTheWay } from './trust.ts'

/**
 * Opens a log to append to, 0640 if it is new. Readable too: the last lines of a failed start are
 * read back from it. A symlink is followed if it is ours or root's: another user's, in /tmp say,
 * could lead a daemon of root anywhere.
 */
export function openLog(file: string): number {
  try {
    return openTrusted(file, true).fd
  } catch (cause) {
    throw new CookError('ERR_COOK_OPTION', { option: 'logFile', why: `cannot be used: ${messageOf(cause)}` }, { cause })
  }
}

/** The same of one that is there, and where that is, behind the symlinks that lead to it. */
export function openLogThere(file: string): OpenLog {
  return openTrusted(file, false)
}

type OpenLog = { readonly fd: number; readonly path: string }

const { O_APPEND, O_CREAT, O_EXCL, O_NOFOLLOW, O_RDWR } = constants
/** As of the kernel. */
const mostLinks = 40

function openTrusted(file: string, mayMake: boolean): OpenLog {
  let path = resolve(file)
  // As often as a link leads on, or the file comes or goes in between.
  for (let step = 0; step < mostLinks; step++) {
    const fault = faultOnTheWay(path) ?? faultAt(path)
    if (fault !== undefined) throw new Error(`${path}: ${fault}`)
    const stat = statPath(path)
    if (stat?.isSymlink === true) {
      // /dev/stdout leads to a descriptor, which has no path: the kernel alone can follow it.
      if (path.startsWith('/proc/')) return { fd: openSync(path, O_RDWR | O_APPEND), path }
      path = resolve(dirname(path), readlinkSync(path))
      continue
    }
    if (stat === undefined && !mayMake) throw new Error(`${path} does not exist`)
    try {
      return { fd: openFile(path, stat), path }
    } catch (error) {
      if (!['EEXIST', 'ENOENT', 'ELOOP'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error
      // Its folder is not there, which no second look mends.
      if (stat === undefined && (error as NodeJS.ErrnoException).code === 'ENOENT') throw error
    }
  }
  throw new Error(`${file} is a dangling symlink`)
}

function openFile(path: string, stat: Stat | undefined): number {
  if (stat === undefined) return openSync(path, O_RDWR | O_APPEND | O_CREAT | O_EXCL | O_NOFOLLOW, 0o640)
  // Read and write: a named pipe that nobody reads does not hold us so (fifo(7)).
  const fd = openSync(path, O_RDWR | O_APPEND | O_NOFOLLOW)
  // Another one may have come into its place since we looked.
  const opened = statDescriptor(fd)
  const fault = opened && faultOf(path, opened)
  if (fault === undefined) return fd
  closeSync(fd)
  throw new Error(`${path}: ${fault}`)
}

/**
 * A line of ours among those of the program: the first of a text, since what a new version printed
 * is there already; `detail` as its stack follows. By the descriptor:
 * process.stderr ends a process whose reader has gone, and node:process warnings can be turned off.
 */
export function writeToLog(text: string, detail = ''): void {
  try {
    writeSync(2, `cook-daemon: ${text.split('\n')[0]}\n${detail && `${detail}\n`}`)
  } catch {
    // Full, closed or busy: `status` has it too.
  }
}

/**
 * What is wrong with the log of this process, which its stdout is; undefined: nothing. Without a
 * name only a file that was deleted is known to be none of anybody's.
 */
export function faultOfLog(logFile: string | undefined): string | undefined {
  const open = statDescriptor(1)
  if (open?.isFile !== true) return undefined
  const path = pathOf(1)?.replace(/ \(deleted\)$/, '')
  const name = logFile ?? path ?? 'stdout'
  const anew = logFile === undefined ? '' : '; the next upgrade reopens it'
  if (open.nlink === 0) return `the log ${name} was deleted; the output of this process is lost${anew}`
  const named = logFile === undefined ? open : statTarget(logFile)
  // Not to see it is not to miss it.
  if (named === undefined && isHandedOnLog()) return undefined
  if (named?.id !== open.id) {
    return `the log ${name} was moved; this process still writes to ${path ?? 'that file'}${anew}`
  }
  return isFull(name) ? `the log ${name} cannot be written: no space left on its file system` : undefined
}

/**
 * Whether this process writes into the log of another user: of root, which it has given up. Its
 * successors get the descriptor, and cannot open it by its name.
 */
export function isHandedOnLog(): boolean {
  const user = process.geteuid?.()
  const open = statDescriptor(1)
  return user !== 0 && open?.isFile === true && open.uid !== user
}

function pathOf(fd: number): string | undefined {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`)
  } catch {
    // No /proc.
    return undefined
  }
}

/** Of a file system without blocks, as some virtual ones are, nothing is known. */
function isFull(path: string): boolean {
  try {
    const { blocks, bavail, bfree } = statfsSync(path)
    return blocks > 0 && (process.geteuid?.() === 0 ? bfree : bavail) === 0
  } catch {
    return false
  }
}

/**
 * Where a log ends now. Undefined for what cannot be read back: a terminal, a pipe, /dev/null, a
 * closed descriptor.
 */
export function markLog(fd: number): LogMark | undefined {
  const stat = statDescriptor(fd)
  return stat?.isFile === true ? { fd, offset: stat.size } : undefined
}

export type LogMark = { readonly fd: number; readonly offset: number }

const mostBytes = 8 * 1024
/** So many that an exception as Node prints it, with its stack, is among them whole. */
const mostLines = 40
/** A line of bundled code, which Node prints above an exception, can be a page. */
const mostCharacters = 200

/** The last lines that were written since the mark, or `''`. */
export function linesSince(mark: LogMark | undefined): string {
  if (mark === undefined) return ''
  // The shell opens a log for writing only; Linux opens what is behind a descriptor again, even
  // when its name has moved.
  const again = process.platform === 'linux' ? reopen(mark.fd) : undefined
  try {
    const size = statDescriptor(mark.fd)?.size ?? 0
    // One that has been cut since, as rotation does, has nothing else in it.
    const from = Math.max(mark.offset > size ? 0 : mark.offset, size - mostBytes)
    const bytes = Buffer.alloc(Math.max(0, size - from))
    const count = readSync(again ?? mark.fd, bytes, 0, bytes.length, from)
    return bytes.toString('utf8', 0, count).trimEnd().split('\n').slice(-mostLines).map(cutLine).join('\n')
  } catch {
    // It cannot be read: the error of the start counts, not that of its log.
    return ''
  } finally {
    if (again !== undefined) closeSync(again)
  }
}

function reopen(fd: number): number | undefined {
  try {
    return openSync(`/proc/self/fd/${fd}`, 'r')
  } catch {
    // Not ours to read, or no /proc: the descriptor itself may do.
    return undefined
  }
}

function cutLine(line: string): string {
  return line.length > mostCharacters ? `${line.slice(0, mostCharacters)} …` : line
}

/**
 * What a version that failed has said, to go behind the sentence of an error: the exception that
 * ended it, and the last lines of its log, which mostly hold that already.
 */
export function lastWords(exception: string | undefined, lines: string): string {
  const [title] = exception?.split('\n') ?? []
  const isPrinted = title !== undefined && lines.includes(title)
  const threw = exception === undefined || isPrinted ? '' : `. It threw:\n${indented(exception)}`
  return threw + (lines === '' ? '' : `. It printed:\n${indented(lines)}`)
}

function indented(text: string): string {
  return text.trimEnd().replace(/^(?=.)/gm, '  ')
}
