/**
 * Listeners of unmodified programs that no other version can ask for: they stay with the process
 * that opened them, and keep neither an upgrade nor their clients waiting.
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readdirSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { Operator } from '../support/command.ts'
import { HttpConnection } from '../support/http-connection.ts'
import { Lab } from '../support/lab.ts'
import { Program } from '../support/program.ts'
import { within } from '../support/waiting.ts'

test('a passive port that was opened for a client stays with the old version until it is closed, and serves that client', async () => {
  await using program = await Program.start('scripted.mjs', start(passive))
  const old = program.pid
  const client = await HttpConnection.open(program.port)
  const ports = [await passivePort(client), await passivePort(client)]
  const waiting = connect(Number(ports[0]), '127.0.0.1')
  await once(waiting, 'connect')
  program.kill('SIGUSR2')
  await program.untilServed()
  // The control connection has moved; both ports still lead to who opened them.
  assert.equal((await client.ask()).body, String(program.pid))
  for (const port of ports) assert.equal(await wordAt(Number(port)), String(old))
  waiting.write('close')
  assert.equal(await word(waiting), String(old))
  const last = connect(Number(ports[1]), '127.0.0.1')
  last.write('close')
  assert.equal(await word(last), String(old))
  await program.printed(new RegExp(`^exit ${old} 0$`, 'm'))
  client.socket.destroy()
  assert.deepEqual(await program.stop(), [0, 0])
})

test('a listener that is opened or closed while the new version starts keeps that from nothing', async () => {
  await using program = await Program.start('scripted.mjs', start(passive, { EXTRA: String(await freePort()) }))
  const old = program.pid
  const client = await HttpConnection.open(program.port)
  await client.ask('/extra')
  // The new version is held at its begin. It was handed the extra listener, and does not open it.
  writeFileSync(join(program.folder, 'hold'), '')
  program.kill('SIGUSR2')
  await program.printed(/held/)
  const port = Number(await passivePort(client))
  await client.ask('/close-extra')
  writeFileSync(join(program.folder, 'go'), '')
  await program.untilServed()
  assert.equal((await client.ask()).body, String(program.pid))
  const socket = connect(port, '127.0.0.1')
  socket.write('close')
  assert.equal(await word(socket), String(old))
  await program.printed(new RegExp(`^exit ${old} 0$`, 'm'))
  client.socket.destroy()
})

test('a Unix path with the pid in it stays with its process, and no file is left', async () => {
  await using program = await Program.start('scripted.mjs', start(pidPath))
  const path = () => join(program.folder, `app.${program.pid}.sock`)
  const [old, oldPath] = [program.pid, path()]
  assert.equal(await wordAt(oldPath), String(old))
  program.kill('SIGUSR2')
  await program.untilServed()
  assert.equal(await wordAt(oldPath), String(old))
  assert.equal(await wordAt(path()), String(program.pid))
  const socket = connect(oldPath)
  socket.write('close')
  assert.equal(await word(socket), String(old))
  await program.printed(new RegExp(`^exit ${old} 0$`, 'm'))
  await program.stop()
  assert.deepEqual(
    readdirSync(program.folder).filter((file) => file.includes('.sock')),
    [],
  )
})

test('a port that the system chose before the first client, and that the new version does not ask for, stays with the old one', async () => {
  await using program = await Program.start('scripted.mjs', start(atBoot))
  const old = program.pid
  const port = Number(await portOf(program))
  // Nothing is left to do in the new version but to wait for clients: it is up without this port.
  writeFileSync(join(program.folder, 'without'), '')
  program.kill('SIGUSR2')
  await program.untilServed()
  assert.equal(await wordAt(port), String(old))
  const socket = connect(port, '127.0.0.1')
  socket.write('close')
  assert.equal(await word(socket), String(old))
  await program.printed(new RegExp(`^exit ${old} 0$`, 'm'))
  assert.deepEqual(await program.stop(), [0, 0])
})

test('a port that the system chose before the first client goes to a new version that asks for it', async () => {
  await using program = await Program.start('scripted.mjs', start(atBoot))
  const [old, port] = [program.pid, Number(await portOf(program))]
  program.kill('SIGUSR2')
  await program.untilServed()
  await program.printed(new RegExp(`^exit ${old} 0$`, 'm'))
  assert.equal(await wordAt(port), String(program.pid))
})

test('status and upgrade show which listener stays with the old version', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeFileSync(
    lab.path('app.mjs'),
    `process.env.PORT = '0'\n${teller}\nawait (${passive})({ serving() {}, log() {} })\n`,
  )
  await operator.does(['start', 'app.mjs', '--drain-timeout', '300'])
  const status = await operator.status('app')
  const client = await HttpConnection.open(Number(/:(\d+)$/.exec(status.listeners[0]?.address ?? '')?.[1]))
  const port = await passivePort(client)
  assert.match(
    await operator.does(['status']),
    new RegExp(`127.0.0.1:${port} \\(stays with this process during an upgrade`),
  )
  assert.match(await operator.does(['upgrade']), new RegExp(`127.0.0.1:${port} stays with the old process`))
  client.socket.destroy()
})

type Given = { web(): import('node:http').Server; serving(server: unknown): void; log(what: unknown): void }

function start(lines: (given: Given) => unknown, env: Readonly<Record<string, string>> = {}) {
  return { env: { LINES: `${teller}\nreturn (${lines})(given)`, ...env }, record: { readyTimeout: 20_000 } }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.2')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  await new Promise((closed) => server.close(closed))
  return port
}

/** Tells each connection who serves it, and closes at `close`. Its source goes into the programs. */
function teller() {
  const server = process.getBuiltinModule('node:net').createServer((socket) => {
    socket
      .on('error', () => {})
      .on('data', (text) => {
        if (String(text) === 'close') server.close()
        socket.end(String(process.pid))
      })
  })
  return server
}

