/** `status` and `list`. */
import type { Status } from '../control/status.ts'
import { bytesText, exitCodes, paint, print, printJson, table, timeText } from './output.ts'
import { allRunning, which } from './which.ts'

type Options = { readonly json?: boolean }

export async function status(name: string | undefined, { json }: Options): Promise<number> {
  const told = await (await which(name)).status()
  if (json === true) printJson(told)
  else print(statusText(told))
  return exitCodes.done
}

export async function list({ json }: Options): Promise<number> {
  const all = (await allRunning()).map((running) => running.status)
  if (json === true) printJson(all)
  else print(all.length === 0 ? 'no daemon runs' : listText(all))
  return exitCodes.done
}

function listText(all: readonly Status[]): string {
  return table([
    ['name', 'pid', 'generation', 'phase', 'uptime', 'memory', 'connections', 'listens on'],
    ...all.map(({ name, pid, generation, phase, uptime, memory, connections, listeners }) => [
      name,
      String(pid),
      String(generation),
      phase,
      timeText(uptime),
      bytesText(memory.resident),
      String(connections),
      listeners.map(({ address }) => address).join(', '),
    ]),
  ])
}

function statusText(told: Status): string {
  const { name, pid, generation, phase, uptime, memory, connections, upgrades, logFile, pidFile } = told
  const rows = [
    ['pid', String(pid)],
    ['generation', String(generation)],
    ['phase', phase],
    ['uptime', timeText(uptime)],
    ['memory', bytesText(memory.resident)],
    ['connections', String(connections)],
    ...told.listeners.map((one) => ['listens on', `${one.address} (${one.name}, ${one.connections} open)`]),
    ['upgrades', `${upgrades.succeeded} succeeded, ${upgrades.failed} failed`],
    ...lastUpgradeRows(told),
    ...told.generations
      .slice(0, -1)
      .map((one) => ['drains', `generation ${one.generation}, pid ${one.pid}, ${one.connections} connections`]),
    ...(logFile === undefined ? [] : [['log', logFile]]),
    ...(pidFile === undefined ? [] : [['pid file', pidFile]]),
    ['program', [...told.command.execArgv, ...told.command.args].join(' ')],
  ]
  return `${paint('bold', name)}\n${table(rows.map((row) => ['', ...row]))}`
}

function lastUpgradeRows({ lastUpgrade }: Status): string[][] {
  if (lastUpgrade === undefined) return []
  const { outcome, generation, at, seconds, code, connections } = lastUpgrade
  const what = `${outcome}${code === undefined ? '' : ` with ${code}`}, to generation ${generation}`
  const rows = [['last upgrade', `${what}, in ${seconds.toFixed(2)} s, at ${new Date(at).toISOString()}`]]
  if (connections === undefined) return rows
  const { handedOver, served, closed, cut } = connections
  return [...rows, ['', `${handedOver} handed over, ${served} served, ${closed} closed, ${cut} cut`]]
}
