/** The keeper itself, and both sides of an upgrade under it, killed or stopped: one serves on. */
import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import type { Identity } from '../../src/contract/environment.ts'
import type { Status } from '../../src/control/status.ts'
import { isGone, system } from '../../src/node/system.ts'
import { Operator, portOf, writeProgram } from '../support/command.ts'
import { takesAll } from '../support/extent.ts'
import { processesOf } from '../support/faults/left.ts'
import { HttpConnection } from '../support/http-connection.ts'
import { Lab } from '../support/lab.ts'
import { eventually } from '../support/waiting.ts'
import { Witnesses } from '../support/witnesses.ts'
import { writeWorker } from '../support/workers.ts'

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
    await eventually('the end of all', () => processesOf(lab.folder).length === 0 || undefined)
  })

  for (const workers of takesAll ? [1, 2] : [2]) {
    test(`a keeper that dies in the very moment in which the first of ${workers} serves leaves enough for the next one`, async () => {
      await using lab = await Lab.open()
      await using operator = new Operator(lab)
      if (workers > 1) {
        // A service of this name that was stopped has left a record of its own.
        writeWorker(lab, operator, 'old', { isServing: true })
        await operator.does(['start', 'app.mjs'])
        await operator.does(['stop', 'app'])
      }
      const behind = "if (daemon.generation === 1) process.kill(process.ppid, 'SIGKILL')"
      writeWorker(lab, operator, 'one', { isServing: true, behind })
      const { code } = await operator.types(['start', 'app.mjs', ...(workers > 1 ? ['--workers', `${workers}`] : [])])
      assert.equal(code, 1)
      const status = await eventually('a keeper that has all workers', async () => {
        const found = await operator.status('app').catch(() => undefined)
        const isWhole = found?.workers?.length === workers && found.workers.every((one) => one.phase === 'ready')
        return isWhole && found !== undefined && found.generation > 1 ? found : undefined
      })
      assert.match(await operator.asks('app'), /^one /)
      assert.equal(isGone(keeperOf(status)), false)
      await operator.does(['upgrade', 'app'])
      await operator.does(['stop', 'app'])
    })
  }

  test('a start that fails leaves what was known of the service before', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    writeWorker(lab, operator, 'old', { isServing: true })
    await operator.does(['start', 'app.mjs', '--workers', '2'])
    await operator.does(['stop', 'app'])
    const record = readFileSync(lab.path('run/app.service'), 'utf8')
    writeWorker(lab, operator, 'new', { isServing: true, before: "if (slot === '1') process.exit(3)" })
    const { code } = await operator.types(['start', 'app.mjs', '--workers', '2'])
    assert.equal(code, 1)
    assert.deepEqual(JSON.parse(readFileSync(lab.path('run/app.service'), 'utf8')), JSON.parse(record))
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
    rmSync(lab.path('run/app.service'))
    mkdirSync(lab.path('run/app.service'))
    system.kill(keeperOf(before), 'SIGKILL')
    await using clients = new Witnesses(port)
    const refused = () => logOf(lab).split('another keeper could not adopt this process').length - 1
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

/**
 * A program that waits at a step of its start for as long as there is a file of that name, and
 * answers `/slow` when there is none.
 */
function writeGated(lab: Lab): void {
  writeFileSync(
    lab.path('app.cjs'),
    `const { existsSync, writeFileSync } = require('node:fs')
const step = (name) => ${JSON.stringify(lab.folder)} + '/' + name
const released = (name, then) => {
  if (existsSync(step('hold-' + name))) {
    writeFileSync(step('at-' + name), String(process.pid))
    setTimeout(released, 5, name, then)
  } else then()
}
const server = require('node:http').createServer((request, response) => {
  if (request.url === '/slow') released('drain', () => response.end('slow ' + process.pid))
  else response.end('one ' + process.pid)
})
// Clients of a machine without a core to spare pause for longer than the default.
server.keepAliveTimeout = 60_000
released('boot', () => server.listen(0, '127.0.0.1', () => released('ready', () => process.send('ready'))))`,
  )
}

type Cell = {
  readonly who: 'keeper' | 'old' | 'new'
  readonly step: 'boot' | 'ready' | 'drain'
  readonly fault: 'SIGKILL' | 'SIGSTOP'
}

/** In which the one that is to be hit is at the step, and its upgrade is under way. */
async function runCell({ who, step, fault }: Cell): Promise<void> {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeGated(lab)
  await operator.does(['start', 'app.cjs', '--wait-ready'])
  const before = await operator.status('app')
  const old: Identity = [before.pid, before.startTime]
  const hold = lab.path(`hold-${step}`)
  const at = () => (existsSync(lab.path(`at-${step}`)) ? Number(lab.read(`at-${step}`)) || undefined : undefined)
  const slow = step === 'drain' ? await HttpConnection.open(portOf(before)) : undefined
  writeFileSync(hold, '')
  slow?.send('/slow')
  if (step === 'drain') await eventually('the slow request', at)
  await using clients = new Witnesses(portOf(before))
  await clients.untilMore()
  const upgrading = operator.types(['upgrade', 'app'])
  const isNext = ({ pid, generation }: Status) => (pid > 1 && generation === 2 ? pid : undefined)
  const pid = await eventually(`the new version at ${step}`, () =>
    step === 'drain' ? operator.status('app').then(isNext) : at(),
  )
  const next: Identity = [pid, system.startTime(pid) ?? '']
  const hit = { keeper: keeperOf(before), old, new: next }[who]
  assert.ok(hit[0] > 1)
  system.kill(hit, fault)
  const from = fault === 'SIGKILL' ? await clients.untilGone(...hit) : undefined
  // Whoever else has something to do about it does it now, and goes on then.
  if (who !== 'old' && (fault === 'SIGKILL' || who === 'keeper')) await clients.untilMore(clients.count)
  rmSync(hold)
  if (fault === 'SIGSTOP') {
    // Only the clock tells that time has passed for a process that does not run.
    await new Promise((done) => setTimeout(done, 1_000))
    system.kill(hit, 'SIGCONT')
  }
  const told = await upgrading
  const status = await eventually('one that serves', async () => {
    const now = await operator.status('app').catch(() => undefined)
    if (now?.phase !== 'ready' || now.keeper === undefined || now.pid <= 1) return undefined
    if (isGone([now.pid, now.startTime]) || isGone(keeperOf(now))) return undefined
    const left = processesOf(lab.folder).map((one) => one.pid)
    return String(left.sort()) === String([now.pid, now.keeper.pid].sort()) ? now : undefined
  }).catch((error: Error) => {
    const left = processesOf(lab.folder).map(({ words }) => words)
    throw new Error(`${error.message}: ${left.join('; ')}\n${told.stdout}${told.stderr}\n${logOf(lab)}`)
  })
  await clients.untilAnswered(new RegExp(`^one ${status.pid}$`))
  // An upgrade that was begun goes on without a keeper; the next one replaces what it has led to.
  if (who === 'keeper' && fault === 'SIGKILL') assert.ok(status.generation >= 3, `generation ${status.generation}`)
  if (slow !== undefined && !(who === 'old' && fault === 'SIGKILL')) assert.match((await slow.answer()).body, /^slow /)
  const losses = await clients.stop()
  const mayLose = fault === 'SIGKILL' && who !== 'keeper'
  const wrong = losses.filter(({ how, asked }) => !mayLose || how !== 'lost' || asked > (from ?? 0))
  assert.deepEqual(wrong, [], `${told.stdout}${told.stderr}\n${logOf(lab)}`)
  assert.ok(losses.length <= clients.count)
  // What comes next is as ever.
  await operator.does(['upgrade', 'app'])
  await operator.does(['stop', 'app'])
  await eventually('the end of all', () => processesOf(lab.folder).length === 0 || undefined)
}

const cells = (['keeper', 'old', 'new'] as const).flatMap((who) =>
  (['boot', 'ready', 'drain'] as const).flatMap((step) =>
    (['SIGKILL', 'SIGSTOP'] as const).map((fault) => ({ who, step, fault })),
  ),
)
/** In `npm test` each of the three is killed once, each step is met, and one stands still. */
const examples = ['keeper boot SIGKILL', 'old ready SIGKILL', 'new drain SIGKILL', 'new ready SIGSTOP']

describe('an upgrade under a keeper', { concurrency: 3 }, () => {
  for (const cell of cells) {
    const { who, step, fault } = cell
    const name = `${who} ${step} ${fault}`
    const side = who === 'keeper' ? 'the keeper' : `the ${who} version`
    const what = fault === 'SIGKILL' ? 'is killed' : 'stands still for a while'
    const where = { boot: 'while the new one boots', ready: 'before the new one is ready', drain: 'in the drain' }[step]
    const skip = !takesAll && !examples.includes(name) && 'npm run test:matrix runs it'
    test(
      `${side} ${what} ${where}: one version serves in the end, with a keeper, nothing else is left, and lost is only what the dead was answering`,
      { skip },
      () => runCell(cell),
    )
  }
})
