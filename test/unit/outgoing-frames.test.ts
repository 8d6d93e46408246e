/** A close frame goes between two messages of a WebSocket, however the program writes them. */
import assert from 'node:assert/strict'
import { Duplex } from 'node:stream'
import { test } from 'node:test'
import fc from 'fast-check'
import { OutgoingFrames } from '../../src/preload/outgoing-frames.ts'

const opening = Buffer.from('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n')
const closeFrame = Buffer.from([0x88, 2, 0x03, 0xf4])

const payload = fc.oneof(fc.integer({ max: 200, min: 0 }), fc.constantFrom(125, 126, 65_535, 65_536))
const ping = fc.integer({ max: 125, min: 0 }).map((length) => frame(0x89, length))
/** A message in frames, with pings between them. */
const message = fc.array(fc.tuple(payload, fc.option(ping)), { minLength: 1, maxLength: 4 }).map((parts) =>
  Buffer.concat(
    parts.flatMap(([length, between], index) => {
      const isLast = index === parts.length - 1
      const own = frame((isLast ? 0x80 : 0) | (index === 0 ? 2 : 0), length)
      return between === null || isLast ? [own] : [own, between]
    }),
  ),
)
const conversation = fc.record({
  messages: fc.array(fc.oneof(message, ping), { maxLength: 6 }),
  /** Where the program's writes end, as parts of the whole, and before which one the close is asked for. */
  cuts: fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 12 }),
  askedAt: fc.nat({ max: 14 }),
  kind: fc.constantFrom('buffer', 'array', 'text'),
})

test('a close frame never stands within a message or before the answer to the handshake, and nothing follows it', () => {
  fc.assert(
    fc.property(conversation, ({ messages, cuts, askedAt, kind }) => {
      const whole = Buffer.concat([opening, ...messages])
      const ends = messages.map((_, index) => Buffer.concat([opening, ...messages.slice(0, index + 1)]).length)
      const writes = piecesOf(whole, cuts)
      const { frames, socket, sent } = conversationOn()
      let written = 0
      let asked: number | undefined
      for (const [index, piece] of [...writes, undefined].entries()) {
        if (index === Math.min(askedAt, writes.length)) {
          asked = written
          frames.close(() => closeFrame)
        }
        if (piece === undefined) continue
        written += piece.length
        if (kind === 'buffer') socket.write(piece)
        else if (kind === 'array') socket.write(new Uint8Array(piece))
        else socket.write(piece.toString('latin1'), 'latin1')
      }
      const place = [opening.length, ...ends].find((end) => end >= (asked ?? 0))
      assert.deepEqual(Buffer.concat(sent), Buffer.concat([whole.subarray(0, place), closeFrame]))
    }),
  )
})

test('a close that is not wanted any more is not sent, and the program goes on', () => {
  const { frames, socket, sent } = conversationOn()
  socket.write(opening)
  const text = frame(0x81, 300)
  socket.write(text.subarray(0, 100))
  frames.close(() => closeFrame)
  frames.keepOpen()
  socket.write(text.subarray(100))
  frames.close(() => undefined)
  socket.write(text)
  assert.deepEqual(Buffer.concat(sent), Buffer.concat([opening, text, text]))
})

const others: Readonly<Record<string, string>> = {
  'an answer that turns the handshake down': 'HTTP/1.1 401 No\r\nSec-WebSocket-Accept: x\r\n\r\n',
  'another protocol': 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: tcp\r\n\r\n',
  'bytes without an answer': `${'x'.repeat(70_000)}\r\n\r\n`,
  'frames of a client': `${opening}\x82\x80mask`,
  'frames that no version has': `${opening}\x83\x00`,
  'a close frame of the program': `${opening}\x88\x00`,
}
for (const [what, bytes] of Object.entries(others)) {
  test(`${what}: nothing is put behind it`, () => {
    const { frames, socket, sent } = conversationOn()
    socket.write(bytes, 'latin1')
    frames.close(() => closeFrame)
    socket.write('more')
    assert.equal(Buffer.concat(sent).toString('latin1'), `${bytes}more`)
  })
}

test('what a program writes behind the close frame counts as written: it waits for that', async () => {
  const { frames, socket } = conversationOn()
  socket.write(opening)
  frames.close(() => closeFrame)
  await new Promise((written) => socket.write('more', written))
  await new Promise((written) => socket.write('more', 'utf8', written))
})

function frame(first: number, length: number): Buffer {
  const long = Buffer.alloc(10)
  long.writeBigUInt64BE(BigInt(length), 2)
  long[1] = length < 126 ? length : length < 65_536 ? 126 : 127
  const head =
    length < 126 ? long.subarray(0, 2) : Buffer.concat([long.subarray(0, 2), long.subarray(length < 65_536 ? 8 : 2)])
  head[0] = first
  return Buffer.concat([head, Buffer.alloc(length, 'payload')])
}

function piecesOf(whole: Buffer, cuts: readonly number[]): Buffer[] {
  const places = [0, ...cuts.map((cut) => Math.round(cut * whole.length)), whole.length].sort((a, b) => a - b)
  return places.slice(1).map((end, index) => whole.subarray(places[index], end))
}

function conversationOn() {
  const sent: Buffer[] = []
  const socket = new Duplex({
    read() {},
    write(chunk, _encoding, done) {
      sent.push(chunk)
      done()
    },
  })
  return { frames: new OutgoingFrames(socket), socket, sent }
}
