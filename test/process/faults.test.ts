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
    const serves: 'old' | 'new' = side === 'new' ? (fault === 'slow' || fault==='disk' || (!before && fault === 'garbage') || (!before && fault==='descriptors') ? 'new' : 'old') : (before && (fault === 'link' || fault === 'garbage' || (fault==='descriptors' && step==='spawn')) ? 'old' : 'new')
    void survives
    const cell: Cell = { side, step, fault, serves, waits: fault === 'SIGSTOP' || fault === 'loop' || (fault==='descriptors' && !before), boots: ['garbage','disk'].includes(fault) }
    test(name, async () => {
      const at = performance.now()
      try {
        const o = await runCell(cell)
        console.log(`OK   ${name} -> ${serves} | ${o.upgrade.slice(0, 220).replaceAll('\n', ' ')} | ${o.events} | ${o.clients} | ${Math.round(performance.now() - at)}`)
      } catch (e) {
        console.log(`FAIL ${name} -> ${serves} | ${String((e as Error).stack).slice(0, 1200)}`)
        throw e
      }
    })
  }
})
