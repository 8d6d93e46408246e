/** `logs`: what the program wrote, as it was written; that of several workers as one. */
import { existsSync, readlinkSync } from 'node:fs'
import { basename, dirname, resolve } from 'node:path'
import { type Client, clientOf } from '../control/client.ts'
import { CookError } from '../errors.ts'
import { recordOf } from '../keeper/records.ts'
import { statPath, statTarget } from '../node/stat.ts'
import { journalOf, type Unit } from '../node/units.ts'
import { isWholly } from '../node/users.ts'
import { logFolders, workerLog } from '../process/log-dir.ts'
import { isSafeLog, workerLogs } from '../process/log-files.ts'
import { logPath, namesIn, runDirectory } from '../process/run-dir.ts'
import { checkedName, ifNotRunning, silentOf, which } from './find-service.ts'
import { LogTail } from './log-tail.ts'
import { exitCodes, print, UsageError } from './output.ts'
import type { OthersPlace } from './places.ts'
import { runs } from './rows.ts'
import { stateAt } from './seen.ts'
import { journal, unitNamed } from './units.ts'

export type LogsOptions = {
  readonly follow?: boolean
  readonly lines: number
  readonly path?: boolean
  readonly slot?: number
}

export async function logs(name: string | undefined, options: LogsOptions): Promise<number> {
  const { lines, slot } = options
  const file = await logOf(name)
  if (typeof file !== 'string') return journal(file, options)
  const sources = slot === undefined ? sourcesOf(file) : [sourceOf(file, slot)]
  if (options.path === true) {
    for (const one of sources) print(one.file)
    return exitCodes.done
  }
  const shown = lastWrittenLast(sources).map((source) => new Shown(source, sources.length > 1))
  for (const one of shown) await one.printLast(lines)
  if (options.follow === true) await follow(shown, slot === undefined ? file : undefined)
  return exitCodes.done
}

/** The log of a service, also of one that does not run any more; or a unit that has a journal. */
async function logOf(name: string | undefined): Promise<string | Unit> {
  const folder = runDirectory(process.env)
  namesIn(folder)
  const client = name === undefined ? await which(name) : clientOf(folder, checkedName(name))
  // The log of a service that does not respond is known from its owner file.
  const status = await client.status().catch((error: unknown) => {
    const silent = silentOf(client, error) && client.owners().at(-1)
    return silent === undefined ? ifNotRunning(error) : { ...silent, keeper: undefined }
  })
  // What was typed is that of the service, where a worker has its own.
  const known = status?.program?.logFile ?? status?.logFile ?? logOfDead(client, folder)
  const file = known ?? lastLog(folder, client.name)
  if (file !== undefined && existsSync(file)) return file
  const unit = status === undefined ? unitNamed(client.name)?.unit : journalOf((status.keeper ?? status).pid)
  if (unit !== undefined) return unit
  if (status === undefined) throw new CookError('ERR_COOK_NOT_RUNNING', { name: client.name })
  throw new Error(`${client.name} has no log file: its output goes where it was started`)
}

/**
 * The unit of a service of another user, if it writes into the journal. Which one it is, the kernel
 * and systemd say, since that user may say anything.
 */
export async function journalAt(name: string, place: OthersPlace): Promise<Unit | undefined> {
  const state = await stateAt(name, place)
  if ('logFile' in state || ('program' in state && state.program?.logFile !== undefined)) return undefined
  if (!runs(state)) {
    const unit = unitNamed(name)
    return unit?.folders.split(' ').includes(basename(place.folder)) ? unit.unit : undefined
  }
  const { pid } = ('keeper' in state ? state.keeper : undefined) ?? state
  return Number.isSafeInteger(pid) && isWholly(pid, place.owner) ? journalOf(pid) : undefined
}

function logOfDead(client: Client, folder: string): string | undefined {
  const { logFile, program } = client.lastDead() ?? {}
  return logFile ?? program?.logFile ?? recordOf(folder, client.name)?.plan.program.logFile
}

