/** What the command prints: words for people, JSON for scripts. */
import { styleText } from 'node:util'
import { RemoteError } from '../control/client.ts'
import { CookError, type CookErrorCode, messageOf } from '../errors.ts'

/** 0: done; 1: not done, and what runs is as it was; 2: usage error; 3: not running. */
export const exitCodes = { done: 0, failed: 1, usage: 2, notRunning: 3 } as const

/** The command was typed wrongly. */
export class UsageError extends Error {}

// A reader may have read enough, as `head` does: what was asked for is done all the same.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {})

export function print(text: string): void {
  process.stdout.write(`${text}\n`)
}

export function printJson(value: unknown): void {
  if (heard === undefined) print(JSON.stringify(value))
  else heard.said.push(value)
}

/** What a command has said of one service, where it is one of several. */
export type Heard = { readonly said: unknown[]; failure?: { readonly message: string; readonly code?: string } }

let heard: Heard | undefined

/** Meanwhile JSON is kept for the list of all, and what fails is known beside being told. */
export async function hear(run: () => Promise<number>): Promise<Heard & { readonly code: number }> {
  const own: Heard = { said: [] }
  heard = own
  try {
    return Object.assign(own, { code: await run() })
  } finally {
    heard = undefined
  }
}

type Format = 'bold' | 'dim' | 'red' | 'green' | 'yellow'

/** Coloured on a terminal, unless NO_COLOR is set (no-color.org). */
export function paint(format: Format, text: string, output: 'stdout' | 'stderr' = 'stdout'): string {
  const { NO_COLOR } = process.env
  if ((NO_COLOR !== undefined && NO_COLOR !== '') || !process[output].isTTY) return text
  return styleText(format, text)
}

/** A word beside the result, on stderr: stdout may be JSON. */
export function note(text: string): void {
  process.stderr.write(`${paint('yellow', 'cook-daemon:', 'stderr')} ${text}\n`)
}

const absent: readonly CookErrorCode[] = [
  'ERR_COOK_NOT_RUNNING',
  'ERR_COOK_NONE_RUNNING',
  'ERR_COOK_NONE_DOWN',
  'ERR_COOK_DOWN',
  'ERR_COOK_UNIT_DOWN',
  'ERR_COOK_NOT_KNOWN',
]

const verdicts = new WeakMap<object, string>()

/** The last line for an error, unless it has one: the counterpart of printDone(). */
export function withVerdict(error: unknown, verdict: string): unknown {
  if (error instanceof Error && !verdicts.has(error)) verdicts.set(error, verdict)
  return error
}

/** Prints an error on stderr, with what to do about it, and returns the exit code. */
export function tell(error: unknown): number {
  process.stderr.write(`${paint('red', 'cook-daemon:', 'stderr')} ${messageOf(error).trimEnd()}\n`)
  const isKnown = error instanceof CookError || error instanceof RemoteError
  if (heard !== undefined) heard.failure = { message: messageOf(error).trimEnd(), ...(isKnown && { code: error.code }) }
  if (isKnown && error.help !== '') process.stderr.write(`${paint('dim', error.help, 'stderr')}\n`)
  const code = codeOf(error, isKnown)
  const verdict = error instanceof Error ? verdicts.get(error) : undefined
  if (verdict !== undefined && code === exitCodes.failed)
    process.stderr.write(`${paint('red', '✗', 'stderr')} ${verdict}\n`)
  return code
}

function codeOf(error: unknown, isKnown: boolean): number {
  const { code } = error as { readonly code?: CookErrorCode }
  if (error instanceof UsageError || (isKnown && code === 'ERR_COOK_CONFIG')) return exitCodes.usage
  return isKnown && code !== undefined && absent.includes(code) ? exitCodes.notRunning : exitCodes.failed
}

/** What a command has done, in its last line. */
export function printDone(text: string): void {
  print(`${paint('green', '✓')} ${text}`)
}

/** The same of a command that has been told already, by a child. */
export function noteFailure(message: string, code: number): void {
  if (heard === undefined) return
  heard.failure = { message, ...(code === exitCodes.notRunning && { code: 'ERR_COOK_DOWN' }) }
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
