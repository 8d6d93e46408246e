/**
 * A program that gives up root when it listens: it is started, upgraded and stopped as any other,
 * and what root does for it stays root's.
 */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, existsSync, lstatSync, mkdirSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { dirname } from 'node:path'
import { test } from 'node:test'
import { lastOwner, writeOwner } from '../../src/control/owner-files.ts'
import { isAlive, system } from '../../src/node/system.ts'
import { userOf } from '../../src/node/users.ts'
import { Operator, portOf } from '../support/command.ts'
import { takesAll } from '../support/extent.ts'
import { HttpConnection } from '../support/http-connection.ts'
import { Lab } from '../support/lab.ts'
import { preload } from '../support/program.ts'
import { eventually } from '../support/waiting.ts'

const nobody = 65_534
const asRoot = { skip: process.getuid?.() !== 0 && 'only root can give it up' }

/** A folder that anybody may read: the next version is started by a user who is not root. */
async function openLab(): Promise<Lab> {
  const lab = await Lab.open()
  chmodSync(dirname(lab.folder), 0o1777)
  chmodSync(lab.folder, 0o755)
  return lab
}

const plain = (
  drop: string,
) => `const server = require('http').createServer((request, response) => response.end(process.pid + ' ' + process.geteuid()))
server.listen(0, '127.0.0.1', () => {
  const drop = () => {
    if (process.geteuid() === 0) { ${drop} }
    console.log('is ' + process.geteuid())
  }
  drop()
})`

const later = (drop: string) => plain(drop).replace('  drop()\n', '  setTimeout(drop, 300)\n')

const serving = (library: string, drop: string) => `import { createServer } from 'node:http'
import { serve } from '${library}'
const server = createServer((request, response) => response.end(process.pid + ' ' + process.geteuid()))
server.once('listening', () => { if (process.geteuid() === 0) { ${drop} } console.log('is ' + process.geteuid()) })
await serve(server, { host: '127.0.0.1', port: 0 })`

const numbers = `process.setgid(${nobody}); process.setuid(${nobody})`
const names = "process.initgroups('nobody', 'nogroup'); process.setgid('nogroup'); process.setuid('nobody')"
const forNow = `process.setegid(${nobody}); process.seteuid(${nobody})`

const ways: Readonly<Record<string, (library: string) => { readonly file: string; readonly code: string }>> = {
  'at once, and knows nothing of the library': () => ({ file: 'app.cjs', code: plain(numbers) }),
  'by the name of a user, with serve()': (library) => ({ file: 'app.mjs', code: serving(library, names) }),
  'a moment later': () => ({ file: 'app.cjs', code: later(numbers) }),
  'for the time being': () => ({ file: 'app.cjs', code: plain(forNow) }),
}

for (const [way, write] of Object.entries(ways).slice(0, takesAll ? undefined : 2)) {
  test(
    `a program that gives up root when it listens, ${way}, is upgraded, restarted and stopped by root`,
    asRoot,
    async () => {
      await using lab = await openLab()
      await using operator = new Operator(lab)
      const { file, code } = write(operator.library)
      writeFileSync(lab.path(file), code)
      await operator.does(['start', file, '--pid', 'pid'])
      const isOther = (times: number) => lab.read('run/app.log').split(`is ${nobody}\n`).length > times || undefined
      await eventually('another user', () => isOther(1))
      for (const generation of [2, 3]) {
        await operator.does(['upgrade', 'app'])
        const status = await operator.status('app')
        assert.equal(status.generation, generation)
        await eventually('another user again', () => isOther(generation))
        assert.equal(await operator.asks('app'), `${status.pid} ${nobody}`)
        assert.equal(lab.read('pid').trim(), String(status.keeper?.pid))
        assert.match(await operator.does(['list']), new RegExp(`^app +running +1/1 +${generation} `, 'm'))
      }
      // Nobody else may steer it: folder, socket and record are root's.
      for (const path of ['run', 'run/app.sock', 'run/app@0.sock', 'run/app.service']) {
        const { uid, mode } = lstatSync(lab.path(path))
        assert.deepEqual([uid, mode & 0o077], [0, 0], path)
      }
      assert.equal(lstatSync(lab.path('pid')).uid, 0)
      await operator.does(['restart', 'app'])
      assert.equal((await operator.status('app')).generation, 4)
      await operator.does(['stop', 'app'])
      assert.equal((await operator.types(['status', 'app'])).code, 3)
      assert.equal(existsSync(lab.path('pid')), false)
      // Nothing of it is worth a word in the log.
      assert.deepEqual(lab.read('run/app.log').match(/^(?!is ).+/gm), null)
    },
  )
}

