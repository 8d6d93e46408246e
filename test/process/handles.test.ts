/** What can be handed over, under which names, in which order. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import http from 'node:http'
import http2 from 'node:http2'
import https from 'node:https'
import { networkInterfaces } from 'node:os'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import type { PuppetScope } from '../fixtures/puppet-scope.ts'
import { makeCertificate } from '../support/certificate.ts'
import { ask, askUdp } from '../support/clients.ts'
import { fixturePath, Lab, type Puppet } from '../support/lab.ts'
import { leave, openListener, takeListener, upgradeOnce } from '../support/steps.ts'
import { within } from '../support/waiting.ts'

const hasIPv6 = Object.values(networkInterfaces()).some((all) => all?.some(({ address }) => address === '::1'))

for (const [family, host, skip] of [
  ['IPv4', '127.0.0.1', false],
  ['IPv6', '::1', !hasIPv6 && 'there is no ::1 here'],
] as const) {
  test(`a TCP listener on ${family} tells its address to the successor, which serves on it`, { skip }, async () => {
    await using lab = await Lab.open()
    const old = await lab.start()
    const port = await old.run(
      async ({ cook, kept, echo }, where) => {
        kept.server = await echo(where)
        cook.addInheritTcpListener('listen', kept.server)
        return (kept.server.address() as { port: number }).port
      },
      { host, port: 0 },
    )
    const young = await handOver(lab, old, async ({ cook, kept, echo }) => {
      const [listener] = cook.inheritTcpListeners('listen')
      if (listener !== undefined) kept.server = await echo(listener)
      kept.listener = listener
    })
    await leave(old)
    const {
      address,
      port: same,
      family: told,
    } = await young.run(({ kept }) => kept.listener as Record<string, unknown>)
    assert.deepEqual([address, same, told], [host, port, family])
    assert.equal(await ask({ port, host }), String(young.pid))
  })
}

type Protocol = {
  readonly name: string
  readonly secure: boolean
  /** Makes the server in the process, without listening. */
  readonly make: (scope: PuppetScope) => void
  readonly get: (port: number) => Promise<string>
}

const protocols: readonly Protocol[] = [
  {
    name: 'http',
    secure: false,
    make: ({ kept, http }) => {
      kept.server = http.createServer((_, response) => response.end(String(process.pid)))
    },
    get: (port) => answerOf(http.get({ port, agent: false })),
  },
  {
    name: 'https',
    secure: true,
    make: ({ kept, fs }) => {
      const { createServer } = process.getBuiltinModule('node:https')
      const [key, cert] = [fs.readFileSync('key.pem'), fs.readFileSync('cert.pem')]
      kept.server = createServer({ key, cert }, (_, response) => response.end(String(process.pid)))
    },
    get: (port) => answerOf(https.get({ port, agent: false, rejectUnauthorized: false })),
  },
  {
    name: 'http2 without TLS',
    secure: false,
    make: ({ kept }) => {
      const { createServer } = process.getBuiltinModule('node:http2')
      kept.server = createServer((_, response) => response.end(String(process.pid)))
    },
    get: (port) => http2Answer(`http://localhost:${port}`),
  },
  {
    name: 'http2',
    secure: true,
    make: ({ kept, fs }) => {
      const { createSecureServer } = process.getBuiltinModule('node:http2')
      const [key, cert] = [fs.readFileSync('key.pem'), fs.readFileSync('cert.pem')]
      kept.server = createSecureServer({ key, cert }, (_, response) => response.end(String(process.pid)))
    },
    get: (port) => http2Answer(`https://localhost:${port}`),
  },
]

for (const { name, secure, make, get } of protocols) {
  test(`the listener of an ${name} server goes on with the same port in the successor`, async () => {
    await using lab = await Lab.open()
    if (secure) makeCertificate(lab)
    const old = await lab.start()
    await old.run(make)
    const port = await old.run(async ({ cook, kept }) => {
      const server = kept.server as NonNullable<typeof kept.server>
      await new Promise<void>((listening) => server.listen(0, listening))
      cook.addInheritTcpListener('listen', server)
      return (server.address() as { port: number }).port
    })
    assert.equal(await get(port), String(old.pid))
    const upgrading = old.run(async ({ cook }) => void (await cook.upgrade({ stage: 'daemon' })))
    const young = await lab.next()
    await young.run(make)
    await young.run(async ({ cook, kept }) => {
      const [listener] = cook.inheritTcpListeners('listen')
      await new Promise<void>((listening) => kept.server?.listen(listener, listening))
      await cook.notifyUpgradeDone()
    })
    await upgrading
    await leave(old)
    assert.equal(await get(port), String(young.pid))
  })
}

