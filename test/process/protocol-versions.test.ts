/** Old and new process with different versions of the library: they upgrade as if they had the same, or say clearly that they cannot. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import type { PuppetScope } from '../fixtures/puppet-scope.ts'
import { ask } from '../support/clients.ts'
import { beginReplace, counts, drained, type Program } from '../support/daemons.ts'
import { askAll, HttpConnection, idleConnections } from '../support/http-connection.ts'
import { Lab, type Puppet } from '../support/lab.ts'
import { additions, buildLibrary, protocol1, speaking } from '../support/other-library.ts'
import { leave, openListener, upgradeOnce } from '../support/steps.ts'

/** By what the titles call them; each test makes its own. */
const libraries = {
  present: async () => 'cook-daemon',
  'protocol 1': async () => protocol1,
  'the next protocol': (lab: Lab) => buildLibrary(lab.path('next.mjs'), speaking(3), additions),
  'protocol 3': (lab: Lab) => buildLibrary(lab.path('three.mjs'), speaking(3)),
  'protocol 3 to 4': (lab: Lab) => buildLibrary(lab.path('four.mjs'), speaking(4, 3)),
} as const satisfies Record<string, (lab: Lab) => Promise<string>>

type Library = keyof typeof libraries

test('the library that speaks protocol 1 is as it was frozen', () => {
  const hash = createHash('sha256').update(readFileSync(protocol1)).digest('hex')
  assert.equal(hash, readFileSync(new URL('README.md', `file://${protocol1}`), 'utf8').match(/\b[0-9a-f]{64}\b/)?.[0])
})

const chains: readonly (readonly [Library, Library, Library])[] = [
  ['protocol 1', 'present', 'protocol 1'],
  ['present', 'protocol 1', 'present'],
  ['the next protocol', 'present', 'the next protocol'],
  ['present', 'the next protocol', 'present'],
  ['protocol 1', 'the next protocol', 'protocol 1'],
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
      await assert.rejects(refused.upgrading, { code: 'ERR_COOK_SUCCESSOR_SAID_NO', message: /I do not like it/ })
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
    for (const library of ['protocol 1', 'present'] as const) {
      await using lab = await Lab.open()
      const { old, port, upgrading } = await beginUpgrade(lab, [library, 'protocol 3 to 4'], stage)
      await assert.rejects(upgrading, {
        code: 'ERR_COOK_SUCCESSOR_SAID_NO',
        message: /the old version speaks protocol [12] of cook-daemon and the new one 3 to 4: deploy a version between/,
      })
      assert.match(lab.read('log'), /ERR_COOK_PROTOCOL/)
      assert.equal(await ask({ port, host: '127.0.0.1' }), String(old.pid))
    }
  })

  test(`an old version that does not speak the new one's protocol any more says so, and serves (stage ${stage})`, async () => {
    for (const library of ['protocol 1', 'present'] as const) {
      await using lab = await Lab.open()
      const { old, port, upgrading } = await beginUpgrade(lab, ['protocol 3 to 4', library], stage)
      const why = /the new version speaks protocol [12] of cook-daemon and the old one 3 to 4: deploy a version between/
      await assert.rejects(upgrading, { code: 'ERR_COOK_PROTOCOL', message: why })
      // It can say this too, although it knows nothing of such a refusal.
      assert.match(lab.read('log'), why)
      assert.equal(await ask({ port, host: '127.0.0.1' }), String(old.pid))
    }
  })
}

test('by way of a version between the two, versions that do not speak with each other replace each other, both ways', async () => {
  await using lab = await Lab.open()
  const chain = ['present', 'protocol 3', 'protocol 3 to 4', 'protocol 3', 'present'] as const
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
function argsOf(lab: Lab, chain: readonly Library[]): Promise<readonly string[][]> {
  return Promise.all(chain.map(async (name) => [`--library=${await libraries[name](lab)}`]))
}

function answerOf(puppet: Puppet) {
  return { status: 200, body: String(puppet.pid), closes: false }
}
