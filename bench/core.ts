/**
 * `npm run bench:core`: what upgrades, starts and serving cost with this library, each beside the
 * same thing without it.
 */
import './environment.ts'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { openControl } from './control.ts'
import { describeMachine } from './machine.ts'
import { measureChain } from './measure-chain.ts'
import { measureImport } from './measure-import.ts'
import { measureThroughput } from './measure-throughput.ts'
import { measureUpgrade } from './measure-upgrade.ts'
import { endAll } from './processes.ts'
import { printRow, printTitle, type Row } from './rows.ts'

const resultFile = fileURLToPath(new URL('../bench-results/core.json', import.meta.url))

const { values } = parseArgs({
  options: { pairs: { type: 'string', default: '21' }, upgrades: { type: 'string', default: '100' } },
})
const [pairs, upgrades] = [Number(values.pairs), Number(values.upgrades)]
if (!(pairs >= 1 && upgrades >= 2)) throw new Error('usage: bench:core [--pairs N] [--upgrades N]')

const folder = mkdtempSync(join(tmpdir(), 'cook-daemon-bench-'))
// Also when an error ends this process.
process.once('exit', () => rmSync(folder, { recursive: true, force: true }))
const control = await openControl(join(folder, 'control'))
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.once(signal, () => {
    endAll()
    process.exit(1)
  })
}

try {
  const machine = describeMachine()
  for (const [name, value] of Object.entries(machine)) console.log(`${name.padEnd(7)} ${value}`)
  const rows: Row[] = []
  for (const [title, measure] of [
    ['An upgrade until the new version is up, beside a plain start of the same program', measureUpgrade],
    ['Importing the library: start and memory of a program with it, beside one without', measureImport],
    ['Serving with a registered listener, beside serving without the library', measureThroughput],
    [`The last of ${upgrades} upgrades in a row, beside the first`, measureChain],
  ] as const) {
    printTitle(title)
    for await (const row of measure({ control, pairs, upgrades })) {
      printRow(row)
      rows.push(row)
    }
  }
  mkdirSync(join(resultFile, '..'), { recursive: true })
  writeFileSync(resultFile, `${JSON.stringify({ machine, pairs, upgrades, rows }, undefined, 2)}\n`)
  console.log(`\n${resultFile}`)
} catch (error) {
  console.error(error)
  process.exitCode = 1
} finally {
  endAll()
  control.close()
}
