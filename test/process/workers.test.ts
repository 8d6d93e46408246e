/** Several workers under one keeper: all are upgraded as one, and their number changes under load. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { describe, test } from 'node:test'
import type { Status } from '../../src/control/status.ts'
import { attempt } from '../../src/node/sessions.ts'
import { system } from '../../src/node/system.ts'
import { Operator, portOf } from '../support/command.ts'
import { control } from '../support/control.ts'
import { readExposition } from '../support/exposition.ts'
import { onlyInMatrix, takesAll } from '../support/extent.ts'
import { processesOf } from '../support/faults/left.ts'
import { Lab } from '../support/lab.ts'
import { keepAliveClients } from '../support/load/keep-alive-clients.ts'
import { webSocketClients } from '../support/load/web-socket-clients.ts'
import { eventually, within } from '../support/waiting.ts'
import { Witnesses } from '../support/witnesses.ts'
import {
  bodiesOf,
  identityIn,
  keeperOf,
  Loads,
  logsOf,
  type ProgramText,
  pidsOf,
  slotsOf,
  untilEven,
  untilNobody,
  untilSettled,
  writeWorker,
} from '../support/workers.ts'

/** A service of so many workers of version `one`, with clients. */
async function begin(lab: Lab, operator: Operator, workers: number, text: ProgramText = {}): Promise<Status> {
  writeWorker(lab, operator, 'one', text)
  await operator.does(['start', 'app.mjs', '--workers', `${workers}`])
  return untilSettled(lab, operator, workers)
}

/** Versions that fail in one slot, each in its own way, and what the operator reads of it. */
const badVersions: readonly { readonly how: string; readonly text: ProgramText; readonly told: RegExp }[] = [
  {
    how: 'exits',
    text: { before: "console.error('my last words'); process.exit(3)" },
    told: /exit code 3[\s\S]*my last words/,
  },
  { how: 'throws', text: { before: "throw new Error('no database here')" }, told: /no database here/ },
  {
    how: 'is never ready',
    text: { before: 'setInterval(() => {}, 1_000); await new Promise(() => {})' },
    told: /was not ready after|has not opened/,
  },
  {
    how: 'listens elsewhere',
    text: { before: 'where.port = Number(process.env.ELSEWHERE)' },
    told: /listens on 127\.0\.0\.1:\d+/,
  },
]

function only(slot: number, { before = '' }: ProgramText): ProgramText {
  return { before: `if (slot === '${slot}') { ${before} }` }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { readonly port: number }
  await new Promise((closed) => server.close(closed))
  return port
}

/** Upgrades; what the command prints of all workers is what their status says together. */
async function tellsWhatMoved(operator: Operator): Promise<string> {
  const told = await operator.does(['upgrade', 'app'])
  const [, moved] = /(\d+) connections? moved, \d+ finished/.exec(told) ?? []
  const { lastUpgrade } = await operator.status('app')
  assert.equal(lastUpgrade?.connections?.handedOver, Number(moved), told)
  return told
}

