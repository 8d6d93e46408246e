/** The pid file: it names the process that owns the service, at every moment. */
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'
import { FullDisk, noFullDisk } from '../support/full-disk.ts'
import { fixturePath, Lab, type Puppet } from '../support/lab.ts'

test('the pid file names the old process until the commit, and then the new one', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  await writePid(old, lab)
  assert.equal(lab.read('pid'), `${old.pid}\n`)
  const upgrading = old.run(async ({ cook }) => void (await cook.upgrade({ stage: 'daemon' })))
  const young = await lab.next()
  await assert.rejects(writePid(young, lab), {
    code: 'ERR_COOK_NOT_COMMITTED',
    message: new RegExp(`until then the old process \\(pid ${old.pid}\\) owns`),
  })
  assert.equal(lab.read('pid'), `${old.pid}\n`)
  await young.run(({ cook }) => cook.notifyUpgradeDone())
  await upgrading
  await writePid(young, lab)
  assert.equal(lab.read('pid'), `${young.pid}\n`)
})

test('the third generation may write over the first, which still lives', async () => {
  await using lab = await Lab.open()
  const first = await lab.start()
  await writePid(first, lab)
  const second = await upgradeOnce(lab, first)
  const third = await upgradeOnce(lab, second)
  await writePid(third, lab)
  assert.equal(lab.read('pid'), `${third.pid}\n`)
})

test('after a failed upgrade the pid file names the old process', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  await writePid(old, lab)
  await assert.rejects(failedUpgrade(old), { code: 'ERR_COOK_SUCCESSOR_FAILED' })
  assert.equal(lab.read('pid'), `${old.pid}\n`)
})

test('a new version that wrote the pid file without this library, and failed, is written over', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  await writePid(old, lab)
  const upgrading = old.run(({ cook }) => cook.upgrade({ stage: 'daemon' }))
  upgrading.catch(() => {})
  const young = await lab.next()
  await young.run(({ fs }, file) => fs.writeFileSync(file, `${process.pid}\n`), lab.path('pid'))
  young.kill('SIGKILL')
  await assert.rejects(upgrading, { code: 'ERR_COOK_SUCCESSOR_EXITED' })
  assert.equal(lab.read('pid'), `${old.pid}\n`)
})

test('a failed upgrade tells its own reason, even if the folder of the pid file is gone', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const folder = lab.makeFolder('run')
  await writePid(old, lab, 'run/pid')
  rmSync(folder, { recursive: true })
  await assert.rejects(failedUpgrade(old), { code: 'ERR_COOK_SUCCESSOR_FAILED' })
})

test('a failed upgrade leaves a pid file alone that names another living process by then', async () => {
  await using lab = await Lab.open()
  await using stranger = sleep()
  const old = await lab.start()
  await writePid(old, lab)
  writeFileSync(lab.path('pid'), `${stranger.pid}\n`)
  await assert.rejects(failedUpgrade(old), { code: 'ERR_COOK_SUCCESSOR_FAILED' })
  assert.equal(lab.read('pid'), `${stranger.pid}\n`)
})

test('the file of a dead process is written over, and so is one that names nobody', async () => {
  await using lab = await Lab.open()
  const puppet = await lab.start()
  const { pid: dead } = spawnSync('true')
  for (const text of [`${dead}\n`, '', 'nobody', '-1', '0', '99999999999']) {
    writeFileSync(lab.path('pid'), text)
    await writePid(puppet, lab)
    assert.equal(lab.read('pid'), `${puppet.pid}\n`)
  }
})

test('the file of another living process is left as it is', async () => {
  await using lab = await Lab.open()
  await using stranger = sleep()
  const puppet = await lab.start()
  writeFileSync(lab.path('pid'), `${stranger.pid}\n`)
  await assert.rejects(writePid(puppet, lab), {
    code: 'ERR_COOK_PID_FILE_TAKEN',
    message: new RegExp(`names another running process \\(pid ${stranger.pid}\\)`),
  })
  assert.equal(lab.read('pid'), `${stranger.pid}\n`)
})

test('a process that only got the number, after the file was written, does not stand in the way', async () => {
  await using lab = await Lab.open()
  await using stranger = sleep()
  const puppet = await lab.start()
  writeFileSync(lab.path('pid'), `${stranger.pid}\n`)
  const anHourAgo = Date.now() / 1000 - 3_600
  utimesSync(lab.path('pid'), anHourAgo, anHourAgo)
  await writePid(puppet, lab)
  assert.equal(lab.read('pid'), `${puppet.pid}\n`)
})

