/** Programs of node:cluster: as workers under --workers, and refused where that cannot work. */
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { system } from '../../src/node/system.ts'
import { Operator, portOf } from '../support/command.ts'
import { onlyInMatrix } from '../support/extent.ts'
import { fixturePath, Lab } from '../support/lab.ts'
import { connectionClients } from '../support/load/connection-clients.ts'
import { keepAliveClients } from '../support/load/keep-alive-clients.ts'
import { eventually } from '../support/waiting.ts'
import { Witnesses } from '../support/witnesses.ts'

/** As the documentation of Node has it. */
function primaryAndWorkers(lab: Lab): void {
  const handler = pathToFileURL(fixturePath('load-server-handler')).href
  writeFileSync(
    lab.path('app.mjs'),
    `import cluster from 'node:cluster'
import { createServer } from 'node:http'
import { availableParallelism } from 'node:os'
import { loadHandler } from '${handler}'
if (cluster.isPrimary) {
  console.log('primary code')
  cluster.schedulingPolicy = cluster.SCHED_RR
  for (let count = 0; count < availableParallelism(); count++) cluster.fork()
  cluster.on('exit', () => cluster.fork())
} else {
  const handle = loadHandler(String(cluster.worker.id))
  createServer((request, response) => {
    if (request.url.startsWith('/load')) handle(request, response)
    else response.end(cluster.worker.id + ' ' + process.pid)
  }).listen(0, '127.0.0.1')
}
`,
  )
}

function write(lab: Lab, file: string, lines: string): void {
  writeFileSync(lab.path(file), lines)
}

const logOf = (lab: Lab, name = 'app') => readFileSync(lab.path(`run/${name}.log`), 'utf8')
const allLogs = (lab: Lab, slots: readonly number[]) => slots.map((slot) => logOf(lab, `app@${slot}`)).join('')
const saying = /^.*the program uses node:cluster.*$/gm

