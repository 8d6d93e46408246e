/** When an unmodified program is up, without any process. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ProgramRecord } from '../../src/contract/environment.ts'
import { watchReadiness } from '../../src/preload/readiness.ts'
import type { Service } from '../../src/service.ts'

/** As far as it is looked at. */
const listening = { ref: () => {}, unref: () => {} }

function play(unclaimed: string[], program: ProgramRecord = {}) {
  const told: string[] = []
  let starts = 0
  const service = {
    state: { program, entered: {} },
    claims: {
      get unclaimed() {
        return unclaimed.map((name) => ({ name, kind: 'tcp', address: '::', port: Number(name.split(':')[2]) }))
      },
    },
    predecessor: {
      tellWaiting: ({ reason }: { reason: string }) => told.push(reason),
      notify: async () => {},
      holdForAnswers: () => {},
    },
  } as unknown as Service
  const start = async () => void starts++
  const ready = watchReadiness(service, start)
  ready.look()
  const claim = (name: string, server = listening) => {
    ready.opens(server)
    unclaimed.splice(unclaimed.indexOf(name), 1)
    ready.opened(server)
  }
  return { ready, claim, told, starts: () => starts }
}

test('a first start is up when its first server listens', () => {
  const { ready, starts } = play([])
  assert.equal(starts(), 0)
  ready.opens(listening)
  ready.opened(listening)
  assert.equal(starts(), 1)
})

test('a new version is up when it has all listeners of the old one, and says meanwhile which are missing', () => {
  const { claim, told, starts } = play(['tcp:*:80', 'tcp:*:81'])
  claim('tcp:*:81')
  assert.equal(starts(), 0)
  assert.match(String(told.at(-1)), /has not opened \*:80, where/)
  claim('tcp:*:80')
  assert.deepEqual([starts(), told.at(-1)], [1, ''])
})

test('a listener that is released may vanish, and another one makes the version ready', () => {
  const { ready, starts } = play(['tcp:*:80'], { release: ['tcp:*:80'] })
  assert.equal(starts(), 0)
  ready.opens(listening)
  ready.opened(listening)
  assert.equal(starts(), 1)
})

test('a server that is about to listen is waited for, whether it does or not', () => {
  const { ready, claim, starts } = play(['tcp:*:80'])
  ready.opens(ready)
  claim('tcp:*:80')
  assert.equal(starts(), 0)
  ready.failed(ready)
  assert.equal(starts(), 1)
})

test("with waitReady it takes the program's word, and its listeners", () => {
  const before = process.send
  const { ready, claim, told, starts } = play(['tcp:*:80'], { waitReady: true })
  process.send?.('ready')
  assert.equal(starts(), 0)
  assert.match(String(told.at(-1)), /has not opened \*:80/)
  claim('tcp:*:80')
  assert.equal(starts(), 1)
  ready.end()
  assert.equal(process.send, before)
})

test('where a program listens although the old version does not is told as soon as it does', () => {
  const { ready, told } = play(['tcp:*:80'])
  ready.opens(listening)
  ready.opened(listening, '*:81')
  assert.match(String(told.at(-1)), /listens on \*:81, and has not opened \*:80, where/)
})

test('--release takes the name of a listener, its port and its address', () => {
  for (const word of ['tcp:*:80', '80', ':80', '*:80']) {
    const { ready, starts } = play(['tcp:*:80'], { release: [word] })
    ready.opens(listening)
    ready.opened(listening, '*:81')
    assert.equal(starts(), 1, word)
  }
  const { ready, starts } = play(['tcp:*:80'], { release: ['8', '*:8', 'tcp:*:8'] })
  ready.opens(listening)
  ready.opened(listening, '*:81')
  assert.equal(starts(), 0)
})
