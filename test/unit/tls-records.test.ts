/** Keys and records of TLS 1.3, held to the published examples and to a second implementation. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import { contentType, Direction } from '../../src/tls/records.ts'
import { nextSecret, type SuiteName, suites, trafficIv, trafficKey, whyUnavailable } from '../../src/tls/suites.ts'
import { takesAll } from '../support/extent.ts'
import { countRecords, Sealer } from '../support/tls-relay.ts'

const names = Object.keys(suites) as SuiteName[]
const aes128 = suites.TLS_AES_128_GCM_SHA256
const hex = (text: string) => Buffer.from(text.replaceAll(' ', ''), 'hex')

/** RFC 8448, section 3: secrets of the application data, and what was sealed with them. */
const client = {
  secret: hex('9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5'),
  key: hex('17422dda596ed5d9acd890e3c63f5051'),
  iv: hex('5b78923dee08579033e523d9'),
  data: hex(
    '1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819a8a5b46b395bd54a9a20441e2b62974e1f5a' +
      '6292a2977014bd1e3deae63aeebb21694915e4',
  ),
  closeNotify: hex('1703030013c9872760655666b74d7ff1153efd6db6d0b0e3'),
}
const server = {
  secret: hex('a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643'),
  key: hex('9f02283b6c9c07efc26bb9f2ac92e356'),
  iv: hex('cf782b88dd83549aadf1e984'),
  /** The second record: a ticket was the first. */
  data: hex(
    '17030300432e937e11ef4ac740e538ad36005fc4a46932fc3225d05f82aa1b36e30efaf97d90e6dffc602dcb501a59a8fcc49c4bf2' +
      'e5f0a21c0047c2abf332540dd032e167c2955d',
  ),
  closeNotify: hex('1703030013b58fd67166ebf599d24720cfbe7efa7a8864a9'),
}
const data = Buffer.from(Array.from({ length: 50 }, (_, at) => at))
const closeNotify = Buffer.from([1, 0])

function direction(suite: SuiteName, secret: Buffer, number = 0): Direction {
  return new Direction(suites[suite], Buffer.from(secret), number)
}

test('keys, nonces and records are those of RFC 8448', () => {
  assert.equal(whyUnavailable(), undefined)
  for (const side of [client, server]) {
    assert.deepEqual(trafficKey(aes128, side.secret).export(), side.key)
    assert.deepEqual(trafficIv(aes128, side.secret), side.iv)
  }
  const fromClient = direction('TLS_AES_128_GCM_SHA256', client.secret)
  assert.deepEqual(fromClient.seal(contentType.data, [data], 16_384), client.data)
  assert.deepEqual(fromClient.seal(contentType.alert, [closeNotify], 16_384), client.closeNotify)
  const fromServer = direction('TLS_AES_128_GCM_SHA256', server.secret, 1)
  assert.deepEqual(fromServer.open(server.data), Buffer.concat([data, Buffer.from([23])]))
  assert.deepEqual(fromServer.open(server.closeNotify), Buffer.from([1, 0, 21]))
  assert.equal(fromServer.number, 3)
})

test('what is sealed opens by the RFC, in each suite, at every number and length, and over KeyUpdates', () => {
  const chunks = fc.array(
    fc.uint8Array({ maxLength: 2_000 }).map((bytes) => Buffer.from(bytes)),
    { maxLength: 5 },
  )
  fc.assert(
    fc.property(
      fc.constantFrom(...names),
      fc.oneof(fc.nat(1_000), fc.integer({ min: 2 ** 32 - 3, max: 2 ** 32 + 3 }), fc.nat(2 ** 50)),
      chunks,
      fc.integer({ min: 64, max: 16_384 }),
      (suite, number, content, longest) => {
        const secret = randomBytes(suites[suite].secretLength)
        const ours = direction(suite, secret, number)
        const sealer = new Sealer(suite, secret, number)
        const opened = (sealed: Buffer) => {
          const parts: Buffer[] = []
          for (let at = 0; at < sealed.length; ) {
            const end = at + 5 + sealed.readUInt16BE(at + 3)
            const { type, content } = sealer.open(sealed.subarray(at, end))
            assert.equal(type, 23)
            assert.ok(content.length <= longest && content.length > 0)
            parts.push(content)
            at = end
          }
          return Buffer.concat(parts)
        }
        const whole = Buffer.concat(content)
        const sealed = ours.seal(contentType.data, content, longest)
        assert.equal(ours.number, number + countRecords(sealed))
        assert.equal(countRecords(sealed), Math.ceil(whole.length / longest))
        assert.deepEqual(opened(sealed), whole)
        ours.update()
        sealer.update()
        assert.equal(ours.number, 0)
        assert.deepEqual(ours.copySecret(), nextSecret(suites[suite], secret))
        assert.deepEqual(opened(ours.seal(contentType.data, content, longest)), whole)
      },
    ),
    { numRuns: takesAll ? 5_000 : 300 },
  )
})

test('a record opens with its own number, key and bytes only', () => {
  for (const suite of names) {
    const secret = randomBytes(suites[suite].secretLength)
    const record = new Sealer(suite, secret, 5).seal(23, Buffer.from('secret'))
    const reader = direction(suite, secret, 5)
    for (const number of [0, 4, 6, 2 ** 32 + 5, 5 + 2 ** 40]) assert.equal(reader.open(record, number), undefined)
    for (let at = 0; at < record.length; at++) {
      const changed = Buffer.from(record)
      changed[at] = (changed[at] ?? 0) ^ 1
      assert.equal(reader.open(changed), undefined)
    }
    for (let length = 0; length < record.length; length++)
      assert.equal(reader.open(record.subarray(0, length)), undefined)
    assert.equal(direction(suite, randomBytes(secret.length), 5).open(record), undefined)
    assert.equal(reader.number, 5)
    assert.equal(reader.open(record)?.toString(), 'secret\x17')
  }
})

test('a direction that was wiped seals and opens nothing, and its secret is gone', () => {
  const secret = randomBytes(32)
  const own = Buffer.from(secret)
  const record = new Sealer('TLS_AES_128_GCM_SHA256', secret).seal(23, data)
  const wiped = new Direction(aes128, own, 0)
  wiped.wipe()
  assert.ok(own.every((byte) => byte === 0))
  assert.equal(wiped.open(record), undefined)
  assert.throws(() => wiped.seal(contentType.data, [data], 100), /wiped/)
})
