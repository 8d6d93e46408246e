/** The chat of examples/websocket-chat goes on through upgrades. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test } from 'node:test'
import { WebSocket } from 'ws'
import { Example } from '../support/example.ts'
import { eventually, within } from '../support/waiting.ts'

test('examples/websocket-chat: names and rooms live through upgrades, and nobody leaves', async () => {
  await using example = await Example.start('websocket-chat')
  const ann = await Guest.enter(example.port, '/lobby?name=ann')
  await ann.hears('welcome to lobby, ann')
  const bob = await Guest.enter(example.port, '/lobby?name=bob')
  await bob.hears('welcome to lobby, bob')
  await ann.hears('bob has come')
  ann.says('/name anna')
  ann.says('one')
  await bob.hears('anna: one')
  await example.upgrade()
  bob.says('two')
  await ann.hears('bob: two')
  ann.says('three')
  await bob.hears('anna: three')
  bob.says('/join attic')
  bob.says('four')
  await bob.hears('bob: four')
  await example.upgrade()
  ann.says('five')
  await ann.hears('anna: five')
  const carl = await Guest.enter(example.port, '/attic?name=carl')
  await bob.hears('carl has come')
  carl.socket.close()
  await bob.hears('carl has left')
  assert.deepEqual(ann.heard, [
    'welcome to lobby, ann',
    'bob has come',
    'anna: one',
    'bob: two',
    'anna: three',
    'anna: five',
  ])
  const closes = Promise.all([ann, bob].map(({ socket }) => once(socket, 'close')))
  assert.deepEqual(await example.stop(), [0, 0, 0])
  assert.deepEqual(
    (await closes).map(([code]) => code),
    [1001, 1001],
  )
})

class Guest {
  readonly socket: WebSocket
  readonly heard: string[] = []

  private constructor(socket: WebSocket) {
    this.socket = socket
    socket.on('message', (text) => this.heard.push(String(text)))
  }

  static async enter(port: number, path: string): Promise<Guest> {
    const guest = new Guest(new WebSocket(`ws://localhost:${port}${path}`))
    await within('a WebSocket', once(guest.socket, 'open'))
    return guest
  }

  says(text: string): void {
    this.socket.send(text)
  }

  async hears(text: string): Promise<void> {
    await eventually(text, () => this.heard.includes(text) || undefined)
  }
}
