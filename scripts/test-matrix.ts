/**
 * Runs all tests, what `npm test` leaves out included, under each supported line of Node, fetched
 * from npm, with the binaries of all lines at hand for upgrades between them.
 */
import { spawnSync } from 'node:child_process'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { delimiter, dirname, join } from 'node:path'
import { cache, lines, nodeBinary, root, versionOf } from './node-lines.ts'

/** Time for the tests of one line, in milliseconds. */
const lineTimeout = 60 * 60_000

const runner = join(root, 'dist/scripts/test.js')

// Numbers choose lines, everything else goes to the runner: npm run test:matrix -- 22 26 upgrade
const chosen = process.argv.slice(2).filter((arg) => lines.includes(arg))
const filters = process.argv.slice(2).filter((arg) => !lines.includes(arg))

const nodes = Object.fromEntries(lines.map((line) => [line, nodeBinary(line)]))
const totals = { passed: 0, failed: 0, skipped: 0 }

printRow('Node', 'passed', 'failed', 'skipped', 'seconds')
for (const line of chosen.length > 0 ? chosen : lines) runLine(nodes[line] ?? process.execPath, line)

if (totals.failed > 0 || totals.passed === 0) process.exitCode = 1
process.stdout.write(`${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped\n`)

function runLine(binary: string, line: string): void {
  const started = performance.now()
  const env = {
    ...process.env,
    COOK_TEST_ALL: '1',
    COOK_TEST_NODES: JSON.stringify(nodes),
    PATH: [dirname(binary), process.env.PATH].join(delimiter),
  }
  // A file, not a pipe: what a test leaves behind could hold a pipe open for ever.
  const output = join(cache, `test-node-${line}.log`)
  const log = openSync(output, 'w')
  const { status } = spawnSync(binary, [runner, ...filters], {
    cwd: root,
    env,
    stdio: ['ignore', log, log],
    timeout: lineTimeout,
  })
  closeSync(log)
  const text = readFileSync(output, 'utf8')
  const counts = readCounts(text)
  // A runner that does not come to its closing line, or is ended by a signal, has failed whatever
  // it counted.
  if (status !== 0 && counts.failed === 0) counts.failed = 1
  if (status !== 0) process.stdout.write(`${text}\n`)
  for (const key of ['passed', 'failed', 'skipped'] as const) totals[key] += counts[key]
  const seconds = ((performance.now() - started) / 1000).toFixed(1)
  printRow(versionOf(binary), counts.passed, counts.failed, counts.skipped, seconds)
}

function readCounts(text: string): { passed: number; failed: number; skipped: number } {
  const closing = /^(\d+) passed, (\d+) failed, (\d+) skipped$/.exec(text.trimEnd().split('\n').at(-1) ?? '')
  const [passed = 0, failed = 0, skipped = 0] = (closing ?? []).slice(1).map(Number)
  return { passed, failed, skipped }
}

function printRow(version: string, ...cells: readonly (string | number)[]): void {
  process.stdout.write(`${version.padEnd(10)}${cells.map((cell) => String(cell).padStart(10)).join('')}\n`)
}