/** Wherever it was started from: a start leaves a link in the run directory, if it is not there. */
function lastLog(runFolder: string, name: string): string | undefined {
  const found = logFolders(process.env, runFolder).flatMap((folder) => {
    const file = logPath(folder, name)
    const stat = statTarget(file)
    return stat?.isFile === true ? [{ file, mtimeMs: stat.mtimeMs }] : []
  })
  const file = found.sort((one, other) => other.mtimeMs - one.mtimeMs)[0]?.file
  // Those of its workers are beside what the link leads to.
  const isLink = file !== undefined && dirname(file) === runFolder && statPath(file)?.isSymlink === true
  return isLink ? resolve(runFolder, readlinkSync(file)) : file
}

type Source = { readonly file: string; readonly slot?: number }

/** Of the keeper, or of the only worker; and of each worker that has one of its own. */
function sourcesOf(logFile: string): Source[] {
  return [{ file: logFile }, ...workerLogs(logFile).filter(({ file }) => isSafeLog(file))]
}

/** Its last line is the one that is looked for. */
function lastWrittenLast(sources: readonly Source[]): Source[] {
  const times = new Map(sources.map(({ file }) => [file, statTarget(file)?.mtimeMs ?? 0]))
  return sources.toSorted((one, other) => (times.get(one.file) ?? 0) - (times.get(other.file) ?? 0))
}

function sourceOf(logFile: string, slot: number): Source {
  const file = workerLog(logFile, slot)
  if (isSafeLog(file)) return { file, slot }
  const slots = workerLogs(logFile).map((one) => one.slot)
  // The only worker writes where its keeper does.
  if (slots.length === 0 && slot === 0) return { file: logFile }
  throw new UsageError(
    `slot ${slot} has no log: ${slots.length === 0 ? 'the service has one worker' : `the slots with a log are ${slots.join(', ')}`}`,
  )
}

/** A longer line is shown in pieces. */
const longestLine = 64 * 1024

/** One file, with its slot before each line if there are others. */
class Shown {
  readonly file: string
  readonly #label: string
  readonly #tail: LogTail
  isOneOfSeveral: boolean
  /** The begin of a line. */
  #rest = ''

  constructor({ file, slot }: Source, isOneOfSeveral: boolean) {
    this.file = file
    this.isOneOfSeveral = isOneOfSeveral
    // Lines of the keeper say themselves whose they are.
    this.#label = isOneOfSeveral && slot !== undefined ? `${slot}| ` : ''
    this.#tail = new LogTail(file)
  }

  async printLast(lines: number): Promise<void> {
    this.#print(await this.#tail.last(lines))
    if (this.#rest !== '') this.#print(Buffer.from('\n'))
  }

  printMore(): void {
    for (const bytes of this.#tail.more()) this.#print(bytes)
  }

  #print(bytes: Buffer): void {
    if (!this.isOneOfSeveral) {
      process.stdout.write(bytes)
      return
    }
    // Byte by byte: it may be no text.
    const lines = (this.#rest + bytes.toString('latin1')).split('\n')
    const last = lines.pop() ?? ''
    const isLong = last.length > longestLine
    if (isLong) lines.push(last)
    this.#rest = isLong ? '' : last
    process.stdout.write(lines.map((line) => `${this.#label}${line}\n`).join(''), 'latin1')
  }
}

/** How often it is looked for what was written, and for workers that are new, in milliseconds. */
const intervals = { lines: 100, workers: 1_000 }

/** Until it is interrupted, or nobody reads any more. */
async function follow(shown: Shown[], logFile: string | undefined): Promise<void> {
  const look = () => {
    for (const one of shown) one.printMore()
  }
  const lookForWorkers = () => {
    const known = shown.map(({ file }) => file)
    const added = logFile === undefined ? [] : sourcesOf(logFile).filter(({ file }) => !known.includes(file))
    if (added.length === 0) return
    for (const one of shown) one.isOneOfSeveral = true
    shown.push(...added.map((source) => new Shown(source, true)))
  }
  // inotify does not see what goes on behind a symlink, nor on every file system.
  const timers = [setInterval(look, intervals.lines), setInterval(lookForWorkers, intervals.workers)]
  await new Promise((gone) => process.stdout.once('error', gone))
  for (const timer of timers) clearInterval(timer)
}
