/**
 * Wrong use: each is a CookError with a stable code and a text that helps, and nothing is lost by
 * it.
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { cpSync, readFileSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { identify } from '../../src/node/system.ts'
import type { PuppetScope } from '../fixtures/puppet-scope.ts'
import { ask } from '../support/clients.ts'
import { fixturePath, Lab, type Puppet } from '../support/lab.ts'
import { openListener, takeListener, upgradeOnce } from '../support/steps.ts'
import { within } from '../support/waiting.ts'

test('a name that nobody registered is told with those that there are', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  await openListener(old)
  const { young, upgrading } = await startSuccessor(lab, old)
  await assert.rejects(
    young.run(({ cook }) => cook.inheritTcpListeners('admin')),
    { code: 'ERR_COOK_UNKNOWN_NAME', message: /no tcp handle named "admin"; it passed: listen \(tcp\)/ },
  )
  await assert.rejects(
    young.run(({ cook }) => cook.inheritUdpSockets('listen')),
    { code: 'ERR_COOK_UNKNOWN_NAME', message: /no udp handle named "listen"/ },
  )
  await takeListener(young)
  await upgrading
})

const outsideAnUpgrade: Readonly<Record<string, (scope: PuppetScope) => unknown>> = {
  'inheritTcpListeners()': ({ cook }) => cook.inheritTcpListeners('listen'),
  'inheritUnixListeners()': ({ cook }) => cook.inheritUnixListeners('listen'),
  'inheritUdpSockets()': ({ cook }) => cook.inheritUdpSockets('listen'),
  'inheritFiles()': ({ cook }) => cook.inheritFiles('listen'),
  'notifyUpgradeDone()': ({ cook }) => cook.notifyUpgradeDone(),
}

test('what is for a successor only is told so to a process that is none', async () => {
  await using lab = await Lab.open()
  const puppet = await lab.start()
  for (const [verb, call] of Object.entries(outsideAnUpgrade)) {
    await assert.rejects(
      puppet.run(call),
      { code: 'ERR_COOK_NOT_IN_UPGRADE', message: new RegExp(`^${verb[0]}`) },
      verb,
    )
  }
})

test('notifyUpgradeDone() takes one answer, and that stands', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const { young, upgrading } = await startSuccessor(lab, old)
  await assert.rejects(
    young.run(({ cook }) => cook.notifyUpgradeDone('yes' as unknown as boolean)),
    { code: 'ERR_COOK_OPTION', message: /ok must be true or false/ },
  )
  await young.run(({ cook }) => cook.notifyUpgradeDone())
  await assert.rejects(
    young.run(({ cook }) => cook.notifyUpgradeDone(false)),
    { code: 'ERR_COOK_NOTIFIED_TWICE' },
  )
  await upgrading
})

type Refused = { readonly what: string; readonly code: string; readonly call: (scope: PuppetScope) => unknown }

const refused: readonly Refused[] = [
  {
    what: 'a server that does not listen',
    code: 'ERR_COOK_NOT_LISTENING',
    call: ({ cook, net }) => cook.addInheritTcpListener('web', net.createServer()),
  },
  {
    what: 'a server that was closed',
    code: 'ERR_COOK_NOT_LISTENING',
    call: async ({ cook, echo }) => cook.addInheritTcpListener('web', (await echo({ port: 0 })).close()),
  },
  {
    what: 'a server that was never made',
    code: 'ERR_COOK_NOT_LISTENING',
    call: ({ cook }) => cook.addInheritTcpListener('web', undefined as never),
  },
  {
    what: 'a Unix server that was never made',
    code: 'ERR_COOK_NOT_LISTENING',
    call: ({ cook }) => cook.addInheritUnixListener('web', null as never),
  },
  {
    what: 'a UDP socket that is not bound',
    code: 'ERR_COOK_NOT_LISTENING',
    call: ({ cook, dgram }) => {
      const socket = dgram.createSocket('udp4')
      try {
        cook.addInheritUdpSocket('web', socket)
      } finally {
        socket.close()
      }
    },
  },
  {
    what: 'a descriptor that is not open',
    code: 'ERR_COOK_NOT_LISTENING',
    call: ({ cook }) => cook.addInheritFile('web', 999),
  },
  {
    what: 'a Unix listener as a TCP one',
    code: 'ERR_COOK_HANDLE_KIND',
    call: async ({ cook, echo }) => cook.addInheritTcpListener('web', await echo('socket')),
  },
  {
    what: 'a TCP listener as a Unix one',
    code: 'ERR_COOK_HANDLE_KIND',
    call: async ({ cook, echo }) => cook.addInheritUnixListener('web', await echo({ port: 0 })),
  },
  {
    what: 'an empty name',
    code: 'ERR_COOK_HANDLE_NAME',
    call: async ({ cook, echo }) => cook.addInheritTcpListener('', await echo({ port: 0 })),
  },
  {
    what: 'a name that is reserved',
    code: 'ERR_COOK_HANDLE_NAME',
    call: async ({ cook, echo }) => cook.addInheritTcpListener('cook:control', await echo({ port: 0 })),
  },
  {
    what: 'a name that is too long',
    code: 'ERR_COOK_HANDLE_NAME',
    call: async ({ cook, echo }) => cook.addInheritTcpListener('x'.repeat(256), await echo({ port: 0 })),
  },
  {
    what: 'a misspelt option of upgrade()',
    code: 'ERR_COOK_OPTION',
    call: ({ cook }) => cook.upgrade({ readytimeout: 5 } as object),
  },
  {
    what: 'an option of upgrade() with a wrong type',
    code: 'ERR_COOK_OPTION',
    call: ({ cook }) => cook.upgrade({ readyTimeout: '5' as unknown as number }),
  },
  {
    what: 'a duration that no timer takes',
    code: 'ERR_COOK_OPTION',
    call: ({ cook }) => cook.upgrade({ readyTimeout: Number.POSITIVE_INFINITY }),
  },
  {
    what: 'a stage that there is not',
    code: 'ERR_COOK_OPTION',
    call: ({ cook }) => cook.upgrade({ stage: 'child' as 'parent' }),
  },
  { what: 'options that are none', code: 'ERR_COOK_OPTION', call: ({ cook }) => cook.upgrade(null as never) },
  {
    what: 'a misspelt option of daemonize()',
    code: 'ERR_COOK_OPTION',
    call: ({ cook }) => cook.daemonize({ logfile: 'log' } as object),
  },
  {
    what: 'an option of daemonize() with a wrong type',
    code: 'ERR_COOK_OPTION',
    call: ({ cook }) => cook.daemonize({ umask: 0o1777 }),
  },
  {
    what: 'a mode of listenUnix() that is none',
    code: 'ERR_COOK_OPTION',
    call: ({ cook, net }) => cook.listenUnix(net.createServer(), 'other', { mode: '660' as unknown as number }),
  },
]

test('what cannot be is refused at once, and the next upgrade is a good one', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const port = await openListener(old)
  for (const { what, code, call } of refused) await assert.rejects(old.run(call), { code }, what)
  const young = await upgradeOnce(lab, old, { stage: 'daemon' })
  assert.equal(young.living, 'listen:1')
  await old.run(({ kept }) => void kept.server?.close())
  assert.equal(await ask({ port, host: '127.0.0.1' }), String(young.pid))
})

test('an upgrade with a server that was closed since is refused before anything starts', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  await openListener(old)
  await old.run(({ kept }) => void kept.server?.close())
  const message = /the tcp handle named listen is not open/
  await assert.rejects(
    old.run(({ cook }) => cook.upgrade({ stage: 'daemon' })),
    { code: 'ERR_COOK_NOT_LISTENING', message },
  )
  await old.run(({ cook }) => cook.restoreInheritFiles())
  await openListener(old)
  await upgradeOnce(lab, old, { stage: 'daemon' })
})

test('in a worker of node:cluster every verb is refused: the listeners belong to the primary', async () => {
  await using lab = await Lab.open()
  const primary = await lab.start()
  await primary.run(({ kept }, exec) => {
    const cluster = process.getBuiltinModule('node:cluster') as unknown as typeof import('node:cluster').default
    cluster.setupPrimary({ exec, args: [] })
    kept.worker = cluster.fork()
  }, fixturePath('puppet'))
  const worker = await lab.next()
  await assert.rejects(
    worker.run(async ({ cook, echo }) => cook.addInheritTcpListener('web', await echo({ port: 0 }))),
    { code: 'ERR_COOK_CLUSTER_WORKER', message: /^addInheritTcpListener\(\) .* whose listeners belong to the primary/ },
  )
  await assert.rejects(
    worker.run(({ cook }) => cook.upgrade()),
    { code: 'ERR_COOK_CLUSTER_WORKER' },
  )
})

test('in a worker thread upgrade() is refused, and changes nothing in the main thread', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  await openListener(old)
  const told = await old.run(
    async (_, url) => {
      const { Worker } = process.getBuiltinModule('node:worker_threads')
      const code = `import(${JSON.stringify(url)}).then(({ upgrade }) => upgrade()).catch(({ code, message }) =>
      require('node:worker_threads').parentPort.postMessage([code, message]))`
      const worker = new Worker(code, { eval: true })
      return new Promise<string[]>((answer) => worker.once('message', answer))
    },
    import.meta.resolve('cook-daemon'),
  )
  assert.deepEqual(told, ['ERR_COOK_WORKER_THREAD', 'upgrade() was called in a worker thread; nothing was changed'])
  await upgradeOnce(lab, old, { stage: 'daemon' })
})

test('two copies of the same version share one state', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const port = await old.run(async ({ echo, kept }, copy) => {
    const other = process.getBuiltinModule('node:module').createRequire(copy)(copy)
    kept.server = await echo({ host: '127.0.0.1', port: 0 })
    other.addInheritTcpListener('listen', kept.server)
    return (kept.server.address() as { port: number }).port
  }, copyLibrary(lab))
  const young = await upgradeOnce(lab, old, { stage: 'daemon' })
  await old.run(({ kept }) => void kept.server?.close())
  assert.equal(await ask({ port, host: '127.0.0.1' }), String(young.pid))
})

test('a copy of another version is refused with the places of both, and the first goes on', async () => {
  await using lab = await Lab.open()
  const copy = copyLibrary(lab, '0.0.9')
  const puppet = await lab.start()
  await assert.rejects(
    puppet.run((_, path) => process.getBuiltinModule('node:module').createRequire(path)(path).inUpgrade(), copy),
    {
      code: 'ERR_COOK_TWO_COPIES',
      message: new RegExp(`0\\.0\\.9 from file://${lab.folder}/copy/.*, and \\d+\\.\\d+\\.\\d+ from file://`),
    },
  )
  assert.equal(await puppet.run(({ cook }) => cook.inUpgrade()), false)
})

const handle = { name: 'listen', inode: 1, kind: 'tcp', address: '127.0.0.1', port: 1, family: 'IPv4' }
const link = { protocol: 1, nonce: 'n', generation: 2, predecessor: identify(), handles: [handle] }
const launch = { fd: 3, waitReady: false, close: [] }

type Environment = { stage?: string; living?: string; link?: unknown; launch?: unknown }

type Broken = { readonly what: string; readonly environment: Environment; readonly variable: string }

const whole: Environment = { stage: 'daemon', living: 'listen:1', link }

const broken: readonly Broken[] = [
  { what: 'without the stage', environment: { living: 'listen:1', link }, variable: 'COOK_DAEMON_STAGE' },
  { what: 'with an unknown stage', environment: { ...whole, stage: 'king' }, variable: 'COOK_DAEMON_STAGE' },
  { what: 'with nothing but a daemon stage', environment: { stage: 'daemon' }, variable: 'COOK_DAEMON_STAGE' },
  { what: 'with nothing but a parent stage', environment: { stage: 'parent' }, variable: 'COOK_DAEMON_STAGE' },
  { what: 'without the summary', environment: { stage: 'daemon', link }, variable: 'COOK_DAEMON_LIVING_UPGRADE' },
  {
    what: 'without the summary of nothing',
    environment: { stage: 'daemon', link: { ...link, handles: [] } },
    variable: 'COOK_DAEMON_LIVING_UPGRADE',
  },
  { what: 'with another summary', environment: { ...whole, living: 'a:1' }, variable: 'COOK_DAEMON_LIVING_UPGRADE' },
  {
    what: 'with a summary alone',
    environment: { stage: 'daemon', living: 'listen:1' },
    variable: 'COOK_DAEMON_LIVING_UPGRADE',
  },
  ...[
    { what: 'that is no JSON', link: 'x' },
    { what: 'that is no object', link: [] },
    { what: 'without a protocol', link: { ...link, protocol: undefined } },
    { what: 'without a nonce', link: { ...link, nonce: '' } },
    { what: 'of a first generation', link: { ...link, generation: 1 } },
    { what: 'without a predecessor', link: { ...link, predecessor: [] } },
    { what: 'without handles', link: { ...link, handles: {} } },
    { what: 'with a handle without a name', link: { ...link, handles: [{ ...handle, name: undefined }] } },
    { what: 'with a handle without an inode', link: { ...link, handles: [{ ...handle, inode: '1' }] } },
    { what: 'with a handle of no kind', link: { ...link, handles: [{ ...handle, kind: 7 }] } },
    { what: 'with a handle without an address', link: { ...link, handles: [{ ...handle, address: undefined }] } },
    { what: 'with a descriptor that is not what it says', link },
  ].map(({ what, link }) => ({
    what: `with a link ${what}`,
    environment: { ...whole, link },
    variable: 'COOK_DAEMON_LINK',
  })),
  {
    what: 'with a link where there is none',
    environment: { stage: 'daemon', living: '', link: { ...link, handles: [] } },
    variable: 'COOK_DAEMON_LINK',
  },
  { what: 'with a launch in no daemon', environment: { launch }, variable: 'COOK_DAEMON_LAUNCH' },
  ...[
    { what: 'that is no JSON', launch: 'x' },
    { what: 'without a descriptor', launch: { ...launch, fd: 1 } },
    { what: 'with another descriptor than the one there is', launch: { ...launch, fd: 4 } },
    { what: 'without the goal', launch: { ...launch, waitReady: undefined } },
    { what: 'without what is to be closed', launch: { ...launch, close: undefined } },
  ].map(({ what, launch }) => ({
    what: `with a launch ${what}`,
    environment: { stage: 'daemon', launch },
    variable: 'COOK_DAEMON_LAUNCH',
  })),
]

for (const { what, environment, variable } of broken) {
  test(`an environment ${what} is an error that names ${variable}, and no fresh start`, async () => {
    await using lab = await Lab.open()
    const child = lab.spawn('puppet', { env: variables(environment), args: ['--daemonize={}'] })
    await within('the end of the process', once(child, 'close'))
    assert.equal(child.exitCode, 1, lab.output)
    const { code, message } = JSON.parse(lab.output)
    assert.equal(code, 'ERR_COOK_ENVIRONMENT', message)
    assert.match(message, new RegExp(`the environment variable ${variable} is invalid`))
  })
}

function variables({ stage, living, link, launch }: Environment): Record<string, string> {
  const text = (value: unknown) => (typeof value === 'string' ? value : JSON.stringify(value))
  return {
    ...(stage !== undefined && { COOK_DAEMON_STAGE: stage }),
    ...(living !== undefined && { COOK_DAEMON_LIVING_UPGRADE: living }),
    ...(link !== undefined && { COOK_DAEMON_LINK: text(link) }),
    ...(launch !== undefined && { COOK_DAEMON_LAUNCH: text(launch) }),
  }
}

async function startSuccessor(lab: Lab, old: Puppet): Promise<{ young: Puppet; upgrading: Promise<void> }> {
  const upgrading = old.run(async ({ cook }) => void (await cook.upgrade({ stage: 'daemon' })))
  // The test awaits it at its end, or has failed before.
  upgrading.catch(() => {})
  return { young: await lab.next(), upgrading }
}

/** The library as a second installation of it; gives the path of its entry. */
function copyLibrary(lab: Lab, version?: string): string {
  cpSync(fileURLToPath(new URL('.', import.meta.resolve('cook-daemon'))), lab.path('copy'), { recursive: true })
  writeFileSync(lab.path('copy', 'package.json'), '{"type":"module"}')
  if (version !== undefined) {
    const shared = lab.path('copy', 'shared.js')
    const code = readFileSync(shared, 'utf8')
    assert.match(code, /version="\d+\.\d+\.\d+"/)
    writeFileSync(shared, code.replace(/version="\d+\.\d+\.\d+"/, `version="${version}"`))
  }
  return lab.path('copy', 'index.js')
}
