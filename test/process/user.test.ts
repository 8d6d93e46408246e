/** `--uid`: only a first start is root, and nothing that could have been changed since runs as root. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { get } from 'node:http'
import { dirname } from 'node:path'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import { userOf } from '../../src/cli/user.ts'
import type { Status } from '../../src/control/status.ts'
import { findUser, groupsOf } from '../../src/node/as-user.ts'
import { userOf as whoIs } from '../../src/node/users.ts'
import { bin, Operator, portOf } from '../support/command.ts'
import { onlyInMatrix, takesAll } from '../support/extent.ts'
import { Lab } from '../support/lab.ts'
import { preload } from '../support/program.ts'
import { eventually } from '../support/waiting.ts'

const isRoot = process.getuid?.() === 0
const asRoot = { skip: !isRoot && 'only root can start a program as another user' }
const asRootInMatrix = { skip: asRoot.skip || onlyInMatrix.skip }

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

const nobody = { name: 'nobody', uid: 65_534 }

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

/** One that is being started is counted too. */
function untilServes(operator: Operator, generation: number): Promise<Status> {
  return eventually(`generation ${generation}`, async () => {
    const status = await operator.status('app')
    return status.generation === generation && status.phase === 'ready' ? status : undefined
  })
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
  const third = await untilServes(operator, 3)
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
      assert.equal(whoIs(pid), user.uid)
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
  await untilServes(operator, 3)
  assert.notEqual((await operator.status('app')).pid, pid)
  assert.deepEqual(traced(lab, 'node'), [String(user.uid), String(user.uid)])
  for (const what of ['preload', 'options', 'line']) assert.deepEqual(traced(lab, what), [his(), his()], what)
  await operator.does(['stop', 'app'])
})

