/** A daemon in steps: its launcher, its listeners, its pid file, its events. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { test } from 'node:test'
import { beginReplace, drained, type Program, replace } from '../support/daemons.ts'
import { HttpConnection } from '../support/http-connection.ts'
import { Lab, type Puppet } from '../support/lab.ts'
import { eventually } from '../support/waiting.ts'

// ---------------------------------------------------------------------------------------------- the launcher

test('with detach, the launcher exits with 0 when the daemon is ready, and not before', async () => {
  await using lab = await Lab.open()
  const child = lab.spawn('puppet')
  const launcher = await lab.next()
  launcher.run(({ open }) => open({ detach: true, logFile: 'log' })).catch(() => {})
  const daemon = await lab.next()
  const port = await daemon.run(async ({ open, listen }) => {
    await open({ detach: true, logFile: 'log' })
    return listen()
  })
  assert.equal(child.exitCode, null)
  await daemon.run(({ kept }) => kept.daemon?.ready())
  await launcher.gone
  assert.equal(child.exitCode ?? (await once(child, 'exit'))[0], 0)
  assert.equal(await answerOf(port), String(daemon.pid))
  const young = await replace(lab, daemon, ({ start }) => start({ detach: true, logFile: 'log' }))
  assert.equal(await answerOf(port), String(young.pid))
})

test('with detach, the launcher exits with 1 and tells the last words of a daemon that does not come up', async () => {
  await using lab = await Lab.open()
  const child = lab.spawn('puppet')
  const launcher = await lab.next()
  launcher.run(({ open }) => open({ detach: true, logFile: 'log' })).catch(() => {})
  const daemon = await lab.next()
  daemon
    .run(async ({ open }) => {
      await open({ detach: true, logFile: 'log' })
      process.stderr.write('no database here\n', () => process.exit(7))
    })
    .catch(() => {})
  await launcher.gone
  assert.equal(child.exitCode ?? (await once(child, 'exit'))[0], 1)
  await eventually('its words', () => lab.output.includes('no database here') || undefined)
  assert.match(lab.output, /the program \(pid \d+\) exited before it was ready: exit code 7/)
})

// ---------------------------------------------------------------------------------------------- listeners

test('several servers of one process, on IPv4, IPv6 and a Unix path, are all handed over under their names', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const ports = await old.run(async (scope) => {
    const { open, listen, web, kept } = scope
    await open()
    const four = await listen(web(), { name: 'four', host: '127.0.0.1', port: 0 })
    const six = await listen(web(), { name: 'six', host: '::1', port: 0 })
    await listen(web(), { path: 'app.sock', mode: 0o600 })
    await kept.daemon?.ready()
    return { four, six }
  })
  const places = [{ port: ports.four }, { host: '::1', port: ports.six }, { path: lab.path('app.sock') }]
  for (const place of places) assert.equal(await answerOf(place), String(old.pid))
  const young = await replace(lab, old, async ({ open, listen, web, kept }) => {
    await open()
    // The order is another: names decide.
    await listen(web(), { path: 'app.sock' })
    await listen(web(), { name: 'six', host: '::1', port: 0 })
    await listen(web(), { name: 'four', host: '127.0.0.1', port: 0 })
    await kept.daemon?.ready()
  })
  const report = await drained(old)
  assert.deepEqual(Object.keys(report.listeners), ['four', 'six', `unix:${lab.path('app.sock')}`])
  for (const place of places) assert.equal(await answerOf(place), String(young.pid))
})

test('a server without a name is handed over by the address that it was given', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const port = await old.run(async ({ open, listen, web, kept }) => {
    const daemon = await open()
    const free = await listen(web(), { name: 'free' })
    const server = web()
    // A free port that is known: the one behind the one just given may be taken, so it is looked
    // for.
    for (let port = free + 1; port < 65_536; port++) {
      const isTaken = await daemon.listen(server, { host: '127.0.0.1', port }).then(
        () => false,
        () => true,
      )
      if (!isTaken) break
    }
    await daemon.ready()
    kept.server = server
    return (server.address() as { port: number }).port
  })
  const young = await beginReplace(lab, old).then(async ({ young, upgrading }) => {
    await young.run(async ({ open, web }, at) => {
      const daemon = await open()
      await daemon.listen(web(), { host: '127.0.0.1', port: at })
      await daemon.ready()
    }, port)
    await upgrading
    return young
  })
  const { report } = (await old.event('drained')) as { report: { listeners: object } }
  assert.ok(`tcp:127.0.0.1:${port}` in report.listeners)
  assert.equal(await answerOf(port), String(young.pid))
})

test('a Unix path lives through upgrades, and is removed at the stop', async () => {
  await using lab = await Lab.open()
  const path = lab.path('app.sock')
  const program: Program = async ({ open, listen, web, kept }) => {
    await open()
    await listen(web(), { path: 'app.sock' })
    await kept.daemon?.ready()
  }
  let puppet = await lab.start()
  await puppet.run(program)
  for (let upgrades = 0; upgrades < 3; upgrades++) {
    const young = await replace(lab, puppet, program)
    await drained(puppet)
    assert.equal(await answerOf({ path }), String(young.pid))
    puppet = young
  }
  await puppet.run(async ({ kept }) => void (await kept.daemon?.stop()))
  assert.equal(existsSync(path), false)
})

test('a listener that the new version has no more is closed and told, its Unix path removed, and one that it has anew is opened', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const admin = await old.run(async ({ open, listen, web, kept }) => {
    await open()
    await listen()
    const port = await listen(web(), { name: 'admin' })
    await listen(web(), { name: 'local', path: 'local.sock' })
    await kept.daemon?.ready()
    return port
  })
  const young = await replace(lab, old, async ({ open, listen, web, kept, tell }) => {
    await open()
    await listen()
    tell('metrics', await listen(web(), { name: 'metrics' }))
    await kept.daemon?.ready()
  })
  assert.deepEqual(await young.event('unclaimed'), { type: 'unclaimed', names: ['admin', 'local'] })
  await drained(old)
  await assert.rejects(answerOf(admin), { code: 'ECONNREFUSED' })
  assert.equal(existsSync(lab.path('local.sock')), false)
  assert.equal(await answerOf(Number(await young.event('metrics'))), String(young.pid))
})

test('of two listeners of one name a daemon takes one, and the other is closed and told', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const ports = await old.run(async ({ cook, echo, kept }) => {
    kept.servers = []
    const found: number[] = []
    for (let count = 0; count < 2; count++) {
      const server = await echo({ host: '127.0.0.1', port: 0 })
      cook.addInheritTcpListener('web', server)
      ;(kept.servers as unknown[]).push(server)
      found.push((server.address() as { port: number }).port)
    }
    return found
  })
  const upgrading = old.run(({ cook }) => cook.upgrade({ stage: 'daemon' }).then(() => {}))
  const young = await lab.next()
  const port = await young.run(({ start }) => start())
  await upgrading
  assert.equal(port, ports[0])
  assert.deepEqual(await young.event('unclaimed'), { type: 'unclaimed', names: ['web'] })
  await old.run(({ kept }) => {
    for (const server of kept.servers as { close(): void }[]) server.close()
  })
  await assert.rejects(answerOf(Number(ports[1])), { code: 'ECONNREFUSED' })
  assert.equal(await answerOf(port), String(young.pid))
})

test('a server that its program closes as soon as it listens is no listener', async () => {
  await using lab = await Lab.open()
  const puppet = await lab.start()
  await puppet.run(({ open }) => open().then(() => {}))
  await assert.rejects(
    puppet.run(async ({ kept, web, listen }) => {
      const server = web()
      server.once('listening', () => server.close())
      await listen(server, { name: 'short' })
      await kept.daemon?.ready()
    }),
    { code: 'ERR_COOK_LISTEN' },
  )
})

test('a server that listens already stays where it is, also when its name is that of a listener of the predecessor', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const port = await old.run(({ start }) => start())
  const { young } = await beginReplace(lab, old)
  const own = await young.run(async ({ open, web, listen }) => {
    await open()
    const server = web()
    await new Promise<void>((listens) => server.listen(0, '127.0.0.1', listens))
    const why = await listen(server).then(
      () => 'it listens',
      (error) => error.code,
    )
    const address = server.address()
    return { why, port: typeof address === 'object' ? address?.port : undefined }
  })
  assert.equal(own.why, 'ERR_COOK_LISTEN')
  assert.equal(await answerOf(own.port ?? 0), String(young.pid))
  assert.equal(await answerOf(port), String(old.pid))
})

test('what is no options of an upgrade is refused at once, and starts nothing', async () => {
  await using lab = await Lab.open()
  const puppet = await lab.start()
  await puppet.run(({ start }) => start())
  for (const options of [null, 30_000, 'now', { drainTimeout: '1' }, { retries: 1 }, { env: { NODE_OPTIONS: null } }]) {
    await assert.rejects(
      puppet.run(({ kept }, given) => kept.daemon?.upgrade(given as never).then(() => {}), options),
      { code: 'ERR_COOK_OPTION' },
      JSON.stringify(options),
    )
  }
  await replace(lab, puppet)
})

const noSs = spawnSync('ss', ['-V']).error !== undefined && 'there is no ss (iproute2) to ask for it'

test('the length of the queue of a listener is kept by a new version that does not name it', {
  skip: noSs,
}, async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const port = await old.run(async ({ open, listen, web, kept }) => {
    await open()
    const at = await listen(web(), { name: 'web', backlog: 77 })
    await kept.daemon?.ready()
    return at
  })
  assert.equal(backlogOf(port), '77')
  const young = await replace(lab, old)
  await drained(old)
  assert.equal(backlogOf(port), '77')
  await replace(lab, young, async ({ open, listen, web, kept }) => {
    await open()
    await listen(web(), { name: 'web', backlog: 99 })
    await kept.daemon?.ready()
  })
  assert.equal(backlogOf(port), '99')
})

// ---------------------------------------------------------------------------------------------- the pid file

test('the pid file names the owner through upgrades that succeed and fail, and is removed at the stop', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  await old.run(({ start }) => start({ pidFile: 'pid' }))
  assert.equal(lab.read('pid'), `${old.pid}\n`)
  const failing = await beginReplace(lab, old)
  failing.young.run(() => process.exit(3)).catch(() => {})
  await assert.rejects(failing.upgrading, { code: 'ERR_COOK_SUCCESSOR_EXITED' })
  assert.equal(lab.read('pid'), `${old.pid}\n`)
  const { young, upgrading } = await beginReplace(lab, old)
  await young.run(async ({ open, listen }) => {
    await open({ pidFile: 'pid' })
    await listen()
  })
  assert.equal(lab.read('pid'), `${old.pid}\n`)
  await young.run(({ kept }) => kept.daemon?.ready())
  await upgrading
  assert.equal(lab.read('pid'), `${young.pid}\n`)
  await drained(old)
  assert.equal(lab.read('pid'), `${young.pid}\n`)
  await young.run(async ({ kept }) => void (await kept.daemon?.stop()))
  assert.equal(existsSync(lab.path('pid')), false)
})

test('a new version whose pid file cannot be written has taken over, tells it, and serves', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const port = await old.run(({ start }) => start({ pidFile: 'pid' }))
  const young = await replace(lab, old, ({ start }) => start({ pidFile: 'missing/pid' }))
  const told = (await young.event('hook-failed')) as { hook: string; error: string }
  assert.equal(told.hook, 'pidFile')
  assert.match(told.error, /missing\/pid could not be written/)
  await drained(old)
  assert.equal(await answerOf(port), String(young.pid))
})

// ---------------------------------------------------------------------------------------------- events

test('phases and events are told by onEvent and on the diagnostics channel, in order, and the generation counts', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  await old.run(async ({ start, tell, kept }) => {
    process
      .getBuiltinModule('node:diagnostics_channel')
      .subscribe('cook-daemon', (event) => tell('published', (event as { type: string }).type))
    await start()
    tell('now', [kept.daemon?.phase, kept.daemon?.generation, kept.daemon?.isUpgrade])
  })
  assert.deepEqual(await old.event('now'), ['ready', 1, false])
  const failing = await beginReplace(lab, old)
  assert.equal(await old.run(({ kept }) => kept.daemon?.phase), 'upgrading')
  assert.equal(await failing.young.run(async ({ open }) => (await open()).phase), 'starting')
  failing.young.kill('SIGKILL')
  await assert.rejects(failing.upgrading)
  const young = await replace(lab, old, async ({ start, tell, kept }) => {
    await start()
    tell('now', [kept.daemon?.phase, kept.daemon?.generation, kept.daemon?.isUpgrade])
  })
  assert.deepEqual(await young.event('now'), ['ready', 2, true])
  await eventually('the drain', () => old.events.some(({ event }) => event === 'drained') || undefined)
  const own = old.events.filter(({ event }) => event !== 'published').map(({ event, value }) => words(event, value))
  assert.deepEqual(own, [
    'phase ready',
    'phase upgrading',
    'upgrade',
    'phase ready',
    'upgrade-failed',
    'phase upgrading',
    'upgrade',
    'phase draining',
    'upgraded',
    'phase gone',
    'drained',
  ])
  const published = old.events.filter(({ event }) => event === 'published').map(({ value }) => value)
  assert.deepEqual(
    published,
    own.map((text) => text.split(' ')[0]),
  )
})

function words(event: string, value: unknown): string {
  return event === 'phase' ? `phase ${(value as { phase: string }).phase}` : event
}

// ---------------------------------------------------------------------------------------------- wrong use

test('wrong options are told by name, before anything was done', async () => {
  await using lab = await Lab.open()
  const puppet = await lab.start()
  const wrong: readonly object[] = [
    { drainTimout: 1 },
    { drainTimeout: -1 },
    { maxGenerations: 0 },
    { moveConnections: 'yes' },
    { saveState: { sessions: 1 } },
    { onRelease: 1 },
  ]
  for (const options of wrong) {
    const option = Object.keys(options)[0] ?? ''
    await assert.rejects(
      puppet.run(({ open }, given) => open(given).then(() => {}), options),
      { code: 'ERR_COOK_OPTION', message: new RegExp(option) },
    )
  }
  await assert.rejects(
    puppet.run(({ open }) => open({ saveState: { sessions: { version: 1.5, save: () => 1 } } }).then(() => {})),
    { code: 'ERR_COOK_OPTION', message: /saveState/ },
  )
  const wrongOfServe: readonly object[] = [
    { signals: { upgrade: 'SIGKILL' } },
    { signals: { upgrade: 'SIGNOTHING' } },
    { signals: { upgrade: 'SIGTERM' } },
    { signals: { stop: ['SIGSTOP'] } },
    { port: 1, path: '/a' },
    { prot: 1 },
  ]
  for (const options of wrongOfServe) {
    await assert.rejects(
      puppet.run(({ serve }, given) => serve(given), options),
      { code: 'ERR_COOK_OPTION' },
      JSON.stringify(options),
    )
  }
})

test('createDaemon() is for once in a process', async () => {
  await using lab = await Lab.open()
  const puppet = await lab.start()
  const port = await puppet.run(({ start }) => start())
  await assert.rejects(
    puppet.run(({ open }) => open().then(() => {})),
    { code: 'ERR_COOK_DAEMON_TWICE' },
  )
  assert.equal(await answerOf(port), String(puppet.pid))
})

test('two servers on one name or address, a wrong name, and listen() after ready() are told, and the others serve', async () => {
  await using lab = await Lab.open()
  const puppet = await lab.start()
  const port = await puppet.run(async ({ open, listen }) => {
    await open()
    return listen()
  })
  const fails = (options: object, expected: object) =>
    assert.rejects(
      puppet.run(({ listen, web }, given) => listen(web(), given), options),
      expected,
    )
  await fails({ name: 'web' }, { code: 'ERR_COOK_LISTEN', message: /another server has this name/ })
  await fails({ name: 'other', port }, { code: 'ERR_COOK_LISTEN', message: /EADDRINUSE/ })
  await fails({ name: 'cook:mine' }, { code: 'ERR_COOK_HANDLE_NAME' })
  await fails({ name: 'other', port: 70_000 }, { code: 'ERR_COOK_OPTION' })
  await assert.rejects(
    puppet.run(({ listen, kept }) => listen(kept.server, { name: 'again' })),
    { code: 'ERR_COOK_LISTEN' },
  )
  await puppet.run(({ kept }) => kept.daemon?.ready())
  await fails({ name: 'late' }, { code: 'ERR_COOK_LISTEN', message: /ready\(\) was called already/ })
  assert.equal(await answerOf(port), String(puppet.pid))
  await replace(lab, puppet)
})

test('a new version whose new listener is on a taken port fails, and the old one keeps serving', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const port = await old.run(({ start }) => start())
  const { young, upgrading } = await beginReplace(lab, old)
  await assert.rejects(
    young.run(async ({ open, listen, web }, taken) => {
      await open()
      await listen(web(), { name: 'more', port: taken })
    }, port),
    { code: 'ERR_COOK_LISTEN', message: /EADDRINUSE/ },
  )
  young.run(() => process.exit(1)).catch(() => {})
  await assert.rejects(upgrading, { code: 'ERR_COOK_SUCCESSOR_EXITED' })
  assert.equal(await answerOf(port), String(old.pid))
})

test('a second upgrade is told that one is in progress, and one of a process that is not ready or has left says so', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  await old.run(({ open }) => open().then(() => {}))
  await assert.rejects(upgradeOf(old), { code: 'ERR_COOK_NOT_READY' })
  await old.run(async ({ listen, kept }) => {
    await listen()
    await kept.daemon?.ready()
  })
  const { young, upgrading } = await beginReplace(lab, old)
  await assert.rejects(upgradeOf(old), { code: 'ERR_COOK_UPGRADE_IN_PROGRESS' })
  await young.run(({ start }) => start())
  await upgrading
  await assert.rejects(upgradeOf(old), { code: 'ERR_COOK_UPGRADED' })
  await drained(old)
  await assert.rejects(upgradeOf(old), { code: 'ERR_COOK_UPGRADED' })
  await young.run(async ({ kept }) => void (await kept.daemon?.stop()))
  await assert.rejects(upgradeOf(young), { code: 'ERR_COOK_STOPPING' })
})

test('a second signal during an upgrade is told in an event, and starts nothing', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  await old.run(({ serve }) => serve())
  old.kill('SIGUSR2')
  const young = await lab.next()
  old.kill('SIGUSR2')
  const { error } = (await old.event('upgrade-failed')) as { error: string }
  assert.match(error, /an upgrade to generation 2 is already in progress/)
  await young.run(({ serve }) => serve())
  await old.gone
  // Had the second one started anything, it would be the next to report.
  young.kill('SIGUSR2')
  const next = await lab.next()
  await next.run(({ serve }) => serve())
  assert.equal(await next.run(({ kept }) => kept.daemon?.generation), 3)
})

test('handOver() says why a connection cannot move, and it stays', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const port = await old.run(async ({ open, listen, net, kept, tell }) => {
    const daemon = await open({ drainTimeout: 2_000 })
    const server = net.createServer((socket) => {
      kept.socket = socket
      socket.on('error', () => {}).on('data', (data) => socket.write(data))
      tell('accepted')
    })
    daemon.onDrain(async () => {
      const attempts = [new net.Socket().destroy(), Object.assign(new net.Socket(), { encrypted: true })]
      for (const socket of attempts) {
        await daemon.handOver('mine', socket).catch((error) => tell('refused', [error.code, error.message]))
      }
      const uncloneable = () => {}
      await daemon.handOver('mine', kept.socket as never, uncloneable).catch((error) => tell('refused', [error.code]))
    })
    const at = await listen(server, { name: 'raw' })
    await daemon.ready()
    return at
  })
  const client = await HttpConnection.open(port)
  await old.event('accepted')
  await assert.rejects(
    old.run(({ kept }) => kept.daemon?.handOver('mine', kept.socket as never)),
    { code: 'ERR_COOK_HAND_OVER', message: /there is no successor/ },
  )
  await replace(lab, old, async ({ open, net, listen, kept }) => {
    await open()
    await listen(net.createServer(), { name: 'raw' })
    await kept.daemon?.ready()
  })
  assert.match(String(await old.event('refused')), /^ERR_COOK_HAND_OVER,.*closed/)
  assert.match(String(await old.event('refused')), /^ERR_COOK_HAND_OVER,.*TLS/)
  assert.match(String(await old.event('refused')), /^ERR_COOK_STATE/)
  client.socket.write('still here')
  await eventually('the echo of the old one', () => client.text === 'still here' || undefined)
  assert.equal((await drained(old)).cut, 1)
})

// ---------------------------------------------------------------------------------------------- hooks that throw

test('hooks that throw are told, and the upgrade goes on as if they had returned nothing', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const port = await old.run(async ({ start, kept }) => {
    const fail = (hook: string) => {
      throw new Error(`${hook} is broken`)
    }
    const at = await start({
      onTakeover: () => fail('onTakeover'),
      onRelease: () => fail('onRelease'),
      moveConnections: () => fail('moveConnections'),
    })
    kept.daemon?.onDrain(() => fail('onDrain'))
    return at
  })
  assert.equal(await failedHook(old), 'onTakeover')
  const client = await HttpConnection.open(port)
  await client.ask()
  await replace(lab, old, ({ start, tell }) => start({ onTakeover: (value) => tell('taken over', value ?? 'nothing') }))
  const failed = [await failedHook(old), await failedHook(old), await failedHook(old)]
  assert.deepEqual(failed.sort(), ['moveConnections', 'onDrain', 'onRelease'])
  // It stayed with the old one, which says so with its next answer.
  assert.deepEqual(await client.ask(), { status: 200, body: String(old.pid), closes: true })
  assert.equal((await drained(old)).served, 1)
})

test('an onEvent that throws is warned of, and costs nothing', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const port = await old.run(({ start }) =>
    start({
      onEvent: () => {
        throw new Error('onEvent is broken')
      },
    }),
  )
  const young = await replace(lab, old, ({ start }) =>
    start({ onEvent: () => Promise.reject(new Error('async too')) as never }),
  )
  await eventually('the end of the drain', async () =>
    (await old.run(({ kept }) => kept.daemon?.phase)) === 'gone' ? true : undefined,
  )
  assert.equal(await answerOf(port), String(young.pid))
  await eventually(
    'warnings',
    () => (/onEvent is broken/.test(lab.output) && /async too/.test(lab.output)) || undefined,
  )
})

test('a hook that throws where nobody listens to events is warned of', async () => {
  await using lab = await Lab.open()
  const puppet = await lab.start()
  await puppet.run(async ({ cook }) => {
    const daemon = await cook.createDaemon({
      onTakeover() {
        throw new Error('the cron did not start')
      },
    })
    await daemon.ready()
  })
  await eventually('the warning', () => lab.output.includes('the cron did not start') || undefined)
})

async function failedHook(puppet: Puppet): Promise<string> {
  const { hook, error } = (await puppet.event('hook-failed')) as { hook: string; error: string }
  assert.equal(error, `Error: ${hook} is broken`)
  return hook
}

function upgradeOf(puppet: Puppet): Promise<void> {
  return puppet.run(async ({ kept }) => void (await kept.daemon?.upgrade()))
}

async function answerOf(where: Parameters<typeof HttpConnection.open>[0]): Promise<string> {
  const connection = await HttpConnection.open(where)
  const { body } = await connection.ask()
  connection.socket.destroy()
  return body
}

/** Of a listener on this machine: nothing in Node tells it. */
function backlogOf(port: number): string | undefined {
  const { stdout } = spawnSync('ss', ['-ltnH', `sport = :${port}`], { encoding: 'utf8' })
  return stdout.trim().split(/\s+/)[2]
}
