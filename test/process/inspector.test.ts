/**
 * SIGUSR1 opens Node's inspector where nobody listens to it: not in a daemon, in no moment in which
 * others know its pid.
 */
import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { test } from 'node:test'
import type { PuppetScope } from '../fixtures/puppet-scope.ts'
import { beginReplace, drained, replace } from '../support/daemons.ts'
import { HttpConnection } from '../support/http-connection.ts'
import { Lab, type Puppet } from '../support/lab.ts'
import { Program } from '../support/program.ts'
import { openListener, takeListener } from '../support/steps.ts'
import { eventually } from '../support/waiting.ts'

/**
 * Sends the signal and waits until it has been taken; gives the address of an inspector, or none.
 */
async function signalled(puppet: Puppet): Promise<string> {
  return puppet.run(async () => {
    const heard = new Promise<void>((done) => process.once('SIGUSR1', () => done()))
    process.kill(process.pid, 'SIGUSR1')
    await heard
    return process.getBuiltinModule('node:inspector').url() ?? 'none'
  })
}

/**
 * The handler of the test must not be the only one: whether one of the library's is there without
 * it.
 */
async function check(puppet: Puppet, when: string): Promise<void> {
  assert.ok((await puppet.run(() => process.listenerCount('SIGUSR1'))) > 0, when)
  assert.equal(await signalled(puppet), 'none', when)
}

test('SIGUSR1 opens no inspector in a daemon: starting, ready, upgrading, overlapping, draining, and in each new version from its first line on', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  await old.run(({ open }) => open({ name: 'web' }).then(() => {}))
  await check(old, 'starting')
  const port = await old.run(async ({ listen, kept }) => {
    const open = await listen()
    await kept.daemon?.ready()
    return open
  })
  await check(old, 'ready')
  const client = await HttpConnection.open(port)
  client.socket.write('GET /slow HTTP/1.1\r\nhost: x\r\n\r\n')
  await old.event('asked')
  const { young, upgrading } = await beginReplace(lab, old, { overlap: 300 })
  await check(young, 'the first moment of a successor, before any verb')
  await check(old, 'upgrading')
  const ready = young.run(({ start }) => start({ name: 'web' }))
  await eventually(
    'the overlap',
    async () => (await old.run(({ kept }) => kept.daemon?.phase)) === 'overlapping' || undefined,
  )
  await check(old, 'overlapping')
  await check(young, 'overlapping')
  await ready
  await upgrading
  await check(old, 'draining')
  await check(young, 'ready')
  await old.run(({ finish }) => finish())
  client.socket.destroy()
  await drained(old)
  await check(young, 'ready alone')
})

test('with the verbs of the original Go API SIGUSR1 opens no inspector in a daemon stage, nor in any process from writePid() on', async () => {
  await using lab = await Lab.open()
  const daemon = await lab.start('puppet', { args: ['--daemonize={}'] })
  await check(daemon, 'daemon stage')
  const plain = await lab.start()
  // A program that has published nothing can still be looked into.
  assert.equal(await plain.run(() => process.listenerCount('SIGUSR1')), 0)
  await openListener(plain)
  const upgrading = plain.run(async ({ cook }) => void (await cook.upgrade({ stage: 'daemon' })))
  const young = await lab.next()
  await check(young, 'successor')
  await takeListener(young)
  await upgrading
  await plain.run(({ cook }, file) => cook.writePid(file), lab.path('pid'))
  await check(plain, 'writePid()')
})

test('a program that takes its own SIGUSR1 listener away does not die by the signal', async () => {
  await using lab = await Lab.open()
  const daemon = await lab.start()
  await daemon.run(({ start }) => start())
  await daemon.run(() => {
    const own = () => {}
    process.on('SIGUSR1', own)
    process.removeListener('SIGUSR1', own)
  })
  await check(daemon, 'after it')
})

test('a program under the preload opens no inspector at SIGUSR1, first version and second', async () => {
  await using program = await Program.start('http.mjs', { env: { NODE_OPTIONS: '' } })
  for (const _ of [1, 2]) {
    program.kill('SIGUSR1')
    // The signals of one process come in the order of their numbers, and this one is 12: when the
    // upgrade has begun, the other was taken.
    await program.upgrade()
    assert.doesNotMatch(program.output, /Debugger listening/)
  }
  assert.doesNotMatch(program.output, /Debugger listening/)
})

test('the inspector of an old version is reachable through no new one, and ends with the old one', async () => {
  await using lab = await Lab.open()
  const old = await lab.start('puppet', { execArgv: ['--inspect=127.0.0.1:0'] })
  await old.run(({ start }) => start({ name: 'web' }))
  const url = await old.run(() => process.getBuiltinModule('node:inspector').url())
  const port = Number(new URL(String(url)).port)
  assert.equal(await knock(port), 'connected')
  const young = await replace(lab, old, ({ start }) => start({ name: 'web' }))
  await drained(old)
  assert.equal(await young.run(() => process.getBuiltinModule('node:inspector').url() ?? 'none'), 'none')
  old.kill('SIGKILL')
  await old.gone
  // Its inspector has a thread of its own, which may close its socket a moment later.
  await eventually('the end of the inspector', async () => (await knock(port)) === 'ECONNREFUSED' || undefined)
})

const environments: Readonly<Record<string, string>> = {
  'the environment of a shell in which somebody debugs': '--inspect=127.0.0.1:0 --no-deprecation',
  'in quotes': '"--inspect=127.0.0.1:0" --no-deprecation',
  'with underscores and a value apart': '--inspect --inspect_port 0 --no-deprecation',
  'that waits': '--inspect-wait=127.0.0.1:0 --no-deprecation',
}

for (const [what, NODE_OPTIONS] of Object.entries(environments)) {
  test(`an upgrade with another environment passes no inspector on: ${what}`, async () => {
    await using lab = await Lab.open()
    const old = await lab.start()
    await old.run(({ start }) => start({ name: 'web' }))
    const env = { ...process.env, ...lab.environment(), NODE_OPTIONS } as Record<string, string>
    const young = await replace(lab, old, ({ start }) => start({ name: 'web' }), { env })
    const seen = ({ cook: _ }: PuppetScope) => [
      process.getBuiltinModule('node:inspector').url() ?? 'none',
      (process as { noDeprecation?: boolean }).noDeprecation,
    ]
    assert.deepEqual(await young.run(seen), ['none', true])
  })
}

function knock(port: number): Promise<string> {
  return new Promise((answer) => {
    const socket = connect(port, '127.0.0.1', () => {
      socket.destroy()
      answer('connected')
    })
    socket.once('error', (error: NodeJS.ErrnoException) => answer(String(error.code)))
  })
}
