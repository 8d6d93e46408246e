/**
 * What comes from outside, whatever it is: variables, messages, values, words, arguments. Nothing
 * throws but the errors of this library, nothing reaches a prototype.
 */

import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { afterEach, test } from 'node:test'
import v8 from 'node:v8'
import fc from 'fast-check'
import { readProgram, readStart, writeStart } from '../../src/contract/environment.ts'
import { fromWire, type Message, toWire } from '../../src/contract/messages.ts'
import { newSide, stepNew } from '../../src/contract/new-side.ts'
import { oldSide, stepOld } from '../../src/contract/old-side.ts'
import { CookError } from '../../src/errors.ts'
import { askOfBind, askOfListen, backlogOf, listenFields } from '../../src/preload/listen-arguments.ts'
import { parseJson, readJsonLines } from '../../src/process/json-lines.ts'
import { toWord } from '../../src/process/launcher.ts'
import { Assembly, fromText } from '../../src/upgrade/cloned-values.ts'

afterEach(() => {
  assert.deepEqual(Object.keys(Object.prototype), [], 'a prototype was written to')
  assert.equal(({} as { polluted?: unknown }).polluted, undefined)
})

const times = (numRuns: number) => ({ numRuns })

const keys = fc.constantFrom(
  ...['__proto__', 'constructor', 'prototype', 'toString', 'valueOf', 'cmd', 'type', 'name', 'kind', 'length', 'then'],
)

/** Values that programs trip over. */
const odd: fc.Arbitrary<unknown> = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom<unknown>(...oddValues()) },
  fc.jsonValue({ maxDepth: 2 }),
  fc.double(),
  fc.maxSafeInteger(),
  fc.string({ unit: 'binary' }),
  fc.dictionary(keys, fc.jsonValue({ maxDepth: 1 }), { noNullPrototype: true }),
)

function oddValues(): unknown[] {
  const surrogates = ['\ud800', 'a\udfffb', '\0', '%', ':', ',', '{}', 'null']
  const numbers = [Number.NaN, Number.POSITIVE_INFINITY, -0, -1, 0.5, 1e308, 2 ** 53, 2 ** 63, Number.MIN_VALUE]
  const objects = [
    {},
    [],
    [[]],
    { length: 1e9 },
    { toString: 1, valueOf: 1 },
    JSON.parse('{"__proto__":{"polluted":1}}'),
  ]
  return [undefined, null, true, false, '', ...surrogates, ...numbers, ...objects]
}

const types = [
  'spawned',
  'hello',
  'dying',
  'waits',
  'ask',
  'done',
  'confirmed',
  'taken',
  'stop',
  'welcome',
  'value',
] as const
const moreTypes = ['accepted', 'connection', 'refused', 'news', 'bye', '__proto__', 'constructor', 'later'] as const
const fields = [
  'pid',
  'startTime',
  'protocol',
  'nonce',
  'reason',
  'name',
  'ok',
  'id',
  'isKept',
  'version',
  'part',
] as const
const moreFields = ['isLast', 'fault', 'names', 'living', 'tickets', 'to', 'listener', 'state', 'unread'] as const
const newsFields = ['generations', 'upgrades', 'last', '__proto__', 'constructor', 'hasOwnProperty'] as const

/** Something that is a message at first sight; each field may be right, wrong or missing. */
const message: fc.Arbitrary<unknown> = fc
  .record({
    type: fc.constantFrom(...types, ...moreTypes),
    right: fc.dictionary(fc.constantFrom(...fields), fc.constantFrom<unknown>('text', 1, true), { maxKeys: 11 }),
    wrong: fc.dictionary(fc.constantFrom(...fields, ...moreFields, ...newsFields), odd, { maxKeys: 4 }),
    cmd: fc.constantFrom('NODE_COOK', 'NODE_COOK', 'NODE_COOK', 'NODE_HANDLE', ''),
  })
  .map(({ type, right, wrong, cmd }) => {
    // As it comes over the channel: JSON, in which a key may be there twice and be called
    // __proto__.
    const parts = [{ cmd, type }, right, wrong].map((part) => JSON.stringify(part).slice(1, -1)).filter(Boolean)
    return JSON.parse(`{${parts.join(',')}}`)
  })

