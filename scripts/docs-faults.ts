/**
 * Writes docs/reliability.md from the table of faults; with `--check` only says whether the page is
 * up to date.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { faultsPage } from '../test/support/faults/page.ts'

const page = new URL('../../docs/reliability.md', import.meta.url)
const wanted = faultsPage()

if (!process.argv.includes('--check')) {
  writeFileSync(page, wanted)
} else if (!existsSync(page) || readFileSync(page, 'utf8') !== wanted) {
  process.stdout.write('docs/reliability.md does not say what test/support/faults/table.ts says: npm run docs\n')
  process.exitCode = 1
}
