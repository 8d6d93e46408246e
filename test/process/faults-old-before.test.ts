/**
 * Faults of the old version before the commit, while the new one is on its way. The cells are in
 * test/support/faults/table.ts.
 */
import { testCells } from '../support/faults/cells.ts'

testCells('old', ['spawn', 'boot', 'hello', 'claim', 'listen', 'state', 'done'])
