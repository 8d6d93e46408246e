/**
 * A new version that dies too late to be refused and too early to be on its own: the old one has
 * the service, and loses what had moved at most.
 */
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import type { DrainReport } from 'cook-daemon'
import type { PuppetScope } from '../fixtures/puppet-scope.ts'
import { beginReplace, counts, drained, fates, type Program, replace } from '../support/daemons.ts'
import { askAll, HttpConnection, idleConnections } from '../support/http-connection.ts'
import { Lab, type Puppet } from '../support/lab.ts'
import { newFolder, Program as UnmodifiedProgram } from '../support/program.ts'
import { eventually } from '../support/waiting.ts'

// ---------------------------------------------------------------------------------------------- inside the overlap

test('in the overlap both versions accept, and before it the old one alone', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const port = await old.run(({ start }) => start({ overlap: 20_000 }))
  const { young, upgrading } = await beginReplace(lab, old)
  await young.run(async ({ open, listen }) => {
    await open()
    await listen()
  })
  const clients = await Promise.all(Array.from({ length: 50 }, () => HttpConnection.open(port)))
  assert.deepEqual(await askAll(clients), [answer(old)])
  young.run(({ kept }) => kept.daemon?.ready()).catch(() => {})
  await phase(old, 'overlapping')
  await eventually('an answer of the new version', async () => {
    const more = await Promise.all(Array.from({ length: 50 }, () => HttpConnection.open(port)))
    clients.push(...more)
    return (await askAll(more)).some(({ body }) => body === String(young.pid)) || undefined
  })
  old.run(({ kept }) => kept.daemon?.stop()).catch(() => {})
  await assert.rejects(upgrading, { code: 'ERR_COOK_STOPPED' })
  for (const { socket } of clients) socket.destroy()
})

// ---------------------------------------------------------------------------------------------- while connections move

test('a new version that is killed while it gets 1,000 connections costs those that had moved, and 32 on their way at most', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const port = await old.run(({ serve, web, tell }) => {
    const onTakeover = (value: unknown) => tell('taken over', value ?? 'nothing')
    // Longer than a slow machine takes for the test; at 5 s Node would close what says nothing.
    return serve({ pidFile: 'pid', onTakeover }, web({ keepAliveTimeout: 60_000 }))
  })
  await old.event('taken over')
  const clients = await idleConnections(port, 1_000)
  const young = await replace(lab, old, dying)
  await young.gone
  assert.deepEqual(await old.event('successor-lost'), { type: 'successor-lost', generation: 2 })
  const { handedOver, served, closed, cut, listeners } = await drained(old)
  assert.ok(handedOver >= 190 && handedOver <= 200, `${handedOver} had moved`)
  assert.ok(cut <= 32, `${cut} were on their way`)
  assert.deepEqual(
    { served, closed, listeners },
    { served: 0, closed: 0, listeners: { 'tcp:127.0.0.1:0': counts(handedOver, 0, 0, cut) } },
  )
  const lost = handedOver + cut
  await eventually('the ends of what was lost', () => ended(clients) === lost || undefined)
  // The service is the old one's again, with all that belongs to it.
  assert.equal(await old.run(({ kept }) => kept.daemon?.phase), 'ready')
  assert.equal(lab.read('pid'), `${old.pid}\n`)
  assert.equal(await old.event('taken over'), 'nothing')
  assert.equal(await connections(old), 1_000 - lost)
  const stayed = clients.filter(({ hasEnded }) => !hasEnded)
  assert.deepEqual(await askAll(stayed), [answer(old)])
  const more = await idleConnections(port, 10)
  const next = await replace(lab, old, ({ serve, web }) => serve({ pidFile: 'pid' }, web({ keepAliveTimeout: 60_000 })))
  assert.deepEqual(fates(await drained(old)), report(counts(1_000 - lost + 10, 0, 0, 0)))
  assert.deepEqual(await askAll([...stayed, ...more]), [answer(next)])
  assert.equal(ended(clients), lost)
  assert.equal(lab.read('pid'), `${next.pid}\n`)
  await old.gone
})

