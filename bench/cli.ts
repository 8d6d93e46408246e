/**
 * `npm run bench:cli`: what the command line costs beside a bare `node -e 0`, and what the preload
 * costs a program, beside the same one without it.
 */
import './environment.ts'
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import autocannon from 'autocannon'
import { runInterruptibly } from './interruption.ts'
import { measureAll, type Row } from './rows.ts'
import { compare, difference, ratio, summarize } from './statistics.ts'

const command = fileURLToPath(new URL('../bin/cook-daemon.js', import.meta.url))
const preload = fileURLToPath(new URL('../bundle/preload.cjs', import.meta.url))
const preloadModule = fileURLToPath(new URL('../bundle/preload.js', import.meta.url))

const { values } = parseArgs({ options: { pairs: { type: 'string', default: '21' } } })
const pairs = Number(values.pairs)
if (!(pairs >= 1)) throw new Error('usage: bench:cli [--pairs N]')

const folder = mkdtempSync(join(tmpdir(), 'cook-daemon-bench-'))
const env = { ...process.env, COOK_DAEMON_HOME: join(folder, 'run'), PWD: folder, PORT: '0' }
const lines = `const server = createServer((_, response) => response.end('hello'))
// The processor time before the words, which may be written to a pipe.
server.listen(0, '127.0.0.1', () => console.log(JSON.stringify([server.address().port, process.cpuUsage()])))
`
const programs = {
  CommonJS: fileOf('app.cjs', `const { createServer } = require('node:http')\n${lines}`),
  'an ES module': fileOf('app.mjs', `import { createServer } from 'node:http'\n${lines}`),
}
const script = programs.CommonJS
const [emptyModule, emptyFile] = [fileOf('empty.mjs', 'export {}\n'), fileOf('empty.cjs', '')]

/**
 * What Node is told before the program, and the name of the daemon: with one it opens its control
 * socket too, and somebody waits for it.
 */
type Way = { readonly what: string; readonly args: readonly string[]; readonly name?: string; readonly goal?: number }

const ways: readonly Way[] = [
  { what: 'as the command line starts it', args: ['--require', preload], name: 'bench', goal: 10 },
  { what: 'without a name', args: ['--require', preload], goal: 10 },
  { what: '--import of the preload instead', args: ['--import', preloadModule] },
  { what: '--import of an empty module', args: ['--import', emptyModule] },
  { what: '--require of an empty file', args: ['--require', emptyFile] },
]
const plain: Way = { what: 'without', args: [] }

const endAll = () => {
  run([command, 'stop', 'app'])
  rmSync(folder, { recursive: true, force: true })
}
try {
  await runInterruptibly(
    () =>
      measureAll(
        'cli',
        [
          ['Commands about one daemon, beside node -e 0', measureCommands],
          ['A program under the preload, beside the same program without it', measurePreload],
        ],
        { pairs },
      ),
    async () => endAll(),
  )
} finally {
  endAll()
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
    yield { what: `${name} / node -e 0`, unit: 'x', goal: 2, ...compare(ours, bare, ratio) }
    yield { what: `  ${name}`, unit: 'ms', ...summarize(ours) }
  }
}

async function* measurePreload(): AsyncGenerator<Row> {
  for (const [format, file] of Object.entries(programs)) yield* measureStarts(format, file)
  yield await measureRequests()
}

async function* measureStarts(format: string, file: string): AsyncGenerator<Row> {
  const all = [...ways, plain]
  const times = new Map<Way, { readonly wall: number[]; readonly processor: number[] }>()
  for (const way of all) times.set(way, { wall: [], processor: [] })
  for (let round = -1; round < pairs; round++) {
    for (const way of round % 2 === 0 ? all : all.toReversed()) {
      const begin = performance.now()
      const { child, processor } = await serve(way, file)
      const wall = performance.now() - begin
      await end(child)
      if (round < 0) continue
      times.get(way)?.wall.push(wall)
      times.get(way)?.processor.push(processor)
    }
  }
  const of = (way: Way) => times.get(way) ?? { wall: [], processor: [] }
  const bare = of(plain)
  for (const way of ways) {
    const { wall, processor } = of(way)
    const goal = way.goal === undefined ? {} : { goal: way.goal }
    yield { what: `${format}, ${way.what}: added`, unit: 'ms', ...goal, ...compare(wall, bare.wall, difference) }
    yield { what: '  in processor time', unit: 'ms', ...compare(processor, bare.processor, difference) }
  }
  yield { what: `${format}, without`, unit: 'ms', ...summarize(bare.wall) }
  yield { what: '  in processor time', unit: 'ms', ...summarize(bare.processor) }
}

async function measureRequests(): Promise<Row> {
  const [loaded = plain] = ways
  const both = [await serve(loaded, script), await serve(plain, script)] as const
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
  return { what: 'time of 10,000 requests: with / without', unit: 'x', goal: 1.01, ...compare(...times, ratio) }
}

/** Runs Node to its end; in milliseconds. */
function run(args: readonly string[]): number {
  const begin = performance.now()
  const { status, stderr } = spawnSync(process.execPath, args, { env, cwd: folder, encoding: 'utf8' })
  // 3: it does not run (any more), which is what is wanted at the end.
  if (status !== 0 && status !== 3) throw new Error(`${args.join(' ')} ended with ${status}: ${stderr}`)
  return performance.now() - begin
}

type Serving = { readonly child: ChildProcess; readonly port: number; readonly processor: number }

async function serve({ args, name }: Way, file: string): Promise<Serving> {
  const launch = { COOK_DAEMON_STAGE: 'daemon', COOK_DAEMON_LAUNCH: '{"fd":3,"waitReady":true,"close":[]}' }
  const child = spawn(process.execPath, [...args, file], {
    // The preload looks at it, and nobody else.
    env: { ...env, COOK_DAEMON_PROGRAM: JSON.stringify({ name }), ...(name !== undefined && launch) },
    cwd: folder,
    stdio: ['ignore', 'pipe', 'inherit', 'pipe'],
  })
  child.stdio[3]?.on('error', () => {})
  const [words] = await once(child.stdout as Readable, 'data')
  const [port, { user, system }] = JSON.parse(words) as [number, NodeJS.CpuUsage]
  return { child, port, processor: (user + system) / 1000 }
}

async function end(child: ChildProcess): Promise<void> {
  const exited = once(child, 'exit')
  child.kill('SIGKILL')
  await exited
}

function fileOf(name: string, text: string): string {
  const file = join(folder, name)
  writeFileSync(file, text)
  return file
}
