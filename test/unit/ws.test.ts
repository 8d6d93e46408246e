/** What handOverWebSockets() says to a ws that it does not know. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { WebSocket, WebSocketServer } from 'ws'
import { WsInside } from '../../src/ws/private.ts'

test('the ws that is installed has every private part that we touch', () => {
  const server = new WebSocketServer({ noServer: true })
  assert.ok(new WsInside(server))
  assert.equal(server.clients.size, 0, 'the look leaves nothing behind')
})

test('a ws that is built otherwise is told by its missing part, before anything moves', () => {
  class OtherWebSocket extends WebSocket {
    setSocket(): void {}
  }
  const server = new WebSocketServer({ noServer: true, WebSocket: OtherWebSocket })
  assert.throws(() => new WsInside(server), { code: 'ERR_COOK_WS' })
  assert.throws(() => new WsInside({} as WebSocketServer), { code: 'ERR_COOK_WS' })
})
