/** `npm run bench:cli`: what the command line costs beside a bare `node -e 0`, and what the preload costs a program, beside the same one without it. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import autocannon from 'autocannon'
import { describeMachine } from './machine.ts'
import { printRow, printTitle, type Row } from './rows.ts'
import { compare, difference, ratio, summarize } from './statistics.ts'

const resultFile = fileURLToPath(new URL('../bench-results/cli.json', import.meta.url))
const command = fileURLToPath(new URL('../bin/cook-daemon.js', import.meta.url))
const preload = fileURLToPath(new URL('../bundle/preload.js', import.meta.url))

const { values } = parseArgs({ options: { pairs: { type: 'string', default: '21' } } })
const pairs = Number(values.pairs)
if (!(pairs >= 1)) throw new Error('usage: bench:cli [--pairs N]')

const folder = mkdtempSync(join(tmpdir(), 'cook-daemon-bench-'))
const env = { ...process.env, COOK_DAEMON_HOME: join(folder, 'run'), PWD: folder, PORT: '0' }
const script = join(folder, 'app.js')
writeFileSync(
  script,
  `const server = require('node:http').createServer((_, response) => response.end('hello'))
server.listen(0, '127.0.0.1', () => console.log(server.address().port))
`,
)

const empty = join(folder, 'empty.mjs')
writeFileSync(empty, 'export {}\n')
const loaded = [preload, empty, undefined] as const

try {
  const machine = describeMachine()
  for (const [name, value] of Object.entries(machine)) console.log(`${name.padEnd(7)} ${value}`)
  const rows: Row[] = []
  for (const [title, measure] of [
    ['Commands about one daemon, beside node -e 0', measureCommands],
    ['A program under the preload, beside the same program without it', measurePreload],
  ] as const) {
    printTitle(title)
    for await (const row of measure()) {
      printRow(row)
      rows.push(row)
    }
  }
  mkdirSync(join(resultFile, '..'), { recursive: true })
  writeFileSync(resultFile, `${JSON.stringify({ machine, pairs, rows }, undefined, 2)}\n`)
  console.log(`\n${resultFile}`)
} finally {
  run([command, 'stop', 'app'])
  rmSync(folder, { recursive: true, force: true })
}

function* measureCommands(): Generator<Row> {
  run([command, 'start', script])
  for (const name of ['status', 'list', 'stop']) {
    const [ours, bare]: [number[], number[]] = [[], []]
    for (let round = -1; round < pairs; round++) {
      const times = [run([command, name, ...(name === 'list' ? [] : ['app'])]), run(['-e', '0'])] as const
      if (name === 'stop') run([command, 'start', script])
      if (round < 0) continue
      ours.push(times[0])
      bare.push(times[1])
    }
    yield { what: `${name} / node -e 0`, unit: 'x', goal: 1.5, ...compare(ours, bare, ratio) }
    yield { what: `  ${name}`, unit: 'ms', ...summarize(ours) }
  }
}

async function* measurePreload(): AsyncGenerator<Row> {
  const starts: [number[], number[], number[]] = [[], [], []]
  for (let round = -1; round < pairs; round++) {
    for (const at of round % 2 === 0 ? ([0, 1, 2] as const) : ([2, 1, 0] as const)) {
      const begin = performance.now()
      const { child } = await serve(loaded[at])
      if (round >= 0) starts[at].push(performance.now() - begin)
      await end(child)
    }
  }
  const [withIt, withEmpty, without] = starts
  yield { what: 'start until it listens: added', unit: 'ms', goal: 5, ...compare(withIt, without, difference) }
  yield { what: '  by --import of an empty module', unit: 'ms', ...compare(withEmpty, without, difference) }
  yield { what: '  without', unit: 'ms', ...summarize(without) }
  const both = [await serve(preload), await serve(undefined)] as const
  const times: [number[], number[]] = [[], []]
  // The first rounds let V8 compile what is hot.
  for (let round = -3; round < pairs; round++) {
    for (const at of round % 2 === 0 ? ([0, 1] as const) : ([1, 0] as const)) {
      const begin = performance.now()
      const options = { url: `http://127.0.0.1:${both[at].port}`, connections: 10, amount: 10_000, sampleInt: 100 }
      const { errors, non2xx } = await autocannon(options)
      if (errors + non2xx > 0) throw new Error('requests failed')
      if (round >= 0) times[at].push(performance.now() - begin)
    }
  }
  for (const { child } of both) await end(child)
  // Time, so that the goal is a most: 0.99 of the requests a second.
  yield { what: 'time of 10,000 requests: with / without', unit: 'x', goal: 1.01, ...compare(...times, ratio) }
}

/** Runs Node to its end; in milliseconds. */
function run(args: readonly string[]): number {
  const begin = performance.now()
  const { status, stderr } = spawnSync(process.execPath, args, { env, cwd: folder, encoding: 'utf8' })
  // 3: it does not run (any more), which is what is wanted at the end.
  if (status !== 0 && status !== 3) throw new Error(`${args.join(' ')} ended with ${status}: ${stderr}`)
  return performance.now() - begin
}

async function serve(file: string | undefined): Promise<{ readonly child: ChildProcess; readonly port: number }> {
  const args = file === undefined ? [script] : ['--import', file, script]
  const child = spawn(process.execPath, args, {
    // The preload looks at it, and nobody else.
    env: { ...env, COOK_DAEMON_PROGRAM: '{"protocol":1}' },
    cwd: folder,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const [port] = await once(child.stdout, 'data')
  return { child, port: Number(port) }
}

async function end(child: ChildProcess): Promise<void> {
  const exited = once(child, 'exit')
  child.kill('SIGKILL')
  await exited
}
