/** The keeper itself, and both sides of an upgrade under it, killed or stopped: one serves on. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import type { Identity } from '../../src/contract/environment.ts'
import type { Status } from '../../src/control/status.ts'
import { isGone, system } from '../../src/node/system.ts'
import { Operator, portOf, writeProgram } from '../support/command.ts'
import { takesAll } from '../support/extent.ts'
import { processesOf } from '../support/faults/left.ts'
import { fixturePath, Lab, type Puppet } from '../support/lab.ts'
import { eventually } from '../support/waiting.ts'
import { Witnesses } from '../support/witnesses.ts'

function keeperOf({ keeper }: Status): Identity {
  assert.ok(keeper !== undefined && keeper.pid > 1, 'no keeper')
  return [keeper.pid, keeper.startTime]
}

/** The keeper is another one, and the worker its child. */
async function untilKept(operator: Operator, before: Status): Promise<Status> {
  const [old] = keeperOf(before)
  return eventually('another keeper', async () => {
    const status = await operator.status('app').catch(() => undefined)
    const isOther = status?.keeper !== undefined && status.keeper.pid !== old && status.phase === 'ready'
    return isOther && status.generation > before.generation ? status : undefined
  })
}

const logOf = (lab: Lab) => readFileSync(lab.path('run/app.log'), 'utf8')

describe('the keeper itself', { concurrency: 3 }, () => {
  test('when the keeper is killed the worker serves on, and another keeper takes its place and the listeners, with nothing lost', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    writeProgram(lab, 'app.mjs', 'one')
    await operator.does(['start', 'app.mjs', '--pid', 'pid'])
    let status = await operator.status('app')
    await using clients = new Witnesses(portOf(status))
    for (let killed = 0; killed < (takesAll ? 5 : 2); killed++) {
      system.kill(keeperOf(status), 'SIGKILL')
      status = await untilKept(operator, status)
      assert.equal(lab.read('pid'), `${status.keeper?.pid}\n`)
      await clients.untilAnswered(new RegExp(`^one ${status.pid}$`))
    }
    assert.deepEqual(await clients.stop(), [])
    // Everything is as it was: an upgrade, a crash, and a stop that leaves nothing.
    await operator.does(['upgrade', 'app'])
    const upgraded = await operator.status('app')
    assert.ok(upgraded.pid > 1)
    system.kill([upgraded.pid, upgraded.startTime], 'SIGKILL')
    await eventually('a start after the crash', async () => {
      const { workers, phase } = await operator.status('app')
      return (workers?.[0]?.restarts.crash === 1 && phase === 'ready') || undefined
    })
    assert.match(await operator.asks('app'), /^one /)
    await operator.does(['stop', 'app'])
    assert.deepEqual(processesOf(lab.folder), [])
  })

  test('an upgrade right after the death of the keeper waits for the next one', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    writeProgram(lab, 'app.mjs', 'one')
    await operator.does(['start', 'app.mjs'])
    const before = await operator.status('app')
    system.kill(keeperOf(before), 'SIGKILL')
    await eventually('its end', () => isGone(keeperOf(before)) || undefined)
    writeProgram(lab, 'app.mjs', 'two')
    system.kill([before.pid, before.startTime], 'SIGUSR2')
    await untilKept(operator, before)
    await eventually('the new version', async () => ((await operator.asks('app')).startsWith('two') ? true : undefined))
    const now = await operator.status('app')
    assert.ok(now.pid > 1)
    system.kill([now.pid, now.startTime], 'SIGKILL')
    await eventually('a start after the crash', async () => {
      const { workers, phase } = await operator.status('app')
      return (workers?.[0]?.restarts.crash === 1 && phase === 'ready') || undefined
    })
  })

  test('a keeper that cannot take the worker up is tried less and less often, and the log says why; the worker serves on', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    writeProgram(lab, 'app.mjs', 'one')
    await operator.does(['start', 'app.mjs'])
    const before = await operator.status('app')
    const port = portOf(before)
    const { rmSync, mkdirSync } = await import('node:fs')
    rmSync(lab.path('run/app.service'))
    mkdirSync(lab.path('run/app.service'))
    system.kill(keeperOf(before), 'SIGKILL')
    await using clients = new Witnesses(port)
    const refused = () => logOf(lab).split('another keeper could not take this process up').length - 1
    await eventually('two that were refused', () => refused() >= 2 || undefined)
    await clients.untilMore()
    assert.ok(refused() <= 3, logOf(lab))
    assert.match(logOf(lab), /there is no record of the service app/)
    assert.deepEqual(await clients.stop(), [])
    system.kill([before.pid, before.startTime], 'SIGTERM')
    await eventually('its end', () => processesOf(lab.folder).length === 0 || undefined)
  })

  test('while the keeper stands still the worker serves on, and an upgrade says why it cannot be; a stop ends everything', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    writeProgram(lab, 'app.mjs', 'one')
    await operator.does(['start', 'app.mjs'])
    const before = await operator.status('app')
    await using clients = new Witnesses(portOf(before))
    system.kill(keeperOf(before), 'SIGSTOP')
    // To the worker itself: its keeper would have to start the new version.
    system.kill([before.pid, before.startTime], 'SIGUSR2')
    const { code, stderr } = await operator.types(['upgrade', 'app'])
    assert.equal(code, 1)
    assert.match(stderr, /does not respond|stands still|no answer/)
    await clients.untilMore()
    system.kill(keeperOf(before), 'SIGCONT')
    await eventually('the upgrade', async () => (await operator.status('app')).generation >= 2 || undefined)
    await clients.untilMore()
    assert.deepEqual(await clients.stop(), [])
    system.kill(keeperOf(await operator.status('app')), 'SIGSTOP')
    await operator.does(['stop', 'app'])
    await eventually('the end of all', () => processesOf(lab.folder).length === 0 || undefined)
  })
})
