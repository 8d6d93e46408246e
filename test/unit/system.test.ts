/** The operating system as the library sees it, held against what it is. */
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { withoutInspectorIn } from '../../src/node/node-options.ts'
import { inheritableDescriptors, startedAt } from '../../src/node/processes.ts'
import { identify, isAlive, isGone, startCommand, system } from '../../src/node/system.ts'
import { eventually } from '../support/waiting.ts'

const linux = { skip: process.platform === 'linux' ? false : 'what it looks at is in /proc' }
const systemUrl = new URL('../../src/node/system.js', import.meta.url).href
const processesUrl = new URL('../../src/node/processes.js', import.meta.url).href

test('a process is told by its pid and its start time: itself lives, one with the same pid from another time does not', () => {
  const [pid, startTime] = identify()
  assert.equal(pid, process.pid)
  assert.equal(isAlive([pid, startTime]), true)
  assert.equal(isAlive([pid, `${startTime}0`]), false)
  assert.equal(isAlive([pid, '']), false)
})

test('the start time of a process is the moment in which it was started', () => {
  const [, startTime] = identify()
  const started = startedAt(startTime) ?? 0
  const wanted = Date.now() - process.uptime() * 1_000
  assert.ok(Math.abs(started - wanted) < 2_000, `${started} is not ${wanted}`)
})

test('a process that is gone has no start time, and killing it is nothing', async () => {
  const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'])
  await once(child, 'spawn')
  const identity = [child.pid ?? 0, system.startTime(child.pid ?? 0) ?? ''] as const
  assert.equal(isAlive(identity), true)
  system.kill([identity[0], 'another'], 'SIGKILL')
  assert.equal(isAlive(identity), true)
  system.kill(identity, 'SIGKILL')
  await once(child, 'exit')
  assert.equal(isAlive(identity), false)
  system.kill(identity, 'SIGKILL')
})

test(
  'a process without a free descriptor takes none that lives for dead, and none that is gone for living',
  linux,
  async () => {
    const gone = spawn(process.execPath, ['-e', ''])
    await once(gone, 'exit')
    const script = `
    const { identify, isAlive } = await import(${JSON.stringify(systemUrl)})
    const { residentMemory } = await import(${JSON.stringify(processesUrl)})
    const { openSync } = process.getBuiltinModule('node:fs')
    try { for (;;) openSync('/dev/null') } catch {}
    const [pid, startTime] = identify()
    const [parent, gone] = process.argv.slice(1)
    const answers = [isAlive([Number(parent), 'its time']), isAlive([Number(gone), 'its time']), pid, startTime, residentMemory()]
    process.stdout.write(JSON.stringify(answers))`
    const node = `ulimit -n 64; exec "$0" --input-type=module -e "$1" ${process.pid} ${gone.pid}`
    const { stdout, stderr } = spawnSync('/bin/sh', ['-c', node, process.execPath, script], { encoding: 'utf8' })
    assert.notEqual(stdout, '', stderr)
    const [parent, dead, pid, startTime] = JSON.parse(stdout)
    assert.deepEqual([parent, dead], [true, false])
    assert.ok(pid > 0 && /^\d+$/.test(startTime), stdout)
  },
)

test('a zombie is gone', linux, async () => {
  // The shell becomes `sleep`, which never waits for the child that the shell had.
  const shell = spawn('/bin/sh', ['-c', 'sh -c "echo \\$\\$; read gone" <&3 & exec sleep 60'], {
    stdio: ['ignore', 'pipe', 'ignore', 'pipe'],
  })
  try {
    const [text] = await once(shell.stdout ?? assert.fail(), 'data')
    const pid = Number(text)
    const startTime = system.startTime(pid)
    assert.ok(startTime !== undefined && isAlive([pid, startTime]))
    shell.stdio[3]?.destroy()
    await eventually('a zombie', () => /^\d+ \(sh\) Z/.test(readFileSync(`/proc/${pid}/stat`, 'latin1')) || undefined)
    assert.equal(system.startTime(pid), undefined)
    assert.equal(isAlive([pid, startTime]), false)
    assert.equal(isGone([pid, startTime]), true)
  } finally {
    shell.kill('SIGKILL')
    await once(shell, 'exit')
  }
})

test('a program whose name looks like the fields behind it is told all the same', linux, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'cook-system-'))
  const program = join(folder, ') Z 1 (a b')
  symlinkSync('/bin/sleep', program)
  const child = spawn(program, ['60'])
  try {
    await once(child, 'spawn')
    const startTime = await eventually('its name', () =>
      readFileSync(`/proc/${child.pid}/comm`, 'latin1').includes(')') ? system.startTime(child.pid ?? 0) : undefined,
    )
    assert.match(startTime, /^\d+$/)
  } finally {
    child.kill('SIGKILL')
    await once(child, 'exit')
    rmSync(folder, { recursive: true })
  }
})

test('the environment that is handed on is that of the start, whatever the program made of it since', linux, () => {
  const code = `process.env.ADDED = '1'; process.env.GIVEN = 'changed'; delete process.env.TAKEN
    print(startEnvironment())`
  const env = { GIVEN: 'a=b\nc', TAKEN: 'x', EMPTY: '' }
  assert.deepEqual(inFreshProcess(code, { env }), env)
})

