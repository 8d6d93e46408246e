/** The acts of a drain, with a link on which nothing arrives. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { test } from 'node:test'
import { noCounts } from '../../src/handover/counts.ts'
import { drain } from '../../src/handover/drain.ts'
import { Mover } from '../../src/handover/mover.ts'
import { Clock } from '../../src/handover/plan.ts'
import type { Link } from '../../src/upgrade/link.ts'
import { Latch } from '../../src/waiting.ts'

test('what was on its way to a new version that is killed for its silence is told as cut, however soon its end comes', async (context) => {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const clients = Array.from({ length: 5 }, () => connect((server.address() as AddressInfo).port, '127.0.0.1'))
  for (const _ of clients) await once(server, 'connection')
  // The deadline passes as soon as two are on their way: the first of a destination.
  const clock = new Clock(600_000)
  context.after(() => {
    for (const client of clients) client.destroy()
    server.close()
    clock.stop()
  })
  let sent = 0
  const link = {
    hasRoom: (most: number) => sent < most,
    sendConnection: () => {
      if (++sent === 2) clock.deadline.set()
    },
  } as unknown as Link
  const counts = noCounts()
  const hasDrained = await drain({
    servers: [{ name: 'web', server, mover: new Mover(link, clock.endsAt), rule: true, counts, clock }],
    others: [],
    clock,
    hurry: new Latch(),
    lost: new Latch(),
    isLost: async () => false,
    canReturn: () => true,
    spares: undefined,
    untilHeard: () => new Promise(() => {}),
    // Dead before the link has told its end.
    sayBye: async () => false,
  })
  assert.equal(hasDrained, false)
  assert.deepEqual(counts, { handedOver: 0, served: 0, closed: 0, cut: 2 })
})
