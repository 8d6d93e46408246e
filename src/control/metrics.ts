/** What a daemon shows of itself for Prometheus. */
import type { GenerationRecord } from '../contract/messages.ts'
import { phases } from '../contract/phase.ts'
import type { Status, WorkerStatus } from './status.ts'

/** Prometheus' text format, version 0.0.4. */
export function metricsText(status: Status): string {
  const { upgrades, lastUpgrade, generations } = status
  const lines: string[] = []
  const metric = (name: string, type: 'gauge' | 'counter', help: string, samples: readonly Sample[]) => {
    if (samples.length === 0) return
    lines.push(`# HELP cook_daemon_${name} ${help}`, `# TYPE cook_daemon_${name} ${type}`)
    for (const [value, labels = {}] of samples) lines.push(`cook_daemon_${name}${labelsText(labels)} ${value}`)
  }
  const { name, version, node, pid, memory } = status
  metric('info', 'gauge', 'What runs.', [[1, { name, version, node, pid: String(pid) }]])
  metric('ready', 'gauge', '1 if new clients may be sent here, as /readyz says.', [[status.ready ? 1 : 0]])
  metric('generation', 'gauge', '1 for the first start, one more for each successor.', [[status.generation]])
  metric(
    'phase',
    'gauge',
    'Where the daemon is in its life: 1 for that phase.',
    phases.map((phase) => [phase === status.phase ? 1 : 0, { phase }]),
  )
  metric('start_time_seconds', 'gauge', 'When this process started, since the epoch.', [
    [Date.parse(status.startedAt) / 1000],
  ])
  metric('upgrades_total', 'counter', 'Upgrades since the first start, by outcome.', [
    [upgrades.succeeded, { outcome: 'succeeded' }],
    [upgrades.failed, { outcome: 'failed' }],
  ])
  metric(
    'last_upgrade_seconds',
    'gauge',
    'From the start of the last upgrade to its commit or failure.',
    lastUpgrade === undefined ? [] : [[lastUpgrade.seconds, { outcome: lastUpgrade.outcome }]],
  )
  metric(
    'last_upgrade_timestamp_seconds',
    'gauge',
    'When the last upgrade ended, since the epoch.',
    lastUpgrade === undefined ? [] : [[lastUpgrade.at / 1000]],
  )
  metric(
    'last_upgrade_connections',
    'gauge',
    'What became of the connections of the old version, once it has drained.',
    Object.entries(lastUpgrade?.connections ?? {}).map(([fate, count]) => [count, { fate: snakeCase(fate) }]),
  )
  metric(
    'last_upgrade_drain_seconds',
    'gauge',
    'From the commit until the drain of the old version came to each of its points.',
    Object.entries(lastUpgrade?.drain ?? {}).map(([point, ms = 0]) => [ms / 1000, { point: snakeCase(point) }]),
  )
  metric(
    'connections',
    'gauge',
    'Connections that are open, by listener.',
    status.listeners.map(({ name: listener, connections }) => [connections, { listener }]),
  )
  metric(
    'generation_connections',
    'gauge',
    'Connections that are open, by generation: those that drain too.',
    generations.map((one) => [one.connections, labelsOf(one)]),
  )
  metric(
    'resident_memory_bytes',
    'gauge',
    'Resident memory, by generation.',
    generations.map((one) => [one.memory, labelsOf(one)]),
  )
  const workers = status.workers ?? []
  const bySlot = (of: (worker: WorkerStatus) => number) =>
    workers.map((worker): Sample => [of(worker), { slot: String(worker.slot) }])
  metric(
    'worker_up',
    'gauge',
    '1 for a worker that serves.',
    bySlot(({ state }) => (state === 'serving' ? 1 : 0)),
  )
  metric(
    'worker_connections',
    'gauge',
    'Connections that are open, by worker.',
    bySlot(({ connections }) => connections),
  )
  metric(
    'worker_resident_memory_bytes',
    'gauge',
    'Resident memory, by worker.',
    bySlot(({ memory: bytes }) => bytes),
  )
  metric(
    'worker_restarts_total',
    'counter',
    'How often the keeper has started a worker again, by reason.',
    workers.flatMap(({ slot, restarts }) =>
      Object.entries(restarts).map(([reason, times]): Sample => [times, { slot: String(slot), reason }]),
    ),
  )
  metric(
    'worker_last_exit_timestamp_seconds',
    'gauge',
    'When a worker ended last that was not replaced, since the epoch, by how.',
    workers.flatMap(({ slot, lastExit }): Sample[] => {
      if (lastExit === undefined) return []
      const how = { code: String(lastExit.code ?? ''), signal: lastExit.signal ?? '' }
      return [[lastExit.at / 1000, { slot: String(slot), ...how }]]
    }),
  )
  metric(
    'release_went_back',
    'gauge',
    '1 while an old release serves, since the last one crashed again and again.',
    status.release === undefined ? [] : [[status.release.wentBack ? 1 : 0]],
  )
  metric(
    'keeper_resident_memory_bytes',
    'gauge',
    'Resident memory of the keeper.',
    status.keeper === undefined ? [] : [[status.keeper.memory]],
  )
  metric('warnings', 'gauge', 'Warnings that status shows.', [[status.warnings?.length ?? 0]])
  metric('heap_used_bytes', 'gauge', 'Memory of live JavaScript objects.', [[memory.heapUsed]])
  return `${lines.join('\n')}\n`
}

/** Workers side by side have generations of the same number. */
function labelsOf({ generation, slot }: GenerationRecord): Readonly<Record<string, string>> {
  return { generation: String(generation), ...(slot !== undefined && { slot: String(slot) }) }
}

type Sample = readonly [value: number, labels?: Readonly<Record<string, string>>]

function labelsText(labels: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escaped(value)}"`)
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`
}

function escaped(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')
}

function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
}
