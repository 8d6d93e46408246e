/** Whatever a client may send on a connection that has moved. */
import assert from 'node:assert/strict'
import { Duplex } from 'node:stream'
import { test } from 'node:test'
import fc from 'fast-check'
import { type SuiteName, suites } from '../../src/tls/suites.ts'
import { takesAll } from '../support/extent.ts'
import { adopt, Sealer, stateOf } from '../support/tls-relay.ts'

const names = Object.keys(suites) as SuiteName[]

/** The wire below a connection, as far as it is used: what arrives is pushed, what goes is kept. */
class Wire extends Duplex {
  readonly sent: Buffer[] = []

  override _read(): void {}

  override _write(bytes: Buffer, _encoding: unknown, done: () => void): void {
    this.sent.push(bytes)
    done()
  }

  destroySoon(): void {
    if (this.writable) this.end()
    if (this.writableFinished) this.destroy()
    else this.once('finish', () => this.destroy())
  }
}

type Step =
  | { readonly type: 'record'; readonly kind: number | undefined; readonly content: Buffer; readonly padding: number }
  | { readonly type: 'update'; readonly asks: number }
  | { readonly type: 'bytes'; readonly bytes: Buffer }

const bytes = (maxLength: number) => fc.uint8Array({ maxLength }).map((array) => Buffer.from(array))

const record: fc.Arbitrary<Step> = fc.record({
  type: fc.constant('record' as const),
  kind: fc.oneof(
    { weight: 6, arbitrary: fc.constant(23) },
    { weight: 2, arbitrary: fc.constantFrom(21, 22) },
    { weight: 1, arbitrary: fc.option(fc.integer({ min: 1, max: 255 }), { nil: undefined }) },
  ),
  content: fc.oneof(
    { weight: 12, arbitrary: bytes(40) },
    {
      weight: 1,
      arbitrary: fc
        .constantFrom([1, 0], [2, 80], [1, 90], [24, 0, 0, 1, 0], [24, 0], [0, 1, 1])
        .map((list) => Buffer.from(list)),
    },
    { weight: 1, arbitrary: fc.constantFrom(16_384, 16_385).map((length) => Buffer.alloc(length, 'l')) },
  ),
  padding: fc.oneof(fc.constant(0), fc.nat(30)),
})
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: record },
  { weight: 2, arbitrary: fc.record({ type: fc.constant('update' as const), asks: fc.nat(1) }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant('bytes' as const), bytes: bytes(60) }) },
)

/** What becomes of the bytes on their way. */
const harm = fc.oneof(
  { weight: 3, arbitrary: fc.constant(undefined) },
  { weight: 2, arbitrary: fc.record({ at: fc.nat(), byte: fc.integer({ min: 1, max: 255 }) }) },
  { weight: 1, arbitrary: fc.record({ cut: fc.nat() }) },
)

test('whatever a client sends, however it is cut: nothing but its own data arrives, then an alert and a close, or all goes back', async () => {
  // 100,000 in the matrix.
  const runs = takesAll ? 100_000 : 600
  const outcomes = new Map<string, number>()
  const isProven = fc.boolean()
  const property = fc.asyncProperty(
    fc.constantFrom(...names),
    isProven,
    fc.array(step, { minLength: 1, maxLength: 12 }),
    harm,
    fc.array(fc.integer({ min: 1, max: 400 }), { maxLength: 12 }),
    async (suite, proven, steps, harmed, cuts) => {
      const outcome = await play(suite, proven, steps, harmed, cuts)
      outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1)
    },
  )
  await fc.assert(property, { numRuns: runs })
  // The claim is empty if one of them never happens.
  for (const outcome of ['open', 'alert', 'returned', 'closed']) assert.ok(outcomes.has(outcome), outcome)
})

async function play(
  suite: SuiteName,
  isProven: boolean,
  steps: readonly Step[],
  harmed: { at: number; byte: number } | { cut: number } | undefined,
  cuts: readonly number[],
): Promise<'open' | 'alert' | 'returned' | 'closed'> {
  const state = stateOf(suite, { isProven })
  const sealer = new Sealer(suite, state.clientSecret, 6)
  const answers = new Sealer(suite, state.serverSecret, 2)
  let stream = Buffer.concat(
    steps.map((one) => {
      if (one.type === 'bytes') return one.bytes
      if (one.type === 'record') {
        // Without a type the last byte of the content would be one.
        const content = one.kind === undefined ? Buffer.alloc(one.content.length) : one.content
        return sealer.seal(one.kind, content, one.padding)
      }
      const sealed = sealer.seal(22, Buffer.from([24, 0, 0, 1, one.asks]))
      sealer.update()
      return sealed
    }),
  )
  const data = Buffer.concat(steps.flatMap((one) => (one.type === 'record' && one.kind === 23 ? [one.content] : [])))
  if (harmed !== undefined && 'at' in harmed && stream.length > 0) {
    const at = harmed.at % stream.length
    stream[at] = (stream[at] ?? 0) ^ harmed.byte
  }
  if (harmed !== undefined && 'cut' in harmed) stream = stream.subarray(0, harmed.cut % (stream.length + 1))

  const wire = new Wire({ allowHalfOpen: true })
  const { socket, told } = adopt(wire as never, state)
  const heard: Buffer[] = []
  const errors: NodeJS.ErrnoException[] = []
  socket.on('data', (chunk: Buffer) => heard.push(chunk))
  socket.on('error', (error) => errors.push(error))
  let at = 0
  for (const size of [...cuts, stream.length]) {
    if (wire.destroyed || at >= stream.length) break
    wire.push(stream.subarray(at, at + size))
    at += size
    await turn()
  }
  await turn()
  await turn()
  const arrived = Buffer.concat(heard)
  assert.ok(data.subarray(0, arrived.length).equals(arrived), 'something arrived that was not sent')
  const returned = told.filter((one) => one !== 'proven')
  const sent = Buffer.concat(wire.sent)
  assert.ok(told.length <= 1, 'the hooks are told one thing, once')
  if (returned.length > 0) {
    assert.equal(isProven, false)
    assert.equal(sent.length, 0, 'something was sent, and it was given back')
    assert.equal(arrived.length, 0)
    assert.deepEqual(returned[0], stream.subarray(0, at), 'a byte was lost')
    assert.ok(socket.destroyed && errors.length === 0)
    return 'returned'
  }
  if (errors.length > 0) {
    assert.equal(errors.length, 1)
    assert.match(errors[0]?.code ?? '', /^ERR_SSL_[A-Z0-9_]+$/)
    assert.ok(socket.destroyed)
    if (/ALERT_/.test(errors[0]?.code ?? '') && errors[0]?.code !== 'ERR_SSL_INVALID_ALERT') return 'closed'
    const { type, content } = answers.open(sent)
    assert.equal(type, 21)
    assert.equal(content[0], 2)
    return 'alert'
  }
  if (socket.readableEnded) return 'closed'
  assert.equal(socket.destroyed, false)
  assert.equal(sent.length, 0)
  socket.destroy()
  return 'open'
}

function turn(): Promise<void> {
  return new Promise((next) => setImmediate(next))
}