test('no inspector is handed on, in NODE_OPTIONS or in the arguments of Node', linux, () => {
  const options = ['--inspect-port=0', '--inspect-publish-uid=http']
  const env = { NODE_OPTIONS: `--no-warnings ${options[0]} --stack-trace-limit=50` }
  const found = inFreshProcess('print([startEnvironment(), startCommand({}).execArgv])', {
    env,
    execArgv: [...options, '--no-warnings'],
  })
  assert.deepEqual(found, [{ NODE_OPTIONS: '--no-warnings --stack-trace-limit=50' }, ['--no-warnings']])
})

const nodeOptions: readonly (readonly [given: string, kept: string])[] = [
  ['', ''],
  [' ', ' '],
  ['--require "/x/a  b/pre.cjs"', '--require "/x/a  b/pre.cjs"'],
  ['--require "/x/a  b/pre.cjs" --inspect', '--require "/x/a  b/pre.cjs"'],
  ['--inspect --require "/x/a  b/pre.cjs"', '--require "/x/a  b/pre.cjs"'],
  ['--inspect=127.0.0.1:0  --title="a \\"b\\"  \\\\ c"  ', '--title="a \\"b\\"  \\\\ c"  '],
  ['--require /x/a" "b.cjs   --inspect-port  9229  --title=x', '--require /x/a" "b.cjs  --title=x'],
  ['--title="--inspect"', '--title="--inspect"'],
  ['--title "x --inspect y" "--inspect-brk=0" ""', '--title "x --inspect y" ""'],
  ['--title=a\tb\n--inspect --no-deprecation', '--title=a\tb\n--inspect --no-deprecation'],
  ['--inspect_port "" 0 --inspect_publish_uid=http --stack-trace-limit=5', '"" --stack-trace-limit=5'],
  ['--ins"pect" --debug-port="9 2" --debug-arraybuffer-allocations', '--debug-arraybuffer-allocations'],
  ['--title="never ends --inspect', '--title="never ends --inspect'],
  ['--inspect', ''],
]

test('only what opens an inspector is taken out of NODE_OPTIONS, and the rest stays byte for byte', () => {
  for (const [given, kept] of nodeOptions) assert.equal(withoutInspectorIn({ NODE_OPTIONS: given }).NODE_OPTIONS, kept)
})

test('what is started again is what was typed, with the symlinks in it', () => {
  const folder = mkdtempSync(join(tmpdir(), 'cook-system-'))
  try {
    mkdirSync(join(folder, 'release-1'))
    symlinkSync('release-1', join(folder, 'current'))
    const cwd = join(folder, 'current')
    const typed = inFreshProcess('print(startCommand(process.env))', { cwd, env: { PWD: cwd } })
    assert.deepEqual(typed, { execPath: process.execPath, execArgv: [], args: [join(cwd, 'main.mjs')], cwd })
    // $PWD of another directory is none of ours.
    const real = join(folder, 'release-1')
    const other = inFreshProcess('print(startCommand(process.env))', { cwd, env: { PWD: tmpdir() } })
    assert.deepEqual(
      (other as { cwd: string }).cwd,
      spawnSync('pwd', ['-P'], { cwd: real, encoding: 'utf8' }).stdout.trim(),
    )
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('this process is started again with its own command', () => {
  const command = startCommand(process.env)
  assert.equal(command.execPath, process.execPath)
  assert.deepEqual(command.args.slice(1), process.argv.slice(2))
})

test('descriptors that every child would inherit are found, and those of Node are none', linux, () => {
  const ours = inheritableDescriptors()
  const found = inFreshProcess('print(inheritableDescriptors())', { shell: 'exec 200>/dev/null 9>/dev/null' })
  // Whoever started this process may have let some slip through, too.
  assert.deepEqual(
    (found as number[]).filter((fd) => !ours.includes(fd)),
    [200],
  )
})

type Fresh = {
  readonly env?: Readonly<Record<string, string>>
  readonly execArgv?: readonly string[]
  readonly cwd?: string
  /** What a shell does before it becomes the process. */
  readonly shell?: string
}

/** Runs code in a new process with this environment and nothing else; gives what it prints. */
function inFreshProcess(code: string, { env = {}, execArgv = [], cwd, shell }: Fresh): unknown {
  const folder = mkdtempSync(join(tmpdir(), 'cook-fresh-'))
  try {
    const program = `import * as system from ${JSON.stringify(systemUrl)}
      import { inheritableDescriptors } from ${JSON.stringify(processesUrl)}
      const { startEnvironment, startCommand } = system
      const print = (value) => process.stdout.write(JSON.stringify(value))
      ${code}`
    const script = join(cwd ?? folder, 'main.mjs')
    spawnSync('/bin/sh', ['-c', 'cat > "$0"', script], { input: program })
    const [file, args] =
      shell === undefined
        ? [process.execPath, [...execArgv, cwd === undefined ? script : 'main.mjs']]
        : ['/bin/bash', ['-c', `${shell}; exec "$0" "$@"`, process.execPath, script]]
    const { stdout, stderr } = spawnSync(file, args, { cwd: cwd ?? folder, env, encoding: 'utf8' })
    assert.ok(stdout !== '', stderr)
    return JSON.parse(stdout)
  } finally {
    rmSync(folder, { recursive: true })
  }
}
