/**
 * The contract, one process at a time: what an environment says, what a message is, and each side
 * under any order of events.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  ENV_NAME_DAEMON_STAGE,
  ENV_NAME_LIVING_UPGRADE,
  envLink,
  firstHandleFd,
  type HandleRecord,
  type LinkRecord,
  linkFd,
  ownVariables,
  readStart,
  type Start,
  writeStart,
} from '../../src/contract/environment.ts'
import { cutReason, fromWire, type Message, toWire } from '../../src/contract/messages.ts'
import { type NewEffect, type NewEvent, newSide, stepNew } from '../../src/contract/new-side.ts'
import { type OldEffect, type OldEvent, type OldSide, oldSide, stepOld } from '../../src/contract/old-side.ts'
import { oldestProtocol, protocolVersion } from '../../src/contract/protocol.ts'
import { CookError } from '../../src/errors.ts'

type Environment = Readonly<Record<string, string | undefined>>

// ------------------------------------------------------------------------------------------------- what may be there

// Objects as JSON.parse makes them: with a prototype.
const record = <Value>(model: { [Key in keyof Value]: fc.Arbitrary<Value[Key]> }) =>
  fc.record<Value>(model, { noNullPrototype: true })
const dictionary = <Value>(keys: fc.Arbitrary<string>, values: fc.Arbitrary<Value>) =>
  fc.dictionary(keys, values, { noNullPrototype: true })

/** Any text of whole characters, those with a meaning in the variables among them. */
const text = fc.string({ unit: fc.oneof(fc.constantFrom(':', ',', '%', '"', '=', '\0', '\n', 'é', '🍳'), unit()) })
function unit() {
  return fc.string({ unit: 'binary', minLength: 1, maxLength: 1 })
}

const port = fc.nat(65_535)
const family = fc.constantFrom('IPv4' as const, 'IPv6' as const)
const count = fc.maxSafeNat()

const handle: fc.Arbitrary<HandleRecord> = fc.oneof(
  record({ name: text, inode: count, kind: fc.constant('tcp' as const), address: text, port, family }),
  record({ name: text, inode: count, kind: fc.constant('udp' as const), address: text, port, family }),
  record({ name: text, inode: count, kind: fc.constant('unix' as const), path: text }),
  record({ name: text, inode: count, kind: fc.constant('file' as const) }),
)

const identity = fc.tuple(fc.integer({ min: 1, max: 4_194_304 }), text)

const path = text.map((name) => `/${name}`)
const typed = record({ execPath: path, cwd: path, script: text })

const link: fc.Arbitrary<LinkRecord> = record({
  protocol: fc.integer({ min: 1, max: 99 }),
  nonce: fc.string({ minLength: 1 }),
  generation: fc.integer({ min: 2, max: 1_000_000 }),
  predecessor: identity,
  handles: fc.array(handle, { maxLength: 20 }),
  typed,
})

const close = fc.array(fc.nat(1_000), { maxLength: 3 })

/** Every start that this library makes: of a daemon, and of a successor in either way. */
const start: fc.Arbitrary<Start> = fc.oneof(
  record({
    stage: fc.constant('daemon' as const),
    launch: record({ fd: fc.constant(linkFd), waitReady: fc.boolean(), close, typed }),
  }),
  record({ stage: fc.constantFrom('parent' as const, 'daemon' as const), link }),
  link.map((linked) => ({
    stage: 'daemon' as const,
    link: linked,
    launch: { fd: firstHandleFd + linked.handles.length, waitReady: false, close: [] },
  })),
)

const environment = dictionary(fc.string({ minLength: 1, maxLength: 8 }), fc.string())

// ---------------------------------------------------------------------------------------------------- the environment

test('what one process writes into the environment, the other reads out of it', () => {
  fc.assert(
    fc.property(environment, start, (env, written) => {
      assert.deepEqual(readStart(writeStart(env, written)), written)
    }),
  )
})

test('the summary for people names every handle in descriptor order, and can be taken apart again', () => {
  fc.assert(
    fc.property(link, (linked) => {
      const summary = writeStart({}, { stage: 'daemon', link: linked })[ENV_NAME_LIVING_UPGRADE] ?? ''
      const told = summary === '' ? [] : summary.split(',').map((part) => part.split(':'))
      assert.ok(told.every(({ length }) => length === 2))
      const counts = new Map<string, number>()
      for (const { name } of linked.handles) counts.set(name, (counts.get(name) ?? 0) + 1)
      assert.deepEqual(
        told.map(([name = '', many]) => [decodeURIComponent(name), Number(many)]),
        [...counts],
      )
    }),
  )
})

