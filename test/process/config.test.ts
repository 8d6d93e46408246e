/** Services that a file describes, started, replaced and stopped by commands without a name. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { existsSync, mkdirSync, renameSync, symlinkSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { evaluate } from '../../src/config/evaluate.ts'
import type { Status } from '../../src/control/status.ts'
import { type Ended, Operator } from '../support/command.ts'
import { onlyInMatrix } from '../support/extent.ts'
import { Lab } from '../support/lab.ts'
import { eventually } from '../support/waiting.ts'

/** Says its own words and those of its environment. */
const web = `
const answer = () => [process.env.WORD, ...process.argv.slice(2)].join(' ')
require('node:http').createServer((request, response) => response.end(answer())).listen(0, '127.0.0.1')`

/** Listens nowhere, and says at once that it is up. */
const jobs = `process.send?.('ready'); setInterval(() => {}, 1000)`

function write(lab: Lab, files: Readonly<Record<string, string | object>>): void {
  for (const [file, content] of Object.entries(files)) {
    const isText = typeof content === 'string'
    writeFileSync(lab.path(file), isText ? content : JSON.stringify(content))
  }
}

const two = {
  services: [
    {
      name: 'web',
      script: 'web.js',
      args: ['one'],
      env: { WORD: 'plain' },
      environments: { production: { WORD: 'real' } },
    },
    { name: 'jobs', script: 'jobs.js', noListen: true },
  ],
}

/** The lines of the table at the end of what a command has printed. */
function tableIn(stdout: string): string[] {
  return stdout.slice(stdout.lastIndexOf('\nNAME ')).trim().split('\n').slice(1)
}

function refused({ code, stdout, stderr }: Ended, why: RegExp, exitCode = 2): void {
  assert.match(stderr, why)
  assert.deepEqual([code, stdout], [exitCode, ''], stderr)
}

test('start, upgrade, restart, status and stop without a name mean the services of the configuration in this folder', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  write(lab, { 'web.js': web, 'jobs.js': jobs, 'cook.config.json': two })
  const started = tableIn(await operator.does(['start', '--env', 'production']))
  assert.match(started.join('\n'), /^web {3}serves on 127\.0\.0\.1:\d+ .*\njobs {2}serves \(pid/)
  assert.equal(await operator.asks('web'), 'real one')
  // What runs already is said, and nothing happens to it.
  const { pid } = await operator.status('web')
  assert.match(await operator.does(['start']), /^web runs already, .*\njobs runs already, /)
  assert.equal((await operator.status('web')).pid, pid)

  const changed = { services: [{ ...two.services[0], args: ['two'] }, two.services[1]] }
  write(lab, { 'cook.config.json': changed })
  await operator.does(['upgrade'])
  // Which environment it is was said at the start.
  assert.equal(await operator.asks('web'), 'real two')
  const all = JSON.parse(await operator.does(['status', '--json'])) as Status[]
  assert.deepEqual(
    all.map(({ name, generation }) => [name, generation]),
    [
      ['web', 2],
      ['jobs', 2],
    ],
  )

  // One fails, and the other one is upgraded all the same.
  write(lab, { 'web.js': "throw new Error('no database')" })
  const failed = await operator.types(['upgrade'])
  assert.equal(failed.code, 1)
  assert.match(failed.stderr, /no database/)
  assert.match(
    tableIn(failed.stdout).join('\n'),
    /^web {3}failed: the new version .*exited before.*\njobs {2}serves .*generation 3/,
  )
  assert.equal(await operator.asks('web'), 'real two')

  write(lab, { 'web.js': web })
  await operator.does(['restart', 'cook.config.json', 'web', '--env', 'production', '--json'])
  assert.match(await operator.does(['stop']), /web +is not running\njobs +is not running\n$/)
  const down = await operator.types(['status'])
  assert.equal(down.code, 3)
  assert.match(down.stdout, /^NAME .*\nweb .* stopped .*\njobs .* stopped /)
})