test('the service comes back although an onDrain listener still waits for something', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const port = await old.run(({ serve, web }) => {
    const server = web({ keepAliveTimeout: 60_000 })
    return serve({ pidFile: 'pid', prepare: (daemon) => daemon.onDrain(() => new Promise(() => {})) }, server)
  })
  const clients = await idleConnections(port, 300)
  await replace(lab, old, dying)
  await old.event('successor-lost')
  assert.equal(await old.run(({ kept }) => kept.daemon?.phase), 'ready')
  await eventually('the ends of what was lost', () => ended(clients) >= 190 || undefined)
  assert.equal((await (await HttpConnection.open(port)).ask()).body, String(old.pid))
})

test('a stop that came while connections moved is not forgotten when the new version dies', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const port = await old.run(({ serve, web }) => serve({ pidFile: 'pid' }, web({ keepAliveTimeout: 60_000 })))
  const clients = await idleConnections(port, 300)
  const young = await replace(lab, old, stopping)
  await young.event('stopped')
  await old.run(({ kept }) => void kept.daemon?.stop())
  young.kill('SIGKILL')
  await old.event('successor-lost')
  await old.gone
  for (const client of clients) await client.closed
  assert.throws(() => lab.read('pid'), { code: 'ENOENT' })
})

// ---------------------------------------------------------------------------------------------- after the old one has stopped accepting

const plain = ({ serve }: PuppetScope) => serve({ pidFile: 'pid' })
const onPath = ({ serve }: PuppetScope) => serve({ pidFile: 'pid', path: 'web.sock' })

for (const [where, program] of [
  ['on a port', plain],
  ['on a Unix path', onPath],
] as const) {
  test(`a new version that is killed while the old one finishes its last request gives the service back, ${where}: nobody is refused`, async () => {
    await using lab = await Lab.open()
    const old = await lab.start()
    const port = await old.run(program)
    const at = program === onPath ? { path: lab.path('web.sock') } : port
    const busy = await HttpConnection.open(at)
    const late = busy.ask('/slow')
    await old.event('asked')
    const young = await replace(lab, old, program)
    await untilDeaf(old)
    const moved = await HttpConnection.open(at)
    assert.deepEqual(await moved.ask(), answer(young))
    // Nobody accepts this one before the service has come back.
    young.kill('SIGSTOP')
    const waiting = await HttpConnection.open(at)
    const asked = waiting.ask()
    young.kill('SIGKILL')
    assert.deepEqual(await asked, answer(old))
    assert.deepEqual(await old.event('successor-lost'), { type: 'successor-lost', generation: 2 })
    await moved.closed
    await old.run(({ finish }) => finish())
    assert.equal((await late).body, String(old.pid))
    await servesOn(lab, old, at, program)
  })
}

test('a version that dies while a third one takes over from it gives nothing back: the third one serves', async () => {
  await using lab = await Lab.open()
  const first = await lab.start()
  const port = await first.run(plain)
  const busy = await HttpConnection.open(port)
  const late = busy.ask('/slow')
  await first.event('asked')
  const second = await replace(lab, first, plain)
  await untilDeaf(first)
  const { young: third, upgrading } = await beginReplace(lab, second)
  upgrading.catch(() => {})
  second.kill('SIGKILL')
  await third.run(plain)
  assert.equal((await (await HttpConnection.open(port)).ask()).body, String(third.pid))
  await first.run(({ finish }) => finish())
  assert.equal((await late).body, String(first.pid))
  await first.gone
  assert.equal(lab.read('pid'), `${third.pid}\n`)
  assert.equal((await (await HttpConnection.open(port)).ask()).body, String(third.pid))
})

/** It has stopped accepting. */
async function untilDeaf(old: Puppet): Promise<void> {
  await eventually('the end of accepting', async () => {
    return (await old.run(({ kept }) => kept.server?.listening)) === false ? true : undefined
  })
}

