/** The keeper's rotation of logs, in a folder without a service: what it keeps, and what it leaves alone. */
import assert from 'node:assert/strict'
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  lchownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { Rotation } from '../../src/keeper/rotation.ts'
import { linesSince, markLog, openLog } from '../../src/process/log.ts'
import { workerLog } from '../../src/process/log-dir.ts'
import { workerLogs } from '../../src/process/log-files.ts'
import { FullDisk, noFullDisk } from '../support/full-disk.ts'

const nobody = 65_534
const asRoot = { skip: process.getuid?.() !== 0 && 'only root can play another user' }

/** A folder with a log in it, and who rotates that above 10 bytes. */
class Logs {
  readonly folder = mkdtempSync(join(process.env.COOK_TEST_TMP ?? tmpdir(), 'cook-'))
  readonly said: string[] = []
  readonly options = { logMaxSize: 10, logKeep: 3 }
  readonly rotation: Rotation

  constructor(name = 'web.log') {
    const plan = { options: this.options, program: { logFile: this.path(name) } }
    this.rotation = new Rotation({ plan }, (text) => this.said.push(text))
  }

  path(name: string): string {
    return join(this.folder, name)
  }

  write(name: string, text: string): void {
    const fd = openLog(this.path(name))
    writeSync(fd, text)
    closeSync(fd)
  }

  /** What each file says. */
  get all(): Record<string, string> {
    const files = readdirSync(this.folder).sort()
    return Object.fromEntries(files.map((name) => [name, readFileSync(this.path(name), 'utf8')]))
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true, force: true })
  }
}

const line = (count: number) => `a line ${count}\n`.padStart(20)

test('a log that is too large becomes web.log.1 and is emptied, older ones become older, and no more are kept than one wants', async () => {
  using logs = new Logs()
  for (const count of [1, 2, 3, 4, 5]) {
    logs.write('web.log', line(count))
    await logs.rotation.look()
  }
  logs.write('web.log', 'short\n')
  await logs.rotation.look()
  const kept = { 'web.log.1': line(5), 'web.log.2': line(4), 'web.log.3': line(3) }
  assert.deepEqual(logs.all, { 'web.log': 'short\n', ...kept })
  logs.write('web.log', line(6))
  logs.options.logKeep = 1
  await logs.rotation.look()
  assert.deepEqual(logs.all, { 'web.log': '', 'web.log.1': `short\n${line(6)}` })
  logs.options.logMaxSize = 0
  logs.write('web.log', line(7))
  await logs.rotation.look()
  assert.equal(logs.all['web.log'], line(7))
  assert.deepEqual([logs.said, logs.rotation.warnings], [[], []])
})

test('logs of all workers are rotated with that of their keeper, and no others that lie beside them', async () => {
  using logs = new Logs()
  const own = ['web.log', 'web@0.log', 'web@12.log']
  const others = ['api.log', 'web@x.log', 'web@01.log', 'web@0.log.bak', 'webs@0.log', 'web@0@1.log']
  for (const name of [...own, ...others]) logs.write(name, line(1))
  await logs.rotation.look()
  const rotated = Object.entries(logs.all).filter(([, text]) => text === '')
  assert.deepEqual(rotated.map(([name]) => name).sort(), own)
  assert.deepEqual(
    workerLogs(logs.path('web.log')).map(({ slot }) => slot),
    [0, 12],
  )
  assert.equal(workerLog('/var/log/web', 3), '/var/log/web@3')
  assert.equal(workerLog('/var/log/web.v2.log', 3), '/var/log/web.v2@3.log')
})

test('what was rotated has the mode of the log, and a symlink of our own leads to what is rotated', async () => {
  using logs = new Logs()
  mkdirSync(logs.path('disk'))
  symlinkSync('disk/real.log', logs.path('web.log'))
  writeFileSync(logs.path('disk/real.log'), line(1), { mode: 0o600 })
  await logs.rotation.look()
  assert.deepEqual(readdirSync(logs.path('disk')).sort(), ['real.log', 'real.log.1'])
  assert.equal(statSync(logs.path('disk/real.log.1')).mode & 0o777, 0o600)
  assert.equal(readFileSync(logs.path('disk/real.log.1'), 'utf8'), line(1))
})

test('whoever has opened the log to append writes on at its start; one who has not is found out, and its log is left alone', async () => {
  using logs = new Logs()
  for (const flag of ['a', 'w'] as const) {
    const fd = openSync(logs.path('web.log'), flag)
    writeSync(fd, line(1))
    await logs.rotation.look()
    assert.equal(statSync(logs.path('web.log')).size, 0)
    writeSync(fd, line(2))
    assert.equal(statSync(logs.path('web.log')).size, flag === 'a' ? 20 : 40)
    if (flag === 'a') closeSync(fd)
  }
  const before = logs.all
  await logs.rotation.look()
  assert.deepEqual(logs.all, before)
  assert.match(logs.said.join(), /web\.log could not be rotated: a process writes to it without O_APPEND/)
})

