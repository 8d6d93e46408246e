/**
 * Root and the services of other users: found in the folders of units, and dealt with as that user.
 * /run is a folder of the test: each command runs in a mount namespace of its own.
 */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  chownSync,
  copyFileSync,
  cpSync,
  existsSync,
  lchownSync,
  mkdirSync,
  readFileSync,
  realpathSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { dirname, join } from 'node:path'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { asOwner, listAsOwner } from '../../src/cli/as-owner.ts'
import type { Identity } from '../../src/contract/environment.ts'
import type { Status } from '../../src/control/status.ts'
import { isAlive, system } from '../../src/node/system.ts'
import type { Ended } from '../support/command.ts'
import { statusOf } from '../support/control.ts'
import { Lab } from '../support/lab.ts'
import { eventually, within } from '../support/waiting.ts'

const nobody = 65_534
const other = 65_533
const repository = fileURLToPath(new URL('../../..', import.meta.url))

function whyNot(): string | false {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return 'only root can play another user'
  if (spawnSync('unshare', ['--mount', 'true']).status !== 0) return 'no mount namespace can be made here'
  const asNobody = { uid: nobody, gid: nobody, cwd: '/' }
  const isOpen = spawnSync(process.execPath, ['--version'], asNobody).status === 0
  return !isOpen && 'another user cannot run this Node'
}

const asRoot = { skip: whyNot() }

const web = `
const server = require('node:http').createServer((request, response) => response.end(String(process.pid)))
server.listen(0, '127.0.0.1')`

/** A machine: its /run, a package that everybody can read, and who types there. */
class Machine {
  readonly #lab: Lab
  readonly #identities: Identity[] = []
  readonly #children: ChildProcess[] = []

  constructor(lab: Lab) {
    this.#lab = lab
    for (let at = lab.folder; at !== '/'; at = dirname(at)) {
      const { mode } = statSync(at)
      if ((mode & 0o001) === 0) chmodSync(at, mode | 0o011)
    }
    for (const part of ['dist/bin', 'dist/bundle', 'package.json']) {
      cpSync(join(realpathSync(repository), part), lab.path('package', part), { recursive: true })
    }
    lab.makeFolder('run')
    mkdirSync(lab.path('app'))
    writeFileSync(lab.path('app/web.js'), web)
  }

  get package(): string {
    return this.#lab.path('package')
  }

  path(...names: readonly string[]): string {
    return this.#lab.path('run', ...names)
  }

  /** The folder of a unit with RuntimeDirectory= and User=. */
  makeFolder(name: string, user = nobody): string {
    mkdirSync(this.path(name), { mode: 0o700 })
    chownSync(this.path(name), user, user)
    return this.path(name)
  }

  /** As its unit has started it. */
  async starts(folder: string, name: string, user = nobody, args: readonly string[] = []): Promise<Status> {
    const ids = user === 0 ? {} : { uid: user, gid: user }
    const env = { PATH: process.env.PATH, COOK_DAEMON_HOME: folder }
    const words = ['start', 'web.js', '--name', name, ...args]
    const { code, stderr } = await this.#ends(
      spawn(process.execPath, [this.#command, ...words], { ...ids, env, cwd: this.#lab.path('app') }),
    )
    assert.equal(code, 0, stderr)
    return this.status(folder, name)
  }

  async status(folder: string, name: string): Promise<Status> {
    const status = await statusOf(`${folder}/${name}.sock`)
    const { keeper, generations } = status
    for (const { pid, startTime } of keeper === undefined ? generations : [keeper, ...generations]) {
      this.#identities.push([pid, startTime])
    }
    return status
  }

  /** What root types on this machine, with secrets in the environment. */
  async types(
    args: readonly string[],
    {
      env = {},
      cwd = this.#lab.folder,
    }: { readonly env?: Readonly<Record<string, string>>; readonly cwd?: string } = {},
  ): Promise<Ended> {
    const command = ['--mount', '--propagation', 'private', 'sh', '-c', 'mount --bind "$0" /run && exec "$@"']
    const { COOK_DAEMON_HOME: _, RUNTIME_DIRECTORY: __, XDG_RUNTIME_DIR: ___, ...rest } = process.env
    return this.#ends(
      spawn('unshare', [...command, this.path(), process.execPath, this.#command, ...args], {
        env: { ...rest, SECRET: 'of root', ...env },
        cwd,
      }),
    )
  }

