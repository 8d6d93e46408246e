/**
 * Unmodified programs: what the preload takes up, hands over, leaves alone, and says when it
 * cannot.
 */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { connect as connectTls } from 'node:tls'
import { fileURLToPath } from 'node:url'
import { isAlive, system } from '../../src/node/system.ts'
import { HttpConnection } from '../support/http-connection.ts'
import { newFolder, Program, preload } from '../support/program.ts'
import { deploy, type Lines, start } from '../support/scripted.ts'
import { eventually, within } from '../support/waiting.ts'

const oneServer: Lines = ({ web, serving }) => {
  const server = web()
  server.listen(process.env.PORT, () => serving(server))
}

async function pidAt(where: number | string): Promise<number> {
  const connection = await HttpConnection.open(typeof where === 'string' ? { path: where } : where)
  const { body } = await connection.ask()
  connection.socket.destroy()
  return Number(body)
}

// ---------------------------------------------------------------------------------------------- listeners

test('an unmodified program: the connection of a client lives through an upgrade, and the port stays', async () => {
  await using program = await start(oneServer)
  const { port, pid } = program
  const client = await HttpConnection.open(port)
  assert.equal((await client.ask()).body, String(pid))
  await program.upgrade()
  assert.equal(program.port, port)
  assert.deepEqual(await client.ask(), { status: 200, body: String(program.pid), closes: false })
  await program.upgrade()
  assert.deepEqual(await client.ask(), { status: 200, body: String(program.pid), closes: false })
  client.socket.destroy()
  assert.deepEqual(await program.stop(), [0, 0, 0])
})

test('several ports, two of them for the system to choose, are each found again', async () => {
  await using program = await start(async ({ web, log, serving }) => {
    const { once } = process.getBuiltinModule('node:events')
    const servers = [web(), web(), web()]
    servers[0]?.listen(0)
    servers[1]?.listen()
    servers[2]?.listen(0, '127.0.0.1')
    await Promise.all(servers.map((server) => server.listening || once(server, 'listening')))
    log(`ports ${servers.map((server) => (server.address() as { port: number }).port)}`)
    serving(servers[2] as import('node:net').Server)
  })
  const ports = async () => (await program.printed(new RegExp(`^${program.pid}: ports (.*)$`, 'm')))[1]
  const before = await ports()
  await program.upgrade()
  assert.equal(await ports(), before)
  for (const port of String(before).split(',')) assert.equal(await pidAt(Number(port)), program.pid)
})

test('localhost, IPv6 and every way of calling listen() get the listener of their address', async () => {
  await using program = await start(async ({ web, log, serving }) => {
    const { once } = process.getBuiltinModule('node:events')
    const ways: ((server: import('node:http').Server) => unknown)[] = [
      (server) => server.listen({ port: 0, host: 'localhost' }),
      (server) => server.listen(0, '::1'),
      (server) => server.listen('0', 0 as never, () => {}),
      (server) => server.listen({ port: 0, host: '127.0.0.1', exclusive: true, backlog: 77 }),
      (server) => server.listen(() => {}),
    ]
    const ports: number[] = []
    for (const listen of ways) {
      const server = web()
      listen(server)
      await once(server, 'listening')
      ports.push((server.address() as { port: number }).port)
      serving(server)
    }
    log(`ports ${ports}`)
  })
  const ports = async () => (await program.printed(new RegExp(`^${program.pid}: ports (.*)$`, 'm')))[1]
  const before = await ports()
  await program.upgrade()
  assert.equal(await ports(), before)
})

test('a new version that says the same address in other words gets the same listener, with its connections', async () => {
  await using program = await start(({ web, serving }) => {
    const server = web()
    server.listen(0, 'localhost', () => serving(server))
  })
  const address = await addressOf(program.port)
  const client = await HttpConnection.open({ host: address, port: program.port })
  await client.ask()
  deploy(
    program,
    Function(
      '{ web, serving }',
      `const server = web(); server.listen(${program.port}, '${address}', () => serving(server))`,
    ) as Lines,
  )
  await program.upgrade()
  assert.deepEqual(await client.ask(), { status: 200, body: String(program.pid), closes: false })
  client.socket.destroy()
})

