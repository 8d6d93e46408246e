/** A client that breaks the rules: what becomes of it here is what becomes of it with OpenSSL. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import tls from 'node:tls'
import type { TlsState } from '../../src/tls/state.ts'
import { deferred } from '../../src/waiting.ts'
import { certificate, TlsClient, TlsRelay } from '../support/tls-relay.ts'
import { within } from '../support/waiting.ts'

const text = (word: string) => [...Buffer.from(word)]
const times = <Value>(count: number, make: () => Value) => Array.from({ length: count }, make)
const data = 23
const handshake = 22
const alert = 21

/** Each writes what it is called, and ends with something that is answered, or with a fault. */
const cases: Record<string, (client: TlsClient) => void> = {
  'plain text': (client) => client.write(Buffer.from('GET / HTTP/1.1\r\n\r\n')),
  'a record that was changed': (client) => {
    const record = client.seal(data, text('x'))
    record[6] = (record[6] ?? 0) ^ 1
    client.write(record)
  },
  'an alert without protection': (client) => client.write(Buffer.from([21, 3, 3, 0, 2, 2, 80])),
  'a ChangeCipherSpec': (client) => client.write(Buffer.from([20, 3, 3, 0, 1, 1])),
  'another protocol in the header': (client) => {
    const record = client.seal(data, text('x'))
    record[1] = 2
    client.write(record)
  },
  'another version in the header': (client) => {
    const record = client.seal(data, text('x'))
    record[2] = 4
    client.write(record)
  },
  'a header of a record that is too long': (client) => client.write(Buffer.from([23, 3, 3, 0x41, 1, 0])),
  'a record without room for a tag': (client) => client.write(Buffer.from([23, 3, 3, 0, 1, 0])),
  'an empty record without protection': (client) => client.write(Buffer.from([23, 3, 3, 0, 0])),
  'a content of 16385 bytes': (client) => client.write(client.seal(data, Buffer.alloc(16_385))),
  'a padding of the greatest length': (client) => client.write(client.seal(data, text('stop'), 16_384 - 4)),
  'padding, and nothing else': (client) => client.write(client.seal(undefined, Buffer.alloc(20))),
  'a type that is unknown': (client) => client.write(client.seal(25, [1])),
  'a protected ChangeCipherSpec': (client) => client.write(client.seal(20, [1])),
  '32 empty records': (client) =>
    client.write(...times(32, () => client.seal(data, [])), client.seal(data, text('stop'))),
  '33 empty records': (client) => client.write(...times(33, () => client.seal(data, []))),
  'an empty handshake message': (client) => client.write(client.seal(handshake, [])),
  'an empty alert': (client) => client.write(client.seal(alert, [])),
  'an alert of one byte': (client) => client.write(client.seal(alert, [2])),
  'an alert of three bytes': (client) => client.write(client.seal(alert, [2, 80, 1])),
  'the alert internal_error': (client) => client.write(client.seal(alert, [2, 80])),
  'the alert bad_certificate': (client) => client.write(client.seal(alert, [2, 42])),
  'the alert handshake_failure as a warning': (client) => client.write(client.seal(alert, [1, 40])),
  'four times user_canceled': (client) =>
    client.write(...times(4, () => client.seal(alert, [1, 90])), client.seal(data, text('stop'))),
  'five times user_canceled': (client) => client.write(...times(5, () => client.seal(alert, [1, 90]))),
  close_notify: (client) => client.write(client.seal(alert, [1, 0])),
  'close_notify as if it were fatal': (client) => client.write(client.seal(alert, [2, 0])),
  'data behind close_notify': (client) => client.write(client.seal(alert, [1, 0]), client.seal(data, text('late'))),
  'the end of the connection': (client) => client.end(),
  'the end of the connection in the middle of a record': (client) => {
    client.write(client.seal(data, text('first')), client.seal(data, text('half')).subarray(0, 9))
    client.end()
  },
  'a Finished': (client) => client.write(client.seal(handshake, [20, 0, 0, 0])),
  'a ClientHello': (client) => client.write(client.seal(handshake, [1, 0, 0, 1, 0])),
  'a Certificate': (client) => client.write(client.seal(handshake, [11, 0, 0, 1, 0])),
  'a KeyUpdate without a word': (client) => client.write(client.seal(handshake, [24, 0, 0, 0])),
  'a KeyUpdate of two bytes': (client) => client.write(client.seal(handshake, [24, 0, 0, 2, 0, 0])),
  'a KeyUpdate of 16 MiB': (client) => client.write(client.seal(handshake, [24, 255, 255, 255])),
  'a KeyUpdate that asks for the unknown': (client) => client.write(client.seal(handshake, [24, 0, 0, 1, 2])),
  'two KeyUpdates in a record': (client) => client.write(client.seal(handshake, [24, 0, 0, 1, 0, 24, 0, 0, 1, 0])),
  'a KeyUpdate and a byte': (client) => client.write(client.seal(handshake, [24, 0, 0, 1, 0, 24])),
  'data in the header of a KeyUpdate': (client) =>
    client.write(client.seal(handshake, [24, 0, 0]), client.seal(data, text('x'))),
  'data in the middle of a KeyUpdate': (client) =>
    client.write(client.seal(handshake, [24, 0, 0, 1]), client.seal(data, text('x'))),
  'an alert in the middle of a KeyUpdate': (client) =>
    client.write(client.seal(handshake, [24, 0, 0]), client.seal(alert, [1, 0])),
}