  get #command(): string {
    return join(this.package, 'dist/bin/cook-daemon.js')
  }

  async #ends(child: ChildProcess): Promise<Ended> {
    this.#children.push(child)
    const [stdout, stderr] = [text(child.stdout as never), text(child.stderr as never)]
    const [code] = await within(`the end of ${child.spawnargs.join(' ')}`, once(child, 'close'))
    return { code, stdout: await stdout, stderr: await stderr }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#children) child.kill('SIGKILL')
    for (const identity of this.#identities) system.kill(identity, 'SIGKILL')
    await eventually('the end of all', () => !this.#identities.some((one) => isAlive(one)) || undefined)
  }
}

const isGone = (folder: string, name: string) => !existsSync(`${folder}/${name}.sock`)

test(
  "root lists, shows, upgrades, scales, restarts and stops the service of another user's unit, and each is done as that user",
  asRoot,
  async () => {
    await using lab = await Lab.open()
    await using machine = new Machine(lab)
    const folder = machine.makeFolder('cook-daemon-web')
    const { pid } = await machine.starts(folder, 'web')
    const { stdout } = await machine.types(['list'])
    const [head = '', row = ''] = stdout.split('\n')
    assert.match(head, /^NAME +USER +FOLDER +STATE /)
    assert.match(row, /^web +nobody +\/run\/cook-daemon-web +running +1\/1 +1 /)
    const listed = JSON.parse((await machine.types(['list', '--json'])).stdout)
    assert.equal(listed.length, 1)
    assert.deepEqual([listed[0].pid, listed[0].user, listed[0].folder], [pid, 'nobody', '/run/cook-daemon-web'])
    // Its name, or none: it is the only one.
    for (const args of [['status', 'web'], ['status']]) {
      const { code, stdout: shown } = await machine.types(args)
      assert.deepEqual(
        [code, shown.startsWith(`web\n  state        running\n  pid          ${pid}\n`)],
        [0, true],
        shown,
      )
    }
    const upgraded = await machine.types(['upgrade', '--json', 'web'])
    assert.equal(upgraded.code, 0, upgraded.stderr)
    const steps = upgraded.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line).type)
    assert.ok(
      ['started', 'ready', 'serves', 'drained'].every((step) => steps.includes(step)),
      steps.join(),
    )
    assert.equal((await machine.status(folder, 'web')).generation, 2)
    // As a configuration has it, which the child reads.
    const services = [{ name: 'web', script: 'web.js', env: { WORD: 'of the file' } }]
    writeFileSync(lab.path('app/cook.config.json'), JSON.stringify({ services }))
    const described = await machine.types(['upgrade'], { cwd: lab.path('app') })
    assert.equal(described.code, 0, described.stderr)
    const third = await machine.status(folder, 'web')
    assert.equal(third.generation, 3)
    assert.match(readFileSync(`/proc/${third.pid}/environ`, 'utf8'), /WORD=of the file/)
    const scaled = await machine.types(['scale', 'web', '2'])
    assert.match(scaled.stdout, /web has 2 workers \(1 before\)/)
    const restarted = await machine.types(['restart', 'web'])
    assert.equal(restarted.code, 0, restarted.stderr)
    await machine.status(folder, 'web')
    // All that it has made is that user's, and was made by that user.
    for (const file of ['web.sock', 'web.service']) assert.equal(statSync(`${folder}/${file}`).uid, nobody)
    const stopped = await machine.types(['stop', 'web'])
    assert.deepEqual([stopped.code, stopped.stdout], [0, '✓ web has stopped\n'])
    assert.equal(isGone(folder, 'web'), true)
    const down = await machine.types(['status', 'web'])
    assert.deepEqual([down.code, /stopped/.test(down.stdout)], [3, true], down.stdout + down.stderr)
    const again = await machine.types(['upgrade', 'web'])
    assert.deepEqual([again.code, /web is down: stopped/.test(again.stderr)], [3, true], again.stderr)
    const forgotten = await machine.types(['forget', 'web'])
    assert.deepEqual([forgotten.code, existsSync(`${folder}/web.service`)], [0, false])
  },
)

