/**
 * The processes of a benchmark: everything that was started is known by pid and start time, and
 * ended by that.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

export const formats = ['ES module', 'CommonJS'] as const
export type Format = (typeof formats)[number]

/** The file of a bench program. tsc emits no .cjs, so those stay where they were written. */
export function programFile(name: string, format: Format): string {
  const path = format === 'ES module' ? `./programs/${name}.js` : `../../bench/programs/${name}.cjs`
  return fileURLToPath(new URL(path, import.meta.url))
}

const living = new Map<number, string>()

/**
 * Starts a Node program in the way in which an upgrade does: detached, stdin from /dev/null, a
 * channel on descriptor 3 unless told otherwise.
 */
export function startNode(
  file: string,
  options: { readonly env?: NodeJS.ProcessEnv; readonly channel?: boolean } = {},
): ChildProcess {
  const child = spawn(process.execPath, [file], {
    env: { ...process.env, ...options.env },
    stdio: ['ignore', 'inherit', 'inherit', options.channel === false ? 'ignore' : 'ipc'],
    detached: true,
    windowsHide: true,
  })
  if (child.pid !== undefined) know(child.pid)
  return child
}

/** The next message of a program, or the error that it ended before. */
export async function messageFrom(child: ChildProcess): Promise<unknown> {
  const over = new AbortController()
  const { signal } = over
  try {
    return await Promise.race([
      once(child, 'message', { signal }).then(([message]: unknown[]) => message),
      once(child, 'exit', { signal }).then(([code, by]: unknown[]) => {
        throw new Error(`${child.spawnargs.join(' ')} ended: ${by ?? `exit code ${code}`}`)
      }),
    ])
  } finally {
    over.abort()
  }
}

export async function end(child: ChildProcess): Promise<void> {
  const exited = once(child, 'exit')
  child.kill('SIGKILL')
  await exited
  if (child.pid !== undefined) living.delete(child.pid)
}

/** A process that a program of ours has started. */
export function know(pid: number): void {
  const start = startTimeOf(pid)
  if (start !== undefined) living.set(pid, start)
}

/** Resolves when a process is gone; one that does not leave by itself is an error. */
export async function untilGone(pid: number): Promise<void> {
  for (let look = 0; look < 1_000; look++) {
    if (startTimeOf(pid) === undefined || startTimeOf(pid) !== living.get(pid)) {
      living.delete(pid)
      return
    }
    await sleep(5)
  }
  throw new Error(`the old process ${pid} has not left within 5 s of its upgrade`)
}

export function endAll(): void {
  for (const [pid, start] of living) {
    // The kernel gives a pid again only after all others, so it is ours still at the next line.
    if (startTimeOf(pid) === start) process.kill(pid, 'SIGKILL')
  }
  living.clear()
}

/** Field 22 of /proc/PID/stat; undefined for a process that is gone, and for a zombie. */
function startTimeOf(pid: number): string | undefined {
  let stat: string
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
  } catch {
    // No such process.
    return undefined
  }
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19]
}