test('30,000 messages from the other side, right, wrong and hostile: each is a message of its kind, unknown or broken', () => {
  const known: readonly string[] = [...types, ...moreTypes]
  fc.assert(
    fc.property(fc.oneof({ weight: 4, arbitrary: message }, odd), (raw) => {
      const read = fromWire(raw)
      if (typeof read === 'string') return assert.ok(read === 'unknown' || read === 'broken')
      assert.ok(known.includes(read.type))
      assert.equal(Object.getPrototypeOf(read), Object.prototype)
      // It can be read again, and cross once more.
      assert.deepEqual(fromWire(JSON.parse(JSON.stringify(toWire(read)))), JSON.parse(JSON.stringify(read)))
    }),
    times(30_000),
  )
})

/** Made once: a conversation has a dozen, and to make one takes longer than to hear it. */
const heard = fc.constantFrom(...fc.sample(message, 5_000).map(fromWire))

test('10,000 conversations with a hostile new version end, or go on: the old side never throws and commits only what was greeted', () => {
  const event = fc.oneof(
    { weight: 5, arbitrary: heard.map((one) => ({ type: 'message' as const, message: one })) },
    fc.constantFrom({ type: 'closed' as const }, { type: 'timer' as const }, { type: 'stop' as const }),
    fc.constant({ type: 'broken' as const, detail: 'x' }),
    fc.boolean().map((mayGo) => ({ type: 'release' as const, mayGo })),
    fc.constant({ type: 'exit' as const, exit: { code: 1, signal: null } }),
  )
  fc.assert(
    fc.property(
      fc.array(event, { maxLength: 12 }),
      fc.constantFrom('parent' as const, 'daemon' as const),
      (events, stage) => {
        const isHeld = events.length % 2 === 0
        let side = oldSide({ stage, nonce: 'the nonce', living: [], readyTimeout: 1, overlap: 0, isHeld })
        for (const one of events) [side] = stepOld(side, one)
        // Nobody can guess the nonce.
        assert.notEqual(side.at, 'committed')
        assert.ok(side.known.length <= events.length)
      },
    ),
    times(10_000),
  )
})

test('10,000 conversations with a hostile old version: the new side never throws and commits at most once', () => {
  const event = fc.oneof(
    { weight: 5, arbitrary: heard.map((one) => ({ type: 'message' as const, message: one })) },
    fc.constantFrom({ type: 'go' as const }, { type: 'closed' as const }),
    fc.boolean().map((ok) => ({ type: 'notify' as const, ok, reason: '\ud800'.repeat(5_000) })),
    fc.boolean().map((predecessorLives) => ({ type: 'looked' as const, predecessorLives })),
    fc.boolean().map((mayGo) => ({ type: 'release' as const, mayGo })),
  )
  fc.assert(
    fc.property(fc.array(event, { maxLength: 12 }), (events) => {
      let side = newSide('nonce', [1, '1'], { isHeld: events.length % 2 === 0 })
      let commits = 0
      for (const one of events) {
        const [next, effects] = stepNew(side, one)
        side = next
        commits += effects.filter((effect) => effect.do === 'commit').length
      }
      assert.ok(commits <= 1)
    }),
    times(10_000),
  )
})

