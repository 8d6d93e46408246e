/** The state of a TLS connection on its way to another process. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import { decodeTlsState, encodeTlsState, type TlsState, wipe } from '../../src/tls/state.ts'
import { type SuiteName, suites } from '../../src/tls/suites.ts'
import { takesAll } from '../support/extent.ts'

const bytes = (maxLength: number, minLength = 0) =>
  fc.uint8Array({ minLength, maxLength }).map((array) => Buffer.from(array))
const text = fc.string({ maxLength: 60 })

const state: fc.Arbitrary<TlsState> = fc.constantFrom(...(Object.keys(suites) as SuiteName[])).chain((suite) => {
  const secret = bytes(suites[suite].secretLength, suites[suite].secretLength)
  return fc.record({
    suite: fc.constant(suite),
    clientSecret: secret,
    serverSecret: secret,
    sendNumber: fc.maxSafeNat(),
    receiveNumbers: fc.array(fc.maxSafeNat(), { minLength: 1, maxLength: 64 }),
    isProven: fc.boolean(),
    longestRecord: fc.integer({ min: 64, max: 16_384 }),
    unread: bytes(300),
    emptyRecords: fc.nat(255),
    warnings: fc.nat(255),
    owesKeyUpdate: fc.boolean(),
    servername: fc.oneof(fc.constant<false>(false), text),
    alpnProtocol: fc.oneof(fc.constant<false>(false), text),
    authorized: fc.boolean(),
    authorizationError: fc.option(text, { nil: undefined }),
    peerCertificate: fc.option(bytes(200, 1), { nil: undefined }),
    isSessionReused: fc.boolean(),
    movedAt: fc.maxSafeNat(),
  })
})

const example: TlsState = {
  suite: 'TLS_AES_128_GCM_SHA256',
  clientSecret: randomBytes(32),
  serverSecret: randomBytes(32),
  sendNumber: 7,
  receiveNumbers: [3, 4],
  isProven: false,
  longestRecord: 16_384,
  unread: Buffer.from('half a record'),
  emptyRecords: 0,
  warnings: 0,
  owesKeyUpdate: false,
  servername: 'localhost',
  alpnProtocol: 'http/1.1',
  authorized: false,
  authorizationError: 'SELF_SIGNED',
  peerCertificate: randomBytes(500),
  isSessionReused: true,
  movedAt: 1_800_000_000_000,
}

const times = { numRuns: takesAll ? 20_000 : 300 }

test('every state of a TLS connection arrives as it was', () => {
  fc.assert(
    fc.property(state, (one) => assert.deepEqual(decodeTlsState(encodeTlsState(one)), { ...one })),
    times,
  )
})

test('bytes that are no state, cut, changed or more than one, are refused without an error', () => {
  const encoded = encodeTlsState(example)
  for (let length = 0; length < encoded.length; length++)
    assert.equal(decodeTlsState(encoded.subarray(0, length)), undefined)
  assert.equal(decodeTlsState(Buffer.concat([encoded, Buffer.alloc(1)])), undefined)
  fc.assert(
    fc.property(bytes(400), fc.nat(encoded.length - 1), fc.nat(255), (garbage, at, byte) => {
      decodeTlsState(garbage)
      const changed = Buffer.from(encoded)
      changed[at] = byte
      // Whatever is read has its sizes.
      const read = decodeTlsState(changed)
      if (read === undefined) return
      const { secretLength } = suites[read.suite]
      assert.equal(read.clientSecret.length, secretLength)
      assert.equal(read.serverSecret.length, secretLength)
      assert.ok(read.longestRecord >= 64 && read.longestRecord <= 16_384)
      assert.ok(read.receiveNumbers.length > 0 && read.receiveNumbers.every(Number.isSafeInteger))
    }),
    times,
  )
})

test('lengths that promise more than there is cost nothing', () => {
  const encoded = encodeTlsState(example)
  // Of the first secret, behind the numbers.
  encoded.writeUInt32BE(0xffffffff, 25 + 16)
  assert.equal(decodeTlsState(encoded), undefined)
  assert.equal(decodeTlsState(Buffer.alloc(2 ** 20, 1)), undefined)
})

test('a state that was read shares no memory with the message, and can be wiped', () => {
  const encoded = encodeTlsState(example)
  const read = decodeTlsState(encoded)
  assert.ok(read)
  encoded.fill(0)
  assert.deepEqual(read, example)
  wipe(read)
  assert.ok([...read.clientSecret, ...read.serverSecret].every((byte) => byte === 0))
})
