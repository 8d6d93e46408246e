/** Service for as long as anybody deploys: `npm run soak` in short, with the same code. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { soak } from '../support/soak.ts'

test('26 upgrades under load, every third version a bad one: no request fails, no client reconnects, and the last generation has the descriptors, environment and memory of the tenth', {
  skip: process.platform !== 'linux' && 'what a process holds is read from /proc',
}, async () => {
  const result = await soak({ upgrades: 26 })
  assert.deepEqual(result.faults, [])
  assert.equal(result.upgrades, 26)
  // Of each kind one at least.
  assert.equal(Object.keys(result.badVersions).length, 12)
  assert.equal(result.failedRequests, 0)
  assert.equal(result.reconnects, 0)
  assert.deepEqual(result.late.descriptors, result.early.descriptors)
  assert.equal(result.late.generation, 27)
  assert.ok(result.connections.handedOver > 26 * 20, `${result.connections.handedOver} connections were handed over`)
})
