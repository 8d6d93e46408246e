/** `status` and `list`. */
import type { ListenerStatus, Status } from '../control/status.ts'
import { timesText } from '../report.ts'
import { allRunning, type Silent, silentOf, which } from './find-service.ts'
import { bytesText, exitCodes, paint, print, printJson, table, timeText } from './output.ts'
import { ownArguments } from './program.ts'
import { pathTexts } from './what-runs.ts'

type Options = { readonly json?: boolean }

export async function status(name: string | undefined, { json }: Options): Promise<number> {
  const client = await which(name)
  try {
    const told = await client.status()
    if (json === true) printJson(told)
    else print(statusText(told))
    return exitCodes.done
  } catch (error) {
    const silent = silentOf(client, error)
    if (silent !== undefined && json === true) printJson(silent)
    throw error
  }
}

export async function list({ json }: Options): Promise<number> {
  const all = (await allRunning()).map((running) => running.status)
  if (json === true) printJson(all)
  else print(all.length === 0 ? 'no service is running' : listText(all))
  return exitCodes.done
}

function listText(all: readonly (Status | Silent)[]): string {
  return table([
    ['name', 'pid', 'generation', 'phase', 'uptime', 'memory', 'connections', 'listens on'],
    ...all.map((one) => [
      one.name,
      String(one.pid),
      String(one.generation),
      one.phase,
      ...(one.phase === 'silent' ? ['does not answer'] : numbers(one)),
    ]),
  ])
}

function numbers({ uptime, memory, connections, listeners }: Status): string[] {
  const addresses = listeners.map(({ address }) => address).join(', ')
  return [timeText(uptime), bytesText(memory.resident), String(connections), addresses]
}

function statusText(told: Status): string {
  const { name, pid, generation, phase, uptime, memory, connections, upgrades, logFile, pidFile } = told
  const { script, cwd } = pathTexts(told)
  const rows = [
    ['pid', String(pid)],
    ['generation', String(generation)],
    ['phase', phase],
    ...(told.warnings ?? []).map(({ text, at }) => [
      'warning',
      `${text.split('\n')[0]} (${new Date(at).toISOString()})`,
    ]),
    ['uptime', timeText(uptime)],
    ['memory', bytesText(memory.resident)],
    ['connections', String(connections)],
    ...told.listeners.flatMap(listenerRows),
    ['upgrades', `${upgrades.succeeded} succeeded, ${upgrades.failed} failed`],
    ...lastUpgradeRows(told),
    ...told.generations
      .slice(0, -1)
      .map(({ generation: old, pid: oldPid, connections: left, stage }) => [
        'drains',
        `generation ${old}, pid ${oldPid}, ${left} connections${stage === undefined ? '' : `, ${stage}`}`,
      ]),
    ...(logFile === undefined ? [] : [['log', logFile]]),
    ...(pidFile === undefined ? [] : [['pid file', pidFile]]),
    ['program', [script, ...told.command.args.slice(1)].join(' ')],
    ['cwd', cwd],
    ['node', [`${told.node} (${told.command.execPath})`, ...ownArguments(told.command)].join(' ')],
  ]
  return `${paint('bold', name)}\n${table(rows.map((row) => ['', ...row]))}`
}

function listenerRows({ address, name, connections, fault, stays }: ListenerStatus): string[][] {
  const what = stays === true ? 'stays with this process at an upgrade' : name
  const row = ['listens on', `${address} (${what}, ${connections} open)`]
  return fault === undefined ? [row] : [row, ['', paint('red', `no client finds it there: ${fault}`)]]
}

function lastUpgradeRows({ lastUpgrade }: Status): string[][] {
  if (lastUpgrade === undefined) return []
  const { outcome, generation, at, seconds, code, connections, drain } = lastUpgrade
  const what = `${outcome}${code === undefined ? '' : ` with ${code}`}, to generation ${generation}`
  const rows = [['last upgrade', `${what}, in ${seconds.toFixed(2)} s, at ${new Date(at).toISOString()}`]]
  if (connections === undefined) return rows
  const { handedOver, served, closed, cut } = connections
  const counts = `${handedOver} handed over, ${served} served, ${closed} closed, ${cut} cut`
  return [...rows, ['', [counts, ...(drain === undefined ? [] : timesText(drain))].join('; ')]]
}
