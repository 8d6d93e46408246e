/**
 * What a generation inherits: the start of the first one, and nothing of the machinery in between.
 */
import assert from 'node:assert/strict'
import { mkdirSync, readdirSync, readFileSync, readlinkSync, renameSync, symlinkSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { pathToFileURL } from 'node:url'
import type { PuppetScope } from '../fixtures/puppet-scope.ts'
import { fixturePath, Lab, type Puppet, type StartOptions } from '../support/lab.ts'
import { leave, openListener, upgradeOnce } from '../support/steps.ts'
import { eventually } from '../support/waiting.ts'

const onLinux = { skip: process.platform !== 'linux' && 'reads /proc' }

for (const stage of ['parent', 'daemon'] as const) {
  const way = stage === 'parent' ? 'the way of the original Go API' : 'the direct way'

  test(`other children of the program see nothing of this library in their environment, ${way}`, async () => {
    await using lab = await Lab.open()
    const daemon = await lab.start('puppet', { args: ['--daemonize={}'] })
    await openListener(daemon)
    assert.deepEqual(await daemon.run(machineryInChild), [])
    const young = await upgradeOnce(lab, daemon, { stage })
    assert.deepEqual(await young.run(machineryInChild), [])
  })

  test(`a program that listens to its parent process sees nothing of the link, ${way}`, async () => {
    await using lab = await Lab.open()
    const listen = ({ kept }: PuppetScope) => {
      kept.seen = []
      for (const name of ['message', 'disconnect'] as const) {
        process.on(name as 'disconnect', () => (kept.seen as string[]).push(name))
      }
    }
    const old = await lab.start('puppet', { args: [`--before=${listen}`, '--daemonize={}'] })
    await openListener(old)
    const young = await upgradeOnce(lab, old, { stage })
    await leave(old)
    const third = await upgradeOnce(lab, young, { stage })
    const seen = ({ kept }: PuppetScope) => [typeof process.send, kept.seen]
    assert.deepEqual(await young.run(seen), ['undefined', []])
    assert.deepEqual(await third.run(seen), ['undefined', []])
  })

  test(`a successor has the environment of the start, not what the program made of it, ${way}`, async () => {
    await using lab = await Lab.open()
    const old = await lab.start('puppet', { env: { AT_START: 'yes' }, args: ['--daemonize={"env":{"OPTION":"yes"}}'] })
    await openListener(old)
    await old.run(() => {
      process.env.AT_START = 'no'
      process.env.FROM_FILE = 'no'
    })
    const young = await upgradeOnce(lab, old, { stage })
    const seen = await young.run(() => [process.env.AT_START, process.env.OPTION, process.env.FROM_FILE ?? 'unset'])
    assert.deepEqual(seen, ['yes', 'yes', 'unset'])
  })

  const starts: Readonly<Record<string, (lab: Lab) => [string, StartOptions]>> = {
    'was typed in the path of the script': (lab) => [lab.path('current', 'app.mjs'), {}],
    'was the working directory': () => [
      'puppet',
      { execPath: 'bash', execArgv: ['-c', 'cd current && exec "$1" app.mjs "$3"', 'bash', process.execPath] },
    ],
  }

  for (const [where, start] of Object.entries(starts)) {
    test(`a symlink to the release that ${where} is followed again, ${way}`, async () => {
      await using lab = await Lab.open()
      makeRelease(lab, 'v1')
      const [script, options] = start(lab)
      const old = await lab.start(script, { ...options, args: ['--daemonize={}'] })
      await openListener(old)
      assert.equal(await old.run(release), 'v1')
      makeRelease(lab, 'v2')
      const young = await upgradeOnce(lab, old, { stage })
      assert.equal(await young.run(release), 'v2')
      makeRelease(lab, 'v3')
      const third = await upgradeOnce(lab, young, { stage })
      assert.equal(await third.run(release), 'v3')
    })
  }

  test(`generation 5 has what generation 2 had: environment, descriptors, no zombie, ${way}`, onLinux, async () => {
    await using lab = await Lab.open()
    const generations = [await lab.start('puppet', { args: ['--daemonize={}'] })]
    await openListener(generations[0] as Puppet)
    while (generations.length < 6) generations.push(await upgradeOnce(lab, generations.at(-1) as Puppet, { stage }))
    const [, second, , fourth, fifth] = generations as [Puppet, Puppet, Puppet, Puppet, Puppet]
    const environment = () => process.env
    assert.deepEqual(await fifth.run(environment), await second.run(environment))
    assert.deepEqual(variables(fifth), variables(second))
    // The link of an upgrade is closed a moment after its commit.
    const isSame = () => String(descriptors(fifth)) === String(descriptors(second)) || undefined
    await eventually('the same descriptors', isSame).catch(() =>
      assert.deepEqual(descriptors(fifth), descriptors(second)),
    )
    fourth.kill('SIGKILL')
    await fourth.gone
    const pids = generations.map(({ pid }) => pid)
    await eventually('the end of all zombies', () => zombiesOf(pids).length === 0 || undefined)
  })
}

test('a channel that the parent of the program opened is left alone', async () => {
  await using lab = await Lab.open()
  const parent = await lab.start()
  await parent.run(({ kept }, script) => {
    const { fork } = process.getBuiltinModule('node:child_process')
    kept.heard = []
    fork(script, []).on('message', (message) => (kept.heard as unknown[]).push(message))
  }, fixturePath('puppet'))
  const old = await lab.next()
  await openListener(old)
  const young = await upgradeOnce(lab, old, { stage: 'daemon' })
  assert.equal(await young.run(() => typeof process.send), 'undefined')
  await old.run(() => new Promise((sent) => process.send?.('ready', undefined, undefined, sent)))
  await eventually('the message', () => parent.run(({ kept }) => (kept.heard as unknown[])[0]))
  assert.deepEqual(await parent.run(({ kept }) => kept.heard), ['ready'])
})

const inspectors: Readonly<Record<string, StartOptions>> = {
  'an option of node': { execArgv: ['--inspect=127.0.0.1:0', '--no-deprecation'] },
  'an option of node with its value apart': { execArgv: ['--inspect-port', '0', '--inspect', '--no-deprecation'] },
  'a word of NODE_OPTIONS': { env: { NODE_OPTIONS: '--inspect=127.0.0.1:0 --no-deprecation' } },
  'a word of NODE_OPTIONS beside one in quotes': {
    env: {
      NODE_OPTIONS: `--import "data:text/javascript,if('a  b'.length<4)throw/it/" --inspect=127.0.0.1:0 --no-deprecation`,
    },
  },
  'words of NODE_OPTIONS': { env: { NODE_OPTIONS: '--inspect --inspect-port 0 --no-deprecation' } },
}

for (const [what, options] of Object.entries(inspectors)) {
  test(`an inspector that was ${what} is not handed on, and other options are`, async () => {
    await using lab = await Lab.open()
    const old = await lab.start('puppet', options)
    await openListener(old)
    const open = () => [
      typeof process.getBuiltinModule('node:inspector').url(),
      (process as { noDeprecation?: boolean }).noDeprecation,
    ]
    assert.deepEqual(await old.run(open), ['string', true])
    const young = await upgradeOnce(lab, old, { stage: 'daemon' })
    assert.deepEqual(await young.run(open), ['undefined', true])
  })
}

/** What of this library and of Node's channel a child sees. */
function machineryInChild(): string[] {
  const { spawnSync } = process.getBuiltinModule('node:child_process')
  const { stdout } = spawnSync('env', { encoding: 'utf8' })
  return stdout.split('\n').filter((line) => /^(COOK_DAEMON_(?!HOME=)|NODE_CHANNEL_)/.test(line))
}

/** A puppet that knows its release, which becomes the current one. */
function makeRelease(lab: Lab, name: string): void {
  mkdirSync(lab.path(name))
  const puppet = JSON.stringify(pathToFileURL(fixturePath('puppet')))
  writeFileSync(lab.path(name, 'app.mjs'), `globalThis.release = '${name}'\nawait import(${puppet})\n`)
  symlinkSync(name, lab.path('next'))
  renameSync(lab.path('next'), lab.path('current'))
}

function release(): string {
  return (globalThis as { release?: string }).release ?? 'none'
}

/** The names of what a process was started with. */
function variables({ pid }: Puppet): string[] {
  const pairs = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0')
  return pairs.map((pair) => pair.replace(/=.*/s, '')).sort()
}

/** What a process has open, without the numbers that tell one socket from another. */
function descriptors({ pid }: Puppet): string[] {
  return readdirSync(`/proc/${pid}/fd`)
    .map((fd) => `${fd} ${readlinkSync(`/proc/${pid}/fd/${fd}`).replace(/\d+/, '')}`)
    .sort()
}

function zombiesOf(parents: readonly number[]): string[] {
  const processes = readdirSync('/proc').filter((name) => /^\d+$/.test(name))
  return processes.filter((pid) => {
    const [state, parent] = stat(pid)
    return state === 'Z' && parents.includes(Number(parent))
  })
}

/** Fields 3 and on of proc_pid_stat(5); nothing of a process that is gone by now. */
function stat(pid: string): string[] {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1')
    return text.slice(text.lastIndexOf(')') + 2).split(' ')
  } catch {
    return []
  }
}
