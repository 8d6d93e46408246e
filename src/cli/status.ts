/** `status` and `list`. */
import { userText } from '../contract/user.ts'
import type { LastExit, ListenerStatus, Restarts, Status, WorkerStatus } from '../control/status.ts'
import { timesText } from '../report.ts'
import { type Down, downOf, downText, lastExitText } from './down.ts'
import { silentOf, which } from './find-service.ts'
import { bytesText, exitCodes, note, paint, print, printJson, table, timeText } from './output.ts'
import { ownArguments } from './program.ts'
import { drainingOf, listText, type Seen, serveAll, stateText, sumOf, warningText } from './rows.ts'
import { allServices, jsonOf } from './seen.ts'
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
    const down = silent === undefined ? downOf(client.name) : undefined
    if (down === undefined) throw error
    if (json === true) printJson(down)
    else print(downRows(down))
    return exitCodes.notRunning
  }
}

export async function list({ json }: Options): Promise<number> {
  const all = await allServices()
  if (json === true) printJson(all.map(jsonOf))
  else print(all.length === 0 ? 'no service is running' : listText(all))
  tellUnknown(all)
  return exitCodes.done
}

/** Of those that cannot be asked, why. */
export function tellUnknown(all: readonly Seen[]): void {
  for (const { name, state } of all) {
    if ('why' in state && state.why !== undefined) note(`${name}: ${state.why}`)
  }
}

function downRows(down: Down): string {
  const { name, generation, restarts, lastExit } = down
  const rows = [['state', downText(down)], ['generation', String(generation)], ...restartRows(restarts, lastExit)]
  return `${paint('bold', name)}\n${table(rows.map((row) => ['', ...row]))}`
}

/** How often it was started again, and how the last process has ended. */
function restartRows(restarts: Restarts, lastExit: LastExit | undefined): string[][] {
  const { crash, hang, memory } = restarts
  const words = lastExit?.words.replace(/^\. /, '').trimEnd()
  return [
    ['restarts', `${crash} after a crash, ${hang} after a hang, ${memory} for memory`],
    ...(lastExit === undefined ? [] : [['last exit', lastExitText(lastExit)]]),
    ...(words ? words.split('\n').map((line) => ['', line]) : []),
  ]
}

function keeperRows({ keeper, workers = [], release }: Status): string[][] {
  if (keeper === undefined) return []
  const [worker] = workers
  const row = ['keeper', `pid ${keeper.pid}, ${bytesText(keeper.memory)}, node ${keeper.node}`]
  if (workers.length > 1) return [row, ...workers.flatMap(workerRows), ...releaseRows(release)]
  return [row, ...(worker === undefined ? [] : restartRows(worker.restarts, worker.lastExit)), ...releaseRows(release)]
}

function releaseRows(release: Status['release']): string[][] {
  return release === undefined ? [] : [['release', `${release.script} (started again after a crash)`]]
}

function workerRows({
  slot,
  pid,
  generation,
  state,
  connections,
  memory,
  restarts,
  lastExit,
}: WorkerStatus): string[][] {
  const shown = state === 'serving' ? state : paint('red', state)
  const who = pid === undefined ? '' : `, pid ${pid}, generation ${generation}`
  const counts = `${connections} open, ${bytesText(memory)}, ${sumOf(restarts)} restarts`
  const last = lastExit === undefined ? [] : [['', `last exit: ${lastExitText(lastExit)}`]]
  return [[`slot ${slot}`, `${shown}${who}, ${counts}`], ...last]
}

function statusText(told: Status): string {
  const { name, pid, generation, uptime, memory, connections, upgrades, logFile, pidFile } = told
  const { script, cwd } = pathTexts(told)
  const rows = [
    ['state', serveAll(told) ? stateText(told) : paint('red', stateText(told))],
    ['pid', String(pid)],
    ['generation', String(generation)],
    ...(told.warnings ?? []).map(({ text, at }) => ['warning', `${warningText(text)} (${new Date(at).toISOString()})`]),
    ['uptime', timeText(uptime)],
    ['memory', bytesText(memory.resident)],
    ['connections', String(connections)],
    ...told.listeners.flatMap(listenerRows),
    ['upgrades', `${upgrades.succeeded} succeeded, ${upgrades.failed} failed`],
    ...lastUpgradeRows(told),
    ...drainingOf(told).map(({ generation: old, pid: oldPid, connections: left, stage, slot }) => [
      'drains',
      `${slot === undefined ? '' : `slot ${slot}, `}generation ${old}, pid ${oldPid}, ${left} connections${stage === undefined ? '' : `, ${stage}`}`,
    ]),
    ...keeperRows(told),
    ...(logFile === undefined ? [] : [['log', logFile]]),
    ...(pidFile === undefined ? [] : [['pid file', pidFile]]),
    ...(told.program?.user === undefined ? [] : [['user', userText(told.program.user)]]),
    ['program', [script, ...told.command.args.slice(1)].join(' ')],
    ['cwd', cwd],
    ['node', [`${told.node} (${told.command.execPath})`, ...ownArguments(told.command)].join(' ')],
  ]
  return `${paint('bold', name)}\n${table(rows.map((row) => ['', ...row]))}`
}

function listenerRows({ address, name, connections, fault, stays }: ListenerStatus): string[][] {
  const what = stays === true ? 'stays with this process during an upgrade' : name
  const row = ['listens on', `${address} (${what}, ${connections} open)`]
  return fault === undefined ? [row] : [row, ['', paint('red', `clients cannot reach it: ${fault}`)]]
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
