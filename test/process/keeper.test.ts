/** A service with a keeper: what crashes is started again, and clients wait meanwhile. */
import assert from 'node:assert/strict'
import { mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import type { Status } from '../../src/control/status.ts'
import { isGone, system } from '../../src/node/system.ts'
import { Operator, portOf, writeProgram } from '../support/command.ts'
import { takesAll } from '../support/extent.ts'
import { processesOf } from '../support/faults/left.ts'
import { FullDisk, noFullDisk } from '../support/full-disk.ts'
import { Lab } from '../support/lab.ts'
import { eventually } from '../support/waiting.ts'
import { Witnesses } from '../support/witnesses.ts'
import { keeperOf } from '../support/workers.ts'

/** The worker of a service, and never the pid of nobody. */
function workerOf({ name, pid, startTime, keeper }: Status): readonly [number, string] {
  assert.ok(pid > 1 && pid !== keeper?.pid, `${name} has no worker`)
  return [pid, startTime]
}

async function untilServes(operator: Operator, generation: number, name = 'app'): Promise<Status> {
  return eventually(`generation ${generation} of ${name}`, async () => {
    const status = await operator.status(name).catch(() => undefined)
    return status?.phase === 'ready' && status.generation >= generation ? status : undefined
  })
}

/** Ends the worker, and waits until another one serves. */
async function crash(operator: Operator, signal: NodeJS.Signals = 'SIGKILL'): Promise<Status> {
  const before = await operator.status('app')
  const worker = workerOf(before)
  system.kill(worker, signal)
  await eventually('its end', () => isGone(worker) || undefined)
  return untilServes(operator, before.generation + 1)
}

const logOf = (lab: Lab, name = 'app') => readFileSync(lab.path(`run/${name}.log`), 'utf8')

/** What a program does when it is asked to. */
const obeys = `server.prependListener('request', (request) => {
  if (request.url === '/exit') process.exit(0)
  if (request.url === '/loop') for (;;);
})`

describe('a service with a keeper', { concurrency: 3 }, () => {
  test('a worker that is killed is restarted: no client is refused or hangs, and only the requests it was answering are lost', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    writeProgram(lab, 'app.mjs', 'one')
    await operator.does(['start', 'app.mjs'])
    await using clients = new Witnesses(portOf(await operator.status('app')), 20)
    // The pause before each next start is twice as long.
    const kills = takesAll ? 6 : 3
    for (let killed = 0; killed < kills; killed++) {
      const before = await operator.status('app')
      await clients.untilAnswered(new RegExp(`^one ${before.pid}$`))
      const lostBefore = clients.losses.length
      const [pid, startTime] = workerOf(before)
      system.kill([pid, startTime], 'SIGKILL')
      const from = await clients.untilGone(pid, startTime)
      const { pid: next } = await untilServes(operator, before.generation + 1)
      await clients.untilAnswered(new RegExp(`^one ${next}$`))
      const lost = clients.losses.slice(lostBefore)
      assert.deepEqual(
        lost.filter(({ asked, how }) => asked > from || how !== 'lost'),
        [],
      )
      // Each had one request on its way at most.
      assert.ok(lost.length <= clients.count, `${lost.length} lost`)
    }
    await clients.untilMore()
    const { workers } = await operator.status('app')
    assert.deepEqual([workers?.[0]?.restarts.crash, workers?.[0]?.lastExit?.signal], [kills, 'SIGKILL'])
  })

  test('an exit with code 0 that nobody asked for is a crash, and status says how and when', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    writeProgram(lab, 'app.mjs', 'one', `${obeys}\nprocess.on('exit', () => console.log('my last words'))`)
    await operator.does(['start', 'app.mjs'])
    const { pid } = await operator.status('app')
    await operator.asks('app', '/exit').catch(() => {})
    const { workers } = await untilServes(operator, 2)
    const { lastExit, restarts, state } = workers?.[0] ?? assert.fail('no worker')
    assert.deepEqual(
      [lastExit?.pid, lastExit?.code, lastExit?.signal, restarts.crash, state],
      [pid, 0, null, 1, 'serving'],
    )
    assert.match(lastExit?.words ?? '', /my last words/)
    const told = await operator.does(['status', 'app'])
    assert.match(told, /1 after a crash/)
    assert.match(told, /exit code 0 \(pid \d+, \d{4}-/)
    assert.match(told, /my last words/)
    assert.match(logOf(lab), /cook-daemon: the worker exited unexpectedly \(pid \d+, exit code 0\); restarting it/)
  })

  test('a worker that crashes while its successor is being started gets one successor, which the keeper knows', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    // By then it has asked its keeper for one.
    const crashes = "process.on('SIGUSR2', () => setTimeout(() => process.kill(process.pid, 'SIGKILL'), 200))"
    writeProgram(lab, 'app.mjs', 'one', crashes)
    await operator.does(['start', 'app.mjs'])
    for (let time = 0; time < 3; time++) {
      const before = await operator.status('app')
      const worker = workerOf(before)
      const keeper = keeperOf(before)
      // It hears of both at once: of what was asked for, and of the end.
      system.kill(keeper, 'SIGSTOP')
      try {
        system.kill(worker, 'SIGUSR2')
        await eventually('its end', () => isGone(worker) || undefined)
      } finally {
        system.kill(keeper, 'SIGCONT')
      }
      const processes = () => processesOf(lab.folder).map(({ pid }) => pid)
      let told: Status | undefined
      await eventually(
        () => `one worker: ${processes()} ${JSON.stringify(told?.workers)}\n${logOf(lab)}`,
        async () => {
          told = await operator.status('app').catch(() => undefined)
          const [next] = told?.workers ?? []
          if (next?.state !== 'serving' || next.pid === worker[0]) return undefined
          return String(processes().sort()) === String([keeper[0], next.pid].sort()) || undefined
        },
      )
      assert.match(await operator.asks('app'), /^one /)
    }
  })

  test('restarts under load, also two at once, lose no request of clients that keep their connection or have one for each', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    writeProgram(lab, 'app.mjs', 'one')
    await operator.does(['start', 'app.mjs'])
    await using clients = new Witnesses(portOf(await operator.status('app')), 20)
    for (let time = 0; time < 4; time++) {
      await clients.untilMore()
      await Promise.all([operator.does(['restart', 'app']), time % 2 === 1 && operator.does(['restart', 'app'])])
    }
    await clients.untilMore()
    assert.deepEqual(await clients.stop(), [])
  })

  test('what a worker that crashes has started ends too, and what the next one starts stays', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    const file = lab.path('started')
    const starts = `import { spawn } from 'node:child_process'
import { appendFileSync } from 'node:fs'
appendFileSync(${JSON.stringify(file)}, spawn('sleep', ['3600'], { stdio: 'ignore' }).pid + ' ')`
    writeProgram(lab, 'app.mjs', 'one', starts)
    await operator.does(['start', 'app.mjs'])
    const started = () => readFileSync(file, 'utf8').trim().split(' ').map(Number)
    const [first = 0] = started()
    const sleeper = [first, system.startTime(first) ?? ''] as const
    await crash(operator)
    await eventually('the end of what the first one has started', () => isGone(sleeper) || undefined)
    const [, second = 0] = started()
    const startTime = system.startTime(second)
    assert.ok(startTime !== undefined, 'what the second one has started is gone')
    system.kill([second, startTime], 'SIGKILL')
  })

  test('after a refused upgrade a crash brings back the release that ran, although the symlink leads to the bad one, and its last words are its own', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    for (const release of ['r1', 'r2']) mkdirSync(lab.path(release))
    writeProgram(lab, 'r1/app.mjs', 'one', "process.title = 'x'")
    writeProgram(lab, 'r2/app.mjs', 'two', "throw new Error('no database here')")
    symlinkSync('r1', lab.path('current'))
    await operator.does(['start', 'current/app.mjs'])
    switchTo(lab, 'r2')
    assert.equal((await operator.types(['upgrade', 'app'])).code, 1)
    await crash(operator)
    assert.match(await operator.asks('app'), /^one /)
    const { release, workers } = await operator.status('app')
    assert.equal(release?.script, lab.path('r1/app.mjs'))
    // The refused version has written them into the same log.
    assert.equal(workers?.[0]?.lastExit?.words, '')
    // Is that release gone, then what was typed: it is said.
    rmSync(lab.path('r1'), { recursive: true })
    writeProgram(lab, 'r2/app.mjs', 'two')
    await crash(operator)
    assert.match(await operator.asks('app'), /^two /)
    assert.match(logOf(lab), /r1\/app\.mjs no longer exists: starting the path as it was typed/)
  })

  test('a release that crashes twice, 1.5 s after it listens, is replaced by the previous one; status and log show it', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    for (const release of ['r1', 'r2']) mkdirSync(lab.path(release))
    writeProgram(lab, 'r1/app.mjs', 'one')
    writeProgram(lab, 'r2/app.mjs', 'two', "setTimeout(() => { throw new Error('no cache left') }, 1_500)")
    symlinkSync('r1', lab.path('current'))
    await operator.does(['start', 'current/app.mjs'])
    switchTo(lab, 'r2')
    await operator.does(['upgrade', 'app', '--no-wait'])
    await using clients = new Witnesses(portOf(await operator.status('app')), 6)
    await clients.untilAnswered(/^two /)
    await clients.untilAnswered(/^one /)
    const { release, workers } = await untilServes(operator, 4)
    assert.equal(release?.script, lab.path('r1/app.mjs'))
    assert.equal(workers?.[0]?.restarts.crash, 2)
    assert.match(workers?.[0]?.lastExit?.words ?? '', /no cache left/)
    assert.match(logOf(lab), new RegExp(`went back to the previous release, ${lab.path('r1/app.mjs')}`))
    assert.deepEqual([...clients.of('refused'), ...clients.of('hung')], [])
  })

  test('a worker that crashes again and again is one process at a time, with one line in the log for each time, and a restart brings up what is mended at once', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    writeProgram(lab, 'app.mjs', 'one')
    await operator.does(['start', 'app.mjs'])
    writeProgram(lab, 'app.mjs', 'one', 'process.exit(3)')
    const keeper = (await operator.status('app')).keeper ?? assert.fail('no keeper')
    system.kill(workerOf(await operator.status('app')), 'SIGKILL')
    let most = 0
    await eventually('five crashes', () => {
      // The keeper and the command apart.
      const workers = processesOf(lab.folder).filter(
        ({ words }) => words.includes('app.mjs') && !words.includes('cook-daemon.js'),
      )
      most = Math.max(most, workers.length)
      return countOf(logOf(lab), 'exited unexpectedly') >= 5 || undefined
    })
    assert.ok(most <= 1, `${most} at once`)
    const lines = logOf(lab)
      .split('\n')
      .filter((line) => line.includes('cook-daemon: '))
    assert.ok(lines.length <= 2 * countOf(logOf(lab), 'exited unexpectedly') + 1, lines.join('\n'))
    const { workers, pid, phase } = await operator.status('app')
    assert.ok(['waiting', 'starting'].includes(workers?.[0]?.state ?? ''), workers?.[0]?.state)
    // Nobody is to signal a process that is not there: the pid is that of the service.
    assert.ok(pid > 1 && phase !== 'ready')
    writeProgram(lab, 'app.mjs', 'mended')
    await operator.does(['restart', 'app'])
    assert.match(await operator.asks('app'), /^mended /)
    assert.deepEqual([(await operator.status('app')).keeper?.pid], [keeper.pid])
    await operator.does(['stop', 'app'])
    await eventually('the end of all', () => processesOf(lab.folder).length === 0 || undefined)
  })

  test('a worker whose event loop does not turn for longer than --hang-timeout is killed and started again; a keeper that was stopped itself kills nobody', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    writeProgram(lab, 'app.mjs', 'one', obeys)
    await operator.does(['start', 'app.mjs', '--hang-timeout', '1500'])
    const before = await operator.status('app')
    const keeper = [before.keeper?.pid ?? 0, before.keeper?.startTime ?? ''] as const
    assert.ok(keeper[0] > 1)
    // Only the clock tells that its own time has passed for a process that does not run.
    system.kill(keeper, 'SIGSTOP')
    await new Promise((done) => setTimeout(done, 2_000))
    system.kill(keeper, 'SIGCONT')
    // It has asked again, and has its answer.
    await new Promise((done) => setTimeout(done, 500))
    assert.equal((await operator.status('app')).pid, before.pid)
    await operator.asks('app', '/loop').catch(() => {})
    const { workers, pid } = await untilServes(operator, 2)
    assert.notEqual(pid, before.pid)
    assert.deepEqual([workers?.[0]?.restarts.hang, workers?.[0]?.restarts.crash], [1, 0])
    assert.match(logOf(lab), /its event loop was blocked, and it was killed/)
    assert.match(await operator.asks('app'), /^one /)
  })

  test('a worker that needs more than --max-memory is replaced by itself: no request is lost, and the log says why', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    writeProgram(lab, 'app.mjs', 'one')
    await operator.does(['start', 'app.mjs', '--max-memory', '20M'])
    await using clients = new Witnesses(portOf(await operator.status('app')))
    const { workers } = await untilServes(operator, 2)
    assert.equal(workers?.[0]?.restarts.memory, 1)
    await clients.untilAnswered(new RegExp(`^one ${(await operator.status('app')).pid}$`))
    assert.deepEqual(await clients.stop(), [])
    assert.match(logOf(lab), /the worker uses \d+ MB of memory, more than 20 MB: upgrading it to itself/)
  })

  test('a restart keeps the listeners: nobody is refused; one that does not come up goes back to what ran, and says why', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    for (const release of ['r1', 'r2']) mkdirSync(lab.path(release))
    writeProgram(lab, 'r1/app.mjs', 'one')
    writeProgram(lab, 'r2/app.mjs', 'two', "throw new Error('no database here')")
    symlinkSync('r1', lab.path('current'))
    await operator.does(['start', 'current/app.mjs'])
    const before = await operator.status('app')
    await using clients = new Witnesses(portOf(before))
    await operator.does(['restart', 'app'])
    const { pid } = await operator.status('app')
    assert.notEqual(pid, before.pid)
    await clients.untilAnswered(new RegExp(`^one ${pid}$`))
    switchTo(lab, 'r2')
    const { code, stderr } = await operator.types(['restart', 'app'])
    assert.equal(code, 1)
    assert.match(stderr, /no database here/)
    const now = await untilServes(operator, 4)
    assert.equal(now.release?.script, lab.path('r1/app.mjs'))
    await clients.untilAnswered(new RegExp(`^one ${now.pid}$`))
    await clients.stop()
    assert.deepEqual([...clients.of('refused'), ...clients.of('hung')], [])
    // What a keep-alive client writes into a connection that is being closed.
    assert.ok(clients.losses.length <= 2 * clients.count, JSON.stringify(clients.losses))
  })

  test("signals to the keeper or the worker, and daemon.stop(), mean the service: SIGUSR2 upgrades it, SIGTERM ends it, and the pid file is the keeper's", async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    writeFileSync(
      lab.path('app.mjs'),
      `import { createServer } from 'node:http'
import { serve } from '${operator.library}'
const daemon = await serve(createServer((_, response) => response.end('one')), { host: '127.0.0.1', port: 0 })
process.on('SIGHUP', () => daemon.stop().then(() => process.exit(0)))`,
    )
    for (const how of ['keeper', 'worker', 'daemon.stop()'] as const) {
      await operator.does(['start', 'app.mjs', '--pid', 'pid'])
      const first = await operator.status('app')
      const keeper = [first.keeper?.pid ?? 0, first.keeper?.startTime ?? ''] as const
      assert.equal(lab.read('pid'), `${keeper[0]}\n`)
      const target = (status: Status) => (how === 'keeper' ? keeper : workerOf(status))
      system.kill(target(first), 'SIGUSR2')
      const second = await untilServes(operator, 2)
      assert.deepEqual(
        [second.keeper?.pid, lab.read('pid'), second.pidFile],
        [keeper[0], `${keeper[0]}\n`, lab.path('pid')],
      )
      if (how === 'daemon.stop()') system.kill(workerOf(second), 'SIGHUP')
      else system.kill(target(second), 'SIGTERM')
      await eventually('the end of all', () => processesOf(lab.folder).length === 0 || undefined)
      assert.throws(() => lab.read('pid'), how)
      assert.match((await operator.types(['status', 'app'])).stdout, /stopped/, how)
    }
  })

  test('two starts of one name at once: one serves, the other says who has the name', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    writeProgram(lab, 'app.mjs', 'one')
    const both = await Promise.all([operator.types(['start', 'app.mjs']), operator.types(['start', 'app.mjs'])])
    const codes = both.map(({ code }) => code).sort()
    assert.deepEqual(codes, [0, 1], JSON.stringify(both))
    assert.match(both.find(({ code }) => code === 1)?.stderr ?? '', /a service named app is already running: pid \d+/)
    const { keeper, pid } = await operator.status('app')
    const left = () =>
      processesOf(lab.folder)
        .map((one) => one.pid)
        .sort()
    await eventually(
      'one keeper and one worker',
      () => String(left()) === String([keeper?.pid, pid].sort()) || undefined,
    )
  })

  test('a script that is gone is said at a restart, and what runs runs on; after a crash it is tried until it is there', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    writeProgram(lab, 'app.mjs', 'one')
    await operator.does(['start', 'app.mjs'])
    const before = await operator.status('app')
    rmSync(lab.path('app.mjs'))
    for (const verb of ['restart', 'upgrade']) {
      const { code, stderr } = await operator.types([verb, 'app'])
      assert.notEqual(code, 0)
      assert.match(stderr, /app\.mjs/, verb)
    }
    assert.equal((await operator.status('app')).pid, before.pid)
    system.kill(workerOf(before), 'SIGKILL')
    await eventually('a start that failed', () => countOf(logOf(lab), 'did not start') >= 2 || undefined)
    const ended = await operator.types(['status', 'app'])
    assert.match(ended.stdout, /waiting|starting|down/)
    writeProgram(lab, 'app.mjs', 'again')
    await untilServes(operator, 2)
    assert.match(await operator.asks('app'), /^again /)
  })

  test('a record that is broken hurts nobody that runs, and what is down is then not known', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    writeProgram(lab, 'app.mjs', 'one')
    await operator.does(['start', 'app.mjs'])
    const record = lab.path('run/app.service')
    writeFileSync(record, '{"format":1,"plan":')
    assert.match(await operator.does(['list']), /app/)
    await crash(operator)
    // Written anew, whole.
    await eventually('the record', () => (readFileSync(record, 'utf8').endsWith('}\n') ? true : undefined))
    await operator.does(['stop', 'app'])
    assert.match((await operator.types(['status', 'app'])).stdout, /stopped/)
    writeFileSync(record, '{"format":1,"plan":')
    for (const args of [
      ['status', 'app'],
      ['restart', 'app'],
      ['start', 'app'],
    ]) {
      const { code, stderr, stdout } = await operator.types(args)
      assert.notEqual(code, 0, args.join(' '))
      assert.match(stdout + stderr, /app/)
      assert.doesNotMatch(stderr, /SyntaxError|TypeError|at file:/)
    }
    await operator.does(['list'])
    await operator.does(['forget', 'app'])
  })

  test('a full disk for the record keeps nobody from serving, nor from being started again', {
    skip: noFullDisk(),
  }, async () => {
    await using lab = await Lab.open()
    using disk = FullDisk.mount(lab.makeFolder('run'))
    await using operator = new Operator(lab)
    writeProgram(lab, 'app.mjs', 'one')
    await operator.does(['start', 'app.mjs', '--log', lab.path('log')])
    disk.fill()
    await crash(operator)
    await crash(operator)
    assert.match(await operator.asks('app'), /^one /)
    assert.equal(countOf(lab.read('log'), 'the record of the service could not be written'), 1, lab.read('log'))
    disk.empty()
    await crash(operator)
    const { restarts } = JSON.parse(readFileSync(lab.path('run/app.service'), 'utf8'))
    assert.equal(restarts.crash, 3)
  })

  test('a program without a listener is kept: started again after a crash, and upgraded with the new one first, or last', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    const log = (word: string) =>
      `require('node:fs').appendFileSync(${JSON.stringify(lab.path('told'))}, '${word} ' + process.pid + '\\n')`
    writeFileSync(
      lab.path('queue.cjs'),
      `${log('begins')}
setInterval(() => {}, 1_000)
process.once('SIGTERM', () => { ${log('ends')}; process.exit(0) })
process.send('ready')`,
    )
    await operator.does(['start', 'queue.cjs', '--name', 'app', '--no-listen'])
    const crashed = await crash(operator)
    assert.equal(crashed.generation, 2)
    await operator.does(['upgrade', 'app'])
    await operator.does(['upgrade', 'app', '--exclusive'])
    const words = () =>
      lab
        .read('told')
        .trim()
        .split('\n')
        .map((line) => line.split(' ')[0])
    await eventually('the last end', () => words().length >= 6 || undefined)
    assert.deepEqual(words(), ['begins', 'begins', 'begins', 'ends', 'ends', 'begins'])
  })
})

function switchTo(lab: Lab, release: string): void {
  symlinkSync(release, lab.path('next'))
  renameSync(lab.path('next'), lab.path('current'))
}

function countOf(text: string, part: string): number {
  return text.split(part).length - 1
}
