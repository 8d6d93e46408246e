/**
 * SIGKILL of either version at each step of an upgrade in the way of the original Go API. The cells
 * are in test/support/faults/table.ts.
 */
import { testParentCells } from '../support/faults/cells.ts'

testParentCells()
