/** A user without a home directory, as of a unit or a container: services start, and are told so. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, chownSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { runDirectory } from '../../src/process/run-dir.ts'
import { takesAll } from '../support/extent.ts'
import { Lab } from '../support/lab.ts'
import { eventually, within } from '../support/waiting.ts'

const asRoot = { skip: process.getuid?.() !== 0 && 'only root can play another user' }
const bin = fileURLToPath(new URL('../../bin/cook-daemon.js', import.meta.url))
/** In no list of users. */
const anybody = 54_321

const program = `require('http').createServer((request, response) => response.end()).listen(0, '127.0.0.1', () => {
  console.log('serves ' + process.pid)
})`

/** A folder that anybody may read, with a program in it. */
async function openLab(): Promise<Lab> {
  const lab = await Lab.open()
  chmodSync(dirname(lab.folder), 0o1777)
  chmodSync(lab.folder, 0o755)
  writeFileSync(lab.path('app.cjs'), program)
  return lab
}

/** Types a command as that user, with this home directory. */
function types(lab: Lab, args: readonly string[], HOME: string | undefined) {
  const { COOK_DAEMON_HOME: _, HOME: _home, RUNTIME_DIRECTORY: _runtime, ...env } = process.env
  const child = spawn(process.execPath, [bin, ...args], {
    cwd: lab.folder,
    env: { ...env, PWD: lab.folder, ...(HOME !== undefined && { HOME }) },
    uid: anybody,
    gid: anybody,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text
    })
  }
  const ended = once(child, 'close').then(([code]) => code as number | null)
  return {
    child,
    output: () => output,
    ended: () => within(`the end of ${args.join(' ')}: ${output}`, ended),
    [Symbol.asyncDispose]: () => end(child),
  }
}

async function end(child: ChildProcess): Promise<void> {
  // It forwards it to the generation that serves.
  child.kill('SIGTERM')
  await eventually('its end', () => (child.exitCode === null && child.signalCode === null ? undefined : true))
}

const homes = [
  ['no HOME', undefined],
  ['a HOME of root', '/'],
  ['a HOME that is not there', '/nonexistent'],
] as const

for (const [what, home] of takesAll ? homes : homes.slice(1, 2)) {
  test(
    `a user that nobody knows, with ${what}, runs a service and upgrades it, and is told once what it lacks`,
    asRoot,
    async () => {
      await using lab = await openLab()
      await using run = types(lab, ['run', 'app.cjs'], home)
      await eventually('that it serves', () => run.output().includes('serves ') || undefined)
      await eventually('the warning', () => run.output().includes('has no control socket') || undefined)
      run.child.kill('SIGUSR2')
      await eventually('the next one', () => run.output().split('serves ').length === 3 || undefined)
      run.child.kill('SIGTERM')
      assert.equal(await run.ended(), 0, run.output())
      assert.equal(run.output().split('has no control socket').length, 2, run.output())
      assert.doesNotMatch(run.output(), /uv_/)
    },
  )
}

test(
  'start of a user without a home says what is wrong, and goes on without a control socket if the log is named',
  asRoot,
  async () => {
    await using lab = await openLab()
    mkdirSync(lab.path('logs'))
    chownSync(lab.path('logs'), anybody, anybody)
    const [alone, status] = [types(lab, ['start', 'app.cjs'], undefined), types(lab, ['status'], undefined)]
    for (const one of [alone, status]) {
      assert.equal(await one.ended(), 1)
      assert.match(
        one.output(),
        /^cook-daemon: the run directory ~\/.cook-daemon cannot be used: this user has no home directory\n/,
      )
    }
    const named = types(lab, ['start', 'app.cjs', '--log', 'logs/log', '--pid', 'logs/pid'], '/')
    assert.equal(await named.ended(), 0, named.output())
    assert.match(named.output(), /is up, but has no control socket/)
    // The pid file names the keeper, which outlives its worker and writes until it has ended.
    const pids = [lab.read('logs/pid'), lab.read('logs/log').split('serves ')[1]?.split('\n')[0]].map(Number)
    assert.ok(pids.every(isThere), lab.read('logs/log'))
    process.kill(pids[0] as number, 'SIGTERM')
    await eventually('the end of all its processes', () => !pids.some(isThere) || undefined)
  },
)

test('the run directory is the one that is named, or that of the unit, if nobody else can write there', async () => {
  await using lab = await Lab.open()
  const [named, unit, shared] = ['named', 'unit', 'shared'].map((name) => lab.makeFolder(name)) as [
    string,
    string,
    string,
  ]
  chmodSync(shared, 0o777)
  symlinkSync(unit, lab.path('link'))
  const HOME = lab.makeFolder('home')
  const ordinary = runDirectory({ HOME })
  const cases: readonly (readonly [env: Readonly<Record<string, string>>, folder: string])[] = [
    [{ RUNTIME_DIRECTORY: unit }, unit],
    [{ RUNTIME_DIRECTORY: `${unit}:${named}` }, unit],
    // As with DynamicUser=.
    [{ RUNTIME_DIRECTORY: lab.path('link') }, unit],
    [{ RUNTIME_DIRECTORY: unit, COOK_DAEMON_HOME: named }, named],
    [{ RUNTIME_DIRECTORY: '', COOK_DAEMON_HOME: '' }, ordinary],
    [{ RUNTIME_DIRECTORY: shared }, ordinary],
    [{ RUNTIME_DIRECTORY: lab.path('gone') }, ordinary],
    [{ RUNTIME_DIRECTORY: 'unit' }, ordinary],
  ]
  for (const [env, folder] of cases) assert.equal(runDirectory({ HOME, ...env }), folder, JSON.stringify(env))
})

function isThere(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