test('a listener that the new version adds is there after the next upgrade too', async () => {
  await using program = await start(oneServer)
  deploy(program, ({ web, serving, log }) => {
    const [server, more] = [web(), web()]
    server.listen(process.env.PORT, () => serving(server))
    more.listen(0, '127.0.0.1', () => log(`more ${(more.address() as { port: number }).port}`))
  })
  await program.upgrade()
  const more = async () => Number((await program.printed(new RegExp(`^${program.pid}: more (.*)$`, 'm')))[1])
  const before = await more()
  assert.equal(await pidAt(before), program.pid)
  await program.upgrade()
  assert.equal(await more(), before)
  assert.equal(await pidAt(before), program.pid)
})

test('a new version that leaves a listener fails with a message that names it, and the old one keeps serving', async () => {
  await using program = await start(
    ({ web, serving }) => {
      const server = web()
      server.listen(0, () => web().listen(0, '127.0.0.1', () => serving(server)))
    },
    { record: { readyTimeout: 1_000 } },
  )
  const { pid, port } = program
  deploy(program, oneServer)
  program.kill('SIGUSR2')
  await program.printed(/has not opened 127\.0\.0\.1:\d+, where the old version listens/)
  assert.equal(await pidAt(port), pid)
  assert.equal(readFileSync(join(program.folder, 'pid'), 'utf8'), `${pid}\n`)
})

test('a server that the program has closed is no part of the next upgrade', async () => {
  await using program = await start(({ web, serving }) => {
    const [server, short] = [web(), web()]
    short.listen(0, '127.0.0.1', () => short.close(() => server.listen(0, () => serving(server))))
  })
  await program.upgrade()
  assert.equal(await pidAt(program.port), program.pid)
})

test('over TLS a client resumes its session with the new version', async () => {
  await using program = await Program.start('https.mjs')
  const { port } = program
  const options = { port, host: 'localhost', rejectUnauthorized: false }
  const first = connectTls(options)
  const [session] = (await within('a session', once(first, 'session'))) as [Buffer]
  first.destroy()
  await program.upgrade()
  const again = connectTls({ ...options, session })
  await within('a handshake', once(again, 'secureConnect'))
  const isReused = again.isSessionReused()
  again.destroy()
  assert.equal(isReused, true)
})

test('a Unix path of an unmodified program lives through upgrades, even if each version removes it first', async () => {
  await using program = await start(async ({ web, log, serving }) => {
    const { rmSync } = process.getBuiltinModule('node:fs')
    const server = web()
    rmSync('app.sock', { force: true })
    server.listen('app.sock', () => log(`address ${server.address()}`))
    process.on('exit', () => rmSync('app.sock', { force: true }))
    process.on('SIGTERM', () => server.close(() => process.exit(0)))
    const other = web()
    other.listen(0, () => serving(other))
  })
  const path = join(program.folder, 'app.sock')
  const client = await HttpConnection.open({ path })
  assert.equal((await client.ask()).body, String(program.pid))
  for (let upgrade = 0; upgrade < 3; upgrade++) {
    await program.upgrade()
    assert.deepEqual(await client.ask(), { status: 200, body: String(program.pid), closes: false })
    assert.equal(await pidAt(path), program.pid)
  }
  client.socket.destroy()
  await program.stop()
  assert.equal(existsSync(path), false)
  assert.equal(existsSync(`${path}.spare`), false)
})

test('a Unix path on which somebody listens is EADDRINUSE, as without the preload', async () => {
  await using program = await start(({ web, serving, log }) => {
    const server = web()
    server.listen('app.sock', () => {
      const second = web()
      second.on('error', (error: NodeJS.ErrnoException) => log(`second ${error.code}`))
      second.listen('app.sock')
      const other = web()
      other.listen(0, () => serving(other))
    })
  })
  await program.printed(/second EADDRINUSE/)
})