/** What may stand where the log or what was rotated should be, and why it is not touched. */
const traps: Readonly<Record<string, { readonly lay: (logs: Logs) => void; readonly words: RegExp }>> = {
  "a symlink of another user's": {
    lay: (logs) => {
      rmSync(logs.path('web.log'))
      symlinkSync('victim', logs.path('web.log'))
      lchownSync(logs.path('web.log'), nobody, nobody)
    },
    words: /it is a symlink that belongs to user 65534/,
  },
  "another user's file": {
    lay: (logs) => {
      chownSync(logs.path('web.log'), nobody, nobody)
    },
    words: /it belongs to user 65534/,
  },
  'a second name of a file': {
    lay: (logs) => {
      rmSync(logs.path('web.log'))
      linkSync(logs.path('victim'), logs.path('web.log'))
    },
    words: /it has a hard link/,
  },
  "the file of a user in that user's folder": {
    lay: (logs) => {
      chownSync(logs.path('web.log'), nobody, nobody)
      chownSync(logs.folder, nobody, nobody)
      chmodSync(logs.folder, 0o755)
    },
    words: /it belongs to user 65534/,
  },
  "another user's file under the next name": {
    lay: (logs) => {
      writeFileSync(logs.path('web.log.1'), 'his')
      chownSync(logs.path('web.log.1'), nobody, nobody)
    },
    words: /web\.log\.1 is in the way: it belongs to user 65534/,
  },
  "another user's file under the name of the copy": {
    lay: (logs) => {
      symlinkSync('victim', logs.path('web.log.rotating'))
      lchownSync(logs.path('web.log.rotating'), nobody, nobody)
    },
    words: /web\.log\.rotating is in the way: it is a symlink that belongs to user 65534/,
  },
  'a folder under the next name': {
    lay: (logs) => {
      mkdirSync(logs.path('web.log.1'))
    },
    words: /web\.log\.1 is in the way: it is not a file/,
  },
}

test(
  'nothing that another user may have put where a log is rotated is written, emptied, renamed or removed: a line and a warning say so, once',
  asRoot,
  async (context) => {
    for (const [what, { lay, words }] of Object.entries(traps)) {
      await context.test(what, async () => {
        using logs = new Logs()
        chmodSync(logs.folder, 0o777)
        for (const name of ['web.log', 'victim']) logs.write(name, line(1))
        lay(logs)
        const before = contents(logs)
        for (let turn = 0; turn < 3; turn++) await logs.rotation.look()
        assert.deepEqual(contents(logs), before)
        assert.match(logs.said.join(), words)
        assert.equal(logs.said.length, 1)
        const warnings = logs.rotation.warnings.map(({ about, text }) => [about, text])
        assert.deepEqual(warnings, [['rotation', logs.said[0]]])
      })
    }
  },
)

/** What each name is, and what it says. */
function contents({ folder }: Logs): unknown {
  return readdirSync(folder).map((name) => {
    const file = join(folder, name)
    const { ino, uid, mode } = lstatSync(file)
    return { name, ino, uid, mode, text: statSync(file).isFile() ? readFileSync(file, 'utf8') : '' }
  })
}

test('a disk that is full costs no line of the log, and the warning goes when there is room again', {
  skip: noFullDisk(),
}, async () => {
  using logs = new Logs('disk/web.log')
  mkdirSync(logs.path('disk'))
  using disk = FullDisk.mount(logs.path('disk'))
  for (const count of [1, 2]) {
    logs.write('disk/web.log', line(count).repeat(200))
    if (count === 1) await logs.rotation.look()
  }
  disk.fillBytes()
  await logs.rotation.look()
  assert.match(logs.said.join(), /no space left on device/)
  assert.equal(logs.rotation.warnings.length, 1)
  disk.empty()
  const names = ['web.log', 'web.log.1'].map((name) => readFileSync(logs.path(`disk/${name}`), 'utf8'))
  assert.deepEqual(names, [line(2).repeat(200), line(1).repeat(200)])
  assert.deepEqual(readdirSync(logs.path('disk')).sort(), ['web.log', 'web.log.1'])
  // As somebody does who has seen the warning.
  truncateSync(logs.path('disk/web.log'))
  await logs.rotation.look()
  assert.deepEqual(logs.rotation.warnings, [])
})

test('what a process printed last is found after a rotation too', async () => {
  using logs = new Logs()
  const fd = openLog(logs.path('web.log'))
  writeSync(fd, line(1).repeat(10))
  const mark = markLog(fd)
  writeSync(fd, line(2))
  assert.equal(linesSince(mark), line(2).trimEnd())
  await logs.rotation.look()
  writeSync(fd, line(3))
  assert.equal(linesSince(mark), line(3).trimEnd())
  closeSync(fd)
})

test('two keepers of one log lose nothing of it, and neither does what an interrupted one has left', async () => {
  using logs = new Logs()
  const plan = { options: { ...logs.options, logKeep: 100 }, program: { logFile: logs.path('web.log') } }
  const keepers = [1, 2].map(() => new Rotation({ plan }, (text) => logs.said.push(text)))
  writeFileSync(logs.path('web.log.rotating'), 'the half of a copy')
  const text = Array.from({ length: 150_000 }, (_, count) => line(count)).join('')
  logs.write('web.log', text)
  await Promise.all(keepers.map((one) => one.look()))
  const files = ['web.log.2', 'web.log.1', 'web.log'].filter((name) => existsSync(logs.path(name)))
  const left = files.map((name) => readFileSync(logs.path(name), 'utf8')).join('')
  assert.ok(left === text, `${left.length} of ${text.length} bytes, or others: ${files}`)
})