test('upgrade --or-start starts those of a file that do not run, upgrades the others, and gives a list as JSON', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  write(lab, { 'web.js': web, 'jobs.js': jobs, 'cook.config.json': two })
  await operator.does(['start', 'cook.config.json', 'jobs'])
  const list = JSON.parse(await operator.does(['upgrade', '--or-start', '--json'])) as {
    readonly name: string
    readonly exitCode: number
    readonly steps?: readonly { readonly type: string }[]
  }[]
  assert.deepEqual(
    list.map(({ name, exitCode }) => [name, exitCode]),
    [
      ['web', 0],
      ['jobs', 0],
    ],
  )
  assert.ok(list[1]?.steps?.some(({ type }) => type === 'serves'))
  assert.equal((await operator.status('jobs')).generation, 2)
  assert.equal((await operator.status('web')).generation, 1)
})

test('all means every service of the run directory, several names mean those, and no service may have the name all', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  write(lab, { 'web.js': web, 'jobs.js': jobs })
  refused(await operator.types(['status', 'all']), /no service is running/, 3)
  refused(await operator.types(['start']), /nothing to start: name a program/)
  refused(await operator.types(['start', 'all']), /no service is down/, 3)
  refused(
    await operator.types(['start', 'web.js', '--name', 'all']),
    /all means every service, and cannot be the name of one/,
  )
  await operator.does(['start', 'web.js'])
  await operator.does(['start', 'jobs.js', '--no-listen'])
  refused(await operator.types(['upgrade']), /several services run; name one: jobs, web/)
  assert.equal(tableIn(await operator.does(['upgrade', 'all'])).length, 2)
  const { code, stdout } = await operator.types(['restart', 'web', 'nobody', 'jobs'])
  assert.deepEqual([code, tableIn(stdout)[1]], [1, 'nobody  no service named nobody is running'])
  assert.equal((await operator.status('jobs')).generation, 3)
  await operator.does(['stop', 'all'])
  assert.equal(tableIn(await operator.does(['start', 'all'])).length, 2)
  assert.equal((await operator.types(['stop', 'web', 'nobody'])).code, 1)
  await operator.does(['stop', 'web', 'jobs'])
})

test('what is wrong with a file is said before anything is started: file, service and field', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  write(lab, { 'web.js': web, 'app.py': '' })
  const one = { name: 'web', script: 'web.js' }
  const cases: readonly (readonly [content: string | object, why: RegExp])[] = [
    ['{ services: [] }', /the configuration \S+\/cook\.config\.json cannot be used: it is not valid JSON/],
    [
      { services: [one, { ...one, name: 'b', prot: 80 }] },
      /cook\.config\.json cannot .* service b: prot is not a field/,
    ],
    [{ services: [one, { name: 'b', script: 'b.js' }] }, /cannot be used: service b: there is no program \S+\/b\.js/],
    [{ services: [one, { ...one, name: 'b', cwd: 'b' }] }, /service b: the working directory \S+\/b does not exist/],
    [{ services: [one, { ...one, name: 'b', node: 'nod' }] }, /service b: --node nod: no such program/],
  ]
  for (const [content, why] of cases) {
    write(lab, { 'cook.config.json': content })
    refused(await operator.types(['start']), why)
  }
  write(lab, { 'cook.config.json': { services: [one, { ...one, name: 'b' }] } })
  refused(await operator.types(['start', 'cook.config.json', 'c']), /has no service c: it has web, b/)
  refused(
    await operator.types(['start', '--env', 'production']),
    /--env production: no service has .*; the environments are: none/,
  )
  refused(await operator.types(['start', '--log', 'x.log']), /--log is for one program/)
  refused(await operator.types(['start', 'none.config.cjs']), /none\.config\.cjs cannot be used: no such file/)
  refused(
    await operator.types(['start', 'b']),
    /For a service of cook\.config\.json: cook-daemon start cook\.config\.json b/,
  )
  write(lab, { 'cook.config.mjs': '' })
  refused(await operator.types(['start']), /cook\.config\.json, cook\.config\.mjs; name one/)
  assert.equal(await operator.does(['list']), 'no service is running\n')
})

