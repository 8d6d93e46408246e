/** An upgrade leaves alone what V8 has optimized: clients would wait for that to be done again. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Lab } from '../support/lab.ts'
import { connectionClients } from '../support/load/connection-clients.ts'
import { keepAliveClients } from '../support/load/keep-alive-clients.ts'
import { smallOnly } from '../support/load/requests.ts'
import { upgradeBySignal } from '../support/steps.ts'
import { eventually } from '../support/waiting.ts'

/** Functions of Node that run for each request; by then each is hot. */
const hot = ['parserOnIncoming', 'resOnFinish', 'setHeader', 'nextTick', 'processTicksAndRejections', 'writeOrBuffer']
const enough = 20_000

describe('under load', { concurrency: 2 }, () => {
  for (const [what, env] of [
    ['', {}],
    [', also of one with values for its new version', { LOAD_VALUES: 'yes' }],
  ] as const) {
    test(`an upgrade throws away no optimized code of Node's HTTP${what}`, async () => {
      await using lab = await Lab.open()
      // V8 writes a line for each function whose code it throws away since something has changed.
      const old = await lab.start('load-server', { env, execArgv: ['--trace-deopt'] })
      const { port } = (await old.event('serving')) as { port: number }
      const where = { host: '127.0.0.1', port }
      await using load = keepAliveClients(where, { count: 8, weights: smallOnly })
      // The first connection of all that ends has V8 throw away some: that is no matter of upgrades.
      await using others = connectionClients(where, { count: 2 })
      await eventually(`${enough} answers`, () => load.result().answers > enough || undefined)
      const before = lab.output.length
      const { report } = await upgradeBySignal(lab, old)
      assert.ok(report.handedOver >= 8, JSON.stringify(report))
      const thrown = lab.output.slice(before).matchAll(/marking dependent code.*<SharedFunctionInfo (\w+)>/g)
      assert.deepEqual(
        [...thrown].map(([, name]) => name).filter((name) => hot.includes(name ?? '')),
        [],
      )
      for (const one of [load, others]) assert.deepEqual((await one.stop()).failures, {})
    })
  }
})
