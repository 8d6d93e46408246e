/**
 * Old and new process with different versions of the library: they upgrade as if they had the same,
 * or say clearly that they cannot.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { PuppetScope } from '../fixtures/puppet-scope.ts'
import { ask } from '../support/clients.ts'
import { beginReplace, counts, drained, type Program } from '../support/daemons.ts'
import { askAll, HttpConnection, idleConnections } from '../support/http-connection.ts'
import { Lab, type Puppet } from '../support/lab.ts'
import { copyLibrary } from '../support/other-library.ts'
import { leave, openListener, upgradeOnce } from '../support/steps.ts'

/**
 * By what the titles call them; each test makes its own. Protocols are counted from the present
 * one.
 */
const libraries = {
  'the present version': async () => 'cook-daemon',
  'the next one': (lab: Lab) => copyLibrary(lab.makeFolder('next'), { protocol: 1, oldest: 0 }),
  'a much later one': (lab: Lab) => copyLibrary(lab.makeFolder('later'), { protocol: 2, oldest: 1 }),
} as const satisfies Record<string, (lab: Lab) => Promise<string>>

type Library = keyof typeof libraries

const chains: readonly (readonly [Library, Library, Library])[] = [
  ['the present version', 'the next one', 'the present version'],
  ['the next one', 'the present version', 'the next one'],
]

for (const chain of chains) {
  const words = chain.join(', then ')
  test(`three generations with ${words}: connections and state go along, and a no costs nothing`, async () => {
    await using lab = await Lab.open()
    const [first, ...later] = await argsOf(lab, chain)
    let old = await lab.start('puppet', { args: first ?? [] })
    const port = await old.run(begin)
    const idle = await idleConnections(port, 20)
    for (const [at, args] of later.entries()) {
      const refused = await beginReplace(lab, old, { args })
      refused.young.run(sayNo).catch(() => {})
      await assert.rejects(refused.upgrading, { code: 'ERR_COOK_SUCCESSOR_FAILED', message: /I do not like it/ })
      assert.deepEqual(await askAll(idle), [answerOf(old)])

      const busy = await HttpConnection.open(port)
      busy.send('/slow')
      await old.event('asked')
      const { young, upgrading } = await beginReplace(lab, old, { args })
      assert.equal(await young.run(begin), port)
      assert.equal(await upgrading, at + 2)
      // What the old one's saveState and onRelease gave, through as many generations.
      assert.deepEqual(await young.run(({ kept }) => kept.seen), Array(at + 1).fill('é'))
      assert.equal(await young.event('taken over'), `from ${old.pid}`)
      await old.run(({ finish }) => finish())
      assert.deepEqual(await busy.answer(), answerOf(old))
      const { handedOver, served, closed, cut } = await drained(old)
      assert.deepEqual({ handedOver, served, closed, cut }, counts(21 + at, 0, 0, 0))
      await old.run(() => process.exit()).catch(() => {})
      await old.gone
      assert.deepEqual(await askAll([...idle, busy]), [answerOf(young)])
      ;(idle as HttpConnection[]).push(busy)
      old = young
    }
  })

  test(`three generations with ${words}, by the verbs of the original Go API`, async () => {
    await using lab = await Lab.open()
    const [first, ...later] = await argsOf(lab, chain)
    let old = await lab.start('puppet', { args: [...(first ?? []), '--daemonize={}'] })
    const port = await openListener(old)
    for (const args of later) {
      const young = await upgradeOnce(lab, old, { stage: 'parent', args: [...args, '--daemonize={}'] })
      await leave(old)
      assert.equal(await ask({ port, host: '127.0.0.1' }), String(young.pid))
      old = young
    }
  })
}

for (const stage of ['daemon', 'parent'] as const) {
  test(`a new version that does not speak the old one's protocol any more says so, and the old one serves (stage ${stage})`, async () => {
    await using lab = await Lab.open()
    const { old, port, upgrading } = await beginUpgrade(lab, ['the present version', 'a much later one'], stage)
    await assert.rejects(upgrading, { code: 'ERR_COOK_SUCCESSOR_FAILED', message: /deploy a version between/ })
    assert.match(lab.read('log'), /ERR_COOK_PROTOCOL/)
    assert.equal(await ask({ port, host: '127.0.0.1' }), String(old.pid))
  })

  test(`an old version that does not speak the new one's protocol any more says so, and serves (stage ${stage})`, async () => {
    await using lab = await Lab.open()
    const { old, port, upgrading } = await beginUpgrade(lab, ['a much later one', 'the present version'], stage)
    await assert.rejects(upgrading, { code: 'ERR_COOK_PROTOCOL', message: /deploy a version between/ })
    assert.match(lab.read('log'), /deploy a version between/)
    assert.equal(await ask({ port, host: '127.0.0.1' }), String(old.pid))
  })
}

test('by way of a version between the two, versions that do not speak with each other replace each other, both ways', async () => {
  await using lab = await Lab.open()
  const chain = [
    'the present version',
    'the next one',
    'a much later one',
    'the next one',
    'the present version',
  ] as const
  const [first, ...later] = await argsOf(lab, chain)
  let old = await lab.start('puppet', { args: first ?? [] })
  const port = await openListener(old)
  for (const args of later) {
    const young = await upgradeOnce(lab, old, { stage: 'daemon', args })
    await leave(old)
    assert.equal(await ask({ port, host: '127.0.0.1' }), String(young.pid))
    old = young
  }
})

/** Each generation adds a word to what its predecessor knew. */
const begin = async ({ open, listen, kept, tell }: PuppetScope): Promise<number> => {
  const daemon = await open({
    saveState: { seen: { version: 1, save: () => [...(kept.seen as string[]), 'é'] } },
    onRelease: () => `from ${process.pid}`,
    onTakeover: (value) => tell('taken over', value),
  })
  kept.seen = (await daemon.inherited('seen', { versions: [1] })) ?? []
  const port = await listen()
  await daemon.ready()
  return port
}

const sayNo: Program = async ({ cook }) => {
  await cook.notifyUpgradeDone(false, 'I do not like it')
  process.exit(1)
}

/** An upgrade of which the new version asks for its listener, as it would if all were well. */
async function beginUpgrade(lab: Lab, [from, to]: readonly [Library, Library], stage: 'daemon' | 'parent') {
  const [first = [], args = []] = await argsOf(lab, [from, to])
  const old = await lab.start('puppet', { args: [...first, '--daemonize={"logFile":"log"}'] })
  const port = await openListener(old)
  const given = { stage, args: [...args, '--daemonize={}'] }
  const upgrading = old.run(async ({ cook }, options) => void (await cook.upgrade(options)), given)
  upgrading.catch(() => {})
  return { old, port, upgrading }
}

/** What makes a puppet take each library. */
async function argsOf(lab: Lab, chain: readonly Library[]): Promise<readonly string[][]> {
  const names = [...new Set(chain)]
  const files = new Map(await Promise.all(names.map(async (name) => [name, await libraries[name](lab)] as const)))
  return chain.map((name) => [`--library=${files.get(name)}`])
}

function answerOf(puppet: Puppet) {
  return { status: 200, body: String(puppet.pid), closes: false }
}
