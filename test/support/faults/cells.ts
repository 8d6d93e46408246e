/**
 * Makes tests of the cells of the fault matrix: of an example of each fault, or of all; of some
 * with COOK_TEST_CELLS, a pattern of their titles.
 */
import { describe, test } from 'node:test'
import { takesAll } from '../extent.ts'
import { noFullDisk } from '../full-disk.ts'
import { type Place, runCell } from './cell.ts'
import {
  type Cell,
  examples,
  type Fault,
  faults,
  parentExamples,
  parentTable,
  type Side,
  type Skip,
  type Step,
  table,
} from './table.ts'

/** Cells that run at once: most of their time they wait for a deadline or a boot. */
const atOnce = 4

const pattern = process.env.COOK_TEST_CELLS
const wanted = new RegExp(pattern ?? '')
const all = takesAll || pattern !== undefined

export function testCells(side: Side, steps: readonly Step[]): void {
  describe(`a fault of the ${side} version`, { concurrency: atOnce }, () => {
    for (const step of steps) {
      for (const [fault, cell] of Object.entries(table[side][step]) as [Fault, Cell | Skip][]) {
        if ('skip' in cell || !(all || examples[side][fault] === step)) continue
        testCell({ side, step, fault, stage: 'daemon' }, cell)
      }
    }
  })
}

/** The way of the original Go API: SIGKILL of either side at each step. */
export function testParentCells(): void {
  describe('SIGKILL in the way of the original Go API', { concurrency: atOnce }, () => {
    for (const side of ['new', 'old'] as const) {
      for (const [step, cell] of Object.entries(parentTable[side]) as [Step, Cell][]) {
        if (all || parentExamples[side] === step) testCell({ side, step, fault: 'SIGKILL', stage: 'parent' }, cell)
      }
    }
  })
}

function testCell(place: Place, cell: Cell): void {
  const { side, step, fault, stage } = place
  const what = faults[fault].replaceAll('`', '')
  const way = stage === 'parent' ? ' (the way of the original Go API)' : ''
  const title = `${side} version, ${step}, ${what}: the ${cell.serves} one serves${way}`
  const skip = fault === 'disk' && noFullDisk()
  if (wanted.test(title)) test(title, { skip }, () => runCell(place, cell))
}
