/**
 * `npm run bench:core`: what upgrades, starts and serving cost with this library, each beside the
 * same thing without it.
 */
import './environment.ts'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { openControl } from './control.ts'
import { measureChain } from './measure-chain.ts'
import { measureImport } from './measure-import.ts'
import { measureThroughput } from './measure-throughput.ts'
import { measureUpgrade } from './measure-upgrade.ts'
import { endAll } from './processes.ts'
import { measureAll } from './rows.ts'

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
  await measureAll(
    'core',
    [
      [
        'An upgrade until the new version is up, beside a plain start of the same program',
        (sizes) => measureUpgrade({ control, ...sizes }),
      ],
      [
        'Importing the library: start and memory of a program with it, beside one without',
        (sizes) => measureImport({ control, ...sizes }),
      ],
      [
        'Serving with a registered listener, beside serving without the library',
        (sizes) => measureThroughput({ control, ...sizes }),
      ],
      [`The last of ${upgrades} upgrades in a row, beside the first`, (sizes) => measureChain({ control, ...sizes })],
    ],
    { pairs, upgrades },
  )
} catch (error) {
  console.error(error)
  process.exitCode = 1
} finally {
  endAll()
  control.close()
}