test('a UDP socket is read by the new version from the commit on, and no datagram is lost', async () => {
  await using program = await start(
    ({ web, serving, log }) => {
      const socket = process.getBuiltinModule('node:dgram').createSocket('udp4')
      socket.on('message', (message, from) => socket.send(`${process.pid} ${message}`, from.port, from.address))
      socket.bind(Number(process.env.UDP), '127.0.0.1')
      socket.on('listening', () => log('bound'))
      const server = web()
      server.listen(0, () => serving(server))
    },
    { env: { UDP: String(await freeUdpPort()) } },
  )
  const port = Number(/UDP=(\d+)/.exec(readFileSync(`/proc/${program.pid}/environ`, 'latin1'))?.[1])
  const client = createSocket('udp4')
  const answers: string[] = []
  client.on('message', (message) => answers.push(String(message)))
  let sent = 0
  // Never so many that the kernel has no room for them while a busy machine lets a process wait.
  const send = () => sent - answers.length < 100 && client.send(`${++sent}`, port, '127.0.0.1')
  const sending = setInterval(send, 1)
  await eventually('answers', () => answers.length > 20 || undefined)
  for (let upgrade = 0; upgrade < 3; upgrade++) {
    await program.upgrade()
    await eventually('answers of the new one', () => answers.at(-1)?.startsWith(`${program.pid} `) || undefined)
  }
  clearInterval(sending)
  await eventually(
    () => `the last answer (${answers.length} of ${sent}, dropped: ${readFileSync('/proc/net/udp', 'utf8')})`,
    () => answers.length === sent || undefined,
  )
  assert.equal(new Set(answers.map((answer) => answer.split(' ')[1])).size, sent)
  client.close()
})

// ---------------------------------------------------------------------------------------------- ready

test("with waitReady only process.send('ready') makes a version ready", async () => {
  const folder = newFolder()
  const lines: Lines = ({ web, serving, log }) => {
    const server = web()
    server.listen(process.env.PORT, () => {
      serving(server)
      log(`listens ${typeof process.send} ${process.send?.('something else')}`)
      const look = setInterval(() => {
        if (!process.getBuiltinModule('node:fs').existsSync('go')) return
        clearInterval(look)
        process.send?.('ready')
      }, 5)
    })
  }
  await using program = await start(lines, { folder, record: { waitReady: true }, isUp: false })
  await program.printed(/listens function true/)
  assert.equal(existsSync(join(folder, 'pid')), false)
  writeFileSync(join(folder, 'go'), '')
  await program.untilServed()
  await program.upgrade()
  assert.equal(await pidAt(program.port), program.pid)
})

test('a version that never says that it is ready fails with these words, and the old one keeps serving', async () => {
  await using program = await start(
    ({ web, serving }) => {
      const { existsSync, writeFileSync } = process.getBuiltinModule('node:fs')
      const server = web()
      server.listen(0, () => {
        serving(server)
        if (!existsSync('first')) process.send?.('ready')
        writeFileSync('first', '')
      })
    },
    { record: { waitReady: true, readyTimeout: 1_000 } },
  )
  const { pid, port } = program
  program.kill('SIGUSR2')
  await program.printed(/the program has not sent "ready"/)
  assert.equal(await pidAt(port), pid)
})

test("notifyUpgradeDone() of the library is as good a word as process.send('ready'), and may say no", async () => {
  const library = new URL('../../bundle/index.js', import.meta.url).href
  await using program = await start(
    async ({ web, serving, load }) => {
      const { existsSync } = process.getBuiltinModule('node:fs')
      const { notifyUpgradeDone } = await load(String(process.env.LIBRARY))
      const server = web()
      server.listen(0, async () => {
        serving(server)
        if (!existsSync('no')) return void notifyUpgradeDone()
        await notifyUpgradeDone(false, 'the table is empty')
        process.exit(1)
      })
    },
    { record: { waitReady: true }, env: { LIBRARY: library } },
  )
  await program.upgrade()
  writeFileSync(join(program.folder, 'no'), '')
  program.kill('SIGUSR2')
  await program.printed(/refused to start: the table is empty/)
  assert.equal(await pidAt(program.port), program.pid)
})

test('a program of the verbs that was started under the preload upgrades itself', async () => {
  const library = new URL('../../bundle/index.js', import.meta.url).href
  await using program = await start(
    async ({ web, serving, log, load }) => {
      const cook = await load(String(process.env.LIBRARY))
      cook.restoreInheritFiles()
      const server = web()
      const [inherited] = cook.inUpgrade() ? cook.inheritTcpListeners('web') : []
      await new Promise<void>((listening) => server.listen(inherited ?? { port: 0 }, () => listening()))
      cook.addInheritTcpListener('web', server)
      if (cook.inUpgrade()) await cook.notifyUpgradeDone()
      cook.writePid('pid')
      process.on('SIGUSR2', () => {
        cook.upgrade({ stage: 'daemon' }).then(
          () => server.close(() => process.exit(0)),
          (error: Error) => log(error.message),
        )
      })
      serving(server)
    },
    { env: { LIBRARY: library } },
  )
  const { port } = program
  for (let upgrade = 0; upgrade < 2; upgrade++) {
    await program.upgrade()
    assert.equal(await pidAt(port), program.pid)
  }
})