/** The service is whole: one owner, who can be upgraded. */
async function servesOn(
  lab: Lab,
  owner: Puppet,
  at: Parameters<typeof HttpConnection.open>[0],
  program = plain,
): Promise<void> {
  assert.equal(await owner.run(({ kept }) => kept.daemon?.phase), 'ready')
  assert.equal(lab.read('pid'), `${owner.pid}\n`)
  const client = await HttpConnection.open(at)
  assert.deepEqual(await client.ask(), answer(owner))
  const next = await replace(lab, owner, program)
  // Before it has moved, the old one may still answer.
  await owner.gone
  assert.deepEqual(await client.ask(), answer(next))
  assert.equal(lab.read('pid'), `${next.pid}\n`)
}

/** A new version that dies when it has got 200 connections. */
const dying: Program = ({ serve, web }) => {
  const server = web({ keepAliveTimeout: 60_000 })
  let got = 0
  server.on('connection', () => {
    if (++got === 200) process.kill(process.pid, 'SIGKILL')
  })
  return serve({ pidFile: 'pid' }, server)
}

/** One that says so and stands still from then on. */
const stopping: Program = ({ serve, web, tell }) => {
  const server = web({ keepAliveTimeout: 60_000 })
  let got = 0
  server.on('connection', () => {
    if (++got !== 200) return
    tell('stopped')
    setImmediate(() => process.kill(process.pid, 'SIGSTOP'))
  })
  return serve({ pidFile: 'pid' }, server)
}

function answer(puppet: Puppet) {
  return { status: 200, body: String(puppet.pid), closes: false }
}

/** Of a server that is the only one. */
function report(web: ReturnType<typeof counts>): Omit<DrainReport, 'times'> {
  return { ...web, listeners: { 'tcp:127.0.0.1:0': web } }
}

function ended(clients: readonly HttpConnection[]): number {
  return clients.filter(({ hasEnded }) => hasEnded).length
}

function connections(puppet: Puppet): Promise<number> {
  return puppet.run(({ kept }) => new Promise<number>((told) => kept.server?.getConnections((_, count) => told(count))))
}

async function phase(puppet: Puppet, name: string): Promise<void> {
  await eventually(`the phase ${name}`, () =>
    puppet.events.some(({ value }) => (value as { phase?: string } | undefined)?.phase === name) ? true : undefined,
  )
}

// ---------------------------------------------------------------------------------------------- an unmodified program

/**
 * Answers with its pid; to `/slow` at SIGHUP. The version that crashes does so at its first
 * request.
 */
const unmodified = (onRequest: string) => `
  const { createServer } = await given.load('node:http')
  const server = createServer((request, response) => {
    ${onRequest}
    if (request.url === '/slow') process.once('SIGHUP', () => response.end(String(process.pid)))
    else response.end(String(process.pid))
    if (request.url === '/slow') console.log('asked')
  })
  server.listen(0, '127.0.0.1', () => given.serving(server))`

test('when a new version of an unmodified program crashes at its first request while the old one finishes its last, the old one takes the service back', async () => {
  const folder = newFolder()
  await using program = await UnmodifiedProgram.start('scripted.mjs', { folder, env: { LINES: unmodified('') } })
  const { port, pid } = program
  const busy = await HttpConnection.open(port)
  busy.send('/slow', 'connection: close\r\n')
  await program.printed(/^asked$/m)
  writeFileSync(join(folder, 'deployed'), unmodified("throw new Error('a bad version')"))
  program.kill('SIGUSR2')
  await program.untilServed()
  const first = await HttpConnection.open(port)
  // The old one may still accept: whoever asks it is answered.
  await eventually('the crash', async () => {
    const client = await HttpConnection.open(port)
    return (await client.ask().catch(() => undefined)) === undefined ? true : undefined
  })
  await program.untilServed()
  assert.equal(program.pid, pid)
  await first.closed
  assert.equal((await (await HttpConnection.open(port)).ask()).body, String(pid))
  program.kill('SIGHUP')
  assert.equal((await busy.answer()).body, String(pid))
  writeFileSync(join(folder, 'deployed'), unmodified(''))
  await program.upgrade()
  assert.equal((await (await HttpConnection.open(port)).ask()).body, String(program.pid))
  assert.notEqual(program.pid, pid)
})