describe('several workers', { concurrency: 3 }, () => {
  for (const isServing of [false, true]) {
    const what = isServing ? 'a program that calls serve()' : 'an unmodified program'
    test(`four workers of ${what} know their slots; in upgrade after upgrade under load no request fails and no client reconnects`, {
      skip: isServing && onlyInMatrix.skip,
    }, async () => {
      await using lab = await Lab.open()
      await using operator = new Operator(lab)
      const knows = (own: string) =>
        `import { writeFileSync } from 'node:fs'\nwriteFileSync('${lab.folder}/knows-' + slot, JSON.stringify([slot, process.env.COOK_DAEMON_WORKERS, ${own}]))`
      const text = { isServing, behind: knows(isServing ? 'daemon.worker' : 'null') }
      let status = await begin(lab, operator, 4, text)
      for (let slot = 0; slot < 4; slot++) {
        const known = await eventually(`what slot ${slot} knows`, () => {
          try {
            return JSON.parse(lab.read(`knows-${slot}`))
          } catch {
            return undefined
          }
        })
        assert.deepEqual(known, [`${slot}`, '4', isServing ? { slot, workers: 4 } : null])
      }
      assert.deepEqual(
        status.generations.map(({ slot }) => slot),
        [0, 1, 2, 3],
      )
      // The reader takes no series twice.
      const metrics = readExposition((await control(operator.socket('app'), 'GET /metrics')).body)
      assert.equal(metrics.get('cook_daemon_generation_connections')?.samples.size, 4)
      await using loads = new Loads(status, 20)
      await loads.untilMore('one')
      const upgrades = takesAll ? 100 : 2
      for (let done = 1; done <= upgrades; done++) {
        const version = `v${done}`
        writeWorker(lab, operator, version, text)
        assert.match(await tellsWhatMoved(operator), /all ready, switched/)
        const now = await operator.status('app')
        assert.deepEqual(
          now.workers?.map(({ slot, generation, state }) => [slot, generation, state]),
          [0, 1, 2, 3].map((slot) => [slot, done + 1, 'serving']),
        )
        assert.equal(new Set([...pidsOf(now), ...pidsOf(status)]).size, 8)
        assert.equal(now.keeper?.pid, status.keeper?.pid)
        status = now
        await loads.untilMore(version)
      }
      await loads.assertNothingLost(() => logsOf(lab))
      await operator.does(['stop', 'app'])
      await untilNobody(lab)
    })
  }

  test('a new version that fails in any one slot costs nothing: exit code 1, the slot and its last output are printed, and every pid stays the same', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    const env = { ELSEWHERE: `${await freePort()}` }
    // What was left to the system to choose may be left where it is.
    const where = `{ host: '127.0.0.1', port: ${await freePort()} }`
    writeWorker(lab, operator, 'one', { where })
    await operator.does(['start', 'app.mjs', '--workers', '4'], { env })
    const before = await untilSettled(lab, operator, 4)
    await using loads = new Loads(before)
    const cells = badVersions.flatMap((bad, index) =>
      [0, 1, 2, 3].filter((slot) => takesAll || (slot === index && index < 2)).map((slot) => ({ bad, slot })),
    )
    for (const { bad, slot } of cells) {
      await loads.untilMore('one')
      writeWorker(lab, operator, 'bad', { ...only(slot, bad.text), where })
      // On a busy machine a good one may be late too.
      const isLate = bad.how === 'is never ready'
      const patience = isLate ? ['--ready-timeout', '4000'] : []
      const { code, stderr, stdout } = await operator.types(['upgrade', 'app', ...patience])
      const words = `${bad.how} in slot ${slot}: ${stdout}${stderr}`
      assert.equal(code, 1, words)
      assert.match(stderr, isLate ? /slot \d: / : new RegExp(`slot ${slot}: `), words)
      assert.match(stderr, bad.told, words)
      const now = await untilSettled(lab, operator, 4)
      assert.deepEqual(pidsOf(now), pidsOf(before), words)
      // The others were stopped because of it.
      const { lastUpgrade, warnings = [] } = await operator.status('app')
      assert.match(lastUpgrade?.code ?? '', /^ERR_COOK_(?!STOPPED|OTHERS_FAILED)/, words)
      const texts = warnings.map(({ text }) => text).join('\n')
      assert.match(texts, /^slot \d: /, words)
      assert.doesNotMatch(texts, /being stopped|another worker/, words)
      if (!isLate) assert.equal(warnings.length, 1, texts)
    }
    await loads.untilMore('one')
    assert.ok(
      loads.results.every(({ generations }) => generations.bad === undefined),
      'a client met the bad version',
    )
    writeWorker(lab, operator, 'two', { where })
    await operator.does(['upgrade', 'app'])
    await loads.untilMore('two')
    await loads.assertNothingLost(() => logsOf(lab))
  })

  test(
    '--rolling stops at the first slot that fails and says which slots run what; the next upgrade ends that',
    onlyInMatrix,
    async () => {
      await using lab = await Lab.open()
      await using operator = new Operator(lab)
      const before = await begin(lab, operator, 3)
      await using loads = new Loads(before)
      await loads.untilMore('one')
      writeWorker(lab, operator, 'two', only(1, badVersions[1]?.text ?? {}))
      const { code, stderr } = await operator.types(['upgrade', 'app', '--rolling'])
      assert.equal(code, 1)
      assert.match(stderr, /slot 1: [\s\S]*no database here/)
      assert.match(stderr, /slot 0 runs the new version, and slots 1, 2 the old one/)
      const mixed = await untilSettled(lab, operator, 3)
      assert.deepEqual(
        mixed.workers?.map(({ generation }) => generation),
        [2, 1, 1],
      )
      assert.deepEqual(pidsOf(mixed).slice(1), pidsOf(before).slice(1))
      await loads.untilMore()
      writeWorker(lab, operator, 'three')
      const told = await operator.does(['upgrade', 'app', '--rolling'])
      assert.match(told, /slot 2/)
      const second = Number(/([\d.]+) s {2}slot 1 switched/.exec(told)?.[1])
      const whole = (await operator.status('app')).lastUpgrade?.seconds ?? 0
      assert.ok(whole >= second, `all took ${whole} s, and the second was done after ${second} s`)
      await loads.untilMore('three')
      const bodies = await bodiesOf(await untilSettled(lab, operator, 3))
      assert.deepEqual(bodies, ['three 0', 'three 1', 'three 2'])
      await loads.assertNothingLost(() => logsOf(lab))
    },
  )

  test(
    'with --overlap all workers overlap, and commit together; if one dies in its overlap, all old ones serve on',
    onlyInMatrix,
    async () => {
      await using lab = await Lab.open()
      await using operator = new Operator(lab)
      const before = await begin(lab, operator, 3)
      await using loads = new Loads(before)
      writeWorker(lab, operator, 'bad', {
        behind: "if (slot === '2') setTimeout(() => { throw new Error('no cache left') }, 700)",
      })
      const { code, stderr } = await operator.types(['upgrade', 'app', '--overlap', '6000'])
      assert.equal(code, 1, stderr)
      assert.match(stderr, /slot 2: [\s\S]*no cache left/)
      assert.deepEqual(pidsOf(await untilSettled(lab, operator, 3)), pidsOf(before))
      writeWorker(lab, operator, 'two')
      await operator.does(['upgrade', 'app', '--overlap', '500'])
      await loads.untilMore('two')
      // A new process that dies while clients meet it takes along what it was answering.
      const lost = loads.faults.filter(({ kind }) => !['reset', 'closed', 'closedIdle', 'half'].includes(kind))
      assert.deepEqual(lost, [])
    },
  )

  test('SIGKILL of one of four workers: no client is refused or hangs, only the requests it was answering are lost, and it is restarted in its slot', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    let status = await begin(lab, operator, 4)
    await using clients = new Witnesses(portOf(status), 20)
    for (const slot of takesAll ? [0, 1, 2, 3, 0, 1, 2, 3] : [2]) {
      await clients.untilMore()
      const lostBefore = clients.losses.length
      const identity = identityIn(status, slot)
      const others = pidsOf(status).filter((pid) => pid !== identity[0])
      system.kill(identity, 'SIGKILL')
      const from = await clients.untilGone(...identity)
      status = await untilSettled(lab, operator, 4, (now) => !pidsOf(now).includes(identity[0]))
      assert.deepEqual(
        pidsOf(status).filter((pid) => others.includes(pid)),
        others,
      )
      assert.equal(slotsOf(status).get(slot)?.lastExit?.signal, 'SIGKILL')
      await clients.untilMore()
      const lost = clients.losses.slice(lostBefore)
      assert.deepEqual(
        lost.filter(({ asked, how }) => asked > from || how !== 'lost'),
        [],
        logsOf(lab),
      )
      assert.ok(lost.length <= clients.count, `${lost.length} lost`)
    }
    // Its generation is ahead of the others'.
    await tellsWhatMoved(operator)
  })

  test('an upgrade while one slot is down replaces the others, and starts the new version there', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    const fails = `process.getBuiltinModule('node:fs').existsSync(${JSON.stringify(lab.path('fails'))})`
    writeWorker(lab, operator, 'one', { before: `if (slot === '1' && ${fails}) process.exit(3)` })
    await operator.does(['start', 'app.mjs', '--workers', '3'])
    const before = await untilSettled(lab, operator, 3)
    writeFileSync(lab.path('fails'), '')
    system.kill(identityIn(before, 1), 'SIGKILL')
    await eventually('a slot that is down', async () => {
      const { state, restarts } = slotsOf(await operator.status('app')).get(1) ?? assert.fail('no slot 1')
      return (state !== 'serving' && (restarts?.crash ?? 0) >= 2) || undefined
    })
    writeWorker(lab, operator, 'two')
    await operator.does(['upgrade', 'app'])
    const now = await untilSettled(lab, operator, 3)
    assert.deepEqual(await bodiesOf(now), ['two 0', 'two 1', 'two 2'])
  })

  test('workers are added and removed under load: no request fails, no client reconnects, and a slot keeps its number and its process', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    let status = await begin(lab, operator, 4)
    await using loads = new Loads(status, 20)
    for (let rounds = 0; rounds < (takesAll ? 10 : 1); rounds++) {
      for (const count of takesAll ? [2, 1, 8, 3] : [1, 3]) {
        await loads.untilMore()
        const told = await operator.does(['scale', 'app', `${count}`])
        assert.match(told, new RegExp(`app has ${count} worker`))
        const now = await untilSettled(lab, operator, count)
        const stay = Math.min(count, pidsOf(status).length)
        assert.deepEqual(pidsOf(now).slice(0, stay), pidsOf(status).slice(0, stay))
        assert.deepEqual(
          [...slotsOf(now).keys()],
          Array.from({ length: count }, (_, slot) => slot),
        )
        status = now
      }
    }
    await loads.untilMore()
    await operator.does(['upgrade', 'app'])
    await loads.untilMore()
    await loads.assertNothingLost(() => logsOf(lab))
  })

  test(
    'a service that was started for one worker is scaled, upgraded and scaled back, with no connection lost',
    onlyInMatrix,
    async () => {
      await using lab = await Lab.open()
      await using operator = new Operator(lab)
      // For longer than a command waits for an answer of one that is not known to start anything.
      writeWorker(lab, operator, 'one', only(2, { before: 'await new Promise((done) => setTimeout(done, 6_000))' }))
      await operator.does(['start', 'app.mjs'])
      const before = await untilSettled(lab, operator, 1)
      await using loads = new Loads(before)
      await operator.does(['scale', 'app', '3'])
      const three = await untilSettled(lab, operator, 3)
      assert.equal(pidsOf(three)[0], pidsOf(before)[0])
      writeWorker(lab, operator, 'two')
      await operator.does(['upgrade', 'app'])
      await loads.untilMore('two')
      assert.deepEqual(await bodiesOf(await untilSettled(lab, operator, 3)), ['two 0', 'two 1', 'two 2'])
      await operator.does(['scale', 'app', '1'])
      await untilSettled(lab, operator, 1)
      await loads.untilMore('two')
      await loads.assertNothingLost(() => logsOf(lab))
    },
  )

  test(
    'a scale up of which one worker does not come up leaves everything as it was, and says why',
    onlyInMatrix,
    async () => {
      await using lab = await Lab.open()
      await using operator = new Operator(lab)
      const before = await begin(lab, operator, 2, {
        before: `if (slot === '2') { (await import('node:net')).createServer().listen(Number(process.env.TAKEN), '127.0.0.1') ; await new Promise(() => {}) }`,
      })
      await using loads = new Loads(before)
      writeWorker(lab, operator, 'one', only(2, { before: "throw new Error('port 8081 is taken')" }))
      const { code, stderr } = await operator.types(['scale', 'app', '4'])
      assert.equal(code, 1)
      assert.match(stderr, /slot 2: [\s\S]*port 8081 is taken/)
      assert.match(stderr, /\. 2 workers serve, as before\n[\s\S]*\n✗ not scaled\. Full log: cook-daemon logs app\n$/)
      const now = await untilSettled(lab, operator, 2)
      assert.deepEqual(pidsOf(now), pidsOf(before))
      await loads.untilMore()
      writeWorker(lab, operator, 'one')
      await operator.does(['scale', 'app', '3'])
      await untilSettled(lab, operator, 3)
      await loads.assertNothingLost(() => logsOf(lab))
    },
  )

  test(
    'connections that were all made to one worker even out when others come: no worker keeps more than 1.25 times the mean and 8, and none is lost',
    onlyInMatrix,
    async () => {
      await using lab = await Lab.open()
      await using operator = new Operator(lab)
      const before = await begin(lab, operator, 1)
      const count = 80
      await using load = keepAliveClients(
        { port: portOf(before), host: '127.0.0.1' },
        { count, weights: { small: 1 }, pause: [20, 200], silence: { every: 4, most: 1_000 } },
      )
      await load.ready
      await operator.does(['scale', 'app', '3'])
      await untilEven(operator, { connections: count, workers: 3 })
      const { faults, failures, reconnects, connections } = await load.stop()
      assert.deepEqual([faults, failures, reconnects, connections], [[], {}, 0, count])
    },
  )
})

