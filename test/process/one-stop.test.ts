/**
 * One stop is one stop, whichever ways it arrives, and reaches all generations; a second one, later,
 * cuts.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { begin } from '../support/control.ts'
import { drained, replace } from '../support/daemons.ts'
import { takesAll } from '../support/extent.ts'
import { HttpConnection } from '../support/http-connection.ts'
import { Lab, type Puppet } from '../support/lab.ts'
import { Program } from '../support/program.ts'
import { eventually } from '../support/waiting.ts'

/** Its connection, with a request that is answered when the process is told to. */
async function askSlowly(puppet: Puppet, port: number): Promise<HttpConnection> {
  const client = await HttpConnection.open(port)
  client.send('/slow')
  await puppet.event('asked')
  return client
}

/** What was in flight is answered, and the process ends. */
async function answersAndEnds(puppet: Puppet, client: HttpConnection): Promise<void> {
  await puppet.run(({ finish }) => finish())
  assert.equal((await client.answer()).body, String(puppet.pid))
  assert.equal((await drained(puppet)).cut, 0)
  await puppet.gone
}

test('a stop that comes by two signals, a call and the control socket at once cuts nothing', async () => {
  await using lab = await Lab.open()
  const puppet = await lab.start()
  const port = await puppet.run(({ serve }) => serve({ name: 'web' }))
  const client = await askSlowly(puppet, port)
  const asked = begin(lab.path('run', 'web.sock'), 'POST /stop')
  puppet.kill('SIGTERM')
  await puppet.run(({ kept }) => void kept.daemon?.stop())
  puppet.kill('SIGINT')
  await asked
  puppet.kill('SIGTERM')
  await puppet.run(() => {})
  await answersAndEnds(puppet, client)
})

test('a stop of all processes at once cuts nothing in an old version that drains, and a later one does', async () => {
  for (const isCut of [false, true]) {
    await using lab = await Lab.open()
    const old = await lab.start()
    const port = await old.run(({ serve }) => serve({ moveConnections: false }))
    const idle = await HttpConnection.open(port)
    await idle.ask()
    const client = await askSlowly(old, port)
    const young = await replace(lab, old, ({ serve }) => serve())
    young.kill('SIGTERM')
    // It has heard of it from the new one.
    await idle.closed
    old.kill('SIGTERM')
    // Time for the cut that must not come.
    await old.run(() => new Promise((done) => setTimeout(done, 100)))
    if (!isCut) await answersAndEnds(old, client)
    // Until somebody means it.
    else await untilCut(old, client)
    await young.gone
  }
})

/** Asks for a stop again and again: soon it is another one. */
async function untilCut(puppet: Puppet, client: HttpConnection): Promise<void> {
  await eventually('the cut', () => {
    if (client.hasEnded) return true
    puppet.kill('SIGTERM')
    return undefined
  })
  assert.equal((await drained(puppet)).cut, 1)
  await puppet.gone
}

test('a supervisor that signals the old version alone while it drains stops all generations, and cuts nothing', async () => {
  await using lab = await Lab.open()
  const puppets: Puppet[] = []
  const clients: HttpConnection[] = []
  let port = 0
  for (let generation = 1; generation <= 3; generation++) {
    const before = puppets.at(-1)
    const puppet = before === undefined ? await lab.start() : await replace(lab, before, ({ serve }) => serve())
    if (before === undefined) port = await puppet.run(({ serve }) => serve())
    else await stopsAccepting(before)
    clients.push(await askSlowly(puppet, port))
    puppets.push(puppet)
  }
  const [oldest] = puppets
  // As systemd does with KillMode=mixed, and runit, daemontools and s6 with each of theirs.
  oldest?.kill('SIGTERM')
  oldest?.kill('SIGCONT')
  const newest = puppets.at(-1) as Puppet
  await eventually('the stop of the newest', async () =>
    (await newest.run(({ kept }) => kept.daemon?.phase)) === 'draining' ? true : undefined,
  )
  for (const [at, puppet] of puppets.entries()) await answersAndEnds(puppet, clients[at] as HttpConnection)
})

async function stopsAccepting(puppet: Puppet): Promise<void> {
  await eventually('an old version that accepts no more', async () =>
    (await puppet.run(({ kept }) => kept.server?.listening)) ? undefined : true,
  )
}

// ---------------------------------------------------------------------------------------------- unmodified programs

/** What a program does at SIGTERM, and the exit code that it then ends with. */
const handlers = {
  'without a handler': ['', 0],
  'that ends at once at the second': ["on('SIGTERM', () => { if (told++) process.exit(9); leave() })", 7],
  'that listens once': ["once('SIGTERM', leave)", 7],
  'that sends itself the signal when it has finished': [
    "on('SIGTERM', () => { if (told++) process.exit(9); server.close(() => { process.removeAllListeners('SIGTERM'); process.kill(process.pid, 'SIGTERM') }) })",
    // By that signal, which is no exit.
    undefined,
  ],
} as const

for (const [what, [handler, code]] of Object.entries(handlers)) {
  test(`two SIGTERMs for one stop cut nothing in an unmodified program ${what}`, {
    skip: !takesAll && what !== 'that ends at once at the second' && what !== 'without a handler',
  }, async () => {
    const lines = `
      let told = 0
      const { createServer } = process.getBuiltinModule('node:http')
      const leave = () => server.close(() => process.exit(7))
      const server = createServer((request, response) => {
        given.log('asked')
        process.once('SIGWINCH', () => response.end('done'))
      })
      ${handler === '' ? '' : `process.${handler}`}
      server.listen(0, () => given.serving(server))`
    await using program = await Program.start('scripted.mjs', { env: { LINES: lines } })
    const client = await HttpConnection.open(program.port)
    client.send('/', 'connection: close\r\n')
    await program.printed(/asked$/m)
    program.kill('SIGTERM')
    await eventually('that it is heard of', async () => {
      try {
        ;(await HttpConnection.open(program.port)).socket.destroy()
        return undefined
      } catch {
        return true
      }
    })
    program.kill('SIGTERM')
    // Behind it.
    program.kill('SIGWINCH')
    assert.equal((await client.answer()).body, 'done')
    assert.deepEqual(await program.exits(), code === undefined ? [] : [code])
  })
}