test('a child gets what its parent was started with, and nothing that was meant for the parent alone', () => {
  fc.assert(
    fc.property(environment, start, start, (env, own, next) => {
      const inherited = { ...writeStart(env, own), NODE_CHANNEL_FD: '3', NODE_CHANNEL_SERIALIZATION_MODE: 'json' }
      assert.deepEqual(writeStart(inherited, next), writeStart(env, next))
    }),
  )
})

test('an environment without our variables, or with an empty stage, is a fresh start', () => {
  assert.deepEqual(readStart({ PATH: '/bin' }), { stage: '' })
  assert.deepEqual(readStart({ [ENV_NAME_DAEMON_STAGE]: '' }), { stage: '' })
})

/**
 * Reads what is half there: an error that names one of the variables, or the start; never anything
 * else.
 */
function readDamaged(env: Environment): Start | 'refused' {
  try {
    return readStart(env)
  } catch (error) {
    assert.ok(error instanceof CookError, String(error))
    assert.equal(error.code, 'ERR_COOK_ENVIRONMENT')
    const { variable } = (error as CookError<'ERR_COOK_ENVIRONMENT'>).values
    assert.ok(ownVariables.some((name) => name === variable))
    assert.ok(error.message.includes(String(variable)))
    return 'refused'
  }
}

test('an environment of which a part was deleted is an error that names the variable, never a fresh start', () => {
  fc.assert(
    fc.property(start, fc.subarray([...ownVariables], { minLength: 1 }), (written, deleted) => {
      const env = writeStart({}, written)
      const rest = Object.fromEntries(Object.entries(env).filter(([name]) => !deleted.some((one) => one === name)))
      fc.pre(Object.keys(rest).length > 0 && Object.keys(rest).length < Object.keys(env).length)
      const read = readDamaged(rest)
      // A successor of the way of the original Go API without its launcher is one of the direct
      // way: an upgrade all the same.
      if (read !== 'refused') assert.deepEqual(read, { stage: 'daemon', link: written.link })
    }),
    { numRuns: 1_000 },
  )
})

test('parts of two different starts are an error, or the upgrade that one of them was', () => {
  fc.assert(
    fc.property(start, start, fc.subarray([...ownVariables], { minLength: 1 }), (one, other, taken) => {
      const env: Record<string, string | undefined> = { ...writeStart({}, one) }
      const forged = writeStart({}, other)
      for (const name of taken) env[name] = forged[name]
      const read = readDamaged(env)
      if (read === 'refused') return
      // Whoever is taken for a fresh start was one, from end to end.
      if (read.link === undefined) assert.ok(one.link === undefined || other.link === undefined)
      else assert.ok([one.link, other.link].some((linked) => isEqual(linked, read.link)))
    }),
    { numRuns: 1_000 },
  )
})

test('a forged variable is an error, or still an upgrade, never a fresh start', () => {
  const forgery = fc.oneof(fc.string(), fc.json(), fc.constantFrom('', '{}', '[]', 'null', 'parent', 'daemon', '0'))
  fc.assert(
    fc.property(start, fc.constantFrom(...ownVariables), forgery, (written, name, forged) => {
      const read = readDamaged({ ...writeStart({}, written), [name]: forged })
      if (read === 'refused') return
      assert.equal(read.stage === '', false)
      assert.deepEqual(read.link, written.link)
    }),
    { numRuns: 1_000 },
  )
})

