/**
 * A control socket, an owner file or a run directory that somebody removes from under a living
 * process: that puts them back, and no command takes it for gone meanwhile.
 */
import assert from 'node:assert/strict'
import { chmodSync, lstatSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { isAlive } from '../../src/node/system.ts'
import { Operator, writeProgram } from '../support/command.ts'
import { statusOf } from '../support/control.ts'
import { Lab, type Puppet } from '../support/lab.ts'
import { eventually } from '../support/waiting.ts'

// They wait for the next look, most of the time.
describe('what a process has by its name', { concurrency: 3 }, () => {
  test('a living process puts back its control socket, its owner file and the run directory', async () => {
    await using lab = await Lab.open()
    const daemon = await lab.start()
    await startNamed(daemon)
    const files = ['web.sock', `web.${daemon.pid}.owner`].sort()
    for (const removed of [['web.sock'], [`web.${daemon.pid}.owner`], files, ['']]) {
      for (const file of removed) rmSync(lab.path('run', file), { recursive: true })
      await eventually(`${removed} again`, () => JSON.stringify(filesIn(lab)) === JSON.stringify(files) || undefined)
      assert.equal((await statusOf(socketOf(lab))).pid, daemon.pid)
      const modes = [lab.path('run'), ...files.map((file) => lab.path('run', file))].map(modeOf)
      assert.deepEqual(modes, [0o700, 0o600, 0o600])
    }
    await daemon.run(async ({ kept }) => void (await kept.daemon?.stop()))
    assert.deepEqual(filesIn(lab), [])
  })

  test('status, list, upgrade, logs and stop reach a service whose control socket was just deleted', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    writeProgram(lab, 'app.mjs', 'one')
    await operator.does(['start', '--no-keep', 'app.mjs'])
    const { pid, startTime } = await operator.status('app')
    const without = (args: readonly string[]) => {
      rmSync(operator.socket('app'))
      return operator.types(args)
    }
    assert.match((await without(['status'])).stdout, new RegExp(`pid +${pid}`))
    assert.match((await without(['list'])).stdout, /^app +running +- +1 /m)
    const again = await without(['start', '--no-keep', 'app.mjs'])
    assert.equal(again.code, 1, again.stdout + again.stderr)
    assert.match(again.stderr, new RegExp(`app is already running: pid ${pid}`))
    assert.match((await without(['upgrade', 'app'])).stdout, /serves generation 2/)
    assert.equal(isAlive([pid, startTime]), false)
    const second = await operator.status('app')
    rmSync(operator.socket('app'))
    process.kill(second.pid, 'SIGUSR2')
    await eventually('generation 3', async () => {
      const now = await operator.status('app').catch(() => undefined)
      return now?.generation === 3 && now.phase === 'ready' ? true : undefined
    })
    const third = await operator.status('app')
    const stopped = await without(['stop', 'app'])
    assert.deepEqual([stopped.code, stopped.stdout], [0, '✓ app has stopped\n'])
    assert.equal(isAlive([third.pid, third.startTime]), false)
  })

  test('one that cannot put its socket back is not taken for gone: no second start, and stop ends it', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    writeProgram(lab, 'app.mjs', 'one')
    await operator.does(['start', '--no-keep', 'app.mjs'])
    const { pid, startTime } = await operator.status('app')
    process.kill(pid, 'SIGSTOP')
    rmSync(operator.socket('app'))
    const [status, list, start] = await Promise.all([
      operator.types(['status', 'app']),
      operator.types(['list']),
      operator.types(['start', '--no-keep', 'app.mjs']),
    ])
    for (const { code, stdout, stderr } of [status, start]) {
      assert.equal(code, 1, stdout + stderr)
      assert.match(stderr, new RegExp(`app does not respond: pid ${pid}, generation 1, .* stopped by a signal`))
    }
    assert.match(list.stdout, new RegExp(`^app +silent +- +1 .* pid ${pid} does not respond$`, 'm'))
    const second = await lab.start()
    await assert.rejects(startNamed(second, 'app'), { code: 'ERR_COOK_NAME_TAKEN', message: new RegExp(`pid ${pid}`) })
    const stopped = await operator.types(['stop', 'app', '--kill-after', '100'])
    assert.equal(stopped.code, 0)
    assert.equal(isAlive([pid, startTime]), false)
    assert.deepEqual(
      filesIn(lab).filter((file) => !file.endsWith('.log')),
      [],
    )
  })

  test('two processes of one name, since every trace of the first was removed: stop says that the other still runs', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    const [first, second] = [await lab.start(), await lab.start()]
    await startNamed(first)
    first.kill('SIGSTOP')
    rmSync(lab.path('run'), { recursive: true })
    await startNamed(second)
    first.kill('SIGCONT')
    const { hook, error } = (await first.event('hook-failed')) as { hook: string; error: string }
    assert.equal(hook, 'control')
    assert.match(error, /a service named web is already running: .* another process listens there/)
    await second.run(({ kept }) => void kept.daemon?.gone.then(() => setImmediate(() => process.exit(0))))
    const { code, stderr } = await operator.types(['stop', 'web'])
    assert.equal(code, 1)
    assert.match(
      stderr,
      new RegExp(`pid ${second.pid} has stopped, but another process .* pid ${first.pid}, generation 1`),
    )
    const { pid } = await eventually('its socket', () => statusOf(socketOf(lab)).catch(() => undefined))
    assert.equal(pid, first.pid)
  })

  test('a program that ends itself leaves no file, and what a killed one leaves goes with the next command that finds it gone', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    writeProgram(lab, 'app.mjs', 'one', "process.on('SIGTERM', () => process.exit(0))")
    const started = async () => {
      await operator.does(['start', '--no-keep', 'app.mjs'])
      return operator.status('app')
    }
    const ends = async (signal: NodeJS.Signals) => {
      const { pid, startTime } = await started()
      process.kill(pid, signal)
      await eventually(`the end by ${signal}`, () => !isAlive([pid, startTime]) || undefined)
      return pid
    }
    const files = () => filesIn(lab).filter((file) => !file.endsWith('.log'))
    await ends('SIGTERM')
    assert.deepEqual(files(), [])
    const pid = await ends('SIGKILL')
    assert.deepEqual(files(), [`app.${pid}.owner`, 'app.sock'])
    // Of a process in another container nobody knows whether it lives.
    const owner = JSON.parse(lab.read(join('run', `app.${pid}.owner`)))
    const elsewhere = `app.${pid + 1}.owner`
    const place = `${owner.place.split(' ')[0]} pid:[1]`
    writeFileSync(lab.path('run', elsewhere), JSON.stringify({ ...owner, pid: pid + 1, place }), { mode: 0o600 })
    assert.equal((await operator.types(['status', 'app'])).code, 3)
    // The last one has what a restart starts.
    assert.deepEqual(files(), [`app.${pid}.owner`, elsewhere].sort())
    assert.equal((await operator.types(['stop', 'app'])).code, 3)
    assert.deepEqual(files(), [elsewhere])
  })

  test('a run directory that is not ours alone any more gets no socket, which the daemon reports', async () => {
    await using lab = await Lab.open()
    const daemon = await lab.start()
    await startNamed(daemon)
    chmodSync(lab.path('run'), 0o777)
    rmSync(socketOf(lab))
    const { hook, error } = (await daemon.event('hook-failed')) as { hook: string; error: string }
    assert.equal(hook, 'control')
    assert.match(error, /run directory .* cannot be used: others can write to it/)
    chmodSync(lab.path('run'), 0o700)
    const { pid } = await eventually('its socket', () => statusOf(socketOf(lab)).catch(() => undefined))
    assert.equal(pid, daemon.pid)
    assert.equal(daemon.events.filter(({ event }) => event === 'hook-failed').length, 0)
  })
})

function startNamed(puppet: Puppet, name = 'web'): Promise<unknown> {
  return puppet.run(({ start }, given) => start({ name: given }), name)
}

function socketOf(lab: Lab): string {
  return lab.path('run', 'web.sock')
}

function filesIn(lab: Lab): string[] {
  try {
    return readdirSync(lab.path('run')).sort()
  } catch {
    // It was removed.
    return []
  }
}

function modeOf(path: string): number {
  return lstatSync(path).mode & 0o777
}
