/**
 * What goes along with the control socket: its texts, its names, and what it adds to the contract.
 */
import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { test } from 'node:test'
import { isDaemonName } from '../../src/check.ts'
import { readProgram, writeProgram, writeStart } from '../../src/contract/environment.ts'
import { fromWire, type News, toWire } from '../../src/contract/messages.ts'
import { metricsText } from '../../src/control/metrics.ts'
import type { Status } from '../../src/control/status.ts'
import { History } from '../../src/history.ts'
import { readJsonLines } from '../../src/process/json-lines.ts'

const self = { generation: 2, pid: 12, startTime: '34', phase: 'draining', connections: 5, memory: 6 }
const counts = { handedOver: 1, served: 2, closed: 3, cut: 4 }
const last = { outcome: 'succeeded', generation: 2, at: 7, seconds: 0.8 } as const
const news: News = {
  generations: [self],
  upgrades: { succeeded: 1, failed: 2 },
  last: { ...last, connections: counts },
}

test('news cross the link as they are, and news that are none are broken', () => {
  assert.deepEqual(fromWire(JSON.parse(JSON.stringify(toWire({ type: 'news', ...news })))), { type: 'news', ...news })
  for (const wrong of [
    { generations: 1 },
    { generations: [{ ...self, pid: 'x' }] },
    { generations: [{ ...self, memory: -1 }] },
    { upgrades: undefined },
    { upgrades: { succeeded: 1.5, failed: 0 } },
  ]) {
    assert.equal(fromWire({ ...toWire({ type: 'news', ...news }), ...wrong }), 'broken', JSON.stringify(wrong))
  }
  // Of the last upgrade a later version may tell what this one does not know.
  const read = fromWire({ ...toWire({ type: 'news', ...news }), last: { outcome: 'undone' } })
  assert.deepEqual(read, { type: 'news', generations: news.generations, upgrades: news.upgrades })
})

test('the upgrades of a service are counted from generation to generation, and its last one is the newest that is known', () => {
  const old = new History()
  const begin = performance.now()
  old.add({ generation: 2, begin, code: 'ERR_COOK_STOPPED' })
  assert.deepEqual([old.last?.outcome, old.last?.code], ['failed', 'ERR_COOK_STOPPED'])
  old.add({ generation: 2, begin })
  assert.deepEqual([old.last?.outcome, old.last?.code], ['succeeded', undefined])
  const young = new History()
  young.take(old.news(self))
  assert.deepEqual([young.upgrades, young.older], [{ succeeded: 1, failed: 1 }, [self]])
  const times = { stoppedAccepting: 3, ended: 12 }
  old.drained({ ...counts, times })
  young.take(old.news(self))
  assert.deepEqual([young.last?.connections, young.last?.drain], [counts, times])
  young.add({ generation: 3, begin, code: 'ERR_COOK_STOPPED' })
  young.take(old.news(self))
  assert.deepEqual([young.last?.generation, young.upgrades], [3, { succeeded: 1, failed: 2 }])
  young.forget()
  assert.deepEqual(young.older, [])
})

test('what the command line said goes on to every generation, and is broken rather than believed', () => {
  const program = { name: 'web', moveConnections: false, drainTimeout: 5, release: ['tcp:*:80'] }
  const env = writeProgram({ PATH: '/bin' }, program)
  assert.deepEqual(readProgram(env), program)
  assert.deepEqual(
    readProgram(writeStart(env, { stage: 'daemon', launch: { fd: 3, waitReady: true, close: [] } })),
    program,
  )
  assert.deepEqual(writeProgram(env, undefined), { PATH: '/bin' })
  const [variable = ''] = Object.keys(env).filter((name) => name !== 'PATH')
  const wrong = ['', '{', '[]', '{"name":2}', '{"release":"x"}', '{"overlap":"1"}']
  for (const text of wrong) {
    assert.throws(
      () => readProgram({ [variable]: text }),
      { code: 'ERR_COOK_ENVIRONMENT', message: new RegExp(variable) },
      text,
    )
  }
  assert.deepEqual(readProgram({ [variable]: '{"later":true}' }), { later: true })
})

test('lines of JSON come in pieces, and what is not JSON is passed over', async () => {
  const pieces = ['{"type":"exit"}\nnoise\n{"ty', 'pe":"é', '"}\n\n[1]\n{"no end":1}']
  const values: unknown[] = []
  for await (const value of readJsonLines(Readable.from(pieces.map((piece) => Buffer.from(piece))))) values.push(value)
  assert.deepEqual(values, [{ type: 'exit' }, { type: 'é' }, [1]])
})

test('a name of a daemon leads nowhere but to its own files', () => {
  for (const name of ['web', 'web-2', 'a.b_c', '1', 'x'.repeat(64)]) assert.equal(isDaemonName(name), true, name)
  for (const name of [
    '',
    '.',
    '..',
    '.web',
    '-web',
    '_web',
    'a/b',
    'a b',
    'é',
    'a\0',
    'a\n',
    'x'.repeat(65),
    1,
    undefined,
  ]) {
    assert.equal(isDaemonName(name), false, String(name))
  }
})

test('labels of metrics are escaped, and what is not known is left out', () => {
  const listener = 'unix:/a "b"\\c\nd'
  const status = {
    name: 'web',
    version: '1',
    node: 'v1',
    pid: 12,
    startTime: '34',
    generation: 1,
    phase: 'ready',
    ready: true,
    startedAt: new Date(0).toISOString(),
    uptime: 1,
    memory: { resident: 2, heapUsed: 3 },
    connections: 4,
    listeners: [{ name: listener, address: '', connections: 4 }],
    upgrades: { succeeded: 0, failed: 0 },
    generations: [{ ...self, generation: 1 }],
    drainTimeout: 5,
    command: { execPath: '', execArgv: [], args: [], cwd: '' },
  } satisfies Status
  const text = metricsText(status)
  assert.ok(text.includes('cook_daemon_connections{listener="unix:/a \\"b\\"\\\\c\\nd"} 4\n'), text)
  assert.doesNotMatch(text, /last_upgrade|undefined|NaN/)
  assert.ok(text.endsWith('\n'))
})