test('a record with one field missing or of another type is an error that names its variable', () => {
  const whole = {
    protocol: 1,
    nonce: 'n',
    generation: 2,
    predecessor: [7, '9'],
    handles: [{ name: 'a', inode: 5, kind: 'tcp', address: '::', port: 80, family: 'IPv6' }],
  }
  const base = { [ENV_NAME_DAEMON_STAGE]: 'daemon', [ENV_NAME_LIVING_UPGRADE]: 'a:1' }
  const read = (value: unknown) => readDamaged({ ...base, [envLink]: JSON.stringify(value) })
  assert.notEqual(read(whole), 'refused')
  for (const wrong of [undefined, null, true, -1, 1.5, '', {}, []]) {
    for (const field of Object.keys(whole)) {
      // An upgrade without handles is one, and then the summary for people does not fit.
      assert.equal(read({ ...whole, [field]: wrong }), 'refused', `${field}: ${JSON.stringify(wrong)}`)
    }
    for (const field of Object.keys(whole.handles[0] ?? {})) {
      if ((field === 'address' || field === 'name') && wrong === '') continue
      const handles = [{ ...whole.handles[0], [field]: wrong }]
      assert.equal(read({ ...whole, handles }), 'refused', `handle, ${field}: ${JSON.stringify(wrong)}`)
    }
  }
})

test('half a character in the name of a handle is an error, not a crash', () => {
  const handles = [{ name: '\ud800', inode: 1, kind: 'file' }]
  const halved = { protocol: 1, nonce: 'n', generation: 2, predecessor: [1, '1'], handles }
  const env = { [ENV_NAME_DAEMON_STAGE]: 'daemon', [envLink]: JSON.stringify(halved) }
  assert.equal(readDamaged(env), 'refused')
})

// ------------------------------------------------------------------------------------------------------- the messages

const upward: fc.Arbitrary<Message> = fc.oneof(
  record({ type: fc.constant('spawned' as const), pid: fc.integer({ min: 1 }), startTime: text }),
  record({
    type: fc.constant('hello' as const),
    protocol: fc.integer({ min: 1 }),
    nonce: text,
    pid: fc.integer({ min: 1 }),
    startTime: text,
  }),
  record({ type: fc.constant('dying' as const), reason: text }),
  record({ type: fc.constant('done' as const), ok: fc.boolean(), reason: text }),
  record({ type: fc.constant('ask' as const), name: text }),
  fc.constant({ type: 'confirmed' as const }),
  fc.constant({ type: 'stop' as const }),
  record({ type: fc.constant('taken' as const), id: count, isKept: fc.boolean() }),
)

const downward: fc.Arbitrary<Message> = fc.oneof(
  record({
    type: fc.constant('welcome' as const),
    protocol: fc.integer({ min: 1 }),
    living: fc.array(identity),
    tickets: dictionary(text, text),
  }),
  record({
    type: fc.constant('value' as const),
    name: text,
    version: count,
    part: text,
    isLast: fc.boolean(),
  }),
  record({ type: fc.constant('connection' as const), id: count, to: text, state: text }),
  fc.constant({ type: 'accepted' as const }),
  record({ type: fc.constant('refused' as const), reason: text }),
  fc.constant({ type: 'bye' as const }),
)

const message = fc.oneof(upward, downward)

test('a message arrives as it was sent, also when a later version has added to it', () => {
  fc.assert(
    fc.property(message, dictionary(fc.constantFrom('added', 'more'), fc.jsonValue()), (sent, added) => {
      assert.deepEqual(fromWire(JSON.parse(JSON.stringify({ ...added, ...toWire(sent) }))), sent)
    }),
  )
})

test('whatever arrives is a whole message, unknown or broken: reading it never throws', () => {
  const known = ['spawned', 'hello', 'dying', 'ask', 'done', 'confirmed', 'taken', 'stop']
  const types = [...known, 'welcome', 'value', 'accepted', 'connection', 'refused', 'bye', 'later']
  const value = fc.oneof(fc.jsonValue(), fc.integer(), text, fc.array(identity))
  const almost = fc.record(
    {
      cmd: fc.constantFrom('NODE_COOK', 'NODE_HANDLE', ''),
      type: fc.oneof(fc.constantFrom(...types), fc.jsonValue()),
      protocol: value,
      nonce: value,
      pid: value,
      startTime: value,
      reason: value,
      ok: fc.oneof(fc.boolean(), value),
      living: value,
      tickets: value,
      name: value,
      version: value,
      part: value,
      id: value,
      to: value,
      state: value,
      fault: value,
      isKept: fc.oneof(fc.boolean(), value),
    },
    { requiredKeys: [], noNullPrototype: true },
  )
  fc.assert(
    fc.property(fc.oneof(fc.jsonValue(), almost), (raw) => {
      const read = fromWire(raw)
      if (read === 'unknown' || read === 'broken') return
      // Well formed: it survives the way that it would take.
      assert.deepEqual(fromWire(JSON.parse(JSON.stringify(toWire(read)))), read)
      assert.ok(types.includes(read.type))
    }),
    { numRuns: 2_000 },
  )
})