test(
  'a working directory that is closed to the user is not entered for it, wherever its symlink leads',
  asRootInMatrix,
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

const early: Readonly<Record<string, (library: string) => readonly [file: string, code: string]>> = {
  'of an unmodified program': () => [
    'app.cjs',
    `const { createServer } = require('node:http')
const up = () => process.send('ready')
const listen = (server, listening) => server.listen(0, '127.0.0.1', listening)`,
  ],
  'of a program that calls the library': (library) => [
    'app.mjs',
    `import { createRequire } from 'node:module'
import { createServer } from 'node:http'
import { createDaemon } from '${library}'
const require = createRequire(import.meta.url)
const daemon = await createDaemon()
const up = () => daemon.ready()
const listen = (server, listening) => void daemon.listen(server, { host: '127.0.0.1', port: 0 }).then(listening)`,
  ],
}

for (const [whose, write] of Object.entries(early).slice(0, takesAll ? undefined : 1)) {
  test(`a client ${whose} that comes before it is the user waits, and root answers nobody`, asRoot, async () => {
    await using lab = await openLab()
    await using operator = new Operator(lab)
    const [file, code] = write(operator.library)
    writeFileSync(
      lab.path(file),
      `${code}
const server = createServer((request, response) => { ${traceOf(lab, 'answers')}; response.end() })
server.on('connection', () => { ${traceOf(lab, 'accepts')} })
listen(server, () => {
  const client = require('node:net').connect(server.address().port, '127.0.0.1', () => {
    client.end('GET / HTTP/1.0\\r\\n\\r\\n')
    let turns = 100
    const turn = () => turns-- > 0 ? setImmediate(turn) : up()
    turn()
  })
})`,
    )
    await operator.does(['start', file, '--wait-ready', '--uid', user.name])
    await eventually('the answer', () => traced(lab, 'answers')[0])
    assert.deepEqual([traced(lab, 'accepts'), traced(lab, 'answers')], [[his()], [his()]])
    await operator.does(['stop', 'app'])
  })
}

test('without a keeper the process becomes the user, and so do those that it starts', asRoot, async () => {
  await using lab = await openLab()
  await using operator = new Operator(lab)
  writeApp(lab)
  await operator.does(['start', 'app.cjs', '--no-keep', '--uid', user.name, '--pid', 'pid'])
  for (const generation of [1, 2]) {
    const status = await operator.status('app')
    assert.equal(status.generation, generation)
    assert.equal(await operator.asks('app'), answerOf(status.pid))
    assert.equal(lab.read('pid').trim(), String(status.pid))
    if (generation === 1) await operator.does(['upgrade', 'app'])
  }
  await operator.does(['restart', 'app'])
  assert.equal(await operator.asks('app'), answerOf((await operator.status('app')).pid))
  const typed = await operator.types(['upgrade', 'app', '--uid', 'nobody'])
  assert.deepEqual([typed.code, /only root can become another user/.test(typed.stderr)], [1, true])
  await operator.does(['stop', 'app'])
})

test('a service is given to another user by an upgrade, and one of root to its first', asRootInMatrix, async () => {
  await using lab = await openLab()
  await using operator = new Operator(lab)
  writeApp(lab)
  await operator.does(['start', 'app.cjs'])
  await operator.does(['upgrade', 'app', '--uid', user.name])
  assert.equal(await operator.asks('app'), answerOf((await operator.status('app')).pid))
  await operator.does(['upgrade', 'app', '--uid', 'nobody', '--gid', String(user.gid)])
  const { pid } = await operator.status('app')
  assert.match(await operator.asks('app'), new RegExp(`^${pid} ${nobody.uid} ${user.gid} .* nobody$`))
  assert.equal(lab.read('run/app.log'), '')
  await operator.does(['stop', 'app'])
})

test('a program without a listener never is root', asRootInMatrix, async () => {
  await using lab = await openLab()
  await using operator = new Operator(lab)
  writeFileSync(lab.path('app.cjs'), `${traceOf(lab, 'line')}\nprocess.send('ready'); setInterval(() => {}, 1000)`)
  await operator.does(['start', 'app.cjs', '--no-listen', '--wait-ready', '--uid', user.name])
  await operator.does(['upgrade', 'app'])
  assert.equal((await operator.status('app')).generation, 2)
  assert.deepEqual(traced(lab, 'line'), [his(), his()])
  await operator.does(['stop', 'app'])
})

test('a user that cannot be, or cannot run the program, is a usage error, and nothing is started', asRoot, async () => {
  await using lab = await openLab()
  await using operator = new Operator(lab)
  writeApp(lab)
  const wrong: readonly (readonly [options: { readonly uid?: string; readonly gid?: string }, why: RegExp])[] = [
    [{ uid: 'root' }, /the program already runs as root/],
    [{ uid: '0' }, /the program already runs as root/],
    [{ gid: String(user.gid) }, /--gid needs --uid/],
    [{ uid: user.name, gid: 'no-such-group' }, /there is no group no-such-group/],
    [{ uid: '3999999999' }, /its group must be named with --gid/],
    [{ uid: '4294967295' }, /there is no user 4294967295/],
  ]
  for (const [options, why] of wrong) assert.throws(() => userOf(options), why)
  assert.deepEqual([process.geteuid?.(), process.getegid?.()], [0, 0])
  const unknown = await operator.types(['start', 'app.cjs', '--uid', 'no-such-user'])
  assert.deepEqual([unknown.code, /there is no user no-such-user/.test(unknown.stderr)], [2, true])
  chmodSync(lab.path('app.cjs'), 0o600)
  const unreadable = await operator.types(['start', 'app.cjs', '--uid', user.name])
  assert.deepEqual([unreadable.code, /cannot read the program: EACCES/.test(unreadable.stderr)], [2, true])
  chmodSync(lab.path('app.cjs'), 0o644)
  writeFileSync(lab.path('node'), `#!/bin/sh\nexec ${process.execPath} "$@"\n`, { mode: 0o700 })
  const closed = await operator.types(['start', 'app.cjs', '--uid', user.name, '--node', './node'])
  assert.deepEqual([closed.code, /cannot run .*node/.test(closed.stderr)], [2, true], closed.stderr)
  // A number without an entry has its group, and is at home nowhere.
  await operator.does(['start', 'app.cjs', '--uid', '54321', '--gid', '54322'])
  assert.match(await operator.asks('app'), /^\d+ 54321 54322 54322 \/ $/)
  assert.deepEqual(traced(lab, 'line'), [ids(0, 0)])
  await operator.does(['stop', 'app'])
})

test('who is not root can name themselves, and nobody else', asRootInMatrix, async () => {
  await using lab = await openLab()
  writeApp(lab)
  mkdirSync(lab.path('home'))
  chownSync(lab.path('home'), user.uid, user.gid)
  const types = async (...words: readonly string[]) => {
    const env = { ...process.env, COOK_DAEMON_HOME: lab.path('home/run') }
    const { uid, gid } = user
    const child = spawn(process.execPath, [bin, ...words], {
      cwd: lab.folder,
      env,
      uid,
      gid,
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    const stderr = text(child.stderr)
    const [code] = await once(child, 'close')
    return { code, stderr: await stderr }
  }
  const other = await types('start', 'app.cjs', '--uid', 'nobody')
  assert.deepEqual([other.code, /only root can run a program as another user/.test(other.stderr)], [2, true])
  const own = await types('start', 'app.cjs', '--uid', user.name)
  assert.equal(own.code, 0, own.stderr)
  assert.deepEqual(traced(lab, 'line'), [his()])
  assert.equal((await types('stop', 'app')).code, 0)
})

test('a port that only root may open, in a later version, fails with what to do', asRoot, async (context) => {
  const free = Number(readFileSync('/proc/sys/net/ipv4/ip_unprivileged_port_start', 'utf8'))
  if (free <= 1) return context.skip('anybody may open any port here')
  await using lab = await openLab()
  await using operator = new Operator(lab)
  writeApp(lab)
  await operator.does(['start', 'app.cjs', '--uid', user.name])
  writeApp(lab, "1, '127.0.0.1'")
  const { code, stderr } = await operator.types(['upgrade', 'app'])
  assert.equal(code, 1)
  assert.match(stderr, /EACCES.*needs a new start \(stop, then start\), or systemd \(socket activation\)/)
  await operator.does(['stop', 'app'])
})

test(
  "a Unix socket that root has opened for the user is the user's, and one whose owner was chosen is not",
  asRoot,
  async () => {
    await using lab = await openLab()
    await using operator = new Operator(lab)
    const [path, chosen] = [lab.path('app.socket'), lab.path('chosen.socket')]
    writeFileSync(
      lab.path('app.cjs'),
      `const { createServer } = require('node:http')
createServer((request, response) => response.end()).listen('${path}')
createServer(() => {}).listen('${chosen}', () => process.getuid() === 0 && require('node:fs').chownSync('${chosen}', ${nobody.uid}, ${nobody.uid}))`,
    )
    await operator.does(['start', 'app.cjs', '--uid', user.name])
    for (const _ of [1, 2]) {
      const owners = [path, chosen].map((file) => [lstatSync(file).uid, lstatSync(file).gid])
      assert.deepEqual(owners, [
        [user.uid, user.gid],
        [nobody.uid, nobody.uid],
      ])
      const [response] = await once(get({ socketPath: path }), 'response')
      assert.equal(response.statusCode, 200)
      await operator.does(['upgrade', 'app'])
    }
    await operator.does(['stop', 'app'])
  },
)

test(
  'a worker that is not root cannot have its keeper start what it likes, by asking for an upgrade',
  asRoot,
  async () => {
    await using lab = await openLab()
    await using operator = new Operator(lab)
    writeFileSync(lab.path('evil.cjs'), traceOf(lab, 'evil'))
    const wish = {
      ...{ cmd: 'NODE_COOK_KEEPER', type: 'wish' },
      options: {
        execArgv: ['--require', lab.path('evil.cjs'), '--require', preload],
        program: { logFile: lab.path('log') },
      },
    }
    // One that gives up root itself is started as root again.
    writeFileSync(
      lab.path('app.cjs'),
      `const { writeSync } = require('node:fs')
const server = require('node:http').createServer((request, response) => {
  if (request.url === '/wish') writeSync(3, ${JSON.stringify(`${JSON.stringify(wish)}\n`)})
  response.end(String(process.getuid()))
})
server.listen(0, '127.0.0.1', () => { process.setgid(${nobody.uid}); process.setuid(${nobody.uid}) })`,
    )
    await operator.does(['start', 'app.cjs'])
    await operator.asks('app', '/wish')
    await untilServes(operator, 2)
    assert.equal(await operator.asks('app'), String(nobody.uid))
    assert.deepEqual(traced(lab, 'evil'), [])
    assert.equal(existsSync(lab.path('log')), false)
    await operator.does(['stop', 'app'])
  },
)

test(
  'if the keeper of a worker that is not root is killed, that serves on, and all commands say what to do',
  asRoot,
  async () => {
    await using lab = await openLab()
    await using operator = new Operator(lab)
    writeApp(lab)
    await operator.does(['start', 'app.cjs', '--uid', user.name])
    const refused = await operator.types(['upgrade', 'app', '--keeper'])
    assert.deepEqual([refused.code, /stop the service, then start it/.test(refused.stderr)], [1, true])
    await operator.does(['upgrade', 'app'])
    const before = await operator.status('app')
    process.kill(before.keeper?.pid ?? 0, 'SIGKILL')
    await eventually(
      'its word in the log',
      () => /the keeper has exited.*cook-daemon stop/.exec(lab.read('run/app.log')) ?? undefined,
    )
    const [response] = await once(get({ port: portOf(before), host: '127.0.0.1' }), 'response')
    assert.equal(await text(response), answerOf(before.pid))
    for (const words of [
      ['status', 'app'],
      ['restart', 'app'],
      ['start', 'app'],
      ['start', 'app.cjs'],
    ]) {
      const { stderr } = await operator.types(words)
      assert.match(
        stderr,
        new RegExp(`keeper of app has exited; its worker \\(pid ${before.pid}\\) still serves`),
        words.join(' '),
      )
    }
    await operator.does(['stop', 'app'])
    await operator.does(['start', 'app'])
    assert.equal(await operator.asks('app'), answerOf((await operator.status('app')).pid))
    await operator.does(['stop', 'app'])
  },
)

test('run gives its program to the user, and ends with it at SIGTERM', asRoot, async () => {
  await using lab = await openLab()
  await using operator = new Operator(lab)
  writeApp(lab)
  const child = operator.begins(['run', 'app.cjs', '--uid', user.name])
  const { pid } = await eventually('that it serves', async () => {
    const status = await operator.status('app').catch(() => undefined)
    return status?.listeners.length === 1 ? status : undefined
  })
  assert.equal(await operator.asks('app'), answerOf(pid))
  child.kill('SIGTERM')
  const [code] = await once(child, 'exit')
  assert.equal(code, 0)
})