test('a reader never sees half a pid file', async () => {
  await using lab = await Lab.open()
  let puppet = await lab.start()
  await writePid(puppet, lab)
  const texts = new Set<string>()
  let isReading = true
  const reading = (async () => {
    while (isReading) texts.add(await readFile(lab.path('pid'), 'utf8'))
  })()
  const pids = [puppet.pid]
  for (let generation = 2; generation <= 4; generation++) {
    puppet = await upgradeOnce(lab, puppet)
    await puppet.run(({ cook }, file) => {
      for (let times = 0; times < 200; times++) cook.writePid(file)
    }, lab.path('pid'))
    pids.push(puppet.pid)
  }
  isReading = false
  await reading
  for (const text of texts) assert.ok(pids.map((pid) => `${pid}\n`).includes(text), JSON.stringify(text))
})

test('a symlink in place of the pid file is replaced, not followed', async () => {
  await using lab = await Lab.open()
  const puppet = await lab.start()
  writeFileSync(lab.path('precious'), 'keep me')
  symlinkSync(lab.path('precious'), lab.path('pid'))
  await writePid(puppet, lab)
  assert.equal(lab.read('precious'), 'keep me')
  assert.ok(lstatSync(lab.path('pid')).isFile())
  assert.equal(lab.read('pid'), `${puppet.pid}\n`)
})

test('a full disk does not keep the pid file from naming the new version, and no other file is written through it', {
  skip: noFullDisk(),
}, async () => {
  await using lab = await Lab.open()
  using disk = FullDisk.mount(lab.makeFolder('disk'))
  const old = await lab.start()
  await writePid(old, lab, 'disk/pid')
  writeFileSync(lab.path('disk', 'precious'), '12345678')
  disk.fill()
  const young = await upgradeOnce(lab, old)
  await writePid(young, lab, 'disk/pid')
  assert.equal(lab.read('disk/pid').trim(), String(young.pid))
  // A second name of somebody's file, which a pid file in an open folder could be.
  rmSync(lab.path('disk', 'pid'))
  linkSync(lab.path('disk', 'precious'), lab.path('disk', 'pid'))
  disk.fill()
  await assert.rejects(writePid(young, lab, 'disk/pid'), { code: 'ERR_COOK_PID_FILE', message: /ENOSPC/ })
  assert.equal(lab.read('disk/precious'), '12345678')
})

test('a folder that does not exist, or one in place of the file, is told and nothing is left', async () => {
  await using lab = await Lab.open()
  const puppet = await lab.start()
  mkdirSync(lab.path('folder'))
  await assert.rejects(writePid(puppet, lab, 'nowhere/pid'), { code: 'ERR_COOK_PID_FILE', message: /nowhere/ })
  await assert.rejects(writePid(puppet, lab, 'folder'), { code: 'ERR_COOK_PID_FILE' })
  await assert.rejects(
    puppet.run(({ cook }) => cook.writePid('')),
    { code: 'ERR_COOK_PID_FILE' },
  )
  assert.deepEqual(readdirSync(lab.folder).sort(), ['folder', 'lab'])
})

test('a relative path is one from the working directory of the call', async () => {
  await using lab = await Lab.open()
  const puppet = await lab.start()
  lab.makeFolder('elsewhere')
  await puppet.run(({ cook }) => {
    cook.writePid('pid')
    process.chdir('elsewhere')
  })
  await assert.rejects(failedUpgrade(puppet), { code: 'ERR_COOK_SUCCESSOR_FAILED' })
  assert.equal(readFileSync(lab.path('pid'), 'utf8'), `${puppet.pid}\n`)
  assert.deepEqual(readdirSync(lab.path('elsewhere')), [])
})

function writePid(puppet: Puppet, lab: Lab, name = 'pid'): Promise<void> {
  return puppet.run(({ cook }, file) => cook.writePid(file), lab.path(name))
}

async function upgradeOnce(lab: Lab, old: Puppet): Promise<Puppet> {
  const upgrading = old.run(async ({ cook }) => void (await cook.upgrade({ stage: 'daemon' })))
  const young = await lab.next()
  await young.run(({ cook }) => cook.notifyUpgradeDone())
  await upgrading
  return young
}

function failedUpgrade(old: Puppet): Promise<unknown> {
  return old.run(
    ({ cook }, script) => cook.upgrade({ stage: 'daemon', script, args: ['no'] }),
    fixturePath('bad-version'),
  )
}

/** A living process that has nothing to do with us. */
function sleep(): AsyncDisposable & { readonly pid: number } {
  const child = spawn('sleep', ['60'], { stdio: 'ignore' })
  return {
    pid: Number(child.pid),
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL')
      await once(child, 'exit')
    },
  }
}