test('a program that takes up the library itself keeps what others have put around listen() and bind() meanwhile', async () => {
  const library = new URL('../../bundle/index.js', import.meta.url).href
  await using program = await start(
    async ({ web, serving, log, load }) => {
      const { Server } = process.getBuiltinModule('node:net')
      const { createSocket, Socket } = process.getBuiltinModule('node:dgram')
      const { serve } = await load(String(process.env.LIBRARY))
      createSocket('udp4').close()
      // As packages that watch over programs do it.
      for (const [prototype, name] of [
        [Server.prototype, 'listen'],
        [Socket.prototype, 'bind'],
      ] as const) {
        const methods = prototype as unknown as Record<string, (this: unknown, ...args: unknown[]) => unknown>
        const inner = methods[name]
        const around = {
          [name](this: unknown, ...args: unknown[]) {
            log(`watched ${name}`)
            return inner?.apply(this, args)
          },
        }
        methods[name] = around[name] as (typeof methods)[string]
      }
      const server = web()
      await serve(server, { port: 0 })
      createSocket('udp4').bind(0, function bound(this: import('node:dgram').Socket) {
        this.close()
        serving(server)
      })
    },
    { env: { LIBRARY: library } },
  )
  assert.match(program.output, /watched listen/)
  assert.match(program.output, /watched bind/)
})

test('a program that takes up the library itself is left to it, with the control socket that was opened for it', async () => {
  const library = new URL('../../bundle/index.js', import.meta.url).href
  const folder = newFolder()
  await using program = await start(
    async ({ web, serving, log, load }) => {
      const { serve } = await load(String(process.env.LIBRARY))
      const server = web()
      const daemon = await serve(server, { port: 0 })
      log(`generation ${daemon.generation}`)
      serving(server)
    },
    { folder, record: { name: 'own' }, env: { LIBRARY: library, COOK_DAEMON_HOME: join(folder, 'run') } },
  )
  const client = await HttpConnection.open(program.port)
  await client.ask()
  for (let generation = 2; generation < 4; generation++) {
    await program.upgrade()
    await program.printed(new RegExp(`^${program.pid}: generation ${generation}$`, 'm'))
    assert.deepEqual(await client.ask(), { status: 200, body: String(program.pid), closes: false })
    const control = await HttpConnection.open({ path: join(folder, 'run', 'own.sock') })
    control.send('/status')
    await eventually('the status', () => control.text.includes('"tcp:*:0"') || undefined)
    assert.match(control.text, new RegExp(`"generation": ?${generation}`))
    control.socket.destroy()
  }
  client.socket.destroy()
  assert.deepEqual(await program.stop(), [0, 0, 0])
})

// ---------------------------------------------------------------------------------------------- signals and the end

test('SIGTERM of a program without a handler of its own finishes what was accepted, and ends', async () => {
  await using program = await start(({ serving }) => {
    const { createServer } = process.getBuiltinModule('node:http')
    const server = createServer((_request, response) => {
      response.write('begun ')
      process.once('SIGWINCH', () => response.end('done'))
    })
    server.listen(0, () => serving(server))
  })
  const socket = connect(program.port, '127.0.0.1')
  let answer = ''
  socket.setEncoding('utf8').on('data', (text: string) => {
    answer += text
  })
  socket.write('GET / HTTP/1.1\r\nhost: a\r\n\r\n')
  await eventually('the begin of an answer', () => answer.includes('begun') || undefined)
  program.kill('SIGTERM')
  program.kill('SIGWINCH')
  await within('the end of the connection', once(socket, 'close'))
  assert.match(answer, /done/)
  assert.deepEqual(await program.exits(), [0])
  assert.equal(existsSync(join(program.folder, 'pid')), false)
})

