/** `doctor`: what would hurt a service one day, and what to do about it before. */
import { existsSync, readdirSync } from 'node:fs'
import type { Status } from '../control/status.ts'
import { attempt } from '../node/sessions.ts'
import { unitOf } from '../node/units.ts'
import { isInMemory, lookAtMachine, mostFilesOf } from './doctor-machine.ts'
import { allDown, type Down, downOf, downText } from './down.ts'
import { allRunning, type Silent, silentOf, which } from './find-service.ts'
import { type Finding, type Found, finding, printFindings } from './findings.ts'
import { isSystemdHere, stopTimeOf, unitText } from './units.ts'

/** What nginx, HAProxy, Envoy and balancers of clouds keep a connection for, or less, in ms. */
const usualOfBalancers = 60_000
/** Of its descriptors a process should have used at most. */
const mostUsed = 0.8

/** Of one service, or of all that run here, and of the machine. */
export async function doctor(name: string | undefined, { json }: { readonly json?: boolean }): Promise<number> {
  const services = name === undefined ? await allHere() : [await stateOf(name)]
  return printFindings([...lookAtMachine(), ...services.flatMap(lookAtService)], json === true)
}

/** As it is, or what is left of it. */
type State = Status | Silent | Down

async function allHere(): Promise<readonly State[]> {
  const running = (await allRunning()).map(({ status }) => status)
  return [...running, ...allDown(running.map(({ name }) => name))]
}

async function stateOf(name: string): Promise<State> {
  const client = await which(name)
  return client.status().catch((error): State => {
    const found = silentOf(client, error) ?? downOf(client.name)
    if (found === undefined) throw error
    return found
  })
}

function lookAtService(state: State): readonly Finding[] {
  const { name } = state
  if (!('command' in state)) return finding(name, 'serves', lookAtDown(state))
  return [
    ...finding(name, 'serves', ['ok', `generation ${state.generation}, pid ${state.pid}, ${state.phase}`]),
    ...(state.warnings ?? []).flatMap(({ text }) => finding(name, 'warning', ['warning', text])),
    ...finding(name, 'keeper', lookAtKeeper(state)),
    ...finding(name, 'release', lookAtRelease(state)),
    ...finding(name, 'unit', lookAtUnit(state)),
    ...finding(name, 'keep-alive time', lookAtKeepAlive(state)),
    ...finding(name, 'log', lookAtLog(state)),
    ...lookAtOpenFiles(state).flatMap((found) => finding(name, 'open files', found)),
  ]
}

function lookAtDown(state: Silent | Down): Found {
  const { name, phase } = state
  if (phase === 'silent') return ['fault', 'it does not respond', `cook-daemon restart ${name}`]
  const level = phase === 'stopped' ? 'note' : 'fault'
  return [level, `it is down: ${downText(state)}`, `cook-daemon logs ${name}; cook-daemon start ${name}`]
}

function lookAtKeeper({ keeper, name, node, version }: Status): Found | undefined {
  if (keeper === undefined) {
    const help = `cook-daemon stop ${name}, then start it without --no-keep`
    return ['warning', 'none: nothing restarts it after a crash', help]
  }
  const isOther = keeper.version !== version || keeper.node !== node
  if (!isOther) return ['ok', `pid ${keeper.pid}`]
  const text = `it runs ${keeper.version} on Node ${keeper.node}, the service ${version} on Node ${node}`
  return ['note', text, `cook-daemon upgrade ${name} --keeper`]
}

/** What a crash starts again must still be there. */
function lookAtRelease({ release, resolved, name }: Status): Found | undefined {
  const { script = resolved?.script, wentBack = false } = release ?? {}
  if (script === undefined) return
  const help = `Restore it, or deploy and run cook-daemon upgrade ${name}`
  if (!existsSync(script)) return ['fault', `${script} is gone: it cannot be restarted after a crash`, help]
  if (!wentBack) return ['ok', script]
  return ['warning', `the latest one crashed repeatedly, so ${script} serves`, `cook-daemon logs ${name}`]
}

function lookAtUnit({ keeper, pid, name, drainTimeout, lameDuck = 0 }: Status): Found | undefined {
  if (!isSystemdHere()) return
  const unit = unitOf(keeper?.pid ?? pid)
  if (unit === undefined) {
    const help = `cook-daemon systemd ${name} --install`
    return ['note', 'none: nothing starts it at boot', help]
  }
  const needed = drainTimeout + lameDuck
  const given = stopTimeOf(unit)
  if (given === undefined || given > needed) return ['ok', unitText(unit)]
  const parts = lameDuck > 0 ? 'lame duck and drain timeout' : 'drain timeout'
  const help = `TimeoutStopSec=${Math.ceil(needed / 1000) + 10} in the unit, or a lower --drain-timeout`
  return ['warning', `${unitText(unit)} kills it ${given} ms after a stop, but its ${parts} is ${needed} ms`, help]
}

function lookAtKeepAlive({ listeners }: Status): Found | undefined {
  const short = listeners.flatMap(({ address, keepAliveTimeout: time = 0 }) =>
    time > 0 && time <= usualOfBalancers ? [`${time} ms on ${address}`] : [],
  )
  if (short.length === 0) return
  return [
    'note',
    short.join(', '),
    'Behind a balancer it must be longer than the idle timeout of the balancer (usually 60 s), or requests fail on a closing connection: server.keepAliveTimeout = 65000',
  ]
}

function lookAtLog({ logFile }: Status): Found | undefined {
  if (logFile === undefined) return
  if (!isInMemory(logFile)) return ['ok', logFile]
  return ['warning', `${logFile} is in memory: it uses up memory, and is lost at the next boot`, '--log FILE on a disk']
}

function lookAtOpenFiles({ workers, pid }: Status): readonly Found[] {
  const pids = workers?.flatMap((worker) => worker.pid ?? []) ?? [pid]
  return pids.flatMap((one): readonly Found[] => {
    const open = attempt(() => readdirSync(`/proc/${one}/fd`).length)
    const most = Number(mostFilesOf(one, 'soft'))
    // Not a number where there is no limit, or nobody knows it.
    if (open === undefined || Number.isNaN(most) || open < most * mostUsed) return []
    return [['warning', `pid ${one} has ${open} of ${most}`, 'Raise the limit, or scale to more workers']]
  })
}
