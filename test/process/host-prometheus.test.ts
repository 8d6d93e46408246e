/** A real Prometheus, under upgrades and crashes, with the files of examples/monitoring. */
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { Status } from '../../src/control/status.ts'
import { system } from '../../src/node/system.ts'
import { Operator, writeProgram } from '../support/command.ts'
import { freePort } from '../support/free-port.ts'
import { Lab } from '../support/lab.ts'
import { Prometheus, promtool, withPrometheus } from '../support/prometheus.ts'
import { eventually } from '../support/waiting.ts'

const folder = fileURLToPath(new URL('../../../examples/monitoring', import.meta.url))

const services = [
  { service: 'one', args: [] },
  { service: 'two', args: ['--workers', '2'] },
  { service: 'alone', args: ['--no-keep'] },
]

/** Prometheus' own steps of time, in place of those that Grafana puts in. */
function filled(query: string): string {
  return query
    .replaceAll('$__rate_interval', '10m')
    .replaceAll('$__interval', '10m')
    .replaceAll(/\$(job|service|instance)\b/g, '.*')
}

test(
  'Prometheus has no gap and no counter that goes back through a failed upgrade, 20 good ones and a crash, and each alert and each query of the dashboard works there',
  withPrometheus,
  async (context) => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    const targets: { service: string; port: number }[] = []
    for (const { service, args } of services) {
      const port = await freePort()
      writeProgram(lab, `${service}.mjs`, service)
      await operator.does(['start', `${service}.mjs`, '--admin', `${port}`, ...args])
      targets.push({ service, port })
    }
    await using prometheus = await Prometheus.start(lab, { targets, rules: join(folder, 'alerts.yml') })
    // What is counted from here on is increased while Prometheus looks.
    await eventually('the first scrapes', async () => (await prometheus.values('up == 1')).length === 15 || undefined)
    for (const { service } of services) {
      writeFileSync(lab.path(`${service}.mjs`), 'process.exit(3)')
      assert.equal((await operator.types(['upgrade', service])).code, 1)
      writeProgram(lab, `${service}.mjs`, service)
    }
    for (let upgrade = 0; upgrade < 20; upgrade++)
      for (const { service } of services) await operator.does(['upgrade', service])
    for (const service of ['one', 'two']) {
      const before = await operator.status(service)
      const { pid = 0 } = before.workers?.[0] ?? {}
      assert.ok(pid > 1)
      system.kill([pid, system.startTime(pid) ?? ''], 'SIGKILL')
      await eventually('another worker', async () => isAgain(await operator.status(service), pid) || undefined)
    }
    await eventually('the last counts', async () => {
      const restarts = await prometheus.values(
        'sum by (service) (cook_daemon_worker_restarts_total{job="cook-daemon", reason="crash"})',
      )
      return (restarts.length === 2 && restarts.every(({ value }) => value === 1)) || undefined
    })

    const counts = Object.fromEntries(
      (await prometheus.values('cook_daemon_upgrades_total{job="cook-daemon"}')).map(({ metric, value }) => [
        `${metric.service} ${metric.outcome}`,
        value,
      ]),
    )
    const expected = services.flatMap(({ service }) => [
      [`${service} succeeded`, 20],
      [`${service} failed`, 1],
    ])
    assert.deepEqual(counts, Object.fromEntries(expected))

    // As many samples as scrapes, each of them a success.
    const due = await prometheus.scrapes()
    const ups = await prometheus.values('count_over_time(up[1h])')
    const samples = ups.reduce((sum, { value }) => sum + value, 0)
    assert.ok(samples >= due, `${samples} samples of ${due} scrapes`)
    const [longest] = await prometheus.values('max(max_over_time(scrape_duration_seconds[1h]))')
    const seconds = longest?.value.toFixed(3)
    const missed = await prometheus.values('min_over_time(up[1h]) == 0')
    assert.deepEqual(missed, [], `the longest scrape took ${seconds} s`)
    context.diagnostic(`${samples} scrapes, all of them answered, the longest in ${seconds} s`)

    // Each counter is in each sample, and never goes back.
    const counters = await prometheus.values('count by (__name__) ({__name__=~"cook_daemon_.+_total"})')
    assert.equal(counters.length, 2)
    for (const name of [...counters.map(({ metric }) => metric.__name__), 'cook_daemon_ready']) {
      if (name !== 'cook_daemon_ready') {
        const resets = await prometheus.values(`resets(${name}[1h])`)
        assert.ok(resets.length > 0)
        for (const { metric, value } of resets) assert.equal(value, 0, `${name} ${JSON.stringify(metric)}`)
      }
      const gaps = `count_over_time(up[1h]) - on (job, service, probe) group_right () count_over_time(${name}[1h])`
      // One is being scraped while it is asked.
      for (const { metric, value } of await prometheus.values(gaps))
        assert.ok(Math.abs(value) <= 1, `${name} ${JSON.stringify(metric)} is missing ${value} times`)
    }

    const { groups } = (await prometheus.asks('rules')) as { groups: { rules: Rule[] }[] }
    const rules = groups.flatMap((group) => group.rules)
    assert.ok(rules.length > 8)
    for (const { name, health, lastError } of rules) assert.equal(health, 'ok', `${name}: ${lastError}`)
    await eventually('the alert', async () => {
      const alerts = await prometheus.values(
        'ALERTS{alertname="CookDaemonUpgradeFailed", job="cook-daemon", alertstate="firing"}',
      )
      return alerts.length === 3 || undefined
    })

    const { panels, annotations } = JSON.parse(readFileSync(join(folder, 'dashboard.json'), 'utf8')) as Dashboard
    const queries = [...panels.flatMap((panel) => panel.targets), ...annotations.list]
    assert.ok(queries.length > 15)
    for (const { expr } of queries)
      assert.ok((await prometheus.values(filled(expr))).length > 0, `${expr} has no answer`)
    for (const { service } of services) await operator.does(['stop', service])
  },
)

test(
  'the example configuration and its alerts are what promtool accepts, and each alert fires when it should',
  withPrometheus,
  async () => {
    await promtool(['check', 'config', 'prometheus.yml'], folder)
    await promtool(['check', 'rules', 'alerts.yml'], folder)
    assert.match(await promtool(['test', 'rules', 'alerts.test.yml'], folder), /SUCCESS/)
    const alerts = [...readFileSync(join(folder, 'alerts.yml'), 'utf8').matchAll(/- alert: (\w+)/g)]
    const tested = readFileSync(join(folder, 'alerts.test.yml'), 'utf8')
    for (const [, name] of alerts) assert.match(tested, new RegExp(`- alertname: ${name}\n`), `${name} has a test`)
  },
)

type Rule = { readonly name: string; readonly health: string; readonly lastError?: string }
type Query = { readonly expr: string }
type Dashboard = {
  readonly panels: readonly { readonly targets: readonly Query[] }[]
  readonly annotations: { readonly list: readonly Query[] }
}

function isAgain({ workers = [] }: Status, pid: number): boolean {
  const [first] = workers
  return first?.state === 'serving' && first.phase === 'ready' && first.pid !== pid
}