test('15,000 environments, among them right ones with a few bytes changed: a start, or an error that names the variable', () => {
  const right = writeStart(
    {},
    {
      stage: 'daemon',
      link: {
        protocol: 1,
        nonce: 'n',
        generation: 2,
        predecessor: [7, '7'],
        handles: [{ name: 'a', inode: 1, kind: 'file' }],
      },
      launch: { fd: 5, waitReady: true, close: [] },
    },
  )
  const changed = fc
    .tuple(
      fc.constantFrom(...Object.keys(right)),
      fc.nat(300),
      fc.nat(3),
      fc.oneof(
        fc.string(),
        odd.map((one) => JSON.stringify(one) ?? ''),
      ),
    )
    .map(([name, at, length, by]) => {
      const value = String(right[name])
      const from = at % (value.length + 1)
      return { ...right, [name]: value.slice(0, from) + by + value.slice(from + length) }
    })
  const names = [
    'COOK_DAEMON_STAGE',
    'COOK_DAEMON_LIVING_UPGRADE',
    'COOK_DAEMON_LINK',
    'COOK_DAEMON_LAUNCH',
    'COOK_DAEMON_PROGRAM',
  ]
  const any = fc.dictionary(
    fc.constantFrom(...names),
    fc.oneof(
      fc.string(),
      odd.map((one) => JSON.stringify(one) ?? ''),
    ),
  )
  fc.assert(
    fc.property(fc.oneof({ weight: 3, arbitrary: changed }, any), (env) => {
      for (const read of [readStart, readProgram]) {
        try {
          read(env)
        } catch (error) {
          assert.ok(error instanceof CookError && error.code === 'ERR_COOK_ENVIRONMENT', String(error))
          assert.match(error.message, /COOK_DAEMON_/)
        }
      }
    }),
    times(15_000),
  )
})

/** Right bytes of a value with some of them changed, cut off or put in. */
const bytes = fc
  .tuple(
    fc.oneof(
      odd,
      fc.anything({ withDate: true, withMap: true, withSet: true, withTypedArray: true, withBigInt: true }),
    ),
    fc.array(fc.tuple(fc.nat(400), fc.nat(255)), { maxLength: 4 }),
    fc.option(fc.nat(400)),
  )
  .map(([value, changes, end]) => {
    let whole: Buffer
    try {
      whole = v8.serialize(value)
    } catch {
      whole = v8.serialize(null)
    }
    for (const [at, byte] of changes) whole[at % whole.length] = byte
    return end === null ? whole : whole.subarray(0, end)
  })

test('10,000 values whose bytes were changed are read, or refused with ERR_COOK_STATE', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        { weight: 4, arbitrary: bytes },
        fc.uint8Array().map((raw) => Buffer.from(raw)),
      ),
      (raw) => {
        const assembly = new Assembly()
        const piece = (part: string, isLast: boolean) => ({
          type: 'value' as const,
          name: '__proto__',
          version: 0,
          part,
          isLast,
        })
        const text = raw.toString('base64')
        try {
          assembly.add(piece(text.slice(0, 4), false))
          assembly.add(piece(text.slice(4), true))
        } catch (error) {
          assert.ok(error instanceof CookError && error.code === 'ERR_COOK_STATE', String(error))
        }
        try {
          fromText(text)
        } catch (error) {
          assert.ok(error instanceof Error)
        }
      },
    ),
    times(10_000),
  )
})

test('15,000 lines that a program wrote to a pipe of ours: a word, or nothing', () => {
  const word = fc
    .record(
      {
        type: fc.constantFrom('serves', 'exit', 'started', 'ready', 'refused', 'dying', '__proto__'),
        generation: odd,
        pid: odd,
        startTime: odd,
        code: odd,
        reason: odd,
      },
      { requiredKeys: ['type'] },
    )
    .map((one) => JSON.stringify(one))
  const line = fc.oneof(
    word,
    odd.map((one) => JSON.stringify(one) ?? ''),
    fc.string({ unit: 'binary' }),
  )
  fc.assert(
    fc.property(line, (text) => {
      const value = parseJson(text)
      const launched = toWord(value)
      if (launched !== undefined) assert.match(launched.type, /^(started|ready|refused|dying)$/)
      assert.ok(launched?.reason === undefined || typeof launched.reason === 'string')
    }),
    times(15_000),
  )
})

