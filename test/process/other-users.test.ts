/**
 * Other users of the machine: what a daemon opens is closed to them, and what they plant in its way
 * is neither believed, nor written through, nor removed.
 */
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  lchownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createServer, type Server } from 'node:net'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import { bindBeside, openUnixPath } from '../../src/listen/unix-path.ts'
import { Registry } from '../../src/process/handles.ts'
import { openLog } from '../../src/process/log.ts'
import { releasePidFile, writePidFile } from '../../src/process/pid-file.ts'
import { openRunDirectory } from '../../src/process/run-dir.ts'
import { statusOf } from '../support/control.ts'
import { replace } from '../support/daemons.ts'
import { Lab } from '../support/lab.ts'

const nobody = 65_534
const asRoot = { skip: process.getuid?.() !== 0 && 'only root can play another user' }

/** Runs a program as another user, in a folder that he may be kept out of by its own mode only. */
async function asNobody(cwd: string, code: string): Promise<string> {
  const child = spawn('node', ['-e', code], { cwd, uid: nobody, gid: nobody, stdio: ['ignore', 'pipe', 'inherit'] })
  const [output] = await Promise.all([text(child.stdout), once(child, 'close')])
  return output.trim()
}

test(
  'another user can neither list the run directory, nor connect to a control socket, nor read a log, in any generation',
  asRoot,
  async () => {
    await using lab = await Lab.open()
    chmodSync(lab.folder, 0o755)
    const old = await lab.start()
    await old.run(({ start }) => start({ name: 'web' }))
    closeSync(openLog(lab.path('run', 'web.log')))
    const tries = `
    const { connect } = require('net'), fs = require('fs')
    const code = (call) => { try { call(); return 'done' } catch (error) { return error.code } }
    const files = [code(() => fs.readdirSync('run')), code(() => fs.readFileSync('run/web.log')), code(() => fs.rmSync('run/web.sock')), code(() => fs.symlinkSync('x', 'run/other.sock'))]
    connect('run/web.sock', () => { console.log(files.join(), 'connected'); process.exit() }).on('error', (error) => console.log(files.join(), error.code))`
    const refused = 'EACCES,EACCES,EACCES,EACCES EACCES'
    assert.equal(await asNobody(lab.folder, tries), refused)
    const young = await replace(lab, old, ({ start }) => start({ name: 'web' }))
    assert.equal(await asNobody(lab.folder, tries), refused)
    // Not only by the folder.
    chmodSync(lab.path('run'), 0o755)
    assert.equal(await asNobody(lab.folder, tries), 'done,EACCES,EACCES,EACCES EACCES')
    assert.equal((await statusOf(lab.path('run', 'web.sock'))).pid, young.pid)
  },
)

type Trap = (folder: string) => void

const runDirectories: Readonly<Record<string, { readonly lay: Trap; readonly words: RegExp }>> = {
  'belongs to another user': {
    lay: (folder) => {
      mkdirSync(folder, { mode: 0o700 })
      chownSync(folder, nobody, nobody)
    },
    words: /it belongs to user 65534/,
  },
  'is a symlink to a good one': {
    lay: (folder) => {
      mkdirSync(`${folder}-good`, { mode: 0o700 })
      symlinkSync(`${folder}-good`, folder)
      lchownSync(folder, nobody, nobody)
    },
    // By us or, with fs.protected_symlinks, by the kernel before we have looked.
    words: /it is a symlink|EACCES/,
  },
  'can be written in by its group': {
    lay: (folder) => {
      mkdirSync(folder)
      chmodSync(folder, 0o770)
    },
    words: /others can write to it \(its mode is 0770\)/,
  },
}

for (const [what, { lay, words }] of Object.entries(runDirectories)) {
  test(`a run directory that ${what} is refused, also in a folder like /tmp`, asRoot, async () => {
    await using lab = await Lab.open()
    const shared = sharedFolder(lab)
    lay(`${shared}/run`)
    assert.throws(() => openRunDirectory({ COOK_DAEMON_HOME: `${shared}/run` }), {
      code: 'ERR_COOK_RUN_DIR',
      message: words,
    })
  })
}