test("a program's own SIGTERM handler gets the signal as always, and in an old generation when it has drained", async () => {
  await using program = await start(({ web, serving, log }) => {
    const server = web()
    server.listen(0, () => serving(server))
    process.on('SIGTERM', (...args: unknown[]) => {
      log('SIGTERM', args.join())
      server.closeIdleConnections()
      server.close((error) => {
        log(`closed ${error}`)
        process.exit(7)
      })
    })
  })
  const client = await HttpConnection.open(program.port)
  await client.ask()
  const old = program.pid
  await program.upgrade()
  assert.deepEqual(await client.ask(), { status: 200, body: String(program.pid), closes: false })
  await program.printed(new RegExp(`^${old}: SIGTERM SIGTERM,15$`, 'm'))
  await program.printed(new RegExp(`^${old}: closed undefined$`, 'm'))
  client.socket.destroy()
  assert.deepEqual(await program.stop(), [7, 7])
  await program.printed(new RegExp(`^${program.pid}: closed undefined$`, 'm'))
  assert.equal(existsSync(join(program.folder, 'pid')), false)
})

test('SIGTERM sent to an old generation by hand, whose handler closes its servers, breaks no handover', async () => {
  await using program = await start(
    ({ serving, log }) => {
      const { createServer } = process.getBuiltinModule('node:http')
      const server = createServer((request, response) => {
        if (request.url === '/slow') setTimeout(() => response.end(`${process.pid}`), 700)
        else response.end(`${process.pid}`)
      })
      server.listen(0, () => serving(server))
      process.on('SIGTERM', () => {
        log('told')
        server.closeIdleConnections()
        server.close(() => process.exit(0))
      })
    },
    { record: { drainTimeout: 20_000 } },
  )
  const { pid } = program
  const client = await HttpConnection.open(program.port)
  const slow = client.ask('/slow')
  program.kill('SIGUSR2')
  await program.untilServed()
  system.kill([pid, system.startTime(pid) ?? ''], 'SIGTERM')
  assert.equal((await slow).body, String(pid))
  assert.equal(await pidAt(program.port), program.pid)
  client.socket.destroy()
  await eventually('the end of the old one', () => system.startTime(pid) === undefined || undefined)
})

test('an old generation whose handler does not end it is ended at drainTimeout', async () => {
  await using program = await start(
    ({ web, serving, log }) => {
      const server = web()
      server.listen(0, () => serving(server))
      setInterval(() => {}, 1_000)
      process.on('SIGTERM', () => log('told'))
    },
    { record: { drainTimeout: 500 } },
  )
  const old = program.pid
  await program.upgrade()
  await program.printed(new RegExp(`^${old}: told`, 'm'))
  assert.equal(isAlive([program.pid, system.startTime(program.pid) ?? '']), true)
  program.kill('SIGKILL')
})

test('a program that ends at SIGTERM while it is being replaced takes its new version with it', async () => {
  await using program = await start(({ web, serving, log }) => {
    const { existsSync } = process.getBuiltinModule('node:fs')
    process.on('SIGTERM', () => {
      log('ends')
      setImmediate(() => process.exit(3))
    })
    // The second version hangs.
    if (existsSync('first')) return void setInterval(() => log('hangs'), 10)
    process.getBuiltinModule('node:fs').writeFileSync('first', '')
    const server = web()
    server.listen(0, () => serving(server))
  })
  const { pid } = program
  program.kill('SIGUSR2')
  await program.printed(/: hangs$/m)
  program.kill('SIGTERM')
  // The new version is killed, or sees first that it is refused, which ends it with 1.
  assert.deepEqual(
    (await program.exits()).filter((code) => code !== 1),
    [3],
  )
  assert.match(program.output, new RegExp(`^${pid}: ends$`, 'm'))
})

test('the package signal-exit is no handler of the program: its process is drained, and ends', async () => {
  await using program = await start(({ web, serving, log }) => {
    // What it is to others: a count of its copies, and a listener that leaves the end to whoever
    // else listens.
    const emitter = { count: 1 }
    Object.assign(process, { [Symbol.for('signal-exit emitter')]: emitter })
    process.on('SIGTERM', () => {
      if (process.listeners('SIGTERM').length === emitter.count) log('kills')
    })
    const server = web()
    server.listen(0, () => serving(server))
  })
  await program.upgrade()
  assert.deepEqual(await program.stop(), [0, 0])
  assert.doesNotMatch(program.output, /kills/)
})