test(
  'root has services of its own beside those of units: all of them are listed and upgraded, each in its place, and a name that two have is refused',
  asRoot,
  async () => {
    await using lab = await Lab.open()
    await using machine = new Machine(lab)
    const [own, unit, others] = [
      machine.makeFolder('cook-daemon', 0),
      machine.makeFolder('any-name', 0),
      machine.makeFolder('cook-daemon-web', other),
    ]
    await machine.starts(own, 'mine', 0)
    await machine.starts(unit, 'ours', 0)
    await machine.starts(others, 'web', other)
    const one = await machine.types(['status'])
    assert.deepEqual([one.code, one.stderr], [2, 'cook-daemon: several services run; name one: mine, ours, web\n'])
    const upgraded = await machine.types(['upgrade', 'all', '--json'])
    assert.equal(upgraded.code, 0, upgraded.stderr)
    for (const [folder, name] of [
      [own, 'mine'],
      [unit, 'ours'],
      [others, 'web'],
    ] as const) {
      assert.equal((await machine.status(folder, name)).generation, 2, name)
    }
    const ends = JSON.parse(upgraded.stdout) as readonly { readonly name: string; readonly steps: readonly object[] }[]
    assert.deepEqual(
      ends.map(({ name, steps }) => [name, steps.length > 3]),
      [
        ['mine', true],
        ['ours', true],
        ['web', true],
      ],
    )
    const table = await machine.types(['status', 'mine', 'web', 'nope'])
    assert.deepEqual([table.code, table.stdout.split('\n').length], [1, 5])
    // Another user who takes the same names disturbs nobody.
    const second = machine.makeFolder('second')
    await machine.starts(second, 'mine')
    for (const name of ['mine', 'web', 'third']) copyFileSync(`${second}/mine.service`, `${second}/${name}.service`)
    for (const name of ['mine', 'web', 'third']) chownSync(`${second}/${name}.service`, nobody, nobody)
    for (const [folder, name] of [
      [own, 'mine'],
      [others, 'web'],
    ] as const) {
      const { code, stderr } = await machine.types(['upgrade', name])
      assert.deepEqual([code, (await machine.status(folder, name)).generation], [0, 3], stderr)
    }
    // Two that nothing tells apart.
    copyFileSync(`${second}/mine.service`, `${others}/third.service`)
    chownSync(`${others}/third.service`, other, other)
    const two = await machine.types(['stop', 'third'])
    assert.deepEqual([two.code, two.stdout], [2, ''])
    assert.match(two.stderr, /there is a third in .*\/run\/cook-daemon-web \(user 65533\)/)
    assert.match(two.stderr, /\/run\/second \(user nobody\).* COOK_DAEMON_HOME=\/run/)
    const chosen = await machine.types(['stop', 'mine'], { env: { COOK_DAEMON_HOME: '/run/second' } })
    assert.deepEqual([chosen.code, isGone(second, 'mine'), isGone(own, 'mine')], [0, true, false], chosen.stderr)
    const both = await machine.types(['stop', 'all'])
    assert.equal(both.code, 0, both.stderr)
    assert.deepEqual([isGone(own, 'mine'), isGone(unit, 'ours'), isGone(others, 'web')], [true, true, true])
  },
)

