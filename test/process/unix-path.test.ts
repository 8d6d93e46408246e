/** Unix paths: a path lives as long as the service, and no start takes it from another. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { existsSync, linkSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { test } from 'node:test'
import { ask, connectAllTheTime } from '../support/clients.ts'
import { Lab, type Puppet } from '../support/lab.ts'
import { leave } from '../support/steps.ts'
import { eventually } from '../support/waiting.ts'

test('a Unix path survives three generations, and no client is refused', async () => {
  await using lab = await Lab.open()
  const path = lab.path('socket')
  let puppet = await lab.start()
  await listenUnix(puppet, path)
  const load = connectAllTheTime({ path }, 8)
  for (let generation = 2; generation <= 4; generation++) {
    const young = await upgradeUnix(lab, puppet)
    const before = load.answers
    await eventually('answers while both accept', () => load.answers > before + 50 || undefined)
    await leave(puppet)
    puppet = young
  }
  const before = load.answers
  await eventually('answers of the last generation', () => load.answers > before + 50 || undefined)
  const { answers, failures } = await load.stop()
  assert.deepEqual(failures, [])
  assert.equal(answers.size, 4)
})

test('address() gives the public path in every generation', async () => {
  await using lab = await Lab.open()
  const path = lab.path('socket')
  let puppet = await lab.start()
  await listenUnix(puppet, path)
  for (let generation = 1; generation <= 3; generation++) {
    assert.equal(await puppet.run(({ kept }) => kept.server?.address()), path)
    const young = await upgradeUnix(lab, puppet)
    await leave(puppet)
    puppet = young
  }
})

test('a stop that is no upgrade removes the path, in the first generation and in a later one', async () => {
  await using lab = await Lab.open()
  const path = lab.path('socket')
  const old = await lab.start()
  await listenUnix(old, path)
  await close(old)
  assert.ok(!existsSync(path))
  await listenUnix(old, path)
  const young = await upgradeUnix(lab, old)
  await close(old)
  assert.ok(existsSync(path))
  await close(young)
  assert.deepEqual(readdirSync(lab.folder), ['lab'])
})

test('a new version that says no and closes its listener leaves the path to the old one', async () => {
  await using lab = await Lab.open()
  const path = lab.path('socket')
  const old = await lab.start()
  await listenUnix(old, path)
  const upgrading = old.run(({ cook }) => cook.upgrade({ stage: 'daemon' }))
  upgrading.catch(() => {})
  const young = await lab.next()
  await young.run(async ({ cook, kept, echo }) => {
    const [listener] = cook.inheritUnixListeners('admin')
    if (listener !== undefined) kept.server = await echo(listener)
    if (kept.server !== undefined) cook.addInheritUnixListener('admin', kept.server)
  })
  await close(young)
  await young.run(async ({ cook }) => {
    await cook.notifyUpgradeDone(false, 'no')
    setImmediate(() => process.exit(1))
  })
  await assert.rejects(upgrading, { code: 'ERR_COOK_SUCCESSOR_FAILED' })
  assert.equal(await ask({ path }), String(old.pid))
})

test('a path that server.listen(path) opened is there after the upgrade too, with the same file', async () => {
  await using lab = await Lab.open()
  const path = lab.path('socket')
  let puppet = await lab.start()
  await puppet.run(async ({ cook, kept, echo }, where) => {
    kept.server = await echo(where)
    cook.addInheritUnixListener('admin', kept.server)
  }, path)
  const { ino } = statSync(path)
  for (let generation = 2; generation <= 3; generation++) {
    const young = await upgradeUnix(lab, puppet)
    await leave(puppet)
    assert.equal(await ask({ path }), String(young.pid))
    puppet = young
  }
  assert.equal(statSync(path).ino, ino)
  assert.deepEqual(readdirSync(lab.folder).sort(), ['lab', 'socket'])
})

test('after an upgrade an old process that is killed leaves the path to the new one', async () => {
  await using lab = await Lab.open()
  const path = lab.path('socket')
  const old = await lab.start()
  await listenUnix(old, path)
  const young = await upgradeUnix(lab, old)
  old.kill('SIGKILL')
  await old.gone
  assert.equal(await ask({ path }), String(young.pid))
})

test('the file of a dead process is replaced', async () => {
  await using lab = await Lab.open()
  const path = lab.path('socket')
  const dead = await lab.start()
  await listenUnix(dead, path)
  dead.kill('SIGKILL')
  await dead.gone
  assert.ok(existsSync(path))
  const puppet = await lab.start()
  await listenUnix(puppet, path)
  assert.equal(await ask({ path }), String(puppet.pid))
  assert.deepEqual(readdirSync(lab.folder).sort(), ['lab', 'socket'])
})

test('a path on which a living process listens is left to it', async () => {
  await using lab = await Lab.open()
  const path = lab.path('socket')
  const owner = await lab.start()
  await owner.run(({ echo }, where) => echo(where).then(() => {}), path)
  const puppet = await lab.start()
  await assert.rejects(listenUnix(puppet, path), { code: 'ERR_COOK_PATH_IN_USE', message: /another process listens/ })
  assert.equal(await ask({ path }), String(owner.pid))
  assert.deepEqual(readdirSync(lab.folder).sort(), ['lab', 'socket'])
})

test('a file that is no socket is left as it is', async () => {
  await using lab = await Lab.open()
  const path = lab.path('notes')
  writeFileSync(path, 'dear diary')
  const puppet = await lab.start()
  await assert.rejects(listenUnix(puppet, path), { code: 'ERR_COOK_PATH_IN_USE', message: /it is not a socket/ })
  assert.equal(readFileSync(path, 'utf8'), 'dear diary')
})

test('a path that is too long is told, and no shorter one is made', async () => {
  await using lab = await Lab.open()
  const puppet = await lab.start()
  const path = lab.path('x'.repeat(107 - lab.folder.length))
  await assert.rejects(listenUnix(puppet, path), { code: 'ERR_COOK_PATH_TOO_LONG', message: /this system allows 10\d/ })
  assert.deepEqual(readdirSync(lab.folder), ['lab'])
})

test('a path in a folder that does not exist is told', async () => {
  await using lab = await Lab.open()
  const puppet = await lab.start()
  await assert.rejects(listenUnix(puppet, lab.path('nowhere', 'socket')), { code: 'ERR_COOK_UNIX_PATH' })
})

test('of several processes that start on the path of a dead one at once, exactly one gets it', async () => {
  await using lab = await Lab.open()
  const path = lab.path('socket')
  const puppets = await Promise.all([1, 2, 3, 4].map(() => lab.start()))
  for (let round = 0; round < 20; round++) {
    await leaveDeadSocket(path)
    const starts = await Promise.allSettled(puppets.map((puppet) => listenUnix(puppet, path)))
    const codes = starts.flatMap((start) => (start.status === 'rejected' ? [start.reason.code] : []))
    assert.deepEqual(codes, ['ERR_COOK_PATH_IN_USE', 'ERR_COOK_PATH_IN_USE', 'ERR_COOK_PATH_IN_USE'])
    const winner = puppets.find((_, index) => starts[index]?.status === 'fulfilled')
    assert.ok(winner !== undefined)
    assert.equal(await ask({ path }), String(winner.pid))
    await close(winner)
    assert.deepEqual(readdirSync(lab.folder), ['lab'])
  }
})

test('the file has the mode that was asked for', async () => {
  await using lab = await Lab.open()
  const puppet = await lab.start()
  await listenUnix(puppet, lab.path('socket'), { mode: 0o600 })
  assert.equal(statSync(lab.path('socket')).mode & 0o777, 0o600)
})

function listenUnix(puppet: Puppet, path: string, options: { mode?: number } = {}): Promise<void> {
  return puppet.run(
    async ({ cook, kept, net }, { path, options }) => {
      const server = net.createServer((socket) => {
        socket.on('error', () => {}).end(`${process.pid}\n`)
      })
      await cook.listenUnix(server, path, options)
      cook.addInheritUnixListener('admin', server)
      kept.server = server
    },
    { path, options },
  )
}

/** One whole upgrade, after which both accept. */
async function upgradeUnix(lab: Lab, old: Puppet): Promise<Puppet> {
  const upgrading = old.run(async ({ cook }) => void (await cook.upgrade({ stage: 'daemon' })))
  const young = await lab.next()
  await young.run(async ({ cook, kept, echo }) => {
    const [listener] = cook.inheritUnixListeners('admin')
    if (listener === undefined) throw new Error('no listener')
    kept.server = await echo(listener)
    await cook.notifyUpgradeDone()
    cook.addInheritUnixListener('admin', kept.server)
  })
  await upgrading
  return young
}

function close(puppet: Puppet): Promise<void> {
  return puppet.run(({ cook, kept }) => {
    cook.restoreInheritFiles()
    return new Promise<void>((closed) => kept.server?.close(() => closed()))
  })
}

/**
 * What a process that was killed leaves: libuv removes the name that it bound, and not this one.
 */
async function leaveDeadSocket(path: string): Promise<void> {
  const server = createServer().listen(`${path}-`)
  await once(server, 'listening')
  linkSync(`${path}-`, path)
  await new Promise((closed) => server.close(closed))
}