test("SIGUSR2 is the upgrade's: a program's own listeners for it are not called", async () => {
  await using program = await start(({ web, serving }) => {
    const server = web()
    server.listen(0, () => serving(server))
    process.on('SIGUSR2', () => process.exit(9))
  })
  await program.upgrade()
  assert.deepEqual(await program.stop(), [0, 0])
})

test('a signal too early: a program that does not serve yet ends by it', async () => {
  await using program = await start(
    ({ log }) => {
      setInterval(() => {}, 1_000)
      log('here')
    },
    { isUp: false },
  )
  const [line] = await program.printed(/^(\d+): here$/m)
  process.kill(Number(line.split(':')[0]), 'SIGTERM')
  assert.deepEqual(await program.exits(), [143])
})

// ---------------------------------------------------------------------------------------------- what the program sees

test('the link is invisible to the program, before the commit and after, and no variable of ours is there', async () => {
  await using program = await start(({ web, serving, log }) => {
    process.on('message', () => log('saw a message'))
    process.on('disconnect', () => log('saw a disconnect'))
    const look = () =>
      log(
        'sees',
        typeof process.send,
        process.connected,
        typeof process.channel,
        typeof process.disconnect,
        Object.keys(process.env).filter((name) => name.startsWith('COOK_DAEMON') || name.startsWith('NODE_CHANNEL')),
      )
    look()
    const server = web()
    server.on('request', look)
    server.listen(0, () => serving(server))
  })
  await pidAt(program.port)
  await program.upgrade()
  await pidAt(program.port)
  await eventually('two looks of each', () => (program.output.match(/: sees /g) ?? []).length === 4 || undefined)
  const seen = new Set([...program.output.matchAll(/: sees (.*)$/gm)].map(([, words]) => words))
  assert.deepEqual([...seen], ['undefined undefined undefined undefined []'])
  assert.doesNotMatch(program.output, /saw a/)
})

test("the program's forks, children and worker threads have nothing of the preload", async () => {
  await using program = await start(async ({ web, serving, log }) => {
    const { fork, spawn } = process.getBuiltinModule('node:child_process')
    const { once } = process.getBuiltinModule('node:events')
    const { Worker } = process.getBuiltinModule('node:worker_threads')
    const { writeFileSync } = process.getBuiltinModule('node:fs')
    const lines = `import net from 'node:net'; const own = Object.keys(process.env).filter((name) => name.startsWith('COOK_DAEMON'));
      console.log('other', process.listenerCount('SIGTERM'), own.length, net.Server.prototype.listen.toString().includes('isActive'), typeof process.send, process.execArgv.length > 1)`
    writeFileSync('other.mjs', lines)
    const others = [
      once(fork('other.mjs'), 'exit'),
      once(spawn(process.execPath, [...process.execArgv, 'other.mjs'], { stdio: 'inherit' }), 'exit'),
      once(new Worker('./other.mjs'), 'exit'),
    ]
    await Promise.all(others)
    log('all ended')
    const server = web()
    server.listen(0, () => serving(server))
  })
  await program.printed(/all ended/)
  const lines = [...program.output.matchAll(/^other (.*)$/gm)].map(([, words]) => words)
  assert.deepEqual(lines.sort(), ['0 0 false function true', '0 0 false undefined true', '0 0 false undefined true'])
})

test('a changed .env arrives with the next upgrade', async () => {
  const folder = newFolder()
  writeFileSync(join(folder, '.env'), 'GREETING=hello\n')
  await using program = await start(
    ({ web, serving, log }) => {
      process.loadEnvFile()
      log(`greets ${process.env.GREETING}`)
      const server = web()
      server.listen(0, () => serving(server))
    },
    { folder },
  )
  await program.printed(new RegExp(`^${program.pid}: greets hello$`, 'm'))
  writeFileSync(join(folder, '.env'), 'GREETING=goodbye\n')
  await program.upgrade()
  await program.printed(new RegExp(`^${program.pid}: greets goodbye$`, 'm'))
})