test(
  'what is not a run directory of ours is passed over, and no list is stopped or steered by what another user has laid there',
  asRoot,
  async () => {
    await using lab = await Lab.open()
    await using machine = new Machine(lab)
    const good = machine.makeFolder('cook-daemon-web')
    const { pid } = await machine.starts(good, 'web')
    const record = readFileSync(`${good}/web.service`, 'utf8')
    const give = (file: string) => lchownSync(file, nobody, nobody)
    // A socket alone.
    const mysqld = machine.makeFolder('mysqld')
    const server = createServer().listen(`${mysqld}/mysqld.sock`)
    await once(server, 'listening')
    // Others can write there.
    const open = machine.makeFolder('open')
    writeFileSync(`${open}/open.service`, record)
    chmodSync(open, 0o775)
    // His link to what is root's, and to a folder of ours.
    const own = machine.makeFolder('roots', 0)
    writeFileSync(`${own}/roots.service`, record)
    for (const name of ['link', 'private']) {
      symlinkSync(own, machine.path(name))
      give(machine.path(name))
    }
    symlinkSync('/etc', machine.path('etc'))
    const hostile = machine.makeFolder('hostile')
    symlinkSync('/etc/shadow', `${hostile}/shadow.service`)
    give(`${hostile}/shadow.service`)
    spawnSync('mkfifo', [`${hostile}/pipe.service`])
    give(`${hostile}/pipe.service`)
    for (const name of ['\u001b]0;evil\u0007', 'a b', '..', '-rf', 'all', 'x'.repeat(100), 'roots-file']) {
      writeFileSync(`${hostile}/${name}.service`, record)
      if (name !== 'roots-file') give(`${hostile}/${name}.service`)
    }
    for (const [name, content] of [
      ['huge', 'x'.repeat(5_000_000)],
      ['cut', record.slice(0, 100)],
      ['escape', record.replaceAll('web.js', '\\u001b]0;evil\\u0007web.js')],
    ] as const) {
      writeFileSync(`${hostile}/${name}.service`, content)
      give(`${hostile}/${name}.service`)
    }
    // One that never answers, and that says it is a process of root's.
    const silent = createServer().listen(`${hostile}/silent.sock`)
    await once(silent, 'listening')
    give(`${hostile}/silent.sock`)
    const words = { pid: process.pid, startTime: system.startTime(process.pid), generation: 1, drainTimeout: 1 }
    writeFileSync(`${hostile}/silent.${process.pid}.owner`, JSON.stringify({ ...words, command: { args: [] } }))
    give(`${hostile}/silent.${process.pid}.owner`)
    try {
      const { code, stdout, stderr } = await machine.types(['list', '--json'])
      const seen = (JSON.parse(stdout) as readonly { readonly name: string; readonly folder: string }[]).map(
        ({ name, folder }) => `${folder}/${name}`,
      )
      assert.equal(code, 0, stderr)
      assert.ok(seen.includes('/run/cook-daemon-web/web'), stdout)
      assert.deepEqual(
        seen.filter((path) => !/^\/run\/(cook-daemon-web|roots|hostile)\//.test(path)),
        [],
      )
      assert.equal(
        seen.some((path) => /shadow|pipe|roots-file|evil|a b|huge|cut/.test(path)),
        false,
        stdout,
      )
      assert.equal(stdout.includes('\u001b'), false)
      for (const args of [
        ['status', 'escape'],
        ['status', 'shadow'],
      ]) {
        const shown = await machine.types(args)
        assert.doesNotMatch(shown.stdout + shown.stderr, /[^\P{Cc}\n\t]/u)
        assert.doesNotMatch(shown.stdout + shown.stderr, /root:/)
      }
      assert.equal((await machine.status(good, 'web')).pid, pid)
    } finally {
      server.close()
      silent.close()
    }
  },
)

test(
  "a command for a service of another user says what to do where that user cannot run it, and does not hand root's environment on",
  asRoot,
  async () => {
    await using lab = await Lab.open()
    await using machine = new Machine(lab)
    const folder = machine.makeFolder('cook-daemon-web')
    const { pid } = await machine.starts(folder, 'web')
    const updated = await machine.types(['upgrade', 'web', '--update-env'])
    assert.deepEqual([updated.code, updated.stdout], [2, ''])
    assert.match(updated.stderr, /setpriv --reuid=65534 .* COOK_DAEMON_HOME=\/run\/cook-daemon-web/)
    // Options that were typed are those of the child.
    const changed = await machine.types(['upgrade', 'web', '--drain-timeout', '7000', '--node-arg=--no-warnings'])
    assert.equal(changed.code, 0, changed.stderr)
    const status = await machine.status(folder, 'web')
    assert.deepEqual([status.drainTimeout, status.command.execArgv.includes('--no-warnings')], [7000, true])
    assert.notEqual(status.pid, pid)
    assert.equal(readFileSync(`/proc/${status.pid}/environ`, 'utf8').includes('of root'), false)
    chmodSync(machine.package, 0o700)
    for (const args of [['status', 'web'], ['upgrade', 'all'], ['stop']]) {
      const { code, stdout, stderr } = await machine.types(args)
      assert.deepEqual([code, stdout], [1, ''], args.join(' '))
      assert.match(stderr, /belongs to user 65534, who cannot access \S+cook-daemon\.js; nothing was done/)
      assert.match(stderr, /systemctl reload/)
    }
    const { code, stdout, stderr } = await machine.types(['list'])
    assert.match(stdout, /web +nobody +\/run\/cook-daemon-web +unknown .* cannot be reached/)
    assert.match(stderr, /cannot access/)
    assert.equal(code, 0)
    assert.equal((await machine.status(folder, 'web')).pid, status.pid)
  },
)

/** In place of the command that root's child is: what somebody may make of it who has its user. */
function lay(machine: Machine, code: string): string {
  const file = join(machine.package, 'child.cjs')
  writeFileSync(file, code)
  return file
}

test(
  'the child that deals with the service of another user has the rights of that user alone, no terminal, and nothing of the environment of root',
  asRoot,
  async () => {
    await using lab = await Lab.open()
    await using machine = new Machine(lab)
    const folder = machine.makeFolder('cook-daemon-web')
    process.argv[1] = lay(
      machine,
      `const { readFileSync } = require('node:fs')
       const status = readFileSync('/proc/self/status', 'utf8')
       const [, , , , , session, terminal] = readFileSync('/proc/self/stat', 'utf8').replace(/\\(.*\\)/, 'x').split(' ')
       console.log(JSON.stringify({
         ids: status.split('\\n').filter((line) => /^(Uid|Gid|Groups):/.test(line)).join(' ').replace(/\\s+/g, ' '),
         isLeader: Number(session) === process.pid, terminal, cwd: process.cwd(),
         names: Object.keys(process.env).sort(), home: process.env.COOK_DAEMON_HOME, words: process.argv.slice(2) }))`,
    )
    process.env.SECRET = 'of root'
    process.env.LC_TEST = 'C'
    try {
      // A folder that the user could not enter by its name.
      process.chdir(lab.makeFolder('closed'))
      chmodSync(lab.path('closed'), 0o700)
      const told = (await listAsOwner({ folder, owner: nobody, names: [], isUnit: true })) as Record<string, unknown>
      const names = (told.names as readonly string[]).filter(
        (name) => !/^(PATH|LANG|LANGUAGE|LC_.*|TZ|TERM|COLUMNS)$/.test(name),
      )
      assert.deepEqual(
        { ...told, names },
        {
          ids: 'Uid: 65534 65534 65534 65534 Gid: 65534 65534 65534 65534 Groups: ',
          ...{ isLeader: true, terminal: '0', cwd: '/', names: ['COOK_DAEMON_HOME'], home: folder },
          words: ['list', '--json'],
        },
      )
      assert.ok((told.names as readonly string[]).includes('LC_TEST'))
    } finally {
      process.chdir(repository)
      for (const name of ['SECRET', 'LC_TEST']) delete process.env[name]
    }
  },
)

test(
  'a child of another user that hangs, prints without an end, or answers what is no list, is ended and told, and steers nothing',
  asRoot,
  async () => {
    await using lab = await Lab.open()
    await using machine = new Machine(lab)
    const folder = machine.makeFolder('cook-daemon-web')
    const place = { folder, owner: nobody, names: ['web'], isUnit: true }
    const asked = (code: string, patience = 20_000) => {
      process.argv[1] = lay(machine, code)
      return within('the end of the child', listAsOwner(place, patience))
    }
    await assert.rejects(asked('setInterval(() => {}, 1000)', 300), /did not respond/)
    // One that has left its session holds the pipe.
    const leaves = `const { pid } = require('node:child_process').spawn('sleep', ['60'], { detached: true, stdio: 'inherit' })
      console.error(pid)
      for (;;) require('node:fs').writeSync(1, '['.repeat(60_000))`
    const pid = await asked(leaves).then(
      () => 0,
      ({ message }) => Number(message),
    )
    const left = [pid, system.startTime(pid) ?? ''] as const
    system.kill(left, 'SIGKILL')
    assert.notEqual(left[1], '')
    await assert.rejects(asked(`console.error('\\x1b]0;evil\\x07no'); process.exitCode = 1`), /^Error: \]0;evilno$/)
    assert.deepEqual(await asked(`console.log(JSON.stringify([{ name: 'a\\u001b[2J\\u009b' }]))`), [{ name: 'a' }])
    process.argv[1] = lay(machine, `process.kill(process.pid, 'SIGKILL')`)
    assert.equal(await asOwner(place, ['web']), 137)
    await eventually('the end of what has left', () => !isAlive(left) || undefined)
  },
)
