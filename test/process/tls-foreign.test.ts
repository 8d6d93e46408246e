/** Clients that are not Node's go on over TLS through upgrades, each on the connection that it has. */
import assert from 'node:assert/strict'
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { WebSocketServerPlan } from '../fixtures/web-socket-server.ts'
import { makeCertificate } from '../support/certificate.ts'
import { drained, type Program, replace } from '../support/daemons.ts'
import { takesAll } from '../support/extent.ts'
import { Lab, type Puppet } from '../support/lab.ts'
import { upgradeBySignal } from '../support/steps.ts'
import { eventually, within } from '../support/waiting.ts'

type Client = {
  readonly name: string
  readonly command: string
  readonly args: (port: number) => readonly string[]
}

/** Requests on one connection, with bodies of 1 B to 1 MiB both ways. */
const python = `
import http.client, ssl, sys, time, zlib
c = http.client.HTTPSConnection('127.0.0.1', int(sys.argv[1]), context=ssl._create_unverified_context())
c.connect(); local = c.sock.getsockname(); seen = set()
for i in range(120):
    size = [1, 300, 20000, 1 << 20][i % 4]
    body = bytes([i % 256]) * size
    c.request('POST', '/load?id=%d' % i, body)
    r = c.getresponse(); r.read()
    assert r.status == 200 and r.getheader('x-id') == str(i), r.status
    seen.add(r.getheader('x-generation'))
    c.request('GET', '/load?id=%d&size=%d&place=0' % (i, size))
    r = c.getresponse()
    assert len(r.read()) == size
    assert c.sock is not None and c.sock.getsockname() == local, 'it has connected again'
    print(i, flush=True)
    time.sleep(0.05)
print(len(seen))
`

const clients: readonly Client[] = [
  { name: 'Python', command: 'python3', args: (port) => ['-c', python, String(port)] },
  {
    name: 'curl',
    command: 'curl',
    // Prints for each how many connections it has made for it, and who has answered.
    args: (port) => [
      ...['-sk', '--http1.1', '--rate', '20/s', '-w', '%{num_connects} %header{x-generation}\\n', '-o', '/dev/null'],
      `https://127.0.0.1:${port}/load?id=[1-120]&size=5000&place=0`,
    ],
  },
  {
    name: 'openssl s_client',
    command: 'openssl',
    args: (port) => ['s_client', '-quiet', '-connect', `127.0.0.1:${port}`],
  },
]

for (const { name, command, args } of clients) {
  const isThere = isInstalled(command)
  test(`${name} asks on one connection through three upgrades, and is answered by each version`, {
    skip: (!takesAll && 'npm run test:matrix runs it') || (!isThere && `${command} is not installed`),
  }, async () => {
    await using lab = await Lab.open()
    makeCertificate(lab)
    const plan: WebSocketServerPlan = { isSecure: true, serve: { moveTls: true } }
    let server: Puppet = await lab.start('web-socket-server', { env: { WEB_SOCKET_SERVER: JSON.stringify(plan) } })
    const { port } = (await server.event('serving')) as { port: number }
    const child = spawn(command, args(port), { stdio: ['pipe', 'pipe', 'pipe'] })
    const ended = once(child, 'close')
    const [output, errors] = [text(child.stdout), text(child.stderr)]
    const asking = command === 'openssl' ? askByHand(child) : undefined
    // Into a pipe curl writes at its end.
    if (command !== 'curl') await within(`a first answer to ${name}`, once(child.stdout, 'data'))
    let moved = 0
    for (let upgrades = 0; upgrades < 3; upgrades++) {
      const { young, report } = await upgradeBySignal(lab, server)
      moved += report.tls?.moved ?? 0
      assert.deepEqual([report.cut, report.closed], [0, 0])
      server = young
    }
    asking?.stop()
    const [code] = await within(`the end of ${name}`, ended)
    const said = await output
    assert.equal(code, 0, (await errors).slice(-500))
    assert.ok(moved >= 1, `${moved} moved`)
    if (command === 'curl') {
      const lines = said
        .trim()
        .split('\n')
        .map((line) => line.split(' '))
      assert.equal(lines.filter(([connects]) => connects === '1').length, 1, said)
    }
    if (command === 'openssl') assert.equal(said.match(/HTTP\/1\.1 200 OK/g)?.length, asking?.asked)
  })
}

/** Each program answers with its pid, and tells of each connection that it accepts itself. */
const telling: Program = ({ fs, onRequest, serve, tell }) => {
  const options = { key: fs.readFileSync('key.pem'), cert: fs.readFileSync('cert.pem') }
  const server = process.getBuiltinModule('node:https').createServer(options, onRequest)
  server.on('connection', () => tell('accepted'))
  return serve({ moveTls: true }, server)
}