/** `/passive` opens a port for its client, which says who serves it, and closes at `close`. */
async function passive({ serving, log }: Given) {
  const { existsSync } = process.getBuiltinModule('node:fs')
  const { createServer } = process.getBuiltinModule('node:http')
  const net = process.getBuiltinModule('node:net')
  if (existsSync('hold')) {
    log('held')
    while (!existsSync('go')) await new Promise((done) => setTimeout(done, 5))
  }
  let extra: import('node:net').Server | undefined
  const server = createServer((request, response) => {
    if (request.url === '/extra') {
      extra = net.createServer().listen(Number(process.env.EXTRA), '127.0.0.2', () => response.end('open'))
    } else if (request.url === '/close-extra') {
      extra?.close(() => response.end('closed'))
    } else if (request.url === '/passive') {
      const data = teller()
      data.listen(0, '127.0.0.1', () => response.end(String((data.address() as { port: number }).port)))
    } else response.end(String(process.pid))
  })
  server.listen(process.env.PORT, () => serving(server))
}

/** Opens a port that the system chooses beside its own, unless a file says not to. */
async function atBoot({ serving }: Given) {
  const { existsSync } = process.getBuiltinModule('node:fs')
  const { createServer } = process.getBuiltinModule('node:http')
  const data = teller()
  const main = () => {
    const server = createServer((_, response) =>
      response.end(String((data.address() as { port: number } | null)?.port)),
    )
    server.listen(process.env.PORT, () => serving(server))
  }
  if (existsSync('without')) main()
  else data.listen(0, '127.0.0.1', main)
}

async function portOf(program: Program): Promise<string> {
  const client = await HttpConnection.open(program.port)
  const { body } = await client.ask()
  client.socket.destroy()
  return body
}

async function pidPath({ web, serving }: Given) {
  const own = teller()
  own.listen(`app.${process.pid}.sock`)
  const server = web()
  server.listen(process.env.PORT, () => serving(server))
}

async function passivePort(client: HttpConnection): Promise<string> {
  return (await client.ask('/passive')).body
}

async function wordAt(where: number | string): Promise<string> {
  const socket = typeof where === 'string' ? connect(where) : connect(where, '127.0.0.1')
  socket.write('who')
  return word(socket)
}

async function word(socket: import('node:net').Socket): Promise<string> {
  let text = ''
  socket.setEncoding('utf8').on('data', (more: string) => {
    text += more
  })
  await within('the end of a connection', once(socket, 'close'))
  return text
}