describe('several workers as one service', { concurrency: 3 }, () => {
  test('daemon.upgrade() and SIGUSR2 in one worker upgrade all of them, and so does SIGUSR2 to the keeper', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    const text = {
      isServing: true,
      behind: "process.on('SIGHUP', () => slot === '1' && daemon.upgrade().catch(() => {}))",
    }
    let status = await begin(lab, operator, 3, text)
    await using loads = new Loads(status)
    const ways = [
      () => system.kill(identityIn(status, 2), 'SIGUSR2'),
      () => system.kill(identityIn(status, 1), 'SIGHUP'),
      () => system.kill(keeperOf(status), 'SIGUSR2'),
    ]
    for (const [index, ask] of ways.entries()) {
      writeWorker(lab, operator, `v${index}`, text)
      ask()
      const old = pidsOf(status)
      status = await untilSettled(lab, operator, 3, (now) => !pidsOf(now).some((pid) => old.includes(pid)))
      assert.deepEqual(
        await bodiesOf(status),
        [0, 1, 2].map((slot) => `v${index} ${slot}`),
      )
    }
    await loads.assertNothingLost(() => logsOf(lab))
  })

  test(
    'a bad version that one worker asks for itself is refused in that worker, and all serve on',
    onlyInMatrix,
    async () => {
      await using lab = await Lab.open()
      await using operator = new Operator(lab)
      const text = {
        isServing: true,
        behind:
          "process.on('SIGHUP', () => slot === '1' && daemon.upgrade().catch((error) => console.log('refused', error.code, error.message)))",
      }
      const before = await begin(lab, operator, 3, text)
      writeWorker(lab, operator, 'bad', {
        ...only(2, { before: "throw new Error('no database here')" }),
        isServing: true,
      })
      system.kill(identityIn(before, 1), 'SIGHUP')
      await eventually(
        'the refusal',
        () => /refused ERR_COOK_\w+ [\s\S]*no database here/.test(lab.read('run/app@1.log')) || undefined,
      )
      assert.deepEqual(pidsOf(await untilSettled(lab, operator, 3)), pidsOf(before))
      writeWorker(lab, operator, 'two', text)
      system.kill(identityIn(before, 1), 'SIGHUP')
      const now = await untilSettled(
        lab,
        operator,
        3,
        (one) => !pidsOf(one).some((pid) => pidsOf(before).includes(pid)),
      )
      assert.deepEqual(await bodiesOf(now), ['two 0', 'two 1', 'two 2'])
    },
  )

  test(
    'daemon.stop() or SIGTERM in one worker ends the service, and so do SIGTERM to the keeper and stop; nothing is left',
    onlyInMatrix,
    async () => {
      const ways = {
        'daemon.stop()': (status: Status) => system.kill(identityIn(status, 1), 'SIGHUP'),
        'SIGTERM to a worker': (status: Status) => system.kill(identityIn(status, 2), 'SIGTERM'),
        'SIGTERM to the keeper': (status: Status) => system.kill(keeperOf(status), 'SIGTERM'),
      }
      await using lab = await Lab.open()
      await using operator = new Operator(lab)
      const text = {
        isServing: true,
        behind: "process.on('SIGHUP', () => void daemon.stop().then(() => process.exit(0)))",
      }
      for (const [how, end] of Object.entries(ways)) {
        const status = await begin(lab, operator, 3, text)
        end(status)
        await untilNobody(lab)
        const { code, stdout } = await operator.types(['status', 'app'])
        assert.deepEqual([code, /stopped/.test(stdout)], [3, true], `${how}: ${stdout}`)
      }
      await begin(lab, operator, 3, text)
      await operator.does(['stop', 'app'])
      await untilNobody(lab)
      assert.deepEqual(
        readdirSync(lab.path('run')).filter((name) => !/\.(log|service)$/.test(name)),
        [],
      )
    },
  )

  test(
    'WebSockets of ws and connections to a Unix path go through an upgrade of all, and through a scale down',
    onlyInMatrix,
    async () => {
      await using lab = await Lab.open()
      await using operator = new Operator(lab)
      const path = lab.path('app.sock')
      const write = (version: string) =>
        writeFileSync(
          lab.path('app.mjs'),
          `import { createServer } from 'node:http'
import { serve } from '${operator.library}'
import { handOverWebSockets } from '${import.meta.resolve('cook-daemon/ws')}'
import { WebSocketServer } from '${import.meta.resolve('ws')}'
import { loadHandler, loadWebSocketHandler } from '${new URL('../fixtures/load-server-handler.js', import.meta.url)}'
const server = createServer({ keepAliveTimeout: 120_000 }, loadHandler('${version}'))
const webSockets = new WebSocketServer({ server })
const states = new WeakMap()
const echo = loadWebSocketHandler('${version}')
webSockets.on('connection', (socket, request, state) => states.set(socket, echo(socket, state)))
const prepare = (daemon) => handOverWebSockets(daemon, webSockets, { saveState: (socket) => states.get(socket) })
await serve(server, { path: ${JSON.stringify(path)}, prepare })
`,
        )
      write('one')
      await operator.does(['start', 'app.mjs', '--workers', '3'])
      const before = await untilSettled(lab, operator, 3)
      await using loads = new Loads(path)
      await using sockets = webSocketClients({ path }, { count: 12 })
      await sockets.ready
      const untilEchoed = (version: string) => {
        const count = () => sockets.result().generations[version] ?? 0
        const old = count()
        return eventually(`echoes of ${version}`, () => count() > old + 50 || undefined)
      }
      await untilEchoed('one')
      for (const version of ['two', 'three']) {
        write(version)
        await operator.does(['upgrade', 'app'])
        await untilEchoed(version)
        await loads.untilMore(version)
      }
      await operator.does(['scale', 'app', '1'])
      await untilSettled(lab, operator, 1)
      await untilEchoed('three')
      await operator.does(['scale', 'app', '3'])
      const now = await untilSettled(lab, operator, 3)
      assert.notDeepEqual(pidsOf(now), pidsOf(before))
      await loads.untilMore('three')
      const { faults, failures, closes, reconnects, connections } = await sockets.stop()
      assert.deepEqual([faults, failures, closes, reconnects, connections], [[], {}, {}, 0, 12], logsOf(lab))
      await loads.assertNothingLost(() => logsOf(lab))
      await operator.does(['stop', 'app'])
      assert.ok(!existsSync(path))
    },
  )

  test(
    'restart ends all workers and starts all again: clients wait and nobody is refused; one that does not come up brings back what ran',
    onlyInMatrix,
    async () => {
      await using lab = await Lab.open()
      await using operator = new Operator(lab)
      for (const release of ['r1', 'r2']) mkdirSync(lab.path(release))
      writeWorker(lab, operator, 'one', {}, 'r1/app.mjs')
      writeWorker(lab, operator, 'two', only(1, { before: "throw new Error('no database here')" }), 'r2/app.mjs')
      symlinkSync('r1', lab.path('current'))
      await operator.does(['start', 'current/app.mjs', '--workers', '3'])
      const before = await untilSettled(lab, operator, 3)
      await using clients = new Witnesses(portOf(before))
      await clients.untilMore()
      await operator.does(['restart', 'app'])
      const restarted = await untilSettled(lab, operator, 3)
      assert.equal(pidsOf(restarted).filter((pid) => pidsOf(before).includes(pid)).length, 0)
      switchTo(lab, 'r2')
      const { code, stderr } = await operator.types(['restart', 'app'])
      assert.equal(code, 1)
      assert.match(stderr, /no database here/)
      assert.match(stderr, /\n✗ not restarted: .+ Full log: cook-daemon logs app\n$/)
      const now = await untilSettled(lab, operator, 3, ({ release }) => release?.script === lab.path('r1/app.mjs'))
      assert.deepEqual(await untilBodies(now, 'one'), ['one 0', 'one 1', 'one 2'])
      await clients.untilMore()
      await clients.stop()
      assert.deepEqual([...clients.of('refused'), ...clients.of('hung')], [])
    },
  )

  test('run --workers that is stopped while its second worker starts exits with 0, as the one that served', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    const before = "if (slot === '1') await new Promise((done) => setTimeout(done, 60_000))"
    writeWorker(lab, operator, 'one', { before })
    const child = operator.begins(['run', 'app.mjs', '--workers', '2'])
    const ended = once(child, 'exit')
    await eventually('the start of the second', async () => {
      const { workers = [] } = await operator.status('app').catch(() => ({ workers: [] }))
      return (workers[0]?.state === 'serving' && processesOf(lab.folder).length === 3) || undefined
    })
    child.kill('SIGTERM')
    assert.deepEqual(await within('its end', ended), [0, null])
    await untilNobody(lab)
  })

  test(
    'run --workers stays in the foreground: a worker that crashes is started again, SIGTERM ends all, and its exit code is theirs',
    onlyInMatrix,
    async () => {
      await using lab = await Lab.open()
      await using operator = new Operator(lab)
      writeWorker(lab, operator, 'one')
      const child = operator.begins(['run', 'app.mjs', '--workers', '3'])
      const ended = once(child, 'exit')
      const before = await untilSettled(lab, operator, 3)
      assert.equal(before.keeper?.pid, child.pid)
      await using clients = new Witnesses(portOf(before))
      await clients.untilMore()
      const killed = identityIn(before, 1)
      system.kill(killed, 'SIGKILL')
      const from = await clients.untilGone(...killed)
      const after = await untilSettled(lab, operator, 3, (now) => !pidsOf(now).includes(killed[0]))
      assert.deepEqual([pidsOf(after)[0], pidsOf(after)[2]], [pidsOf(before)[0], pidsOf(before)[2]])
      await clients.untilMore()
      assert.deepEqual(
        (await clients.stop()).filter(({ how, asked }) => how !== 'lost' || asked > from),
        [],
      )
      child.kill('SIGTERM')
      assert.deepEqual(await within('its end', ended), [0, null])
      await untilNobody(lab)
    },
  )

  test(
    'a release that crashes 1.5 s after its start in all workers gives its place to the one before it, in all of them',
    onlyInMatrix,
    async () => {
      await using lab = await Lab.open()
      await using operator = new Operator(lab)
      for (const release of ['r1', 'r2']) mkdirSync(lab.path(release))
      writeWorker(lab, operator, 'one', {}, 'r1/app.mjs')
      writeWorker(
        lab,
        operator,
        'two',
        { behind: "setTimeout(() => { throw new Error('no cache left') }, 1_500)" },
        'r2/app.mjs',
      )
      symlinkSync('r1', lab.path('current'))
      await operator.does(['start', 'current/app.mjs', '--workers', '3'])
      await using clients = new Witnesses(portOf(await untilSettled(lab, operator, 3)), 6)
      switchTo(lab, 'r2')
      await operator.types(['upgrade', 'app', '--no-wait'])
      await clients.untilAnswered(/^two /)
      // A slot that was waiting to start the newer one again does so, and is brought back then.
      const isBack = (status: Status) =>
        status.release?.script === lab.path('r1/app.mjs') &&
        pidsOf(status).every((pid) => attempt(() => readFileSync(`/proc/${pid}/cmdline`, 'utf8'))?.includes('/r1/'))
      const now = await untilSettled(lab, operator, 3, isBack)
      assert.deepEqual(await untilBodies(now, 'one'), ['one 0', 'one 1', 'one 2'])
      assert.match(
        (await operator.status('app')).warnings?.map(({ text }) => text).join('\n') ?? '',
        /went back to the previous release/,
      )
      await clients.stop()
      assert.deepEqual([...clients.of('refused'), ...clients.of('hung')], [])
      // What is mended is upgraded to as ever.
      writeWorker(lab, operator, 'three', {}, 'r2/app.mjs')
      await operator.does(['upgrade', 'app'])
      assert.deepEqual(await bodiesOf(await untilSettled(lab, operator, 3)), ['three 0', 'three 1', 'three 2'])
    },
  )

  test(
    'of several workers the one that needs more than --max-memory is replaced by itself: nobody loses a request',
    onlyInMatrix,
    async () => {
      await using lab = await Lab.open()
      await using operator = new Operator(lab)
      writeWorker(lab, operator, 'one', {
        before: "if (slot === '1' && process.env.HEAVY) globalThis.heavy = Buffer.alloc(Number(process.env.HEAVY), 1)",
      })
      await operator.does(['start', 'app.mjs', '--workers', '3', '--max-memory', '350M'], {
        env: { HEAVY: `${400 * 2 ** 20}` },
      })
      const before = await untilSettled(lab, operator, 3)
      await using loads = new Loads(before)
      const now = await untilSettled(
        lab,
        operator,
        3,
        (one) => slotsOf(one).get(1)?.restarts.memory === 1 && pidsOf(one)[1] !== pidsOf(before)[1],
      )
      assert.deepEqual([pidsOf(now)[0], pidsOf(now)[2]], [pidsOf(before)[0], pidsOf(before)[2]])
      await loads.untilMore()
      await loads.assertNothingLost(() => logsOf(lab))
      assert.match(logsOf(lab), /slot 1: the worker uses \d+ MB of memory, more than 350 MB: upgrading it to itself/)
    },
  )

  test('a number of workers that is none is a usage error, and a scale of what has no keeper, or of nothing, says so', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    writeWorker(lab, operator, 'one')
    const numbers = ['0', 'many', '1025', ...(takesAll ? ['-1', '1.5', '1e3', '', '99999999999999999999'] : [])]
    for (const number of numbers) {
      for (const args of [
        ['start', 'app.mjs', '--workers', number],
        ['run', 'app.mjs', '--workers', number],
        ['scale', 'app', number],
      ]) {
        const { code, stderr } = await operator.types(args)
        assert.equal(code, 2, `${args.join(' ')}: ${stderr}`)
        assert.match(
          stderr,
          /whole number from 1 to 1024|argument missing|unknown option|missing required/,
          args.join(' '),
        )
      }
    }
    assert.equal((await operator.types(['scale', 'app', '2'])).code, 3)
    await operator.does(['start', 'app.mjs', '--no-keep'])
    const { code, stderr } = await operator.types(['scale', 'app', '2'])
    assert.equal(code, 1)
    assert.match(stderr, /keeper/)
  })

  test(
    'a start of several workers that cannot be says why in one slot, and leaves nothing: a port that is taken, a program that listens nowhere',
    onlyInMatrix,
    async () => {
      await using lab = await Lab.open()
      await using operator = new Operator(lab)
      const server = createServer().listen(0, '127.0.0.1')
      await once(server, 'listening')
      const { port } = server.address() as { readonly port: number }
      const bad: readonly (readonly [ProgramText, RegExp])[] = [
        [{ where: `{ host: '127.0.0.1', port: ${port} }` }, /EADDRINUSE/],
        [only(2, { before: 'process.exit(7)' }), /slot 2: [\s\S]*exit code 7/],
        [{ before: 'server.listen = () => {}' }, /exited before it was ready: exit code 0|not ready/],
        [{ before: 'server.listen = () => {}; setInterval(() => {}, 1_000)' }, /was not ready|within 3/],
      ]
      for (const [text, told] of bad) {
        writeWorker(lab, operator, 'bad', text)
        for (const verb of ['start', 'run']) {
          const { code, stderr } = await operator.types([verb, 'app.mjs', '--workers', '3', '--ready-timeout', '3000'])
          assert.ok(code !== 0 && code !== null, `${verb} ${JSON.stringify(text)}: ${code} ${stderr}`)
          assert.match(stderr, told, verb)
          assert.doesNotMatch(stderr, /TypeError|at file:.*src/)
          await untilNobody(lab)
          assert.deepEqual(
            readdirSync(lab.path('run')).filter((name) => !name.endsWith('.log')),
            [],
            verb,
          )
        }
      }
      server.close()
    },
  )
})

function switchTo(lab: Lab, release: string): void {
  symlinkSync(release, lab.path('next'))
  renameSync(lab.path('next'), lab.path('current'))
}

/** Until all workers say this version. */
async function untilBodies(status: Status, version: string): Promise<readonly string[]> {
  return eventually(`${version} in all slots`, async () => {
    const bodies = await bodiesOf(status)
    return bodies.every((body) => body.startsWith(version)) ? bodies : undefined
  })
}