test('5,000 ways to call listen() and bind(), sensible or not, are understood or left to Node', () => {
  const option = fc.dictionary(
    fc.constantFrom('port', 'host', 'path', 'fd', 'backlog', 'address', '__proto__', 'handle', 'recvStart'),
    fc.oneof(odd, fc.constant(Symbol('port')), fc.bigInt()),
  )
  const argument = fc.oneof(
    odd,
    option,
    fc.constant(() => {}),
    fc.constant(Symbol('port')),
    fc.bigInt(),
    fc.nat(70_000),
  )
  fc.assert(
    fc.property(fc.array(argument, { maxLength: 4 }), (args) => {
      const found = [askOfListen(args, (path) => `/${path}`), askOfBind('udp4', args)]
      for (const ask of found)
        if (ask !== undefined && ask.kind !== 'unix') assert.ok(ask.port >= 0 && ask.port <= 65_535)
      listenFields(args)
      backlogOf(args)
    }),
    times(5_000),
  )
})

test('what is long or deep is read, cut or refused, and nothing of it is kept', async () => {
  const long = 'x'.repeat(8 * 1024 * 1024)
  const deep = (levels: number) => '['.repeat(levels) + ']'.repeat(levels)
  for (const reason of [long, '\ud800'.repeat(1_000_000), '🍳'.repeat(1_000_000)]) {
    const read = fromWire({ cmd: 'NODE_COOK', type: 'dying', reason }) as Extract<Message, { type: 'dying' }>
    assert.ok(Buffer.byteLength(read.reason) <= 8 * 1024)
  }
  const nested = JSON.parse(deep(50_000)) as unknown
  for (const type of [...types, ...moreTypes]) {
    for (const name of [...fields, ...moreFields, ...newsFields]) fromWire({ cmd: 'NODE_COOK', type, [name]: nested })
  }
  for (const variable of ['COOK_DAEMON_LINK', 'COOK_DAEMON_LAUNCH']) {
    const env = { COOK_DAEMON_STAGE: 'daemon', COOK_DAEMON_LIVING_UPGRADE: '', [variable]: deep(50_000) }
    assert.throws(() => readStart(env), { code: 'ERR_COOK_ENVIRONMENT' })
  }
  assert.equal(toWord(parseJson(deep(50_000))), undefined)
  // A program that writes without a line end, and then a word of ours.
  const word = { type: 'ready' }
  const pieces = [...Array.from({ length: 20 }, () => long), '\n', `${JSON.stringify(word)}\n`]
  const values: unknown[] = []
  for await (const value of readJsonLines(Readable.from(pieces.map((piece) => Buffer.from(piece))))) values.push(value)
  assert.deepEqual(values, [word])
})

test('a value that never ends is refused before it fills the memory, in few pieces or many, under one name or many', () => {
  const part = Buffer.alloc(8 * 1024 * 1024).toString('base64')
  const piece = { type: 'value' as const, version: 0, isLast: false }
  const few = new Assembly()
  assert.throws(
    () => {
      for (let count = 0; count < 200; count++) few.add({ ...piece, name: 'one', part })
    },
    { code: 'ERR_COOK_STATE' },
  )
  const many = new Assembly()
  assert.throws(
    () => {
      for (let count = 0; count < 200; count++) many.add({ ...piece, name: `name ${count}`, part })
    },
    { code: 'ERR_COOK_STATE' },
  )
  const empty = new Assembly()
  assert.throws(
    () => {
      for (let count = 0; count < 100_000; count++) empty.add({ ...piece, name: 'one', part: '' })
    },
    { code: 'ERR_COOK_STATE' },
  )
  // Refused, it is forgotten: the next one is taken.
  const good = v8.serialize({ good: true }).toString('base64')
  assert.deepEqual(few.add({ ...piece, name: 'one', part: good, isLast: true })?.value, { good: true })
})
