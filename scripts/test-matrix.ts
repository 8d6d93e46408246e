/** Runs all tests under each supported line of Node, fetched from npm, with the binaries of all lines at hand for upgrades between them. */
import { spawnSync } from 'node:child_process'
import { closeSync, existsSync, mkdirSync, openSync, readFileSync } from 'node:fs'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const lines = ['20', '22', '24', '26']
/** Time for the tests of one line, in milliseconds. */
const lineTimeout = 15 * 60_000

const root = fileURLToPath(new URL('../..', import.meta.url))
const cache = join(root, 'node_modules/.cache')
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

/** The binary of a line: the running one for its own, else the one in the package that npm has for this platform. */
function nodeBinary(line: string): string {
  if (process.versions.node.startsWith(`${line}.`)) return process.execPath
  const name = `node-${process.platform}-${process.arch}`
  const folder = join(cache, `node-${line}`)
  const binary = join(folder, 'node_modules', name, 'bin/node')
  if (!existsSync(binary)) {
    mkdirSync(folder, { recursive: true })
    const flags = ['--ignore-scripts', '--no-save', '--no-audit', '--no-fund', '--loglevel=error']
    spawnSync('npm', ['install', ...flags, '--prefix', folder, `${name}@${line}`], { stdio: ['ignore', 2, 2] })
  }
  if (!versionOf(binary).startsWith(`${line}.`))
    throw new Error(`no Node ${line} in ${binary}; npm should have put it there`)
  return binary
}

function versionOf(binary: string): string {
  return spawnSync(binary, ['--version'], { encoding: 'utf8' }).stdout?.trim().slice(1) ?? ''
}

function runLine(binary: string, line: string): void {
  const started = performance.now()
  const env = {
    ...process.env,
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
  // A runner that does not come to its closing line, or is ended by a signal, has failed whatever it counted.
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