test('an ecosystem.config.js of PM2 is started as it is: what is for another interpreter is refused by name, and the others start', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  write(lab, {
    'web.js': web,
    // Nothing but the time says that it is up.
    'jobs.js': 'setInterval(() => {}, 1000)',
    'tool.py': '',
    'package.json': { scripts: { start: 'node web.js three' } },
    'ecosystem.config.js': `module.exports = {
  apps: [{
    name: 'web',
    script: './web.js',
    args: 'one two',
    instances: 1,
    exec_mode: 'cluster',
    watch: true,
    cwd: __dirname,
    max_memory_restart: '1G',
    log_file: 'both.log',
    env: { WORD: 'development' },
    env_production: { WORD: 'production' },
    prot: 1,
  }, {
    name: 'mail jobs',
    script: 'jobs.js',
  }, {
    name: 'tool',
    script: 'tool.py',
  }, {
    name: 'again',
    script: 'npm',
    args: 'start',
    env: { WORD: 'npm' },
  }],
  deploy: { production: { user: 'node' } },
}`,
  })
  const { code, stdout, stderr } = await operator.types(['start', '--env', 'production'])
  assert.equal(code, 1, stderr)
  assert.match(stderr, /web: watch is not supported: files are not watched/)
  assert.match(stderr, /web: prot is an unknown field/)
  assert.match(stderr, /deploy is not supported/)
  assert.match(stderr, /mail-jobs has listened nowhere in its first 3 s, and counts as .*noListen/)
  assert.doesNotMatch(stderr, /again has listened nowhere/)
  assert.match(stderr, /tool was not started: the interpreter python is not Node/)
  assert.deepEqual(
    tableIn(stdout).map((line) => line.split(/ {2,}/).map((cell) => cell.split(' ')[0])),
    [
      ['web', 'serves'],
      ['mail-jobs', 'serves'],
      ['tool', 'failed:'],
      ['again', 'serves'],
    ],
  )
  assert.equal(await operator.asks('web'), 'production one two')
  assert.equal(await operator.asks('again'), 'npm three')
  assert.equal((await operator.status('web')).logFile, lab.path('both.log'))
  assert.equal((await operator.types(['stop'])).code, 0)
})

test("the code of a configuration runs in a process of its own, whose output is in nobody's way, and which ends", async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  const services = `[{ name: 'web', script: 'web.js', env: { WORD: String(process.pid) } }]`
  write(lab, {
    'web.js': web,
    'prints.config.mjs': `import { spawn } from 'node:child_process'
console.log('so far so good')
process.stdout.write('{}\\n')
spawn('sleep', ['1000'], { stdio: 'inherit' })
setInterval(() => {}, 1000)
export default new Promise((done) => setImmediate(() => done({ services: ${services} })))`,
    'throws.config.cjs': "throw new Error('no secrets here')",
    'exits.config.js': 'process.exit(3)',
    'writes.config.cjs': "require('node:fs').writeSync(3, 'hello\\n')",
  })
  const { code, stdout, stderr } = await operator.types(['start', 'prints.config.mjs', '--json'])
  assert.equal(code, 0, stderr)
  assert.equal(stderr, 'so far so good\n{}\n')
  assert.equal((JSON.parse(stdout) as Status[])[0]?.name, 'web')
  // Of its process nothing is left, and the keeper is another one.
  const pid = Number(await operator.asks('web'))
  assert.ok(!existsSync(`/proc/${pid}`) || process.platform !== 'linux')
  const cases: Readonly<Record<string, RegExp>> = {
    'throws.config.cjs': /throws\.config\.cjs cannot be used: its code threw: Error: no secrets here/,
    'exits.config.js': /its code exited before it returned a configuration: exit code 3/,
    'writes.config.cjs': /wrote to descriptor 3/,
  }
  for (const [file, why] of Object.entries(cases)) refused(await operator.types(['start', file]), why)
})