test(
  'a run directory that another user could exchange by what is above it is refused, one in a sticky folder is not',
  asRoot,
  async () => {
    await using lab = await Lab.open()
    const run = lab.path('above', 'run')
    const open = () => openRunDirectory({ COOK_DAEMON_HOME: run })
    mkdirSync(run, { recursive: true, mode: 0o700 })
    open()
    chmodSync(lab.path('above'), 0o777)
    assert.throws(open, { code: 'ERR_COOK_RUN_DIR', message: /others can write to .*above above it/ })
    chmodSync(lab.path('above'), 0o1777)
    open()
    chownSync(lab.path('above'), 0, nobody)
    chmodSync(lab.path('above'), 0o775)
    assert.throws(open, { code: 'ERR_COOK_RUN_DIR', message: /others can write to .*above above it/ })
    chownSync(lab.path('above'), nobody, nobody)
    chmodSync(lab.path('above'), 0o755)
    assert.throws(open, { code: 'ERR_COOK_RUN_DIR', message: /above above it belongs to user 65534/ })
    // His symlink on the way to it.
    chownSync(lab.path('above'), 0, 0)
    const shared = sharedFolder(lab)
    symlinkSync(lab.path('above'), `${shared}/link`)
    lchownSync(`${shared}/link`, nobody, nobody)
    assert.throws(() => openRunDirectory({ COOK_DAEMON_HOME: `${shared}/link/run` }), {
      code: 'ERR_COOK_RUN_DIR',
      message: /link on the way to it: it is a symlink that belongs to user 65534/,
    })
  },
)

const hasAcl = process.getuid?.() === 0 && spawnSync('setfacl', ['--version']).status === 0

test('a run directory in which an access list lets another user write is refused', {
  skip: !hasAcl && 'needs root and setfacl',
}, async () => {
  await using lab = await Lab.open()
  mkdirSync(lab.path('run'), { mode: 0o700 })
  const { status } = spawnSync('setfacl', ['-m', 'u:nobody:rwx', lab.path('run')])
  if (status !== 0) return
  assert.throws(() => openRunDirectory({ COOK_DAEMON_HOME: lab.path('run') }), { code: 'ERR_COOK_RUN_DIR' })
})

/**
 * What another user puts in the place of a file of ours, in a folder in which everybody can write.
 */
const traps: Readonly<
  Record<string, { readonly lay: (file: string, victim: string) => void; readonly words: RegExp }>
> = {
  'a symlink': {
    lay: (file, victim) => {
      symlinkSync(victim, file)
      lchownSync(file, nobody, nobody)
    },
    words: /it is a symlink that belongs to user 65534/,
  },
  'a symlink to nothing': {
    lay: (file, victim) => {
      symlinkSync(`${victim}-new`, file)
      lchownSync(file, nobody, nobody)
    },
    words: /it is a symlink that belongs to user 65534/,
  },
  // Where fs.protected_hardlinks is off, every user can.
  'a hard link to a file of ours': { lay: (file, victim) => linkSync(victim, file), words: /a hard link/ },
  'a file': {
    lay: (file) => {
      writeFileSync(file, `${process.pid}\n`)
      chownSync(file, nobody, nobody)
      chmodSync(file, 0o666)
    },
    words: /it belongs to user 65534/,
  },
  'a named pipe': {
    lay: (file) => {
      spawnSync('mkfifo', ['-m', '666', file])
      chownSync(file, nobody, nobody)
    },
    words: /it belongs to user 65534/,
  },
}

for (const [what, { lay, words }] of Object.entries(traps)) {
  test(
    `${what} that another user put in the place of the pid file is refused, and left as it was`,
    asRoot,
    async () => {
      await using lab = await Lab.open()
      const { file, victim, isUntouched } = layTrap(lab, lay)
      assert.throws(() => writePidFile(file, []), { code: 'ERR_COOK_PID_FILE', message: words })
      releasePidFile(file)
      isUntouched()
      // Under the private name beside it.
      rmSync(file)
      const temporary = `${file}.${process.pid}.tmp`
      if (what === 'a hard link to a file of ours') return
      lay(temporary, victim)
      assert.throws(() => writePidFile(file, []), { code: 'ERR_COOK_PID_FILE', message: /is in the way/ })
      assert.equal(lstatSync(temporary).uid, nobody)
      assert.equal(existsSync(file), false)
      assert.equal(readFileSync(victim, 'utf8'), 'secret')
    },
  )

  test(`${what} that another user put in the place of the log is refused, and left as it was`, asRoot, async () => {
    await using lab = await Lab.open()
    const { file, isUntouched } = layTrap(lab, lay)
    assert.throws(() => openLog(file), { code: 'ERR_COOK_OPTION', message: words })
    isUntouched()
  })
}

test('a daemon does not start with a pid file or a log that another user has laid, and says why', asRoot, async () => {
  await using lab = await Lab.open()
  const { file, isUntouched } = layTrap(lab, traps['a symlink']?.lay ?? (() => {}))
  const daemon = await lab.start()
  await assert.rejects(
    daemon.run(({ start }, pidFile) => start({ pidFile }), file),
    { code: 'ERR_COOK_PID_FILE', message: /symlink that belongs to user 65534/ },
  )
  await assert.rejects(
    daemon.run(({ cook }, logFile) => cook.daemonize({ logFile }), file),
    { code: 'ERR_COOK_OPTION', message: /symlink that belongs to user 65534/ },
  )
  isUntouched()
})

