/** What the keeper says in the log, among the lines of the program. */
import { writeSync } from 'node:fs'
import type { LastExit, Restarts } from '../control/status.ts'
import { exitWords } from '../process/launcher.ts'
import type { Release } from './plan.ts'

let logFd = 2

/** From now on into this file: a keeper that a worker has started has that one's descriptors. */
export function sayIn(fd: number): void {
  logFd = fd
}

/** One line, with the time. By the descriptor: a reader that is gone must not end the keeper. */
export function say(text: string): void {
  try {
    writeSync(logFd, `${new Date().toISOString()} cook-daemon: ${text}\n`)
  } catch {
    // Full or closed: `status` has the last exit too.
  }
}

/** So many crashes in a row are said each; of those that follow, at most one a minute. */
const saidEach = 10

type Crash = { readonly reason: keyof Restarts; readonly inRow: number; readonly hasFailed: boolean }

/** Undefined: it was said often enough. */
export function crashText(lastExit: LastExit | undefined, { reason, inRow, hasFailed }: Crash): string | undefined {
  const how = lastExit === undefined ? 'was not started' : `pid ${lastExit.pid}, ${exitWords(lastExit)}`
  const what = reason === 'hang' ? 'its event loop was blocked, and it was killed' : how
  if (!hasFailed) return `the worker exited unexpectedly (${what}); restarting it`
  if (inRow !== saidEach && inRow % 2 !== 0) return undefined
  return `the worker exited unexpectedly ${inRow} times in a row (${what}); trying again every 30 s`
}

/** Once: it holds for each worker of each version. */
export const clusterText =
  'the program uses node:cluster: cluster.isPrimary is false in each worker, so code for the primary does not run'

/** Until the next version that somebody asks for. */
export function backText({ command: { args } }: Release): string {
  return `went back to the previous release, ${args[0]}: the newer one crashed or did not start`
}
