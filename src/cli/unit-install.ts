/** `systemd --install`: writes units, enables and starts them, and says what serves. */
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { clientOf } from '../control/client.ts'
import type { Unit } from '../host/unit.ts'
import { attempt } from '../node/sessions.ts'
import { runDirectory } from '../process/run-dir.ts'
import { exitCodes, note, print, printDone, tell, UsageError } from './output.ts'
import { foreignUnit, unitFolders, writeUnit } from './unit-files.ts'
import type { UnitOptions } from './unit-options.ts'
import { isSystemdHere } from './units.ts'

/** Everything is looked at before anything is written. */
export async function installUnits(units: readonly Unit[], options: UnitOptions): Promise<number> {
  const isUser = options.userManager === true
  const systemctl = managerOf(isUser)
  const folders = unitFolders(isUser)
  for (const { file } of units.flatMap(({ files }) => files)) demandOurs(file, folders, systemctl)
  const running = await Promise.all(units.map(({ plan }) => isStarted(plan.name)))
  if (isUser) linger()
  const codes = units.map((unit, at) => install(unit, folders[0], running[at] === true, systemctl))
  return codes.every((code) => code === exitCodes.done) ? exitCodes.done : exitCodes.failed
}

/** How it went, and what systemctl wrote. */
type Answer = { readonly isDone: boolean; readonly text: string }

type Systemctl = { readonly command: string; readonly isUser: boolean; (...args: readonly string[]): Answer }

/** Throws where there is no systemd, or none for us. */
function managerOf(isUser: boolean): Systemctl {
  if (!isSystemdHere()) {
    throw new Error('systemd does not run here; nothing was installed. Without --install, the unit is printed')
  }
  if (!isUser && process.geteuid?.() !== 0) {
    throw new UsageError(
      '--install needs root to write units of the machine: use sudo, or --user-manager for the systemd of this user',
    )
  }
  const words = isUser ? ['--user'] : []
  const systemctl = (...args: readonly string[]) => runs('systemctl', [...words, '--no-pager', ...args])
  if (isUser) {
    const { isDone, text } = systemctl('show', '--property=Version')
    if (!isDone) throw new Error(`the systemd of this user does not respond; nothing was installed: ${text}`)
  }
  return Object.assign(systemctl, { command: ['systemctl', ...words].join(' '), isUser })
}

function runs(program: string, args: readonly string[]): Answer {
  const { spawnSync } = process.getBuiltinModule('node:child_process')
  const { status, stdout, stderr, error } = spawnSync(program, args, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const text = error === undefined ? `${stdout}${stderr}` : error.message
  return { isDone: status === 0, text: plain(text) }
}

/** The service may have written it, as another user. */
function plain(text: string): string {
  return text.replace(/[^\P{Cc}\n\t]/gu, '').trim()
}

/** A name may be that of a unit that comes from elsewhere, by another name or a generator too. */
function demandOurs(file: string, folders: ReturnType<typeof unitFolders>, systemctl: Systemctl): void {
  const own = join(folders[0], file)
  const loaded = systemctl('show', '--value', '--property=FragmentPath', file).text
  const foreign = foreignUnit(file, folders) ?? (loaded === '' || loaded === own ? undefined : loaded)
  if (foreign === undefined) return
  throw new UsageError(
    `the unit ${file} exists and was not written by cook-daemon: ${foreign}. Nothing was installed; choose another name with --name`,
  )
}

/** By `start`, so by a keeper that systemd does not know. */
async function isStarted(name: string): Promise<boolean> {
  const folder = attempt(() => runDirectory(process.env))
  if (folder === undefined) return false
  return clientOf(folder, name)
    .status()
    .then(() => true)
    .catch(() => false)
}

function install({ plan, files }: Unit, folder: string, isStartedAlready: boolean, systemctl: Systemctl): number {
  const { name, sockets } = plan
  const { command } = systemctl
  const service = `${name}.service`
  const all = files.map(({ file }) => file)
  const wasActive = systemctl('is-active', '--quiet', service).isDone
  const changed = files.filter((file) => writeUnit(folder, file))
  for (const { file } of files) {
    print(`${join(folder, file)}  ${changed.some((one) => one.file === file) ? 'written' : 'unchanged'}`)
  }
  const step = (what: string, ...args: readonly string[]): boolean => {
    const { isDone, text } = systemctl(...args)
    if (isDone) print(what)
    else tell(new Error(`${command} ${args.join(' ')} failed: ${text}`))
    return isDone
  }
  const isKnown = systemctl('daemon-reload')
  if (!isKnown.isDone) return tell(new Error(`${command} daemon-reload failed: ${isKnown.text}`))
  if (!step(`${all.join(', ')}  enabled: starts at boot`, 'enable', ...all)) return exitCodes.failed
  if (isStartedAlready) {
    note(
      `${name} already runs, started by cook-daemon start, so the unit was not started. To move it to systemd: cook-daemon stop ${name} && ${command} start ${all.toReversed().join(' ')}`,
    )
    return exitCodes.done
  }
  if (wasActive) {
    printDone(`${name} already runs under systemd, and was not changed`)
    if (changed.length > 0) note(`the changes of the unit take effect at the next restart: ${command} restart ${name}`)
    tellNext(name, systemctl)
    return exitCodes.done
  }
  const begin = Math.floor(Date.now() / 1000)
  print(`starting ${name}; it has ${plan.times.readyTimeout / 1000} s to become ready`)
  // Its listeners first: from then on clients wait.
  for (const file of sockets === undefined ? [service] : [`${name}.socket`, service]) {
    const { isDone } = systemctl('start', file)
    if (!isDone) return tellFailed(name, file, begin, systemctl)
  }
  const state = systemctl('show', '--value', '--property=StatusText', service).text
  const pid = systemctl('show', '--value', '--property=MainPID', service).text
  printDone(`${name} runs under systemd (keeper pid ${pid})${state && `: ${state}`}`)
  tellNext(name, systemctl)
  return exitCodes.done
}

function tellNext(name: string, { command, isUser }: Systemctl): void {
  const journal = isUser ? 'journalctl --user' : 'journalctl'
  print(`  the next deploy  ${command} reload ${name}
  its state        ${command} status ${name}
  its output       ${journal} -u ${name} -f`)
}

/** Lines of the journal that say why. */
const longestReason = 20

function tellFailed(name: string, file: string, begin: number, systemctl: Systemctl): number {
  const { command, isUser } = systemctl
  const journal = ['--no-pager', '--output=cat', `--lines=${longestReason}`, `--since=@${begin}`, '--unit', file]
  runs('journalctl', ['--sync'])
  const said = runs('journalctl', isUser ? ['--user', ...journal] : journal)
  // Who may not read the journal sees what the manager knows.
  const why = said.isDone && said.text !== '' ? said.text : systemctl('status', '--full', file).text
  return tell(
    new Error(
      `${file} did not start:\n${why}\nThe unit stays enabled, and systemd tries again every second. To see its state: ${command} status ${name}. To undo: ${command} disable --now ${name}`,
    ),
  )
}

/** The manager of a user ends with their last session, unless it lingers. */
function linger(): void {
  const { username } = userInfo()
  if (runs('loginctl', ['show-user', '--value', '--property=Linger', username]).text === 'yes') return
  const { isDone, text } = runs('loginctl', ['enable-linger'])
  if (isDone) print(`lingering is on for ${username}: the service starts at boot and survives logout`)
  else
    note(
      `lingering could not be enabled for ${username}, so the service ends at logout and does not start at boot: ${text}. As root: loginctl enable-linger ${username}`,
    )
}