test(
  'an old version that has given up root has the service and its control socket again if the new one is lost',
  asRoot,
  async () => {
    await using lab = await openLab()
    await using operator = new Operator(lab)
    // It drains for as long as this is asked for.
    const slow = plain(numbers).replace(
      '=> response.end(',
      "=> request.url === '/slow' ? console.log('asked') : response.end(",
    )
    writeFileSync(lab.path('app.cjs'), slow)
    await operator.does(['start', 'app.cjs', '--pid', 'pid'])
    const before = await operator.status('app')
    const client = await HttpConnection.open(portOf(before))
    client.socket.write('GET /slow HTTP/1.1\r\nhost: x\r\n\r\n')
    await operator.untilAsked('app')
    await operator.does(['upgrade', 'app', '--no-wait'])
    process.kill((await operator.status('app')).pid, 'SIGKILL')
    const after = await eventually('its return', async () => {
      const status = await operator.status('app').catch(() => undefined)
      return status?.pid === before.pid ? status : undefined
    })
    assert.deepEqual([after.generation, after.phase], [1, 'ready'])
    assert.equal(lab.read('pid').trim(), String(before.keeper?.pid))
    client.socket.destroy()
    await operator.does(['upgrade', 'app'])
    assert.equal((await operator.status('app')).generation, 2)
  },
)

test('a process that has given up root gets root neither to start nor to kill what it likes', asRoot, async () => {
  await using lab = await openLab()
  await using operator = new Operator(lab)
  mkdirSync(lab.path('run'), { mode: 0o700 })
  writeFileSync(lab.path('good.cjs'), plain(''))
  writeFileSync(lab.path('bad.cjs'), `require('fs').writeFileSync('${lab.path('taken')}', '')`)
  const command = (file: string) => ({
    execPath: process.execPath,
    execArgv: ['--require', preload],
    args: [lab.path(file)],
    cwd: lab.folder,
  })
  // The version that was root, and is gone.
  const first = spawn(process.execPath, ['-e', ''], { stdio: 'ignore' })
  await once(first, 'spawn')
  const [pid, startTime] = [first.pid ?? 0, system.startTime(first.pid ?? 0) ?? '']
  await once(first, 'exit')
  const owner = { pid, startTime, generation: 1, drainTimeout: 0, command: command('good.cjs'), user: nobody }
  const victim = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { stdio: 'ignore' })
  await once(victim, 'spawn')
  const identity = [victim.pid ?? 0, system.startTime(victim.pid ?? 0) ?? ''] as const
  try {
    writeOwner(lab.path('run'), 'good', owner)
    assert.equal(lastOwner(lab.path('run'), 'good')?.user, nobody)
    const generations = [
      { generation: 2, pid: identity[0], startTime: identity[1], phase: 'ready', connections: 0, memory: 0 },
    ]
    const liar = createServer((request, response) => {
      const status = {
        name: 'good',
        pid: identity[0],
        startTime: identity[1],
        generation: 2,
        listeners: [],
        command: command('bad.cjs'),
        generations,
      }
      if (request.url === '/status') response.end(JSON.stringify(status))
      else {
        response.end(`${JSON.stringify({ type: 'stopping', ms: 0, drainTimeout: 0, generations })}\n`)
        liar.close()
      }
    })
    liar.listen(operator.socket('good'))
    await once(liar, 'listening')
    const { stderr } = await operator.types(['restart', 'good', '--kill-after', '0'])
    assert.equal(isAlive(identity), true, stderr)
    assert.equal(existsSync(lab.path('taken')), false)
    const { args } = (await operator.status('good')).command
    assert.deepEqual(args, [lab.path('good.cjs')])
    assert.equal(userOf(process.pid), 0)
  } finally {
    victim.kill('SIGKILL')
    await once(victim, 'exit')
  }
})
