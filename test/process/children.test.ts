/**
 * What other children of a program get of this library: nothing, whatever they are and whenever
 * they start.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Lab, type Puppet } from '../support/lab.ts'
import { openListener, takeListener } from '../support/steps.ts'

const onLinux = { skip: process.platform !== 'linux' && 'reads /proc' }

for (const stage of ['daemon', 'parent'] as const) {
  test(
    `no child of the program, of whatever kind and in whatever moment of an upgrade, has a descriptor, a variable, the channel or a signal of ours, stage ${stage}`,
    onLinux,
    async () => {
      await using lab = await Lab.open()
      const old = await lab.start('puppet', { args: ['--daemonize={}'] })
      await openListener(old)
      await checkChildren(old)
      const upgrading = old.run(async ({ cook }, given) => void (await cook.upgrade({ stage: given })), stage)
      const young = await lab.next()
      await checkChildren(old)
      await young.run(({ cook }) => cook.inUpgrade())
      await checkChildren(young)
      await takeListener(young)
      await upgrading
      await checkChildren(old)
      await checkChildren(young)
    },
  )
}

/** Starts a child of each kind in a process, which tell what they see. */
async function checkChildren(puppet: Puppet): Promise<void> {
  const seen = await puppet.run(async ({ fs }) => {
    const { execFileSync, execSync, fork, spawn } = process.getBuiltinModule('node:child_process')
    const look =
      'ls /proc/self/fd | sed "s/^/fd /"; env | grep -E "^(COOK_DAEMON_[^H]|NODE_CHANNEL)"; grep -E "^Sig(Blk|Ign)" /proc/self/status'
    const lines = (text: string) => text.trim().split('\n')
    const detached = spawn('/bin/sh', ['-c', look], { detached: true, stdio: ['ignore', 'pipe', 'ignore'] })
    const chunks: string[] = []
    for await (const chunk of detached.stdout.setEncoding('utf8')) chunks.push(chunk)
    fs.writeFileSync(
      'child.cjs',
      `process.send(Object.keys(process.env).filter((name) => /^COOK_DAEMON_[^H]/.test(name)).concat([process.channel.fd === undefined ? 'no channel' : 'channel']), () => process.disconnect())`,
    )
    const forked = fork('./child.cjs', [], { stdio: ['ignore', 'ignore', 'ignore', 'ipc'] })
    const inFork = await new Promise((done) => forked.once('message', done))
    const { Worker } = process.getBuiltinModule('node:worker_threads')
    const worker = new Worker(
      `require('worker_threads').parentPort.postMessage([Object.keys(process.env).filter((name) => /^COOK_DAEMON_[^H]/.test(name)), process.channel === undefined, process.send === undefined])`,
      { eval: true },
    )
    const inWorker = await new Promise((done) => worker.once('message', done))
    return {
      file: lines(execFileSync('/bin/sh', ['-c', look], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })),
      shell: lines(execSync(look, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })),
      detached: lines(chunks.join('')),
      inFork,
      inWorker,
    }
  })
  const { file, shell, detached, inFork, inWorker } = seen
  // 3 is the folder that ls reads.
  const clean = ['fd 0', 'fd 1', 'fd 2', 'fd 3', 'SigBlk:\t0000000000000000', 'SigIgn:\t0000000000000000']
  for (const lines of [file, shell, detached]) assert.deepEqual(lines, clean)
  assert.deepEqual(inFork, ['channel'])
  assert.deepEqual(inWorker, [[], true, true])
}
