/** Counters of a service, which Prometheus takes for a restart if they go back. */
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { Status } from '../../src/control/status.ts'
import { system } from '../../src/node/system.ts'
import { ask } from '../support/admin.ts'
import { Operator, writeProgram } from '../support/command.ts'
import { readExposition } from '../support/exposition.ts'
import { takesAll } from '../support/extent.ts'
import { freePort } from '../support/free-port.ts'
import { Lab } from '../support/lab.ts'
import { eventually } from '../support/waiting.ts'

const root = fileURLToPath(new URL('../../..', import.meta.url))
const page = join(root, 'docs/monitoring.md')
const examples = join(root, 'examples/monitoring')

/** Reads all counters again and again. */
class Reader {
  readonly faults = new Set<string>()
  readonly counters = new Map<string, number>()
  answers = 0
  #isOver = false
  readonly #reading: Promise<void>

  constructor(port: number) {
    this.#reading = this.#read(port)
  }

  async #read(port: number): Promise<void> {
    while (!this.#isOver) {
      const answer = await ask(port, '/metrics').catch((error: unknown) => String(error))
      if (typeof answer === 'string') {
        this.faults.add(answer)
        continue
      }
      const { body } = answer
      const there = new Set<string>()
      for (const [name, { type, samples }] of readExposition(body)) {
        if (type !== 'counter') continue
        for (const [labels, value] of samples) {
          const key = `${name} ${labels}`
          const before = this.counters.get(key) ?? 0
          if (value < before) this.faults.add(`${key} went back from ${before} to ${value}`)
          this.counters.set(key, value)
          there.add(key)
        }
      }
      for (const key of this.counters.keys()) if (!there.has(key)) this.faults.add(`${key} is gone`)
      this.answers++
      await new Promise((done) => setTimeout(done, 5))
    }
  }

  upgrades(outcome: string): number | undefined {
    return this.counters.get(`cook_daemon_upgrades_total ${JSON.stringify({ outcome })}`)
  }

  crashes(slot: number): number | undefined {
    return this.counters.get(
      `cook_daemon_worker_restarts_total ${JSON.stringify({ slot: String(slot), reason: 'crash' })}`,
    )
  }

  async stop(): Promise<readonly string[]> {
    this.#isOver = true
    await this.#reading
    return [...this.faults]
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
  }
}

/** The pid of the worker of a slot that serves. */
function workerOf(status: Status, slot: number): number {
  const { pid = 0, state } = status.workers?.find((one) => one.slot === slot) ?? {}
  assert.equal(state, 'serving')
  assert.ok(pid > 1)
  return pid
}

describe('counters', { concurrency: 2 }, () => {
  for (const { how, args } of [
    ...(takesAll ? [{ how: 'one worker', args: [] }] : []),
    { how: 'two workers', args: ['--workers', '2'] },
  ]) {
    test(`no counter goes back or is gone through upgrades, one that fails and a crash of ${how}, and the page names all metrics`, async () => {
      await using lab = await Lab.open()
      await using operator = new Operator(lab)
      writeProgram(lab, 'app.mjs', 'one')
      const port = await freePort()
      await operator.does(['start', 'app.mjs', '--admin', `${port}`, ...args])
      await using reader = new Reader(port)
      for (let upgrade = 0; upgrade < 2; upgrade++) await operator.does(['upgrade', 'app'])
      writeFileSync(lab.path('app.mjs'), 'process.exit(3)')
      assert.equal((await operator.types(['upgrade', 'app'])).code, 1)
      writeProgram(lab, 'app.mjs', 'one')
      const pid = workerOf(await operator.status('app'), 0)
      system.kill([pid, system.startTime(pid) ?? ''], 'SIGKILL')
      await eventually('another worker', async () => {
        const worker = (await operator.status('app')).workers?.[0]
        return (worker?.state === 'serving' && worker.phase === 'ready' && worker.pid !== pid) || undefined
      })
      await eventually(
        () => `that it is counted: ${[...reader.counters]}, ${[...reader.faults]}`,
        () => reader.crashes(0) === 1 || undefined,
      )
      await operator.does(['upgrade', 'app'])
      await eventually('the last upgrade', () => reader.upgrades('succeeded') === 3 || undefined)
      assert.equal(reader.upgrades('failed'), 1)
      assert.deepEqual(await reader.stop(), [])
      const families = readExposition((await ask(port, '/metrics')).body)
      assert.deepEqual([...(families.get('cook_daemon_ready')?.samples.values() ?? [])], [1])
      assert.deepEqual([...(families.get('cook_daemon_release_went_back')?.samples.values() ?? [])], [0])
      const [exit = ''] = families.get('cook_daemon_worker_last_exit_timestamp_seconds')?.samples.keys() ?? []
      assert.deepEqual(JSON.parse(exit), { slot: '0', code: '', signal: 'SIGKILL' })
      // What is written of metrics is what there is.
      const rows = [...readFileSync(page, 'utf8').matchAll(/^\| `(\w+)` +\| (?:gauge|counter) /gm)]
      const known = rows.map(([, name]) => `cook_daemon_${name}`)
      assert.deepEqual([...families.keys()].sort(), known.sort())
      for (const file of ['alerts.yml', 'alerts.test.yml', 'dashboard.json']) {
        const used = readFileSync(join(examples, file), 'utf8').match(/\bcook_daemon_\w+/g) ?? []
        assert.deepEqual(
          used.filter((name) => !families.has(name)),
          [],
          file,
        )
      }
      await operator.does(['stop'])
    })
  }
})
