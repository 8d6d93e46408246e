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
  metric('info', 'gauge', 'Name, version, Node and pid of the service.', [
    [1, { name, version, node, pid: String(pid) }],
  ])
  metric('ready', 'gauge', '1 if new clients may be sent here (same as /readyz).', [[status.ready ? 1 : 0]])
  metric('generation', 'gauge', 'Generation that serves: 1 for the first start, one more for each upgrade.', [
    [status.generation],
  ])
  metric(
    'phase',
    'gauge',
    'Phase of the service: 1 for the current one.',
    phases.map((phase) => [phase === status.phase ? 1 : 0, { phase }]),
  )
  metric('start_time_seconds', 'gauge', 'Start time of this process, in seconds since the epoch.', [
    [Date.parse(status.startedAt) / 1000],
  ])
  metric('upgrades_total', 'counter', 'Upgrades since the first start, by outcome.', [
    [upgrades.succeeded, { outcome: 'succeeded' }],
    [upgrades.failed, { outcome: 'failed' }],
  ])
  metric(
    'last_upgrade_seconds',
    'gauge',
    'Time from the start of the last upgrade to its commit or failure, in seconds.',
    lastUpgrade === undefined ? [] : [[lastUpgrade.seconds, { outcome: lastUpgrade.outcome }]],
  )
  metric(
    'last_upgrade_timestamp_seconds',
    'gauge',
    'End of the last upgrade, in seconds since the epoch.',
    lastUpgrade === undefined ? [] : [[lastUpgrade.at / 1000]],
  )
  metric(
    'last_upgrade_connections',
    'gauge',
    'Connections of the old version at its last drain, by outcome.',
    Object.entries(lastUpgrade?.connections ?? {}).map(([fate, count]) => [count, { fate: snakeCase(fate) }]),
  )
  metric(
    'last_upgrade_drain_seconds',
    'gauge',
    'Time from the commit to each point of the drain of the old version, in seconds.',
    Object.entries(lastUpgrade?.drain ?? {}).map(([point, ms = 0]) => [ms / 1000, { point: snakeCase(point) }]),
  )
  metric(
    'connections',
    'gauge',
    'Open connections, by listener.',
    status.listeners.map(({ name: listener, connections }) => [connections, { listener }]),
  )
  metric(
    'generation_connections',
    'gauge',
    'Open connections, by generation, draining ones included.',
    generations.map((one) => [one.connections, labelsOf(one)]),
  )
  metric(
    'resident_memory_bytes',
    'gauge',
    'Resident memory in bytes, by generation.',
    generations.map((one) => [one.memory, labelsOf(one)]),
  )
  const workers = status.workers ?? []
  const bySlot = (of: (worker: WorkerStatus) => number) =>
    workers.map((worker): Sample => [of(worker), { slot: String(worker.slot) }])
  metric(
    'worker_up',
    'gauge',
    '1 if the worker serves.',
    bySlot(({ state }) => (state === 'serving' ? 1 : 0)),
  )
  metric(
    'worker_connections',
    'gauge',
    'Open connections, by worker.',
    bySlot(({ connections }) => connections),
  )
  metric(
    'worker_resident_memory_bytes',
    'gauge',
    'Resident memory in bytes, by worker.',
    bySlot(({ memory: bytes }) => bytes),
  )
  metric(
    'worker_restarts_total',
    'counter',
    'Restarts of workers by the keeper, by reason.',
    workers.flatMap(({ slot, restarts }) =>
      Object.entries(restarts).map(([reason, times]): Sample => [times, { slot: String(slot), reason }]),
    ),
  )
  metric(
    'worker_last_exit_timestamp_seconds',
    'gauge',
    'Last unexpected exit of a worker, in seconds since the epoch, by exit code or signal.',
    workers.flatMap(({ slot, lastExit }): Sample[] => {
      if (lastExit === undefined) return []
      const how = { code: String(lastExit.code ?? ''), signal: lastExit.signal ?? '' }
      return [[lastExit.at / 1000, { slot: String(slot), ...how }]]
    }),
  )
  metric(
    'release_went_back',
    'gauge',
    '1 while an old release serves because the latest one crashed repeatedly.',
    status.release === undefined ? [] : [[status.release.wentBack ? 1 : 0]],
  )
  metric(
    'keeper_resident_memory_bytes',
    'gauge',
    'Resident memory of the keeper, in bytes.',
    status.keeper === undefined ? [] : [[status.keeper.memory]],
  )
  metric('warnings', 'gauge', 'Number of warnings that status shows.', [[status.warnings?.length ?? 0]])
  metric('heap_used_bytes', 'gauge', 'Used JavaScript heap, in bytes.', [[memory.heapUsed]])
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