test('messages of a later version are unknown, which is not broken', () => {
  assert.equal(fromWire({ cmd: 'NODE_COOK', type: 'takeover', value: 1 }), 'unknown')
  assert.equal(fromWire({ cmd: 'NODE_HANDLE_ACK' }), 'unknown')
  assert.equal(fromWire({ cmd: 'NODE_COOK', type: 'done', ok: 'yes', reason: '' }), 'broken')
})

test('a reason is cut to at most 8 KiB, between two characters', () => {
  const long = fc.tuple(fc.string({ unit: 'binary' }), fc.nat(9_000)).map(([some, many]) => some.repeat(many % 900))
  fc.assert(
    fc.property(fc.oneof(text, long), (reason) => {
      const cut = cutReason(reason)
      assert.ok(Buffer.byteLength(cut) <= 8_192)
      assert.ok(reason.startsWith(cut))
      assert.ok(cut === reason || Buffer.byteLength(cut) > 8_192 - 8)
      assert.equal(cutReason(cut), cut)
    }),
  )
})

test('a reason that begins with a byte order mark keeps it when it is cut', () => {
  const reason = `\ufeff${'x'.repeat(9_000)}`
  assert.ok(reason.startsWith(cutReason(reason)))
})

// --------------------------------------------------------------------------------------------- the old process's side

const nonce = 'the nonce'
const settings = record({
  stage: fc.constantFrom('parent' as const, 'daemon' as const),
  nonce: fc.constant(nonce),
  living: fc.constant([[1, '1'] as const]),
  readyTimeout: fc.constant(60_000),
  overlap: fc.constantFrom(0, 1_000),
  isHeld: fc.boolean(),
})

const hello: Message = { type: 'hello', protocol: protocolVersion, nonce, pid: 2, startTime: '2' }
const exit: fc.Arbitrary<OldEvent> = fc.constantFrom(
  { type: 'exit', exit: { code: 1, signal: null } },
  { type: 'exit', exit: { code: null, signal: 'SIGKILL' } },
)
const heard: fc.Arbitrary<OldEvent> = fc
  .oneof(
    { weight: 3, arbitrary: fc.constantFrom<Message>(hello, { type: 'done', ok: true, reason: '' }) },
    {
      weight: 3,
      arbitrary: fc.constantFrom<Message>({ type: 'confirmed' }, { type: 'done', ok: false, reason: 'no' }),
    },
    message,
    fc.constantFrom('unknown' as const, 'broken' as const),
  )
  .map((one) => ({ type: 'message', message: one }))

const oldEvents = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: heard },
    exit,
    { weight: 2, arbitrary: fc.boolean().map((mayGo): OldEvent => ({ type: 'release', mayGo })) },
    fc.constantFrom<OldEvent>(
      { type: 'closed' },
      { type: 'timer' },
      { type: 'stop' },
      { type: 'broken', detail: 'bytes' },
    ),
  ),
  { maxLength: 16 },
)

type Turn = { readonly event: OldEvent; readonly effects: readonly OldEffect[]; readonly after: OldSide }

function playOld(first: OldSide, events: readonly OldEvent[]): readonly Turn[] {
  let side = first
  return events.map((event) => {
    const [after, effects] = stepOld(side, event)
    side = after
    return { event, effects, after }
  })
}

function effectsOf(turns: readonly Turn[]): readonly string[] {
  return turns.flatMap(({ effects }) => effects.map((effect) => nameOf(effect)))
}

function nameOf(effect: OldEffect | NewEffect): string {
  return effect.do === 'send' ? `send ${effect.message.type}` : effect.do
}

/** Any order of events, likely ones more often. */
function forAnyOrder(check: (turns: readonly Turn[]) => void): void {
  fc.assert(
    fc.property(settings, oldEvents, (given, events) => check(playOld(oldSide(given), events))),
    { numRuns: 2_000 },
  )
}

