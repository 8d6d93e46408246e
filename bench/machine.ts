/** The machine that the numbers come from: a number without it says nothing. */
import { cpus, loadavg, release, totalmem, type } from 'node:os'

export type Machine = Readonly<Record<'cores' | 'load' | 'memory' | 'kernel' | 'node', string>>

export function describeMachine(): Machine {
  const cores = cpus()
  return {
    cores: `${cores.length} x ${cores[0]?.model.trim() || 'unknown'}`,
    // What else ran: above 0.1 or so the medians are about that, too.
    load: `${loadavg()[0]?.toFixed(2)} in the last minute`,
    memory: `${(totalmem() / 2 ** 30).toFixed(1)} GiB`,
    kernel: `${type()} ${release()} ${process.arch}`,
    node: process.version,
  }
}
