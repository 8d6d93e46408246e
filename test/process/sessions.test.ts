/**
 * What a program has started itself: it ends with a version that fails, and with one that has to be
 * killed, and nothing else does.
 */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { isAlive, isGone, system } from '../../src/node/system.ts'
import { Operator, writeProgram } from '../support/command.ts'
import { Lab } from '../support/lab.ts'
import { eventually } from '../support/waiting.ts'

const onLinux = { skip: process.platform !== 'linux' && 'sees sessions in /proc' }

type Identity = readonly [pid: number, startTime: string]

/** A server that a wrapper starts; it writes down where it listens and who it is. */
const server = `require('net').createServer().listen(0, '127.0.0.1', function () {
  const fs = require('fs')
  const startTime = fs.readFileSync('/proc/self/stat', 'latin1').split(') ')[1].split(' ')[19]
  fs.writeFileSync(process.argv[2] + '.tmp', [process.pid, startTime, this.address().port].join(' '))
  fs.renameSync(process.argv[2] + '.tmp', process.argv[2])
})`

/** Starts it in the way of a program: through a shell, as npm does, and in a group of its own. */
const starts = (file: string) => `
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
spawn('sh', ['-c', 'timeout 600 node server.cjs ${file}; true'], { stdio: 'inherit' })
for (;;) if (existsSync('${file}')) break; else await new Promise((done) => setTimeout(done, 5))`

class Wrapped {
  readonly #lab: Lab
  readonly #found: Identity[] = []
  /** Nobody's of the service. */
  readonly other = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { stdio: 'ignore' })

  constructor(lab: Lab) {
    this.#lab = lab
    writeFileSync(lab.path('server.cjs'), server)
  }

  /** Writes the program `file`, which does this when its server listens. */
  writes(file: string, before: string, started: string): void {
    writeFileSync(this.#lab.path(file), `${starts(started)}\n${before}`)
  }

  /** The process that wrote this file, and its port. */
  async found(started: string): Promise<{ readonly identity: Identity; readonly port: number }> {
    const text = await eventually(started, () => read(this.#lab, started))
    const [pid, startTime = '', port] = text.split(' ')
    const identity = [Number(pid), startTime] as const
    this.#found.push(identity)
    return { identity, port: Number(port) }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.other.kill('SIGKILL')
    for (const identity of this.#found) system.kill(identity, 'SIGKILL')
    await eventually('the end of what was started', () => this.#found.every(isGone) || undefined)
  }
}

function read(lab: Lab, file: string): string | undefined {
  try {
    return lab.read(file) || undefined
  } catch {
    return undefined
  }
}

// They wait for a time to be over, most of the time.
describe('what a program has started itself', { concurrency: 4 }, () => {
  test(
    'a wrapper that is not ready in time ends with the server that it started, which the error names',
    onLinux,
    async () => {
      await using lab = await Lab.open()
      await using operator = new Operator(lab)
      await using wrapped = new Wrapped(lab)
      // Tsx and others listen for their children: nobody else can use that path.
      const pipe = `import { createServer } from 'node:net'
createServer().listen(process.cwd() + '/' + process.pid + '.pipe')`
      wrapped.writes('app.mjs', pipe, 'first')
      const { code, stderr } = await operator.types(['start', 'app.mjs', '--ready-timeout', '2500'])
      const { identity, port } = await wrapped.found('first')
      assert.equal(code, 1)
      const listened = `It did not listen itself, but a child process did, on 127.0.0.1:${port} (pid ${identity[0]}: node server.cjs first)`
      assert.ok(stderr.includes(listened), stderr)
      assert.ok(stderr.includes('was killed with its child processes'), stderr)
      assert.equal(isGone(identity), true)
    },
  )

  test('a program that ends before it is ready takes what it started with it', onLinux, async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    await using wrapped = new Wrapped(lab)
    wrapped.writes('app.mjs', 'process.exit(7)', 'first')
    const { code, stderr } = await operator.types(['start', 'app.mjs'])
    assert.equal(code, 1)
    assert.match(stderr, /exited before it was ready: exit code 7/)
    assert.equal(isGone((await wrapped.found('first')).identity), true)
  })

  test(
    'a new version that fails ends with what it started, and what the old one and others have started lives on',
    onLinux,
    async () => {
      await using lab = await Lab.open()
      await using operator = new Operator(lab)
      await using wrapped = new Wrapped(lab)
      writeProgram(lab, 'app.mjs', 'one', starts('old'))
      await operator.does(['start', 'app.mjs'])
      const before = await operator.status('app')
      const ofOld = await wrapped.found('old')
      for (const [how, fault] of [
        ['hangs', 'await new Promise(() => setInterval(() => {}, 1000))'],
        ['throws', "throw new Error('not today')"],
      ] as const) {
        wrapped.writes('app.mjs', fault, how)
        const { code } = await operator.types(['upgrade', 'app', '--ready-timeout', '2500'])
        assert.equal(code, 1, how)
        assert.equal(isGone((await wrapped.found(how)).identity), true, how)
      }
      assert.equal((await operator.status('app')).pid, before.pid)
      assert.equal(isAlive(ofOld.identity), true)
      assert.equal(wrapped.other.exitCode ?? wrapped.other.signalCode, null)
    },
  )

  test('stop kills what does not end in time, with what it has started', onLinux, async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    await using wrapped = new Wrapped(lab)
    writeProgram(lab, 'app.mjs', 'one', `${starts('first')}\nprocess.on('exit', () => { for (;;); })`)
    await operator.does(['start', 'app.mjs'])
    const { identity } = await wrapped.found('first')
    assert.equal(isAlive(identity), true)
    assert.match(await operator.does(['stop', 'app', '--kill-after', '100']), /was killed: it did not stop in time/)
    assert.equal(isGone(identity), true)
  })
})