test('in any order of events the old process decides at most once, and what it decided stands', () => {
  forAnyOrder((turns) => {
    const decisions = effectsOf(turns).filter((name) => name === 'commit' || name === 'fail')
    assert.ok(decisions.length <= 1)
    const decided = turns.findIndex(({ after }) => after.at === 'committed' || after.at === 'failed')
    assert.equal(decided >= 0, decisions.length === 1)
    if (decided < 0) return
    assert.equal(turns[decided]?.after.at, decisions[0] === 'commit' ? 'committed' : 'failed')
    for (const later of turns.slice(decided + 1)) {
      assert.equal(later.after, turns[decided]?.after)
      assert.deepEqual(later.effects, [])
    }
  })
})

test('in any order of events there is no commit without hello with the nonce, a yes and its confirmation, in this order', () => {
  forAnyOrder((turns) => {
    const committed = turns.findIndex(({ effects }) => effects.some((effect) => effect.do === 'commit'))
    if (committed < 0) return
    const before = turns
      .slice(0, committed + 1)
      .flatMap(({ event }) => (event.type === 'message' && typeof event.message === 'object' ? [event.message] : []))
    const greeted = before.findIndex((one) => one.type === 'hello' && one.nonce === nonce)
    const done = before.findIndex((one, at) => at > greeted && one.type === 'done' && one.ok)
    assert.ok(greeted >= 0 && done > greeted)
    assert.equal(before.at(-1)?.type, 'confirmed')
    assert.ok(before.length - 1 > done)
  })
})

test('in any order of events one of several workers goes on only as often as the others are as far: before its overlap, and before its commit', () => {
  forAnyOrder((turns) => {
    let isFree = turns[0]?.after.isHeld === false
    let holds = 0
    for (const { event, effects } of turns) {
      const isReleased = event.type === 'release' && event.mayGo
      for (const effect of effects) {
        if (effect.do === 'hold') holds++
        if (effect.do === 'overlap' || nameOf(effect) === 'send accepted') assert.ok(isFree || isReleased)
        if (effect.do === 'commit') isFree = true
      }
    }
    const { isHeld = false, overlap = 0 } = turns[0]?.after ?? {}
    assert.ok(holds <= (!isHeld ? 0 : overlap > 0 ? 2 : 1))
  })
})

test('a worker that is not to go on since another one has failed refuses its successor, and kills it', () => {
  const given = { stage: 'daemon', nonce, living: [], readyTimeout: 60_000, overlap: 1_000, isHeld: true } as const
  const ready: readonly OldEvent[] = [
    { type: 'message', message: hello },
    { type: 'message', message: { type: 'done', ok: true, reason: '' } },
  ]
  const before = playOld(oldSide(given), [...ready, { type: 'release', mayGo: false }])
  assert.deepEqual(effectsOf(before), ['send welcome', 'hold', 'timer', 'send refused', 'kill', 'timer'])
  assert.deepEqual(before.at(-1)?.after.failure, { why: 'others' })
  const behind = playOld(oldSide(given), [
    ...ready,
    { type: 'release', mayGo: true },
    { type: 'timer' },
    { type: 'release', mayGo: false },
  ])
  const held = ['send welcome', 'hold', 'timer', 'overlap', 'timer', 'hold', 'timer']
  assert.deepEqual(effectsOf(behind), [...held, 'send refused', 'kill', 'timer'])
  const asked = behind.flatMap(({ effects }) => effects.flatMap((one) => (one.do === 'hold' ? [one.overlaps] : [])))
  assert.deepEqual(asked, [true, false])
})

test('in any order of events a failure is told only when nobody is left, or after a kill and its grace', () => {
  forAnyOrder((turns) => {
    const failed = turns.findIndex(({ after }) => after.at === 'failed')
    if (failed < 0) return
    const seen = turns.slice(0, failed + 1)
    const isGone = seen.some(({ event }) => event.type === 'exit') && seen.some(({ event }) => event.type === 'closed')
    const killed = seen.findIndex(({ effects }) => effects.some((effect) => effect.do === 'kill'))
    const isPatient = killed >= 0 && seen.slice(killed + 1).some(({ event }) => event.type === 'timer')
    assert.ok(isGone || isPatient)
  })
})

test('in any order of events the new process is accepted at most once, and refused never after the commit', () => {
  forAnyOrder((turns) => {
    const names = effectsOf(turns)
    for (const once of ['send accepted', 'send refused', 'send welcome', 'overlap']) {
      assert.ok(names.filter((name) => name === once).length <= 1, once)
    }
    const refused = names.indexOf('send refused')
    if (refused < 0) return
    assert.ok(!names.includes('commit') && !names.slice(refused).includes('send accepted'))
  })
})

