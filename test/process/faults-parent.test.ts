/** SIGKILL of either version at each step of an upgrade in the documents' way. The cells are in test/support/faults/table.ts. */
import { testParentCells } from '../support/faults/cells.ts'

testParentCells()
