/** Units of systemd: how one fares, and what it wrote into the journal. */
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { CookError } from '../errors.ts'
import { fileAt } from '../node/stat.ts'
import { isServiceUnit, type Unit, unitOf } from '../node/units.ts'
import { exitCodes, print, UsageError } from './output.ts'

/** How long a manager may take to answer, in milliseconds. */
const patience = 5_000

export type UnitState = {
  readonly unit: Unit
  readonly state: string
  readonly mainPid: number
  readonly folders: string
}

/** Whether it is the init system (sd_booted(3)). */
export function isSystemdHere(): boolean {
  return fileAt('/run/systemd/system')?.isFolder === true
}

/** The unit NAME.service, of the own manager or the system's; undefined: there is none. */
export function unitNamed(name: string): UnitState | undefined {
  const user = process.geteuid?.() ?? 0
  const own: Unit = { name: `${name}.service`, user }
  const ofSystem: Unit = { name: own.name }
  for (const unit of user === 0 ? [ofSystem, own] : [own, ofSystem]) {
    const state = stateOf(unit)
    if (state !== undefined) return state
  }
  return undefined
}

function stateOf(unit: Unit): UnitState | undefined {
  const values = propertiesOf(unit, 'LoadState,ActiveState,SubState,Result,MainPID,RuntimeDirectory')
  const { LoadState, ActiveState = '', SubState = '', Result = '', MainPID, RuntimeDirectory = '' } = values
  if (LoadState !== 'loaded') return undefined
  const why = Result === 'success' || Result === '' ? '' : `, ${Result}`
  return { unit, state: `${ActiveState} (${SubState}${why})`, mainPid: Number(MainPID), folders: RuntimeDirectory }
}

/** Milliseconds after which what is left of a stopped unit is killed; undefined: never. */
export function stopTimeOf(unit: Unit): number | undefined {
  const { TimeoutStopUSec = '' } = propertiesOf(unit, 'TimeoutStopUSec')
  const parts = [...TimeoutStopUSec.matchAll(/([\d.]+)(\w+)/g)].map(
    ([, count, of = '']) => Number(count) * (spans[of] ?? 0),
  )
  return parts.length === 0 ? undefined : parts.reduce((sum, part) => sum + part)
}

/** As systemctl prints them (systemd.time(7)), in milliseconds. */
const spans: Readonly<Record<string, number>> = {
  us: 0.001,
  ms: 1,
  s: 1_000,
  min: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
}

/** Empty: nobody can be asked, or has such a unit. */
function propertiesOf(unit: Unit, wanted: string): Readonly<Record<string, string>> {
  const isUsers = unit.user !== undefined
  if (!isServiceUnit(unit.name) || (isUsers && unit.user !== process.geteuid?.())) return {}
  // Where it is not the init system, nobody would answer.
  const { XDG_RUNTIME_DIR = `/run/user/${unit.user}` } = process.env
  if (isUsers ? !existsSync(`${XDG_RUNTIME_DIR}/systemd`) : !isSystemdHere()) return {}
  const args = [...(isUsers ? ['--user'] : []), 'show', `--property=${wanted}`, '--', unit.name]
  const { spawnSync } = process.getBuiltinModule('node:child_process')
  const { stdout, status } = spawnSync('systemctl', args, { encoding: 'utf8', timeout: patience })
  if (status !== 0) return {}
  const lines = stdout.split('\n').map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)])
  return Object.fromEntries(lines)
}

/** The unit of which a process is the main one, as far as can be known. */
export function unitOfMain(pid: number): Unit | undefined {
  const unit = unitOf(pid)
  const state = unit && stateOf(unit)
  return state === undefined || state.mainPid === pid ? unit : undefined
}

/** As it can be typed. */
export function unitText({ name, user }: Unit): string {
  return user === undefined ? name : `--user ${name}`
}

type Options = { readonly follow?: boolean; readonly lines: number; readonly path?: boolean; readonly slot?: number }

/**
 * By journalctl, in the format that it has by default but for the time: control characters of the
 * unit are not printed in that, as they would be with `--output=cat`.
 */
export async function journal(unit: Unit, { follow, lines, path, slot }: Options): Promise<number> {
  if (slot !== undefined) {
    throw new UsageError(
      `--slot: the journal has no slots. Each line has the pid of its process, and status shows the pid of each slot: journalctl ${matchesOf(unit).join(' ')} _PID=PID`,
    )
  }
  if (path === true) {
    print(`the journal, unit ${unit.name}: journalctl ${matchesOf(unit).join(' ')}`)
    return exitCodes.done
  }
  const args = ['--no-pager', '--output=short-iso', `--lines=${lines}`, ...(follow === true ? ['--follow'] : [])]
  const { spawn } = process.getBuiltinModule('node:child_process')
  const child = spawn('journalctl', [...args, ...matchesOf(unit)], { stdio: ['ignore', 'inherit', 'inherit'] })
  // A key that is pressed reaches both: it ends, and then this command does.
  const wait = () => {}
  const pass = (signal: NodeJS.Signals) => child.kill(signal)
  process.on('SIGINT', wait).on('SIGTERM', pass)
  try {
    const [code] = (await once(child, 'close')) as [number | null]
    return code === 0 || code === null ? exitCodes.done : exitCodes.failed
  } catch (cause) {
    throw new CookError('ERR_COOK_NO_JOURNAL', { unit: unit.name }, { cause: cause as Error })
  } finally {
    process.removeListener('SIGINT', wait).removeListener('SIGTERM', pass)
  }
}

function matchesOf({ name, user }: Unit): readonly string[] {
  if (user === undefined) return [`--unit=${name}`]
  return user === process.geteuid?.() ? [`--user-unit=${name}`] : [`_SYSTEMD_USER_UNIT=${name}`, `_UID=${user}`]
}