test('in any order of events a process of the new version that is heard of after the kill is killed too', () => {
  forAnyOrder((turns) => {
    const killed = turns.findIndex(({ effects }) => effects.some((effect) => effect.do === 'kill'))
    if (killed < 0) return
    for (const { event, effects, after } of turns.slice(killed + 1)) {
      if (event.type !== 'message' || typeof event.message !== 'object' || after.at === 'failed') continue
      if (event.message.type === 'spawned') assert.deepEqual(effects, [{ do: 'kill' }])
    }
  })
})

test('a daemon is killed too that a parent stage started in the moment in which the deadline passed', () => {
  const settings = { stage: 'parent', nonce, living: [], readyTimeout: 60_000, overlap: 0 } as const
  const turns = playOld(oldSide(settings), [
    { type: 'timer' },
    { type: 'message', message: { type: 'spawned', pid: 3, startTime: '33' } },
  ])
  assert.deepEqual(effectsOf(turns), ['send refused', 'kill', 'timer', 'kill'])
  assert.deepEqual(turns.at(-1)?.after.known, [[3, '33']])
})

test('who said hello is known for a kill, also if the process that started it died without a word', () => {
  const settings = { stage: 'parent', nonce, living: [], readyTimeout: 60_000, overlap: 0 } as const
  const turns = playOld(oldSide(settings), [
    { type: 'exit', exit: { code: null, signal: 'SIGKILL' } },
    { type: 'message', message: hello },
    { type: 'message', message: { type: 'done', ok: true, reason: '' } },
    { type: 'timer' },
  ])
  assert.deepEqual(effectsOf(turns), ['send welcome', 'send accepted', 'timer', 'send refused', 'kill', 'timer'])
  assert.deepEqual(turns.at(-1)?.after.known, [[2, '2']])
})

test('whatever has happened, a world in which timers fire and killed processes are gone ends the upgrade', () => {
  fc.assert(
    fc.property(settings, oldEvents, fc.infiniteStream(fc.nat(2)), (given, events, order) => {
      const turns = playOld(oldSide(given), events)
      let side = turns.at(-1)?.after ?? oldSide(given)
      // There is always a timer: the reducer sets one with every state that waits.
      for (let more = 0; side.at !== 'committed' && side.at !== 'failed'; more++) {
        assert.ok(more < 12, `still ${side.at}`)
        const due: readonly OldEvent[] = [
          { type: 'timer' },
          ...(side.killed && side.exit === undefined
            ? [{ type: 'exit', exit: { code: null, signal: 'SIGKILL' } } as const]
            : []),
          ...(side.killed && !side.closed ? [{ type: 'closed' } as const] : []),
        ]
        const event = due[(order.next().value ?? 0) % due.length]
        if (event !== undefined) [side] = stepOld(side, event)
      }
    }),
    { numRuns: 2_000 },
  )
})

// --------------------------------------------------------------------------------------------- the new process's side

test('an old process that hears a hello of a protocol it does not speak any more refuses with both versions, and lets the other read it', () => {
  const waiting = oldSide({ stage: 'daemon', nonce, living: [], readyTimeout: 1, overlap: 0 })
  const [side, effects] = stepOld(waiting, { type: 'message', message: { ...hello, protocol: oldestProtocol - 1 } })
  assert.equal(side.failure?.why, 'protocol')
  assert.deepEqual(effects.map(nameOf), ['send refused', 'timer'])
  assert.match(JSON.stringify(effects), /the new version speaks protocol 0 of cook-daemon and the old one 1: deploy/)
})

test('a new process that does not speak the protocol of its predecessor any more says no by itself, and serves only if that one is gone', () => {
  const young = newSide(nonce, [2, '2'], { protocol: oldestProtocol - 1 })
  const [side, effects] = stepNew(young, { type: 'go' })
  assert.deepEqual(effects.map(nameOf), ['send hello', 'send done', 'refuse'])
  assert.match(JSON.stringify(effects), /the old version speaks protocol 0 of cook-daemon and the new one 1: deploy/)
  // Its program's yes comes too late.
  assert.deepEqual(stepNew(side, { type: 'notify', ok: true, reason: '' })[1], [])
  const [looking] = stepNew(young, { type: 'closed' })
  assert.deepEqual(stepNew(looking, { type: 'looked', predecessorLives: false })[1].map(nameOf), ['commit', 'close'])
})