test(
  'a symlink of ours or of root in the place of the log is followed, and one in a folder that is ours alone',
  asRoot,
  async () => {
    await using lab = await Lab.open()
    const shared = sharedFolder(lab)
    symlinkSync(lab.path('real.log'), `${shared}/web.log`)
    closeSync(openLog(`${shared}/web.log`))
    assert.equal(lstatSync(lab.path('real.log')).mode & 0o777, 0o640)
    symlinkSync('real.log', lab.path('link.log'))
    lchownSync(lab.path('link.log'), nobody, nobody)
    closeSync(openLog(lab.path('link.log')))
    closeSync(openLog('/dev/null'))
    // From link to link: his behind ours.
    symlinkSync('/etc/passwd', `${shared}/his`)
    lchownSync(`${shared}/his`, nobody, nobody)
    symlinkSync(`${shared}/his`, lab.path('chain.log'))
    assert.throws(() => openLog(lab.path('chain.log')), { code: 'ERR_COOK_OPTION' })
    symlinkSync('loop.log', lab.path('loop.log'))
    assert.throws(() => openLog(lab.path('loop.log')), { code: 'ERR_COOK_OPTION', message: /is a dangling symlink/ })
  },
)

test(
  'root appends to a log in a folder of the user as which a service runs, and follows no symlink there',
  asRoot,
  async () => {
    await using lab = await Lab.open()
    const folder = lab.makeFolder('www')
    chownSync(folder, nobody, nobody)
    writeFileSync(`${folder}/web.log`, '')
    chownSync(`${folder}/web.log`, nobody, nobody)
    closeSync(openLog(`${folder}/web.log`))
    symlinkSync('/etc/passwd', `${folder}/trap.log`)
    lchownSync(`${folder}/trap.log`, nobody, nobody)
    assert.throws(() => openLog(`${folder}/trap.log`), { code: 'ERR_COOK_OPTION', message: /symlink that belongs/ })
  },
)

test(
  'a dead socket of another user in the place of a Unix path is refused, and so is what they put under its private names',
  asRoot,
  async () => {
    await using lab = await Lab.open()
    const shared = sharedFolder(lab)
    const state = { registry: new Registry(), phase: 'ready' as const }
    const path = `${shared}/web.sock`
    spawnSync(process.execPath, [
      '-e',
      `require('net').createServer().listen(${JSON.stringify(path)}, () => process.exit())`,
    ])
    chownSync(path, nobody, nobody)
    await assert.rejects(openUnixPath(state as never, createServer(), path, {}), {
      code: 'ERR_COOK_PATH_IN_USE',
      message: /belongs to user 65534/,
    })
    assert.equal(lstatSync(path).uid, nobody)
    rmSync(path)

    const hidden = `${path}.${process.pid.toString(36)}`
    symlinkSync('/etc/passwd', hidden)
    lchownSync(hidden, nobody, nobody)
    await assert.rejects(openUnixPath(state as never, createServer(), path, { mode: 0o666 }), {
      code: 'ERR_COOK_UNIX_PATH',
      message: /in the way/,
    })
    assert.equal(readlinkSync(hidden), '/etc/passwd')
    assert.equal(lstatSync('/etc/passwd').mode & 0o777, 0o644)

    // An unmodified program keeps listening where it asked to.
    const server: Server = createServer()
    bindBeside(state as never, server, path, (where) => server.listen(where))
    await once(server, 'listening')
    assert.equal(readlinkSync(hidden), '/etc/passwd')
    server.close()
  },
)

/** As /tmp is. */
function sharedFolder(lab: Lab): string {
  const shared = lab.makeFolder('shared')
  chmodSync(shared, 0o1777)
  return shared
}

function layTrap(lab: Lab, lay: (file: string, victim: string) => void) {
  const file = `${sharedFolder(lab)}/web`
  const victim = lab.path('victim')
  writeFileSync(victim, 'secret', { mode: 0o600 })
  lay(file, victim)
  const look = () => {
    const { ino, uid, gid, mode, nlink, size, mtimeMs, ctimeMs } = lstatSync(file)
    return { ino, uid, gid, mode, nlink, size, mtimeMs, ctimeMs }
  }
  const before = look()
  const isUntouched = () => {
    assert.deepEqual(look(), before)
    assert.equal(readFileSync(victim, 'utf8'), 'secret')
    assert.equal(lstatSync(victim).mode & 0o777, 0o600)
    assert.equal(existsSync(`${victim}-new`), false)
  }
  return { file, victim, isUntouched }
}