test('a Unix listener is served by the successor under the same path', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const path = lab.path('socket')
  await old.run(async ({ cook, kept, echo }, where) => {
    kept.server = await echo(where)
    cook.addInheritUnixListener('admin', kept.server)
  }, path)
  const young = await handOver(lab, old, async ({ cook, kept, echo }) => {
    const [listener] = cook.inheritUnixListeners('admin')
    if (listener !== undefined) kept.server = await echo(listener)
    kept.path = listener?.path
  })
  await leave(old)
  assert.equal(await young.run(({ kept }) => kept.path), path)
  assert.equal(await ask({ path }), String(young.pid))
})

test('a UDP socket is read by the successor once the old process has closed it', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const port = await old.run(async ({ cook, kept, echoUdp }) => {
    kept.udp = await echoUdp({ address: '127.0.0.1', port: 0 })
    cook.addInheritUdpSocket('dns', kept.udp)
    return kept.udp.address().port
  })
  const young = await handOver(lab, old, async ({ cook, kept, echoUdp }) => {
    const [socket] = cook.inheritUdpSockets('dns')
    if (socket !== undefined) kept.udp = await echoUdp(socket)
    kept.told = socket
  })
  await old.run(({ kept }) => void kept.udp?.close())
  const told = await young.run(({ kept }) => kept.told as Record<string, unknown>)
  assert.deepEqual([told.address, told.port, told.family], ['127.0.0.1', port, 'IPv4'])
  assert.equal(await askUdp(port), String(young.pid))
})

test('a file that the old process opened is appended to by the new one', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  await old.run(({ cook, fs }, path) => {
    const fd = fs.openSync(path, 'a')
    fs.writeSync(fd, 'old\n')
    cook.addInheritFile('audit', fd)
  }, lab.path('audit'))
  const young = await handOver(lab, old, ({ cook, kept }) => {
    kept.audit = cook.inheritFiles('audit')[0]?.fd
  })
  old.kill('SIGKILL')
  await old.gone
  await young.run(({ fs, kept }) => void fs.writeSync(Number(kept.audit), 'new\n'))
  assert.equal(lab.read('audit'), 'old\nnew\n')
})

test('handles of one name come in the order in which they were added, names side by side', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const ports = await old.run(async ({ cook, echo }) => {
    const servers = await Promise.all([1, 2, 3].map(() => echo({ host: '127.0.0.1', port: 0 })))
    const [first, second, third] = servers as [(typeof servers)[0], (typeof servers)[0], (typeof servers)[0]]
    cook.addInheritTcpListener('web', third)
    cook.addInheritTcpListener('admin', second)
    cook.addInheritTcpListener('web', first)
    return servers.map((server) => (server.address() as { port: number }).port)
  })
  const young = await handOver(lab, old, ({ cook, kept }) => {
    kept.web = cook.inheritTcpListeners('web').map(({ port }) => port)
    kept.admin = cook.inheritTcpListeners('admin').map(({ port }) => port)
  })
  assert.equal(young.living, 'web:2,admin:1')
  assert.deepEqual(await young.run(({ kept }) => kept.web), [ports[2], ports[0]])
  assert.deepEqual(await young.run(({ kept }) => kept.admin), [ports[1]])
})

test('replace takes the place of what is registered under the name, of this kind only', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const port = await old.run(async ({ cook, echo, echoUdp }) => {
    const [one, two] = [await echo({ port: 0 }), await echo({ port: 0 })]
    cook.addInheritTcpListener('web', one)
    cook.addInheritTcpListener('other', one)
    cook.addInheritUdpSocket('web', await echoUdp({ port: 0 }))
    cook.addInheritTcpListener('web', two, true)
    return (two.address() as { port: number }).port
  })
  const young = await handOver(lab, old, ({ cook, kept }) => {
    kept.web = cook.inheritTcpListeners('web').map(({ port }) => port)
    kept.sockets = cook.inheritUdpSockets('web').length
    kept.other = cook.inheritTcpListeners('other').length
  })
  const { web, sockets, other } = await young.run(({ kept: { web, sockets, other } }) => ({ web, sockets, other }))
  assert.deepEqual([web, sockets, other], [[port], 1, 1])
})

test('a server that is added twice under a name counts once', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  await openListener(old)
  await old.run(({ cook, kept }) => {
    if (kept.server === undefined) throw new Error('no server')
    cook.addInheritTcpListener('listen', kept.server)
    cook.addInheritTcpListener('listen', kept.server, true)
  })
  const young = await upgradeOnce(lab, old, { stage: 'daemon' })
  assert.equal(young.living, 'listen:1')
})

test('a name may hold any character: the summary has it percent-encoded', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  await old.run(async ({ cook, echo }) => cook.addInheritTcpListener('a,b: ü%', await echo({ port: 0 })))
  const young = await handOver(lab, old, ({ cook, kept }) => {
    kept.count = cook.inheritTcpListeners('a,b: ü%').length
  })
  assert.equal(young.living, 'a%2Cb%3A%20%C3%BC%25:1')
  assert.equal(await young.run(({ kept }) => kept.count), 1)
})

