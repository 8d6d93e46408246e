/**
 * Unix paths that somebody removed or replaced while a process listens there: an upgrade makes them
 * again, and nothing else is lost by it.
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { test } from 'node:test'
import { statusOf } from '../support/control.ts'
import { beginReplace } from '../support/daemons.ts'
import { HttpConnection } from '../support/http-connection.ts'
import { Lab, type Puppet } from '../support/lab.ts'
import { Program } from '../support/program.ts'

test('the Unix path of an unmodified program is there again after an upgrade, whatever was removed of it', async () => {
  await using program = await Program.start('scripted.mjs', { env: { LINES: `return (${unixAndTcp})(given)` } })
  const { folder } = program
  const path = `${folder}/d/app.sock`
  const removals: (() => void)[] = [
    () => rmSync(path),
    () => rmSync(`${path}.spare`),
    () => empty(`${folder}/d`),
    () => {
      rmSync(`${folder}/d`, { recursive: true })
      mkdirSync(`${folder}/d`)
    },
  ]
  const client = await HttpConnection.open({ path })
  for (const remove of removals) {
    remove()
    await program.upgrade()
    assert.equal(await bodyAt({ path }), String(program.pid))
    assert.equal(statSync(path).mode & 0o777, 0o604)
    assert.deepEqual(readdirSync(`${folder}/d`).sort(), ['app.sock', 'app.sock.spare'])
    assert.equal((await client.ask()).body, String(program.pid))
  }
  client.socket.destroy()
  assert.deepEqual(await program.stop(), [0, 0, 0, 0, 0])
  assert.deepEqual(readdirSync(`${folder}/d`), [])
})

test('a stop after a Unix path was removed answers what is in flight, with an upgrade before and without', async () => {
  for (const upgrades of [0, 1]) {
    await using program = await Program.start('scripted.mjs', { env: { LINES: `return (${unixAndTcp})(given)` } })
    empty(`${program.folder}/d`)
    if (upgrades > 0) await program.upgrade()
    const client = await HttpConnection.open(program.port)
    const asked = client.ask('/slow')
    await program.printed(/: asked/)
    empty(`${program.folder}/d`)
    program.kill('SIGTERM')
    writeFileSync(`${program.folder}/go`, '')
    assert.equal((await asked).body, String(program.pid))
    assert.deepEqual(await program.exits(), Array(upgrades + 1).fill(0))
    assert.doesNotMatch(program.output, /ENOENT: .*lstat|uncaught|at Server\.close/i)
  }
})

test('what stands in the place of a Unix path or a control socket is left as it is, and status shows it', async () => {
  await using lab = await Lab.open()
  const path = lab.path('app.sock')
  const control = lab.path('run', 'web.sock')
  let daemon = await lab.start()
  await startOn(daemon, path)
  rmSync(path)
  const fault = async () => (await statusOf(control)).listeners.find(({ address }) => address === path)?.fault
  assert.match(String(await fault()), /was removed/)
  const stranger = createServer().listen(path)
  await once(stranger, 'listening')
  const { ino } = statSync(path)
  assert.match(String(await fault()), /another file/)
  for (let upgrade = 0; upgrade < 2; upgrade++) {
    daemon = await replaceOn(lab, daemon, path)
    assert.match(String(await fault()), /another file/)
  }
  rmSync(control)
  writeFileSync(control, 'not ours')
  await daemon.run(async ({ kept }) => void (await kept.daemon?.stop()))
  assert.equal(statSync(path).ino, ino)
  assert.equal(readFileSync(control, 'utf8'), 'not ours')
  stranger.close()
})

test('a version that removes the Unix path before it listens, as if it were that of a dead one, is found there', async () => {
  await using lab = await Lab.open()
  const path = lab.path('app.sock')
  const old = await lab.start()
  await startOn(old, path)
  const young = await replaceOn(lab, old, path, { removesFirst: true })
  assert.equal(await bodyAt({ path }), String(young.pid))
  const { young: bad, upgrading } = await beginReplace(lab, young)
  await bad.run(async ({ fs, open, listen }, where) => {
    fs.rmSync(where)
    await open({ name: 'web' })
    await listen(undefined, { path: where })
    setImmediate(() => process.exit(1))
  }, path)
  await assert.rejects(upgrading, { code: 'ERR_COOK_SUCCESSOR_EXITED' })
  assert.equal(await bodyAt({ path }), String(young.pid))
})

test('an old version that takes the service back is found on its Unix path, also if that was removed meanwhile', async () => {
  for (const when of ['before the upgrade', 'by the new version', 'in the drain']) {
    await using lab = await Lab.open()
    const path = lab.path('app.sock')
    const old = await lab.start()
    await startOn(old, path)
    const client = await HttpConnection.open({ path })
    client.send('/slow')
    await old.event('asked')
    if (when === 'before the upgrade') rmSync(path)
    const young = await replaceOn(lab, old, path, { removesFirst: when === 'by the new version' })
    if (when === 'in the drain') rmSync(path)
    young.kill('SIGKILL')
    await old.event('successor-lost')
    assert.equal(await bodyAt({ path }), String(old.pid), when)
    await old.run(({ finish }) => finish())
    assert.equal((await client.answer()).body, String(old.pid))
    client.socket.destroy()
    await old.run(async ({ kept }) => void (await kept.daemon?.stop()))
    assert.equal(existsSync(path), false)
  }
})

/** An HTTP server on a path whose mode it sets, and on a port; `/slow` is answered when `go` is there. */
async function unixAndTcp({
  web,
  serving,
  log,
}: { web(): import('node:http').Server } & Record<string, (what: unknown) => void>) {
  const { chmodSync, existsSync, mkdirSync } = process.getBuiltinModule('node:fs')
  const [unix, tcp] = [web(), web()]
  mkdirSync('d', { recursive: true })
  unix.listen('d/app.sock', () => {
    chmodSync('d/app.sock', 0o604)
    tcp.listen(0, () => serving?.(tcp))
  })
  const [answer] = tcp.listeners('request')
  tcp.removeAllListeners('request').on('request', (request, response) => {
    if (request.url !== '/slow') return answer?.(request, response)
    log?.('asked')
    const look = setInterval(() => {
      if (!existsSync('go')) return
      clearInterval(look)
      response.end(String(process.pid))
    }, 5)
  })
}

function empty(folder: string): void {
  for (const file of readdirSync(folder)) rmSync(`${folder}/${file}`)
}

async function startOn(puppet: Puppet, path: string): Promise<void> {
  await puppet.run(async ({ open, listen }, where) => {
    const daemon = await open({ name: 'web' })
    await listen(undefined, { path: where })
    await daemon.ready()
  }, path)
}

async function replaceOn(lab: Lab, old: Puppet, path: string, { removesFirst = false } = {}): Promise<Puppet> {
  const { young, upgrading } = await beginReplace(lab, old)
  await young.run(
    async ({ fs, open, listen }, { path, removesFirst }) => {
      if (removesFirst) fs.rmSync(path, { force: true })
      const daemon = await open({ name: 'web' })
      await listen(undefined, { path })
      await daemon.ready()
    },
    { path, removesFirst },
  )
  await upgrading
  return young
}

async function bodyAt(where: { readonly path: string }): Promise<string> {
  const connection = await HttpConnection.open(where)
  const { body } = await connection.ask()
  connection.socket.destroy()
  return body
}
