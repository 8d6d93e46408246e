/** `cook-daemon prove` of programs with WebSockets: that move, come back, or are lost. */
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { Operator } from '../support/command.ts'
import { Lab } from '../support/lab.ts'
import { leftIn, proves } from '../support/prove.ts'
import { readReport } from '../support/report.ts'

const [ws, handOver] = ['ws', 'cook-daemon/ws'].map((name) => import.meta.resolve(name))

const args = ['--upgrades', '1', '--clients', '4', '--json']

test('cook-daemon prove holds WebSockets that move to the new version, and none of them connects again', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeServer(
    lab,
    'server',
    `const { serve } = await import('${operator.library}')
const { handOverWebSockets } = await import('${handOver}')
await serve(server, { host: '127.0.0.1', port: 0, prepare: (daemon) => handOverWebSockets(daemon, sockets) })`,
  )
  const { code, stdout, stderr } = await proves(lab, operator, ['app.mjs', ...args, '--report', 'proof.html'])
  assert.equal(code, 0, stdout + stderr)
  const { webSockets, reconnected, failed } = JSON.parse(stdout)
  assert.match(webSockets.url, /^ws:\/\/127\.0\.0\.1:\d+\/$/)
  assert.ok(webSockets.pings > 0)
  assert.deepEqual([reconnected, failed], [0, 0])
  const page = lab.read('proof.html')
  assert.equal(readReport(page).table[0]?.[5], 'pings')
  assert.match(page, /WebSockets: pings answered/)
  assert.deepEqual(leftIn(lab), [])
})

test('cook-daemon prove counts a WebSocket that is told to come back, and that is no failure', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  // Only behind this path, which the clients do not ask for.
  writeServer(lab, "server, path: '/live'", "server.listen(0, '127.0.0.1')")
  const { code, stdout, stderr } = await proves(lab, operator, ['app.mjs', ...args, '--web-socket', 'live'])
  assert.equal(code, 0, stdout + stderr)
  const { webSockets, reconnected, failed, rounds } = JSON.parse(stdout)
  assert.match(webSockets.url, /^ws:\/\/127\.0\.0\.1:\d+\/live$/)
  assert.deepEqual([reconnected, failed, rounds[0].reconnected], [4, 0, 4])
})

test('cook-daemon prove says which WebSockets a program loses, and what that mostly comes from', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeServer(
    lab,
    'server',
    `server.listen(0, '127.0.0.1')
sockets.on('connection', (socket) => setTimeout(() => socket.close(1001), 30))`,
  )
  const { code, stdout } = await proves(lab, operator, ['app.mjs', ...args.slice(0, -1)])
  assert.equal(code, 1, stdout)
  assert.match(stdout, /^upgrade 1 \(good\): \d+ WebSockets failed: WebSocket closed with 1001\n/m)
  assert.match(stdout, /^WebSocket closed with 1001: the program closed the WebSocket itself/m)
  assert.match(stdout, /^NOT PROVED: \d+ requests answered, \d+ pings answered, \d+ failed/m)
})

test('cook-daemon prove of a WebSocket that is not there says so before any upgrade', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeServer(lab, "server, path: '/live'", "server.listen(0, '127.0.0.1')")
  const { code, stdout, stderr } = await proves(lab, operator, ['app.mjs', '--web-socket', '/none'])
  assert.deepEqual([code, stdout], [1, ''])
  assert.match(
    stderr,
    /there is no WebSocket at ws:\S+\/none: the program answered 400 to a handshake\. .*--web-socket/,
  )
})

function writeServer(lab: Lab, options: string, listen: string): void {
  writeFileSync(
    lab.path('app.mjs'),
    `import { createServer } from 'node:http'
import { WebSocketServer } from '${ws}'
const server = createServer({ keepAliveTimeout: 60_000 }, (_, response) => response.end('one'))
const sockets = new WebSocketServer({ ${options} })
${listen}
`,
  )
}