test('a claimed listener can be handed on without being listened on', async () => {
  await using lab = await Lab.open()
  const first = await lab.start()
  const port = await openListener(first)
  const second = await handOver(lab, first, ({ cook }) => {
    for (const listener of cook.inheritTcpListeners('listen')) cook.addInheritTcpListener('listen', listener)
  })
  const third = await upgradeOnce(lab, second, { stage: 'daemon' })
  await leave(first)
  second.kill('SIGKILL')
  await second.gone
  assert.equal(await ask({ port, host: '127.0.0.1' }), String(third.pid))
})

for (const stage of ['daemon', 'parent'] as const) {
  const onLinux = { skip: process.platform !== 'linux' && 'reads /proc' }
  test(`40 handles cross, and no child of the program inherits one, stage ${stage}`, onLinux, async () => {
    await using lab = await Lab.open()
    const old = await lab.start('puppet', { args: ['--daemonize={}'] })
    const ports = await old.run(async ({ cook, echo }) => {
      const servers = await Promise.all(Array.from({ length: 40 }, () => echo({ host: '127.0.0.1', port: 0 })))
      for (const server of servers) cook.addInheritTcpListener('many', server)
      return servers.map((server) => (server.address() as { port: number }).port)
    })
    const young = await handOver(
      lab,
      old,
      async ({ cook, kept, echo }) => {
        kept.servers = await Promise.all(cook.inheritTcpListeners('many').map(echo))
      },
      stage,
    )
    old.kill('SIGKILL')
    await old.gone
    const answers = await Promise.all(ports.map((port) => ask({ port, host: '127.0.0.1' })))
    assert.deepEqual(new Set(answers), new Set([String(young.pid)]))
    const open = await young.run(() => {
      const { spawnSync } = process.getBuiltinModule('node:child_process')
      return spawnSync('ls', ['/proc/self/fd'], { encoding: 'utf8' }).stdout
    })
    // 3 is the folder that ls reads.
    assert.equal(open, '0\n1\n2\n3\n')
  })
}

test('after three failed upgrades, each undone by restoreInheritFiles(), the fourth hands over what is there', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const port = await openListener(old)
  for (let failures = 0; failures < 3; failures++) {
    await assert.rejects(
      old.run(async ({ cook, kept }, script) => {
        if (kept.server === undefined) throw new Error('no server')
        cook.addInheritTcpListener('listen', kept.server, true)
        cook.addInheritTcpListener('more', kept.server)
        await cook.upgrade({ stage: 'daemon', script, args: ['no'] }).finally(cook.restoreInheritFiles)
      }, fixturePath('bad-version')),
      { code: 'ERR_COOK_SUCCESSOR_FAILED' },
    )
    assert.equal(await ask({ port, host: '127.0.0.1' }), String(old.pid))
  }
  await old.run(({ cook, kept }) => kept.server && cook.addInheritTcpListener('listen', kept.server, true))
  const young = await upgradeOnce(lab, old, { stage: 'daemon' })
  assert.equal(young.living, 'listen:1')
  await leave(old)
  assert.equal(await ask({ port, host: '127.0.0.1' }), String(young.pid))
})

test('restoreInheritFiles() closes nothing, and the next upgrade hands over nothing that was not added again', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const port = await openListener(old)
  await old.run(({ cook }) => cook.restoreInheritFiles())
  assert.equal(await ask({ port, host: '127.0.0.1' }), String(old.pid))
  const young = await handOver(lab, old, () => {})
  assert.equal(young.living, '')
  await assert.rejects(takeListener(young), { code: 'ERR_COOK_UNKNOWN_NAME' })
})

/** One upgrade, in which the successor takes what the test says. */
async function handOver(
  lab: Lab,
  old: Puppet,
  take: (scope: PuppetScope) => unknown,
  stage: 'daemon' | 'parent' = 'daemon',
): Promise<Puppet> {
  const upgrading = old.run(async ({ cook }, given) => void (await cook.upgrade({ stage: given })), stage)
  const young = await Promise.race([lab.next(), upgrading.then(() => assert.fail('no successor reported'))])
  await young.run(take)
  await young.run(({ cook }) => cook.notifyUpgradeDone())
  await upgrading
  return young
}

async function answerOf(request: http.ClientRequest): Promise<string> {
  const [response] = await within('a response', once(request, 'response'))
  return text(response)
}

async function http2Answer(url: string): Promise<string> {
  const session = http2.connect(url, { rejectUnauthorized: false })
  try {
    return await within('a response', text(session.request()))
  } finally {
    session.close()
  }
}
