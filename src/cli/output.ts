/** What the command prints: words for people, JSON for scripts, and how it ends. */
import { RemoteError } from '../control/client.ts'
import { CookError, messageOf } from '../errors.ts'

const fs = process.getBuiltinModule('node:fs')

/** 0: done; 1: not done, and what runs is as it was; 2: asked wrongly; 3: there is no such daemon. */
export const exitCodes = { done: 0, failed: 1, usage: 2, notRunning: 3 } as const

/** The command was typed wrongly. */
export class UsageError extends Error {}

type Output = 'stdout' | 'stderr'
const descriptors = { stdout: 1, stderr: 2 } as const

/** Those whose reader was behind, and that Node writes in its own time since then. */
const behind = new Set<Output>()

/** In this very moment, as the stream of Node would, which loads all of node:net first: a third of what `status` and `stop` take beyond their answer (measured). Never throws: whoever reads may have read enough, as `head` does, and what was asked for is done all the same. */
export function write(text: string | Uint8Array, output: Output = 'stdout'): void {
  let rest = Buffer.from(text)
  try {
    while (rest.length > 0 && !behind.has(output)) rest = rest.subarray(fs.writeSync(descriptors[output], rest))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') return
    behind.add(output)
    process[output].on('error', () => {})
  }
  if (rest.length > 0) process[output].write(rest)
}

/** Ends the command, without the time that Node takes to put away what it has loaded. */
export function leave(code: number): void {
  if (behind.size === 0) process.exit(code)
  process.exitCode = code
}

export function print(text: string): void {
  write(`${text}\n`)
}

export function printJson(value: unknown): void {
  print(JSON.stringify(value))
}

type Format = 'bold' | 'dim' | 'red' | 'green' | 'yellow'

/** Coloured on a terminal, unless NO_COLOR is set (no-color.org). */
export function paint(format: Format, text: string, output: Output = 'stdout'): string {
  const { NO_COLOR } = process.env
  if ((NO_COLOR !== undefined && NO_COLOR !== '') || !isTerminal(output)) return text
  return process.getBuiltinModule('node:util').styleText(format, text)
}

/** Tells an error on stderr, with what to do about it, and returns the exit code. */
export function tell(error: unknown): number {
  write(`${paint('red', 'cook-daemon:', 'stderr')} ${messageOf(error).trimEnd()}\n`, 'stderr')
  const isKnown = error instanceof CookError || error instanceof RemoteError
  if (isKnown && error.help !== '') write(`${paint('dim', error.help, 'stderr')}\n`, 'stderr')
  if (error instanceof UsageError) return exitCodes.usage
  return isKnown && error.code === 'ERR_COOK_NOT_RUNNING' ? exitCodes.notRunning : exitCodes.failed
}

/** Asked of the stream only where it could be one. */
function isTerminal(output: Output): boolean {
  return fs.fstatSync(descriptors[output]).isCharacterDevice() && process[output].isTTY === true
}

/** Columns as wide as they need to be. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

export function bytesText(bytes: number): string {
  return `${(bytes / 1024 / 1024).toFixed(1)} MB`
}

export function timeText(seconds: number): string {
  if (seconds < 60) return `${Math.floor(seconds)} s`
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`
  return `${Math.floor(seconds / 86_400)} d ${Math.floor((seconds % 86_400) / 3600)} h`
}
