/** What a process holds: descriptors, environment and memory, as the kernel counts them. */
import { readdirSync, readFileSync } from 'node:fs'

export type Belongings = {
  readonly descriptors: number
  /** Bytes of the environment with which it was started. */
  readonly environment: number
  /** Megabytes that are resident. */
  readonly memory: number
}

export function belongingsOf(pid: number | undefined): Belongings {
  // statm and process.memoryUsage() are off by up to some hundred KB, since the kernel counts per core; this walks the pages.
  const [, kilobytes] = /^Rss:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1')) ?? []
  return {
    descriptors: readdirSync(`/proc/${pid}/fd`).length,
    environment: readFileSync(`/proc/${pid}/environ`).length,
    memory: (Number(kilobytes) * 1024) / 1e6,
  }
}