describe('under --workers', { concurrency: 2 }, () => {
  test('a program of node:cluster serves in four workers on one port, an upgrade of all costs no request and no connection, and a worker that crashes is started again', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    primaryAndWorkers(lab)
    await operator.does(['start', 'app.mjs', '--workers', '4'])
    const before = await operator.status('app')
    const where = { host: '127.0.0.1', port: portOf(before) }
    await using keepAlive = keepAliveClients(where, { count: 40, pause: [0, 100] })
    await using single = connectionClients(where, { count: 10, pause: [0, 100] })
    await Promise.all([keepAlive.ready, single.ready])
    await operator.does(['upgrade', 'app'])
    const results = await Promise.all([keepAlive, single].map((load) => load.stop()))
    for (const { failures, faults, reconnects, closes } of results) {
      assert.deepEqual([failures, closes, reconnects], [{}, {}, 0], JSON.stringify(faults.slice(0, 3)))
    }
    const ids = Object.keys(Object.assign({}, ...results.map(({ generations }) => generations)))
    assert.deepEqual(ids.sort(), ['1', '2', '3', '4'])

    const upgraded = await operator.status('app')
    assert.equal(upgraded.generation, before.generation + 1)
    assert.equal(portOf(upgraded), where.port)
    const victim = upgraded.workers?.[2]?.pid ?? 0
    assert.ok(victim > 1)
    await using clients = new Witnesses(where.port)
    system.kill([victim, system.startTime(victim) ?? ''], 'SIGKILL')
    await eventually('a start after the crash', async () => {
      const worker = (await operator.status('app')).workers?.[2]
      return (worker?.restarts.crash === 1 && worker.state === 'serving') || undefined
    })
    await clients.untilAnswered(new RegExp(`^3 (?!${victim}$)`))
    const losses = await clients.stop()
    assert.deepEqual(
      losses.filter(({ how }) => how !== 'lost'),
      [],
    )
    await operator.does(['stop', 'app'])
    // For all workers and generations together.
    assert.equal(logOf(lab).match(saying)?.length, 1)
    assert.doesNotMatch(logOf(lab) + allLogs(lab, [0, 1, 2, 3]), /primary code/)
  })

  test('a CommonJS program of node:cluster shuts down in its own way, by cluster.worker.disconnect(), also at an upgrade, and loses nothing', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    write(
      lab,
      'app.cjs',
      `const cluster = require('cluster')
const { isMaster, isWorker } = cluster
cluster.schedulingPolicy = cluster.SCHED_NONE
cluster.on('exit', () => cluster.fork())
if (isMaster) cluster.fork()
else {
  const { worker } = cluster
  const seen = []
  worker.on('message', () => seen.push('a message'))
  worker.on('disconnect', () => seen.push('worker'))
  process.on('disconnect', () => {
    seen.push('process')
    console.log('gone', worker.id, seen.join(' '), worker.exitedAfterDisconnect, worker.isConnected(), worker.isDead())
  })
  process.on('SIGTERM', () => worker.disconnect())
  require('http').createServer((request, response) => response.end('id ' + worker.id))
    .listen(0, '127.0.0.1', () => process.send('ready'))
  console.log(isWorker, worker.process === process, worker.isConnected(), worker.isDead(), 'NODE_UNIQUE_ID' in process.env)
}
`,
    )
    await operator.does(['start', 'app.cjs', '--workers', '2', '--wait-ready'])
    const port = portOf(await operator.status('app'))
    await using clients = new Witnesses(port)
    await clients.untilAnswered(/^id 1$/)
    await operator.does(['upgrade', 'app'])
    await clients.untilAnswered(/^id [12]$/)
    assert.deepEqual(await clients.stop(), [])
    await operator.does(['stop', 'app'])
    for (const slot of [0, 1]) {
      const start = 'true true true false false\n'
      const end = `gone ${slot + 1} worker process true false false\n`
      const lines = logOf(lab, `app@${slot}`)
      assert.equal(lines.split(start).length - 1, 2, lines)
      assert.equal(lines.split(end).length - 1, 2, lines)
    }
    assert.doesNotMatch(logOf(lab), /exited unexpectedly/)
  })

  test(
    'a worker that calls cluster.worker.disconnect() or kill() by itself, as after an uncaught exception, ends and is started again',
    onlyInMatrix,
    async () => {
      await using lab = await Lab.open()
      await using operator = new Operator(lab)
      write(
        lab,
        'app.cjs',
        `const cluster = require('node:cluster')
require('node:http').createServer((request, response) => {
  response.setHeader('connection', 'close').end(String(process.pid))
  if (request.url !== '/') cluster.worker[request.url.slice(1)]()
}).listen(0, '127.0.0.1')
`,
      )
      await operator.does(['start', 'app.cjs', '--workers', '2'])
      for (const [index, way] of ['disconnect', 'kill'].entries()) {
        const pid = await operator.asks('app', `/${way}`)
        await eventually('another worker', async () => {
          const { workers = [] } = await operator.status('app')
          const crashes = workers.reduce((sum, { restarts }) => sum + restarts.crash, 0)
          return (crashes === index + 1 && workers.every(({ state }) => state === 'serving')) || undefined
        })
        assert.notEqual(await operator.asks('app'), pid)
        assert.match(logOf(lab), /exited unexpectedly \(pid \d+, exit code 0\)/)
      }
    },
  )

  test('what needs a primary is refused at the call, with a text, and does not touch the channel to the keeper', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    write(
      lab,
      'app.cjs',
      `const cluster = require('node:cluster')
const { createServer } = require('node:http')
const calls = {
  fork: () => cluster.fork(),
  setupPrimary: () => cluster.setupPrimary({ exec: 'worker.js' }),
  setupMaster: () => cluster.setupMaster(),
  clusterDisconnect: () => cluster.disconnect(),
  send: () => process.send({ cmd: 'NODE_COOK_KEEPER', type: 'stopping' }),
  workerSend: () => cluster.worker.send({ cmd: 'notifyRequest' }),
  withCallback: () => process.send({ to: 'all' }, null, {}, () => {}),
  isPrimary: () => { throw new Error(String(cluster.isPrimary)) },
  emit: () => process.emit('message', { cmd: 'NODE_COOK_KEEPER', type: 'stop' }),
}
createServer((request, response) => {
  try {
    response.end('done ' + calls[request.url.slice(1)]())
  } catch (error) {
    response.end(error.code + ' ' + error.message)
  }
}).listen(0, '127.0.0.1')
`,
    )
    await operator.does(['start', 'app.cjs', '--workers', '1'])
    const { pid } = (await operator.status('app')).workers?.[0] ?? {}
    const said = (path: string) => operator.asks('app', path)
    assert.equal(await said('/isPrimary'), 'undefined false')
    const refused = (verb: string) =>
      `ERR_COOK_CLUSTER_PRIMARY ${verb} needs the primary of node:cluster, and a service with --workers has none; nothing was started or sent`
    for (const name of ['fork', 'setupPrimary', 'setupMaster']) {
      assert.equal(await said(`/${name}`), refused(`cluster.${name}()`))
    }
    assert.equal(await said('/clusterDisconnect'), refused('cluster.disconnect()'))
    for (const name of ['send', 'workerSend', 'withCallback']) {
      assert.equal(await said(`/${name}`), refused('process.send()'))
    }
    await said('/emit')
    await operator.does(['upgrade', 'app'])
    const after = await operator.status('app')
    assert.equal(after.generation, 2)
    assert.notEqual(after.workers?.[0]?.pid, pid)
  })

  test('the file of a primary alone does not start, and the error says to give the file that serves', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    write(
      lab,
      'app.cjs',
      `const cluster = require('cluster')\ncluster.setupPrimary({ exec: 'worker.js' })\ncluster.fork()\n`,
    )
    const { code, stderr } = await operator.types(['start', 'app.cjs', '--workers', '2'])
    assert.equal(code, 1)
    assert.match(
      stderr,
      /cluster\.setupPrimary\(\) needs the primary of node:cluster, and a service with --workers has none/,
    )
    assert.match(stderr, /Give it the file that serves/)
  })

  test('serve() in the branch of a worker is the same as in a program without node:cluster', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    write(
      lab,
      'app.mjs',
      `import cluster, { isPrimary, worker } from 'node:cluster'
import { createServer } from 'node:http'
import { serve } from '${operator.library}'
if (isPrimary) cluster.fork()
else {
  const server = createServer((request, response) => response.end([worker.id, daemon.worker.slot, daemon.generation].join(' ')))
  var daemon = await serve(server, { host: '127.0.0.1', port: 0 })
}
`,
    )
    await operator.does(['start', 'app.mjs', '--workers', '2'])
    await using clients = new Witnesses(portOf(await operator.status('app')))
    await clients.untilAnswered(/^1 0 1$/)
    await operator.does(['upgrade', 'app'])
    await clients.untilAnswered(/^1 0 2$/)
    assert.deepEqual(await clients.stop(), [])
  })

  test('a program without node:cluster has no process.send, and nothing is said of it; Unix and UDP sockets open as ever', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    write(
      lab,
      'app.cjs',
      `const { createServer } = require('node:http')
const answer = (request, response) => response.end(typeof process.send + ' ' + process.connected)
createServer(answer).listen(0)
createServer(answer).listen('app.unix')
require('node:dgram').createSocket('udp4').bind({ port: 0, address: 'localhost' }, () => console.log('bound'))
`,
    )
    await operator.does(['start', 'app.cjs', '--workers', '1'])
    assert.equal(await operator.asks('app'), 'undefined undefined')
    await operator.does(['upgrade', 'app'])
    assert.equal(await operator.asks('app'), 'undefined undefined')
    await operator.does(['stop', 'app'])
    assert.doesNotMatch(logOf(lab), saying)
    assert.equal(logOf(lab, 'app@0'), 'bound\n'.repeat(2))
  })
})

describe('without --workers', () => {
  test('a program of node:cluster does not start, and the error names --workers', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    primaryAndWorkers(lab)
    const { code, stderr } = await operator.types(['start', 'app.mjs'])
    assert.equal(code, 1)
    assert.match(stderr, /the program uses node:cluster, which needs --workers; no worker was started/)
    assert.match(stderr, /cook-daemon start --workers N/)
  })

  test('nothing for node:cluster is loaded', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    write(
      lab,
      'app.cjs',
      `const parts = Object.keys(require.cache).map((file) => require('node:path').basename(file))
const early = process.moduleLoadList.filter((name) => name.includes('cluster'))
require('node:http').createServer((request, response) => response.end([...parts, ...early].join(' '))).listen(0, '127.0.0.1')
`,
    )
    await operator.does(['start', 'app.cjs'])
    assert.equal(await operator.asks('app'), 'preload.cjs program.cjs app.cjs')
  })
})
