/** `--uid`: only a first start is root, and nothing that could have been changed since runs as root. */
import assert from 'node:assert/strict'
import { chmodSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { test } from 'node:test'
import { findUser, groupsOf } from '../../src/node/as-user.ts'
import { userOf } from '../../src/node/users.ts'
import { Operator } from '../support/command.ts'
import { Lab } from '../support/lab.ts'
import { preload } from '../support/program.ts'
import { eventually } from '../support/waiting.ts'

const isRoot = process.getuid?.() === 0
const asRoot = { skip: !isRoot && 'only root can start a program as another user' }

/** One of this system, if there is one, that is in several groups. */
const user = isRoot ? anyUser() : { name: '', uid: 0, gid: 0, home: '', groups: [] }

function anyUser() {
  const names = readFileSync('/etc/passwd', 'utf8').match(/^[^:\n]+/gm) ?? []
  const all = names.flatMap((name) => {
    const { uid = 0, gid = 0, home = '' } = findUser(name) ?? {}
    return uid === 0 ? [] : [{ name, uid, gid, home, groups: [...groupsOf(name, gid)].sort() }]
  })
  const [first] = all.sort((one, other) => other.groups.length - one.groups.length)
  assert.ok(first !== undefined, 'a user who is not root')
  return first
}

const _nobody = { name: 'nobody', uid: 65_534 }

async function openLab(): Promise<Lab> {
  const lab = await Lab.open()
  chmodSync(dirname(lab.folder), 0o1777)
  chmodSync(lab.folder, 0o755)
  writeFileSync(lab.path('trace'), '')
  chmodSync(lab.path('trace'), 0o666)
  return lab
}

/** A line of the file `trace`, in which everybody may write: what, and as whom. */
const traceOf = (lab: Lab, what: string) =>
  `require('node:fs').appendFileSync(${JSON.stringify(lab.path('trace'))}, '${what} ' + process.pid + ' ' + [process.getuid(), process.geteuid(), process.getgid(), process.getegid()] + '\\n')`

/** Lines of the trace that begin so, without their pids. */
function traced(lab: Lab, what: string): string[] {
  return lab
    .read('trace')
    .split('\n')
    .filter((line) => line.startsWith(`${what} `))
    .map((line) => line.split(' ').slice(2).join(' '))
}

const ids = (uid: number, gid: number) => `${uid},${uid},${gid},${gid}`
const his = () => ids(user.uid, user.gid)

/** Answers as whom it does, with which groups, and where it is at home. */
function writeApp(lab: Lab, where = "0, '127.0.0.1'"): void {
  writeFileSync(
    lab.path('app.cjs'),
    `${traceOf(lab, 'line')}
const who = () => [process.pid, process.getuid(), process.getgid(), [...process.getgroups()].sort().join(), process.env.HOME, process.env.USER].join(' ')
require('node:http').createServer((request, response) => response.end(who())).listen(${where}, () => { ${traceOf(lab, 'binds')} })`,
  )
}

const answerOf = (pid: number) => [pid, user.uid, user.gid, user.groups.join(), user.home, user.name].join(' ')

test('with --uid only the first start is root, and it is the user before it answers anybody', asRoot, async () => {
  await using lab = await openLab()
  await using operator = new Operator(lab)
  writeApp(lab)
  await operator.does(['start', 'app.cjs', '--uid', user.name, '--pid', 'pid'])
  const first = await operator.status('app')
  assert.equal(await operator.asks('app'), answerOf(first.pid))
  assert.deepEqual([traced(lab, 'line'), traced(lab, 'binds')], [[ids(0, 0)], [ids(0, 0)]])
  await operator.does(['upgrade', 'app'])
  const second = await operator.status('app')
  assert.equal(await operator.asks('app'), answerOf(second.pid))
  process.kill(second.pid, 'SIGKILL')
  const third = await eventually('the next worker', async () => {
    const status = await operator.status('app')
    return status.generation === 3 && status.phase === 'ready' ? status : undefined
  })
  assert.equal(await operator.asks('app'), answerOf(third.pid))
  await operator.does(['restart', 'app'])
  const { pid, program } = await operator.status('app')
  assert.equal(await operator.asks('app'), answerOf(pid))
  assert.deepEqual(traced(lab, 'line').slice(1), [his(), his(), his()])
  assert.equal(program?.user?.uid, user.uid)
  assert.match(await operator.does(['status', 'app']), new RegExp(`user +${user.name} \\(${user.uid}:${user.gid}\\)`))
  // Nothing of it is worth a word in the log but the crash.
  assert.equal(lab.read('run/app.log').trim().split('\n').length, 1)
  await operator.does(['stop', 'app'])
})

test(
  'of several workers only the first is root, also when more are added and when one has crashed',
  asRoot,
  async () => {
    await using lab = await openLab()
    await using operator = new Operator(lab)
    writeApp(lab)
    await operator.does(['start', 'app.cjs', '--uid', user.name, '--workers', '2'])
    await operator.does(['scale', 'app', '3'])
    await operator.does(['upgrade', 'app'])
    const { workers = [] } = await operator.status('app')
    for (const { pid = 0 } of workers) {
      assert.equal(userOf(pid), user.uid)
      process.kill(pid, 'SIGKILL')
    }
    await eventually('three others', async () => {
      const { workers: others = [] } = await operator.status('app')
      return others.filter(({ state, generation }) => state === 'serving' && generation === 3).length === 3 || undefined
    })
    assert.deepEqual(traced(lab, 'line'), [ids(0, 0), ...Array.from({ length: 8 }, his)])
    await operator.does(['stop', 'app'])
  },
)

test('nothing that the user could have changed runs as root after the first start', asRoot, async () => {
  await using lab = await openLab()
  await using operator = new Operator(lab)
  writeApp(lab)
  // All that Node looks at before the program, and what starts Node.
  const own = lab.path('node_modules/cook-daemon/dist/bundle')
  mkdirSync(own, { recursive: true })
  writeFileSync(`${own}/preload.cjs`, `${traceOf(lab, 'preload')}\nrequire(${JSON.stringify(preload)})`)
  writeFileSync(lab.path('evil.cjs'), traceOf(lab, 'options'))
  writeFileSync(lab.path('package.json'), '{}')
  writeFileSync(
    lab.path('node'),
    `#!/bin/sh\necho "node $$ $(id -u)" >> ${lab.path('trace')}\nexec ${process.execPath} "$@"\n`,
    { mode: 0o755 },
  )
  const env = { NODE_OPTIONS: `--require=${lab.path('evil.cjs')}`, LD_LIBRARY_PATH: lab.folder }
  const options = ['--node', './node', '--uid', user.name]
  await operator.does(['start', 'app.cjs', ...options], { env })
  const { pid } = await operator.status('app')
  writeFileSync(lab.path('trace'), '')
  await operator.does(['upgrade', 'app'])
  process.kill((await operator.status('app')).pid, 'SIGKILL')
  await eventually('the next worker', async () => (await operator.status('app')).generation === 3 || undefined)
  assert.notEqual((await operator.status('app')).pid, pid)
  assert.deepEqual(traced(lab, 'node'), [String(user.uid), String(user.uid)])
  for (const what of ['preload', 'options', 'line']) assert.deepEqual(traced(lab, what), [his(), his()], what)
  await operator.does(['stop', 'app'])
})

test(
  'a working directory that is closed to the user is not entered for it, wherever its symlink leads',
  asRoot,
  async () => {
    await using lab = await openLab()
    await using operator = new Operator(lab)
    mkdirSync(lab.path('closed/open'), { recursive: true })
    mkdirSync(lab.path('release'))
    chmodSync(lab.path('closed'), 0o700)
    symlinkSync('release', lab.path('current'))
    writeApp(lab)
    await operator.does(['start', 'app.cjs', '--cwd', lab.folder, '--uid', user.name])
    const typed = await operator.types(['upgrade', 'app', '--cwd', lab.path('closed/open')])
    assert.equal(typed.code, 1)
    assert.match(typed.stderr, /closed\/open cannot be entered: EACCES/)
    const { pid } = await operator.status('app')
    assert.equal(await operator.asks('app'), answerOf(pid))
    await operator.does(['stop', 'app'])
  },
)
