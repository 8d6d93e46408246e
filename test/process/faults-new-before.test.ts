/**
 * Faults of the new version before the commit: the old one serves, or the upgrade succeeds all the
 * same. The cells are in test/support/faults/table.ts.
 */
import { testCells } from '../support/faults/cells.ts'

testCells('new', ['spawn', 'boot', 'hello', 'claim', 'listen', 'state', 'done'])
