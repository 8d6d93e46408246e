/** What a process holds: descriptors, environment and memory, as the kernel counts them. */
import { readdirSync, readFileSync } from 'node:fs'

export type Belongings = {
  readonly descriptors: number
  /** Bytes of the environment with which it was started. */
  readonly environment: number
  /** Megabytes that are resident. */
  readonly memory: number
  /** Megabytes that nobody shares, and that were written to. */
  readonly own: number
  /**
   * Milliseconds of processor time that it has used, which other processes disturb far less than
   * the time on the clock.
   */
  readonly processor: number
}

export function belongingsOf(pid: number | undefined): Belongings {
  // statm and process.memoryUsage() are off by up to some hundred KB, since the kernel counts per
  // core; this walks the pages.
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1')
  const megabytes = (name: string) => (Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(rollup)?.[1]) * 1024) / 1e6
  return {
    descriptors: readdirSync(`/proc/${pid}/fd`).length,
    environment: readFileSync(`/proc/${pid}/environ`).length,
    memory: megabytes('Rss'),
    own: megabytes('Private_Dirty'),
    processor: processorTimeOf(pid),
  }
}

/** All threads; in nanoseconds, where /proc/PID/stat counts in hundredths of a second. */
export function processorTimeOf(pid: number | undefined): number {
  const threads = readdirSync(`/proc/${pid}/task`)
  const times = threads.map((id) => Number(readFileSync(`/proc/${pid}/task/${id}/schedstat`, 'latin1').split(' ')[0]))
  return times.reduce((sum, time) => sum + time, 0) / 1e6
}