test('a configuration that never ends is killed with what it has started, and said', async () => {
  await using lab = await Lab.open()
  const child = "require('node:child_process').spawn('sleep', ['1000'])"
  const hangs = [
    `const { pid } = ${child}; require('node:fs').writeFileSync(__dirname + '/pid', String(pid)); Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)`,
  ]
  write(lab, {
    'hangs.config.cjs': hangs[0] ?? '',
    'waits.config.mjs': 'await new Promise(() => setInterval(() => {}, 9))',
  })
  await assert.rejects(
    evaluate(lab.path('hangs.config.cjs'), undefined, 4_000),
    /did not finish within 4 s and was killed/,
  )
  await assert.rejects(
    evaluate(lab.path('waits.config.mjs'), undefined, 300),
    /did not finish within 0\.3 s and was killed/,
  )
  const pid = Number(lab.read('pid'))
  await eventually('the end of what it has started', () => !isThere(pid) || undefined)
})

function isThere(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

test('a service of another folder that has the same name is left alone', onlyInMatrix, async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  for (const folder of ['one', 'other']) {
    mkdirSync(lab.path(folder))
    write(lab, {
      [`${folder}/web.js`]: web,
      [`${folder}/cook.config.json`]: { services: [{ name: 'web', script: 'web.js' }] },
    })
  }
  await operator.does(['start'], { cwd: lab.path('one') })
  const { pid } = await operator.status('web')
  for (const command of ['start', 'upgrade', 'restart']) {
    const { code, stderr } = await operator.types([command], { cwd: lab.path('other') })
    assert.match(stderr, /another program/)
    assert.notEqual(code, 0)
  }
  assert.equal((await operator.status('web')).pid, pid)
})

test('a file behind the symlink to the current release is read anew, and its services follow that symlink', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  for (const release of ['1', '2']) {
    mkdirSync(lab.path(release))
    const renamed = release === '1' ? 'web.js' : 'server.js'
    const services = [{ name: 'web', script: renamed, args: [release] }]
    write(lab, { [`${release}/${renamed}`]: web, [`${release}/cook.config.json`]: { services } })
  }
  symlinkSync('1', lab.path('current'))
  await operator.does(['start', 'current/cook.config.json'])
  assert.equal(await operator.asks('web'), ' 1')
  symlinkSync('2', lab.path('next'))
  renameSync(lab.path('next'), lab.path('current'))
  await operator.does(['upgrade', 'current/cook.config.json'])
  assert.equal(await operator.asks('web'), ' 2')
  const { command, release } = await operator.status('web')
  assert.equal(command.cwd, lab.path('current'))
  assert.equal(release?.script, lab.path('2/server.js'))
})

test('the number of workers in a file is that of the service, at its start and at each upgrade', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  write(lab, { 'web.js': web, 'cook.config.json': { services: [{ script: 'web.js', workers: 2 }] } })
  await operator.does(['start'])
  assert.equal((await operator.status('web')).workers?.length, 2)
  write(lab, { 'cook.config.json': { services: [{ script: 'web.js', workers: 1 }] } })
  assert.match(await operator.does(['upgrade']), /web has 1 worker \(2 before\)/)
  assert.equal((await operator.status('web')).workers?.length, 1)
})

test('run takes one service of a file', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  write(lab, { 'web.js': web, 'jobs.js': jobs, 'cook.config.json': two })
  refused(await operator.types(['run', 'cook.config.json']), /run takes one service; \S+ has web, jobs/)
  const child = operator.begins(['run', 'cook.config.json', 'web', '--env', 'production'])
  await eventually('its service', () =>
    operator.asks('web').then(
      (said) => said === 'real one' || undefined,
      () => undefined,
    ),
  )
  child.kill('SIGTERM')
  assert.deepEqual(await once(child, 'exit'), [0, null])
})