const newEvents = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: fc.constantFrom<NewEvent>({ type: 'go' }, { type: 'notify', ok: true, reason: '' }) },
    {
      weight: 6,
      arbitrary: fc
        .oneof(downward, message, fc.constantFrom('unknown' as const, 'broken' as const))
        .map((one): NewEvent => ({ type: 'message', message: one })),
    },
    fc.constantFrom<NewEvent>(
      { type: 'closed' },
      { type: 'looked', predecessorLives: true },
      { type: 'looked', predecessorLives: false },
      { type: 'notify', ok: false, reason: 'no' },
      { type: 'release', mayGo: true },
      { type: 'release', mayGo: false },
    ),
  ),
  { maxLength: 16 },
)

function forAnyOrderOfTheNew(
  check: (events: readonly NewEvent[], effects: readonly NewEffect[][], isHeld: boolean) => void,
): void {
  fc.assert(
    fc.property(newEvents, fc.boolean(), (events, isHeld) => {
      let side = newSide(nonce, [2, '2'], { isHeld })
      const effects = events.map((event) => {
        const [after, some] = stepNew(side, event)
        side = after
        return [...some]
      })
      check(events, effects, isHeld)
    }),
    { numRuns: 2_000 },
  )
}

test('one of several that has said no, and whose predecessor is gone, gives up, since nobody will ask it', () => {
  for (const order of ['before', 'behind'] as const) {
    const no: NewEvent = { type: 'notify', ok: false, reason: 'no database' }
    const gone: readonly NewEvent[] = [{ type: 'closed' }, { type: 'looked', predecessorLives: false }]
    let side = newSide(nonce, [2, '2'], { isHeld: true })
    const told = [{ type: 'go' } as const, ...(order === 'before' ? [no, ...gone] : [...gone, no])].flatMap((event) => {
      const [after, effects] = stepNew(side, event)
      side = after
      return effects.map(nameOf)
    })
    assert.deepEqual(told, ['send hello', 'look', 'refuse', 'close'], order)
  }
})

test('in any order of events the new process takes over or gives up, once, and says each of its words once', () => {
  forAnyOrderOfTheNew((_, effects) => {
    const names = effects.flat().map((effect) => nameOf(effect))
    assert.ok(names.filter((name) => name === 'commit' || name === 'refuse').length <= 1)
    for (const once of ['send hello', 'send done', 'send confirmed', 'close']) {
      assert.ok(names.filter((name) => name === once).length <= 1, once)
    }
    if (names.includes('send done')) assert.ok(names.indexOf('send hello') < names.indexOf('send done'))
  })
})

test('in any order of events the new process takes over only after its own yes was accepted, or if the old one is gone and its keeper lets it', () => {
  forAnyOrderOfTheNew((events, effects, isHeld) => {
    const at = effects.findIndex((some) => some.some((effect) => effect.do === 'commit'))
    if (at < 0) return
    const cause = events[at]
    const before = events.slice(0, at)
    if (cause?.type === 'looked') return assert.deepEqual([cause.predecessorLives, isHeld], [false, false])
    if (cause?.type === 'release') {
      const isGone = before.some((one) => one.type === 'looked' && !one.predecessorLives)
      const said = before.findLast((one) => one.type === 'notify')
      assert.ok(isHeld && cause.mayGo && isGone && said?.type === 'notify' && said.ok)
      return assert.ok(
        effects
          .slice(0, at)
          .flat()
          .some((effect) => effect.do === 'askKeeper'),
      )
    }
    assert.ok(cause?.type === 'message' && typeof cause.message === 'object' && cause.message.type === 'accepted')
    const said = effects
      .slice(0, at)
      .flat()
      .map((effect) => nameOf(effect))
    assert.ok(said.includes('send done'))
    // The confirmation goes out before the program hears of it: it may end the process at once.
    assert.deepEqual(
      effects[at]?.map((effect) => nameOf(effect)),
      ['send confirmed', 'commit'],
    )
  })
})

function isEqual(one: unknown, other: unknown): boolean {
  try {
    assert.deepEqual(one, other)
    return true
  } catch {
    return false
  }
}
