/** The log that a daemon's stdout and stderr go to, and what a process that died left in it. */
import { CookError, messageOf } from '../errors.ts'

const fs = process.getBuiltinModule('node:fs')

/** Opens a log to append to, 0640 if it is new. Readable too: the last lines of a failed start are read back from it. */
export function openLog(file: string): number {
  try {
    return fs.openSync(file, 'a+', 0o640)
  } catch (cause) {
    throw new CookError('ERR_COOK_OPTION', { option: 'logFile', why: messageOf(cause) }, { cause })
  }
}

/** Where a log ends now. Undefined for what cannot be read back: a terminal, a pipe, /dev/null, a closed descriptor. */
export function markLog(fd: number): LogMark | undefined {
  try {
    const stat = fs.fstatSync(fd)
    return stat.isFile() ? { fd, offset: stat.size } : undefined
  } catch {
    // The program closed its stderr: no reason not to upgrade.
    return undefined
  }
}

export type LogMark = { readonly fd: number; readonly offset: number }

const mostBytes = 4 * 1024
const mostLines = 20

/** The last lines that were written since the mark, or `''`. */
export function linesSince(mark: LogMark | undefined): string {
  if (mark === undefined) return ''
  // The shell opens a log for writing only; Linux opens what is behind a descriptor again, even when its name has moved.
  const again = process.platform === 'linux' ? reopen(mark.fd) : undefined
  try {
    const size = fs.fstatSync(mark.fd).size
    const from = Math.max(mark.offset, size - mostBytes)
    const bytes = Buffer.alloc(Math.max(0, size - from))
    const count = fs.readSync(again ?? mark.fd, bytes, 0, bytes.length, from)
    return bytes.toString('utf8', 0, count).trimEnd().split('\n').slice(-mostLines).join('\n')
  } catch {
    // It cannot be read: the error of the start counts, not that of its log.
    return ''
  } finally {
    if (again !== undefined) fs.closeSync(again)
  }
}

function reopen(fd: number): number | undefined {
  try {
    return fs.openSync(`/proc/self/fd/${fd}`, 'r')
  } catch {
    // Not ours to read, or no /proc: the descriptor itself may do.
    return undefined
  }
}

/** What is known of an end, as a sentence for an error. */
export function lastWords(told: string | undefined, lines: string): string {
  const parts = [told && `It said: ${told}`, lines && `Its last lines:\n${lines}\n`]
  return parts
    .filter(Boolean)
    .map((part) => ` ${part}`)
    .join('')
}