test('wrk is answered through four upgrades, without an error, and nothing connects again', {
  skip: (!takesAll && 'npm run test:matrix runs it') || (!isInstalled('wrk') && 'wrk is not installed'),
}, async (t) => {
  await using lab = await Lab.open()
  makeCertificate(lab)
  let server = await lab.start()
  const port = Number(await server.run(telling))
  const all = [server]
  const count = 20
  const args = ['-t1', `-c${count}`, '-d600s', '--timeout', '60s', `https://127.0.0.1:${port}/`]
  const child = spawn('wrk', args, { stdio: ['ignore', 'pipe', 'pipe'] })
  try {
    const ended = once(child, 'close')
    const [output, errors] = [text(child.stdout), text(child.stderr)]
    const accepted = () => all.flatMap(({ events }) => events.filter(({ event }) => event === 'accepted')).length
    await eventually('all its connections', () => accepted() >= count || undefined)
    let moved = 0
    for (let upgrades = 0; upgrades < 4; upgrades++) {
      const next = await replace(lab, server, telling)
      const { tls, closed, cut } = await drained(server)
      assert.deepEqual([closed, cut, tls?.stayed], [0, 0, {}])
      moved += tls?.moved ?? 0
      all.push(next)
      server = next
    }
    child.kill('SIGINT')
    await within('the end of wrk', ended)
    const said = `${await output}${await errors}`
    // Neither line is there if nothing is to be told.
    assert.doesNotMatch(said, /Socket errors|Non-2xx/, said)
    assert.match(said, /[1-9]\d* requests in/)
    // One is wrk's own first look.
    assert.ok(accepted() <= count + 1, `${accepted()} connections were accepted`)
    assert.equal(moved, 4 * count)
    t.diagnostic(/\d+ requests in/.exec(said)?.[0] ?? '')
  } finally {
    child.kill('SIGKILL')
  }
})

const goModule = fileURLToPath(new URL('../../../test/fixtures/go', import.meta.url))

test("Go's net/http, half of its clients resumed, is answered by each of five versions, on one connection each", {
  skip: (!takesAll && 'npm run test:matrix runs it') || (!isInstalled('go', 'version') && 'go is not installed'),
}, async (t) => {
  await using lab = await Lab.open()
  makeCertificate(lab)
  const paths = { GOCACHE: lab.path('go-cache'), GOPATH: lab.path('go-path') }
  const env = { ...process.env, ...paths, GOFLAGS: '-mod=mod', GOPROXY: 'off', GOTOOLCHAIN: 'local' }
  execFileSync('go', ['build', '-o', lab.path('client'), '.'], { cwd: goModule, env })
  const plan: WebSocketServerPlan = { isSecure: true, serve: { moveTls: true } }
  let server = await lab.start('web-socket-server', { env: { WEB_SOCKET_SERVER: JSON.stringify(plan) } })
  const { port } = (await server.event('serving')) as { port: number }
  const count = 20
  const child = spawn(lab.path('client'), [String(port), String(count)], { stdio: ['pipe', 'pipe', 'inherit'] })
  try {
    const ended = once(child, 'close')
    const output = text(child.stdout)
    await within('a first answer to Go', once(child.stdout, 'data'))
    let moved = 0
    for (let upgrades = 0; upgrades < 4; upgrades++) {
      const { young, report } = await upgradeBySignal(lab, server)
      moved += report.tls?.moved ?? 0
      assert.deepEqual([report.cut, report.closed, report.tls?.stayed], [0, 0, {}])
      server = young
    }
    child.stdin.end()
    await within('the end of Go', ended)
    const { answers, failed, connections, resumed, generations } = JSON.parse((await output).replace('asking\n', ''))
    assert.deepEqual([failed, connections, resumed], [[], count, count / 2])
    assert.deepEqual(Object.keys(generations).sort(), ['1', '2', '3', '4', '5'])
    assert.equal(moved, 4 * count)
    t.diagnostic(`${answers} answers`)
  } finally {
    child.kill('SIGKILL')
  }
})

function isInstalled(command: string, question = '--version'): boolean {
  return spawnSync(command, [question]).error === undefined
}

/** One request after the other, without reading. */
function askByHand(child: ChildProcess) {
  const state = { asked: 0, stop: () => {} }
  const ask = () => {
    state.asked++
    child.stdin?.write('GET /load?id=1&size=1&place=0 HTTP/1.1\r\nHost: test\r\n\r\n')
  }
  const timer = setInterval(ask, 100)
  state.stop = () => {
    clearInterval(timer)
    setTimeout(() => child.stdin?.end('GET /load?id=1&size=1&place=0&close=1 HTTP/1.1\r\nHost: test\r\n\r\n'), 500)
    state.asked++
  }
  return state
}
