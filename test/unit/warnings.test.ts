/** What went wrong, and how long it is kept, without any process. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createServer } from 'node:tls'
import { fromWire, toWire } from '../../src/contract/messages.ts'
import { takeTicketKeys } from '../../src/listen/listening.ts'
import type { DaemonEvent } from '../../src/options.ts'
import type { Service } from '../../src/service.ts'
import { Warnings, warningOf } from '../../src/warnings.ts'

test('of a thing that goes wrong again the last word is kept, and only another word is heard', () => {
  const warnings = new Warnings()
  const heard: string[] = []
  warnings.hear(({ text }) => heard.push(text))
  assert.deepEqual(
    ['is gone', 'is gone', 'is back'].map((text) => warnings.add({ about: 'log', text })),
    [true, false, true],
  )
  assert.deepEqual(heard, ['is gone', 'is back'])
  assert.deepEqual(
    warnings.all.map(({ text }) => text),
    ['is back'],
  )
  warnings.clear('log')
  assert.deepEqual(warnings.all, [])
})

test('sixteen warnings are kept, the newest, however many things go wrong', () => {
  const warnings = new Warnings()
  for (let hook = 0; hook < 40; hook++) warnings.add({ about: `hook ${hook}`, text: 'is broken' })
  warnings.add({ about: 'hook 24', text: 'is broken again' })
  const kept = warnings.all.map(({ about }) => about)
  assert.deepEqual([kept.length, kept[0], kept.at(-1)], [16, 'hook 25', 'hook 24'])
})

test('a new version hears what went wrong in the upgrade, but for what it sees itself, and not what was before', async () => {
  const warnings = new Warnings()
  warnings.add({ about: 'onEvent', text: 'failed before' })
  // The next millisecond: that of the warning belongs to it.
  await new Promise((done) => setTimeout(done, 2))
  warnings.beginUpgrade()
  for (const about of ['onRelease', 'log', 'pidFile', 'control', 'upgrade']) warnings.add({ about, text: 'failed' })
  const told = warnings.forSuccessor
  assert.deepEqual(
    told.map(({ about }) => about),
    ['onRelease'],
  )
  const news = { generations: [], upgrades: { succeeded: 1, failed: 0 }, warnings: told }
  assert.deepEqual(fromWire(JSON.parse(JSON.stringify(toWire({ type: 'news', ...news })))), { type: 'news', ...news })
  const young = new Warnings()
  young.take(told)
  young.take(told)
  assert.deepEqual(young.all, told)
})

test('the names that are reserved are no listeners of a program, and an event that is in order warns of nothing', () => {
  assert.equal(warningOf({ type: 'unclaimed', names: ['cook:control'] }), undefined)
  assert.match(String(warningOf({ type: 'unclaimed', names: ['cook:control', 'web'] })?.text), /^closed web: /)
  assert.equal(warningOf({ type: 'phase', phase: 'ready', generation: 1 }), undefined)
  assert.match(String(warningOf({ type: 'predecessor-killed', pid: 7 })?.text), /pid 7\) was killed/)
})

test('TLS ticket keys that a server does not take are a warning, and it serves', async () => {
  const events: DaemonEvent[] = []
  const service = {
    predecessor: { tickets: async () => ({ web: 'AAAA' }) },
    emit: (event: DaemonEvent) => events.push(event),
  } as unknown as Service
  await takeTicketKeys(service, createServer(), 'web')
  assert.deepEqual(
    events.map((event) => event.type === 'warning' && event.about),
    ['tickets'],
  )
})