/** What OpenSSL 3.0 calls a wrong version first of all. */
const changed = ['plain text', 'another protocol in the header']
const isOld = process.versions.openssl.startsWith('3.0.')

type Seen = { readonly server: string; readonly client: string | undefined }

test('a client that breaks the rules gets the alert, and the program the error, that OpenSSL gives', async (t) => {
  // What does not fit goes back, as long as nothing has: that is another test's.
  const change = (state: TlsState) => ({ ...state, isProven: true })
  await using relay = new TlsRelay(({ socket }) => onSocket?.(socket as unknown as tls.TLSSocket), { change })
  const native = tls.createServer(certificate, (socket) => onSocket?.(socket))
  let onSocket: ((socket: tls.TLSSocket) => void) | undefined
  await once(native.listen(0, '127.0.0.1'), 'listening')
  const nativePort = (native.address() as AddressInfo).port
  const port = await relay.listen()

  async function see(to: number, act: (client: TlsClient) => void): Promise<Seen> {
    const begun = deferred()
    const over = new Promise<string>((resolve) => {
      onSocket = (socket) => {
        begun.resolve()
        let heard = ''
        socket.on('data', (bytes: Buffer) => {
          heard += bytes
          // In how many pieces it arrives is nobody's business.
          if (heard.endsWith('stop')) resolve(heard)
        })
        socket.on('error', ({ code }: NodeJS.ErrnoException) => resolve(`error ${normal(code)}`))
        socket.on('end', () => resolve(`end ${heard}`))
      }
    })
    using client = await TlsClient.connect(to)
    let alerted: string | undefined
    const told = new Promise<void>((resolve) => {
      client.socket.on('error', ({ code }: NodeJS.ErrnoException) => {
        alerted = normal(code)
        resolve()
      })
      client.socket.on('close', resolve)
    })
    await within('the connection', begun.promise)
    act(client)
    const server = await within('the end of the case', over)
    // Whoever caused it is told, unless they were the one who told it.
    if (/^error (?!ALERT_|ECONN)/.test(server)) await within('the alert', told)
    return { server, client: alerted }
  }

  try {
    for (const [name, act] of Object.entries(cases)) {
      // Ours are those of the newer ones.
      const skip = isOld && changed.includes(name) && 'this OpenSSL is 3.0'
      await t.test(name, { skip }, async () => {
        const asOpenSsl = await see(nativePort, act)
        const ours = await see(port, act)
        assert.equal(ours.client, asOpenSsl.client)
        assert.equal(ours.server, asOpenSsl.server)
      })
    }
  } finally {
    native.close()
  }
})

/** The reason alone: its first part differs from OpenSSL to OpenSSL. */
function normal(code = ''): string {
  return code.replace(/^ERR_SSL_/, '').replace(/^(SSLV3|TLSV1|SSL\/TLS)_ALERT_/, 'ALERT_')
}
