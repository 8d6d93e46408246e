/** explore */
import { describe, test } from 'node:test'
import { runCell } from '../support/faults/cell.ts'
import { faults, steps, type Cell } from '../support/faults/table.ts'

const only = (process.env.ONLY ?? '').split(',').filter(Boolean)
describe('faults', { concurrency: Number(process.env.CONC ?? 4) }, () => {
  for (const side of ['new', 'old'] as const) for (const step of steps) for (const fault of faults) {
    const name = `${side} ${step} ${fault}`
    if (only.length && !only.some((o) => new RegExp(o).test(name))) continue
    const before = !['handover', 'drain', 'exit'].includes(step)
    const survives = ['descriptors','disk','garbage','slow', ...(side === 'old' ? ['link', 'SIGSTOP'] : [])].includes(fault)
    const serves: 'old' | 'new' = side === 'new' ? (fault === 'slow' || fault==='disk' || (!before && fault === 'garbage') || (step!=='spawn' && fault==='descriptors') ? 'new' : 'old') : (before && (fault === 'link' || fault === 'garbage' || (fault==='descriptors' && step==='spawn')) ? 'old' : 'new')
    void survives
    const cell: Cell = { side, step, fault, serves, waits: fault === 'SIGSTOP' || fault === 'loop', boots: ['garbage','disk'].includes(fault) }
    test(name, async () => {
      const at = performance.now()
      try {
        const o = await runCell(cell)
        console.log(`OK   ${name} -> ${serves} | ${o.upgrade.slice(0, 220).replaceAll('\n', ' ')} | ${o.events} | ${o.clients} | ${Math.round(performance.now() - at)}`)
      } catch (e) {
        console.log(`FAIL ${name} -> ${serves} | ${say(e)}`)
        throw e
      }
    })
  }
})

function say(e: unknown): string {
  if (e instanceof Error && 'suppressed' in e) return `${say((e as unknown as {error: unknown}).error)} +++ ${say((e as unknown as {suppressed: unknown}).suppressed)}`
  return String((e as Error).stack ?? e).slice(0, 1500)
}
