/** The machine that the numbers come from: a number without it says nothing. */
import { cpus, release, totalmem, type } from 'node:os'

export type Machine = Readonly<Record<'cores' | 'busy' | 'memory' | 'kernel' | 'node', string>>

export function describeMachine(): Machine {
  const cores = cpus()
  return {
    cores: `${cores.length} x ${cores[0]?.model.trim() || 'unknown'}`,
    busy: `${busyShare()} %`,
    memory: `${(totalmem() / 2 ** 30).toFixed(1)} GiB`,
    kernel: `${type()} ${release()} ${process.arch}`,
    node: process.version,
  }
}

/**
 * What else ran, in percent of all cores, in a second in which this process waited. The load
 * average still holds the build before the benchmark.
 */
function busyShare(): number {
  const before = ticks()
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1_000)
  const after = ticks()
  return Math.round((100 * (after.busy - before.busy)) / (after.all - before.all))
}

function ticks(): { readonly busy: number; readonly all: number } {
  const times = cpus().map(({ times: one }) => one)
  const idle = times.reduce((sum, one) => sum + one.idle, 0)
  const all = times.reduce((sum, { user, nice, sys, irq, idle: free }) => sum + user + nice + sys + irq + free, 0)
  return { busy: all - idle, all }
}
