/**
 * Runs the compiled tests, tells their real numbers in its last line, and fails a run that leaves
 * anything behind.
 */
import { setMaxListeners } from 'node:events'
import { existsSync, mkdtempSync, readdirSync, realpathSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join, resolve } from 'node:path'
import { run } from 'node:test'
import { spec } from 'node:test/reporters'
import { fileURLToPath } from 'node:url'
import { removeLeftovers } from './leftovers.ts'

/**
 * Time for one test file, in milliseconds; then it is ended, and counts as failed. A hundred
 * upgrades take two minutes of two cores, and ten of the half of one.
 */
const fileTimeout = 1_200_000
/**
 * Process tests start several processes each; with more files at once they would measure the
 * scheduler.
 */
const filesAtOnce = 3

/** Those that take longest begin first, so that no core waits for one of them at the end. */
const longest = ['hundred-upgrades', 'frameworks', 'soak']

/** How many of the slowest files are named at the end. */
const mostTold = 8

const root = fileURLToPath(new URL('../..', import.meta.url))
const counts = { passed: 0, failed: 0, skipped: 0 }

// The name of the folder is also the mark by which everything that this run starts is found again.
const folder = mkdtempSync(join(realpathSync(tmpdir()), 'cook-'))
const mark = basename(folder)
Object.assign(process.env, { COOK_TEST_RUN: mark, COOK_TEST_TMP: folder, TMPDIR: folder })

const files = testFiles(process.argv.slice(2))
if (files.length > 0) await runFiles(files)
else process.stdout.write('no test file has such a name\n')

const left = await removeLeftovers(mark, folder)
for (const what of left) process.stdout.write(`✖ left behind: ${what}\n`)
counts.failed += left.length

if (counts.failed > 0 || counts.passed === 0) process.exitCode = 1
process.stdout.write(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped\n`)

/** Compiled files whose source is still there: a deleted test may live on in dist. */
function testFiles(filters: readonly string[]): string[] {
  return ['test/unit', 'test/process']
    .filter((place) => existsSync(join(root, place)))
    .flatMap((place) => readdirSync(join(root, place)).map((name) => join(place, name)))
    .filter((path) => path.endsWith('.test.ts'))
    .filter((path) => filters.length === 0 || filters.some((filter) => path.includes(filter)))
    .sort((one, other) => rank(one) - rank(other) || one.localeCompare(other))
    .map((path) => join(root, 'dist', path.replace(/\.ts$/, '.js')))
}

function rank(path: string): number {
  const at = longest.indexOf(basename(path, '.test.ts'))
  return at < 0 ? longest.length : at
}

async function runFiles(files: string[]): Promise<void> {
  const stopped = new AbortController()
  // Each file listens to it, and Node warns of the eleventh.
  setMaxListeners(0, stopped.signal)
  // A run that is interrupted still ends what it started.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stopped.abort())
  const events = run({ files, concurrency: filesAtOnce, timeout: fileTimeout, signal: stopped.signal })
  // A file that calls process.exit() with 0 takes its other tests along without a word: what began
  // has to end.
  const begun = new Map<string, number>()
  const count = (event: Place, change: 1 | -1): void => {
    const place = `${event.file}:${event.line} ${event.name}`
    if (!isFile(event)) begun.set(place, (begun.get(place) ?? 0) + change)
  }
  events.on('test:enqueue', (event) => count(event, 1))
  const seconds = new Map<string, number>()
  const time = ({ file = '', nesting, details }: Place & Timed): void => {
    if (nesting === 0) seconds.set(file, (seconds.get(file) ?? 0) + details.duration_ms / 1000)
  }
  events.on('test:pass', (event) => {
    count(event, -1)
    time(event)
    if (isSkipped(event.skip) || isSkipped(event.todo)) counts.skipped += 1
    else if (event.details.type === 'suite') return
    // A file without any test is told as one that passed, under its own name.
    else if (isFile(event)) fail(`${event.name} holds no test`)
    else counts.passed += 1
  })
  events.on('test:fail', (event) => {
    count(event, -1)
    time(event)
    if (isSkipped(event.todo)) counts.skipped += 1
    // A suite that only repeats the failure of a test in it is not counted; one whose hook failed
    // is.
    else if (event.details.type !== 'suite' || failureType(event.details.error) !== 'subtestsFailed') counts.failed += 1
  })
  for await (const text of events.compose(new spec())) process.stdout.write(text)
  const slowest = [...seconds].sort(([, one], [, other]) => other - one).slice(0, mostTold)
  const words = slowest.map(([file, took]) => `${basename(file, '.js')} ${took.toFixed(0)} s`)
  process.stdout.write(`slowest: ${words.join(', ')}\n`)
  for (const [place, open] of begun) if (open > 0) fail(`never ended: ${place}`)
}

type Place = { readonly name: string; readonly file?: string | undefined; readonly line?: number | undefined }
type Timed = { readonly nesting: number; readonly details: { readonly duration_ms: number } }

/** Whether the event is about a file as a whole: its name is then the path. */
function isFile({ name }: Place): boolean {
  return files.includes(resolve(name))
}

function fail(why: string): void {
  counts.failed += 1
  process.stdout.write(`✖ ${why}\n`)
}

/** Node gives true, or the reason as a text, which may be empty. */
function isSkipped(value: string | boolean | undefined): boolean {
  return value !== undefined && value !== false
}

function failureType(error: unknown): unknown {
  return typeof error === 'object' && error !== null && 'failureType' in error ? error.failureType : undefined
}
