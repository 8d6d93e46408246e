/**
 * Faults of either version after the commit, until the old one is gone. The cells are in
 * test/support/faults/table.ts.
 */
import { testCells } from '../support/faults/cells.ts'

testCells('new', ['handover', 'drain', 'exit'])
testCells('old', ['handover', 'drain', 'exit'])