test('without its variable the preload does nothing, and reads no more than its first file', () => {
  const lines = `const { Server } = process.getBuiltinModule('node:net')
    const files = Object.keys(require.cache).filter((file) => file.includes('bundle')).map((file) => require('node:path').basename(file))
    console.log(process.listenerCount('SIGTERM'), String(Server.prototype.listen).includes('isActive'), process.exitCode, files.join())`
  const { stdout } = spawnSync(process.execPath, ['--require', preload, '-e', lines], { encoding: 'utf8' })
  assert.equal(stdout, '0 false undefined preload.cjs\n')
  // Each fork and worker thread of the program reads it.
  assert.ok(statSync(preload).size < 10_000)
})

test('--import of the ES module does the same as --require', async () => {
  const module = fileURLToPath(new URL('../../bundle/preload.js', import.meta.url))
  await using program = await Program.start('http.cjs', { preload: ['--import', module] })
  const { port } = program
  await program.upgrade()
  assert.equal(program.port, port)
})

test('a broken variable is an error that names it, and no fresh start', () => {
  for (const text of ['', '{', '[]', '{"name":1}', '{"release":"a"}']) {
    const env = { ...process.env, COOK_DAEMON_PROGRAM: text }
    const { status, stderr } = spawnSync(process.execPath, ['--require', preload, '-e', '0'], { env, encoding: 'utf8' })
    assert.equal(status, 1, text)
    assert.match(stderr, /COOK_DAEMON_PROGRAM is invalid/)
  }
})

// ---------------------------------------------------------------------------------------------- refused

test('a program that looks whether it is the primary of a cluster, and forks nothing, is none', async () => {
  await using program = await start(async ({ web, serving }) => {
    const cluster = process.getBuiltinModule('node:cluster') as unknown as typeof import('node:cluster').default
    const server = web()
    if (cluster.isPrimary) server.listen(0, () => serving(server))
  })
  await program.upgrade()
  assert.equal(await pidAt(program.port), program.pid)
})

test('node:cluster is refused at the first fork, with a clear text', async () => {
  await using program = await start(
    () => {
      const cluster = process.getBuiltinModule('node:cluster') as unknown as typeof import('node:cluster').default
      cluster.fork()
    },
    { isUp: false },
  )
  assert.deepEqual(await program.exits(), [1])
  assert.match(program.output, /the program uses node:cluster, which needs --workers/)
})

test('a server in a worker thread is refused with a clear text, unless its port is for the system to choose', async () => {
  await using program = await start(({ web, serving }) => {
    const { Worker } = process.getBuiltinModule('node:worker_threads')
    const lines = `const { createServer } = require('node:net')
      createServer().listen(0, () => createServer().listen('worker.sock'))`
    process.getBuiltinModule('node:fs').writeFileSync('worker.cjs', lines)
    const worker = new Worker('./worker.cjs')
    worker.on('error', (error) => {
      console.log(error.message)
      worker.terminate()
    })
    const server = web()
    server.listen(0, () => serving(server))
  })
  await program.printed(/listen\(\), under the preload of cook-daemon, was called in a worker thread/)
  assert.equal(await pidAt(program.port), program.pid)
})

test('a server that is closed again before the version is up leaves its listener to the next one that asks', async () => {
  await using program = await start(async ({ web, serving }) => {
    const { once } = process.getBuiltinModule('node:events')
    const { existsSync, readFileSync, writeFileSync } = process.getBuiltinModule('node:fs')
    const port = existsSync('port') ? Number(readFileSync('port', 'utf8')) : 0
    // As packages that look for a free port do it.
    const trial = web().listen(port)
    await once(trial, 'listening')
    const found = (trial.address() as { port: number }).port
    await new Promise((closed) => trial.close(closed))
    const server = web()
    server.listen(found, () => serving(server))
    writeFileSync('port', String(found))
  })
  const client = await HttpConnection.open(program.port)
  await client.ask()
  await program.upgrade()
  assert.deepEqual(await client.ask(), { status: 200, body: String(program.pid), closes: false })
  client.socket.destroy()
})

async function addressOf(port: number): Promise<string> {
  const socket = connect(port, 'localhost')
  await once(socket, 'connect')
  const { remoteAddress = '' } = socket
  socket.destroy()
  return remoteAddress
}

async function freeUdpPort(): Promise<number> {
  const socket = createSocket('udp4')
  socket.bind(0, '127.0.0.1')
  await once(socket, 'listening')
  const { port } = socket.address()
  socket.close()
  return port
}
