/**
 * What is said to a new version is checked before anything listens on what it was given: the
 * variables, the link, and what each descriptor is.
 */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import dgram from 'node:dgram'
import { once } from 'node:events'
import { closeSync, fstatSync, openSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { test } from 'node:test'
import { writeStart } from '../../src/contract/environment.ts'
import { protocolVersion } from '../../src/contract/protocol.ts'
import { listenerDescriptor, udpDescriptor } from '../../src/node/listeners.ts'
import { identify, system } from '../../src/node/system.ts'
import { ask } from '../support/clients.ts'
import { fixturePath, Lab, type Puppet } from '../support/lab.ts'
import { leave, openListener, takeListener, upgradeOnce } from '../support/steps.ts'

/**
 * What a test plays in the place of a predecessor: everything that it has open, and a record that
 * may be a lie.
 */
type Given = { readonly fd: number; readonly record: object }

/** Starts a puppet as this process's successor; with `link` false without a channel. */
async function startForged(
  lab: Lab,
  { given = [], record = {}, link = true }: { given?: readonly Given[]; record?: object; link?: boolean },
): Promise<{ puppet: Puppet; child: ChildProcess }> {
  const handles = given.map(({ fd, record: told }) => ({ name: 'web', inode: fstatSync(fd).ino, ...told }))
  const whole = {
    protocol: protocolVersion,
    nonce: 'nonce',
    generation: 2,
    predecessor: identify(),
    handles,
    ...record,
  }
  const env = { ...process.env, ...lab.environment() }
  const child = spawn(process.execPath, [fixturePath('puppet')], {
    cwd: lab.folder,
    env: writeStart(env, { stage: 'daemon', link: whole as never }),
    stdio: ['ignore', 'ignore', 'inherit', link ? 'ipc' : 'ignore', ...given.map(({ fd }) => fd)],
  })
  const puppet = await lab.next()
  child.unref()
  return { puppet, child }
}

type Open = { readonly fd: number; close(): unknown }

async function listener(where: object | string): Promise<Open & { port: number }> {
  const server = net.createServer((socket) => socket.on('error', () => {}).resume())
  await once(server.listen(where), 'listening')
  const address = server.address()
  const port = typeof address === 'object' ? (address?.port ?? 0) : 0
  return { fd: listenerDescriptor(server) ?? -1, port, close: () => server.close() }
}

async function _connected(where: net.NetConnectOpts): Promise<Open> {
  const socket = net.connect(where)
  await once(
    socket.on('error', () => {}),
    'connect',
  )
  const { fd } = (socket as unknown as { _handle: { fd: number } })._handle
  return { fd, close: () => socket.destroy() }
}

async function udp(port: number): Promise<Open & { port: number }> {
  const socket = dgram.createSocket('udp4')
  await once(socket.bind(port, '127.0.0.1'), 'listening')
  return { fd: udpDescriptor(socket) ?? -1, port: socket.address().port, close: () => socket.close() }
}

function file(path: string): Open {
  writeFileSync(path, '')
  const fd = openSync(path, 'r+')
  return { fd, close: () => closeSync(fd) }
}

const tcp = (port: number, address = '127.0.0.1', family = 'IPv4') => ({ kind: 'tcp', address, port, family })

type Lie = { readonly told: object; readonly open: Open; readonly words: RegExp }

/** Each is the right descriptor by its inode, and not what is said of it. */
const lies: Readonly<Record<string, (lab: Lab) => Promise<Lie>>> = {
  'a UDP socket in the place of a TCP listener': async () => {
    const open = await udp(0)
    return { open, told: tcp(open.port), words: /it is a UDP socket/ }
  },
  'a TCP listener in the place of a UDP socket': async () => {
    const open = await listener({ host: '127.0.0.1', port: 0 })
    return { open, told: { ...tcp(open.port), kind: 'udp' }, words: /the UDP socket named "web": it is a TCP socket/ }
  },
  'a Unix listener in the place of a TCP listener': async (lab) => {
    const open = await listener(lab.path('socket'))
    return { open, told: tcp(80), words: /it is a Unix socket/ }
  },
  'a file in the place of a TCP listener': async (lab) => {
    return { open: file(lab.path('file')), told: tcp(80), words: /it is not a socket/ }
  },
  'a file in the place of a Unix listener': async (lab) => {
    return {
      open: file(lab.path('file')),
      told: { kind: 'unix', path: lab.path('socket') },
      words: /it is not a socket/,
    }
  },
}

for (const [what, lie] of Object.entries(lies)) {
  test(`${what} is told before anything listens on it`, async () => {
    await using lab = await Lab.open()
    const { open, told, words } = await lie(lab)
    try {
      const { puppet } = await startForged(lab, { given: [{ fd: open.fd, record: told }] })
      await assert.rejects(
        puppet.run(({ cook }) => cook.inheritTcpListeners('web')),
        { code: 'ERR_COOK_ENVIRONMENT', message: words },
      )
      // Asked once more it is no better, and never a fresh start.
      await assert.rejects(
        puppet.run(({ cook }) => cook.createDaemon().then(() => {})),
        { code: 'ERR_COOK_ENVIRONMENT' },
      )
    } finally {
      open.close()
    }
  })
}

test('a handle of a kind that nobody knows yet is told too if it is another one', async () => {
  await using lab = await Lab.open()
  const open = file(lab.path('file'))
  try {
    const { puppet } = await startForged(lab, { given: [{ fd: open.fd, record: { kind: 'later', inode: 1 } }] })
    await assert.rejects(
      puppet.run(({ cook }) => cook.inUpgrade()),
      { code: 'ERR_COOK_ENVIRONMENT', message: /the handle named "web": it is another socket or file/ },
    )
  } finally {
    open.close()
  }
})

test('a listener that is what was promised is taken, at every kind of address', async () => {
  await using lab = await Lab.open()
  const [all, one, unix, socket] = [
    await listener({ host: '0.0.0.0', port: 0 }),
    await listener({ host: '127.0.0.1', port: 0 }),
    await listener(lab.path('socket')),
    await udp(0),
  ] as const
  try {
    const { puppet } = await startForged(lab, {
      given: [
        { fd: all.fd, record: tcp(all.port, '0.0.0.0') },
        { fd: one.fd, record: tcp(one.port) },
        { fd: unix.fd, record: { kind: 'unix', path: lab.path('socket') } },
        { fd: socket.fd, record: { ...tcp(socket.port), kind: 'udp' } },
        // Of a later version.
        { fd: all.fd, record: { kind: 'constructor' } },
      ],
    })
    const found = await puppet.run(({ cook }) => [
      cook.inheritTcpListeners('web').length,
      cook.inheritUnixListeners('web').length,
      cook.inheritUdpSockets('web').length,
    ])
    assert.deepEqual(found, [2, 1, 1])
    // Looking left nothing that would hold the process, or poll what is not its own.
    assert.deepEqual(
      await puppet.run(() =>
        (process as unknown as { getActiveResourcesInfo(): string[] })
          .getActiveResourcesInfo()
          .filter((name) => /TCPServer|UDP/.test(name)),
      ),
      [],
    )
  } finally {
    for (const open of [all, one, unix, socket]) open.close()
  }
})

const foreign: Readonly<Record<string, (lab: Lab) => { record: object; link: boolean; words: RegExp }>> = {
  'a living process that is not its predecessor': () => ({
    record: { predecessor: [process.ppid, system.startTime(process.ppid) ?? ''] },
    link: false,
    words: /no process gave this one a link|is not the link/,
  }),
  'pid 1': () => ({
    record: { predecessor: [1, system.startTime(1) ?? ''] },
    link: false,
    words: /no process gave this one a link|is not the link/,
  }),
  'a process that is long gone': () => ({
    record: { predecessor: [4_194_304, '1'] },
    link: false,
    words: /no process gave this one a link/,
  }),
}

for (const [whom, make] of Object.entries(foreign)) {
  const onlyLinux = { skip: whom.includes('gone') && process.platform !== 'linux' && 'only Linux tells it' }
  test(`variables set by hand that name ${whom} are refused, and are no fresh start`, onlyLinux, async () => {
    await using lab = await Lab.open()
    const { record, link, words } = make(lab)
    const { puppet } = await startForged(lab, { record, link })
    for (const call of [0, 1]) {
      await assert.rejects(
        puppet.run(({ cook }) => cook.inUpgrade()),
        { code: 'ERR_COOK_ENVIRONMENT', message: words },
        String(call),
      )
    }
  })
}

test('a link record that names the process itself is refused', async () => {
  await using lab = await Lab.open()
  const record = { protocol: 1, nonce: 'n', generation: 2, predecessor: ['PID', ''], handles: [] }
  // bash knows its pid, which stays that of node.
  const setLink = ['export COOK_DAEMON_LINK="$', '{TEMPLATE/PID/$$}"; exec "$0" "$1"'].join('')
  const puppet = await lab.start('puppet', {
    execPath: 'bash',
    execArgv: ['-c', setLink, process.execPath],
    env: {
      COOK_DAEMON_STAGE: 'daemon',
      COOK_DAEMON_LIVING_UPGRADE: '',
      TEMPLATE: JSON.stringify(record).replace('"PID"', 'PID'),
    },
  })
  await assert.rejects(
    puppet.run(({ cook }) => cook.inUpgrade()),
    { code: 'ERR_COOK_ENVIRONMENT', message: /names this process as its own predecessor/ },
  )
})

test('a launch record by hand writes into no file that happens to have its number', async () => {
  await using lab = await Lab.open()
  const open = file(lab.path('database'))
  const child = spawn(process.execPath, [fixturePath('puppet')], {
    cwd: lab.folder,
    env: {
      ...process.env,
      ...lab.environment(),
      COOK_DAEMON_STAGE: 'daemon',
      COOK_DAEMON_LAUNCH: JSON.stringify({ fd: 3, waitReady: false, close: [] }),
    },
    stdio: ['ignore', 'ignore', 'inherit', open.fd],
  })
  open.close()
  const puppet = await lab.next()
  child.unref()
  await assert.rejects(
    puppet.run(({ cook }) => cook.createDaemon().then(() => {})),
    { code: 'ERR_COOK_ENVIRONMENT', message: /COOK_DAEMON_LAUNCH is invalid: descriptor 3 is not the pipe/ },
  )
  assert.equal(lab.read('database'), '')
})

test('the link of an earlier upgrade opens no other: whoever replays it is heard by nobody, and the service goes on', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const port = await openListener(old)
  const upgrading = old.run(async ({ cook }) => void (await cook.upgrade({ stage: 'daemon' })))
  const young = await lab.next()
  // As another process of this user may read it.
  const told = await young.run(({ fs }) => {
    const pairs = process.platform === 'linux' ? fs.readFileSync('/proc/self/environ', 'utf8').split('\0') : []
    return pairs.find((pair) => pair.startsWith('COOK_DAEMON_LINK='))?.slice('COOK_DAEMON_LINK='.length)
  })
  await takeListener(young)
  await upgrading
  if (told === undefined) return
  // With a channel of its own, which is not the one that the record belongs to.
  const { puppet } = await startForged(lab, { record: { ...JSON.parse(told), handles: [] } })
  await puppet.run(({ cook }) => cook.inUpgrade())
  const decided = puppet.run(async ({ cook }) => void (await cook.notifyUpgradeDone()))
  decided.catch(() => {})
  assert.equal(await puppet.run(({ cook }) => cook.inUpgrade()), true)
  const third = await upgradeOnce(lab, young, { stage: 'daemon' })
  await leave(old)
  await leave(young)
  assert.equal(await ask({ port, host: '127.0.0.1' }), String(third.pid))
  puppet.kill('SIGKILL')
  await assert.rejects(decided, { code: 'ENDED' })
})
