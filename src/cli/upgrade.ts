/** `upgrade`: replaces a running daemon by its new version, and shows how far it is. */
import { type Client, RemoteError } from '../control/client.ts'
import type { Progress, Status } from '../control/status.ts'
import { untilGone } from '../node/processes.ts'
import { nextCommand } from '../process/command.ts'
import { openRunDirectory } from '../process/run-dir.ts'
import { ifNotRunning, servesNow, which } from './find-service.ts'
import { keepChanges, replaceKeeper } from './keep.ts'
import { exitCodes, note, paint, print, printDone, printJson, UsageError, withVerdict } from './output.ts'
import { type Changes, changesOf, nameOf, type Program, programOf, type StartOptions } from './program.ts'
import { restartKept } from './restart.ts'
import { linkLog, start } from './start.ts'
import { unitOfMain } from './units.ts'
import { linesFor, timeOf, warningText } from './upgrade-lines.ts'
import { isSameProgram, nodeText, tellDoubts, whatRuns } from './what-runs.ts'

export type UpgradeCommandOptions = StartOptions & {
  /** True: where a file says what to start. */
  readonly orStart?: string | true
  readonly updateEnv?: boolean
  readonly release?: readonly string[]
  /** False with --no-wait. */
  readonly wait?: boolean
  readonly rolling?: boolean
  readonly exclusive?: boolean
  readonly keeper?: boolean
}

/** How long the old version may take from the end of its drain to its own, in milliseconds. */
const longestEnd = 5_000

export async function upgrade(
  name: string | undefined,
  args: readonly string[],
  options: UpgradeCommandOptions,
): Promise<number> {
  const { orStart } = options
  if (orStart === undefined) {
    const client = await which(name)
    const status = await client.status()
    return upgradeRunning(client, status, options, () => changesOf(status.command, args, options))
  }
  if (orStart === true) throw new UsageError('--or-start needs the program to start, unless a configuration names it')
  const meant = name ?? nameOf(orStart)
  const client = await which(meant)
  const running = await client.status().catch(ifNotRunning)
  if (running === undefined) return start(orStart, args, { ...options, name: meant })
  const { node: _, ...others } = options
  demandSame(running, programOf(orStart, args, { ...others, name: meant }), options, name !== undefined)
  return upgradeRunning(client, running, options, () => changesOf(running.command, args, options))
}

/** The name may be that of another program: an upgrade would replace that. */
function demandSame(running: Status, meant: Program, options: StartOptions, isNamed: boolean): void {
  const { retyped } = changesOf(running.command, [], options)
  const next = nextCommand(running.command, retyped)
  if (isSameProgram(next, meant.command, isNamed)) return
  throw new UsageError(
    `${running.name} was not upgraded: it runs ${whatRuns(running)}, another program than ${whatRuns(meant)} of --or-start. Choose another name, or stop ${running.name} first`,
  )
}

export async function upgradeRunning(
  client: Client,
  first: Status,
  options: UpgradeCommandOptions,
  changes: () => Changes,
): Promise<number> {
  try {
    return await replaceVersion(client, first, options, changes)
  } catch (error) {
    throw options.json === true ? error : withVerdict(error, await verdictOn(error, client, first, options))
  }
}

async function replaceVersion(
  client: Client,
  first: Status,
  options: UpgradeCommandOptions,
  changes: () => Changes,
): Promise<number> {
  const isJson = options.json === true
  const before = options.keeper === true ? await replaceKeeper(client, first, isJson) : first
  // The old one ends before the new one begins: that is a restart.
  if (options.exclusive === true) return restartKept(client, before, options, changes)
  const { retyped, record, env } = changes()
  const next = nextCommand(before.command, retyped)
  const count = Math.max(1, before.workers?.filter(({ state }) => state === 'serving').length ?? 1)
  if (!isJson) {
    const workers = count > 1 ? `, ${count} workers` : ''
    print(`${paint('bold', client.name)}  generation ${before.generation} → ${before.generation + 1}${workers}`)
    print(`  ${whatRuns({ command: next })}`)
  }
  if (options.wait === false && before.keeper === undefined) tellOfUnit(before)
  // Once, however many are upgraded.
  process.removeListener('SIGINT', onInterrupt).once('SIGINT', onInterrupt)
  if (isOfSystemd()) process.removeListener('SIGTERM', onStop).once('SIGTERM', onStop)
  const request = {
    ...retyped,
    release: options.release,
    ...(options.updateEnv && { env: process.env }),
    ...(env && { env }),
    ...(Object.keys(record).length > 0 && { program: record }),
    ...keepChanges(before, options),
    ...(options.rolling === true && { isRolling: true }),
  }
  const lines = linesFor(count, options.rolling === true)
  let serves: Serves | undefined
  let latest: Serves | undefined
  let served = 0
  let last: Progress | undefined
  const warned = new Set<string>()
  for await (const progress of client.progress('upgrade', request)) {
    if (progress.type === 'serves') {
      latest = progress
      served++
    }
    // Each worker serves for itself, and the last one is the service; one may be tried again.
    const isService = progress.type === 'serves' ? served === count : progress.type === 'upgraded'
    if (isJson) printJson(isService && serves === undefined ? { ...progress, ...(await runsOf(client)) } : progress)
    else lines.show(progress)
    last = progress
    if (progress.type === 'warning') warned.add(progress.text)
    if (isService) serves ??= latest
    if (serves !== undefined && options.wait === false) break
  }
  if (serves === undefined) throw new Error(await lostText(client, before.pid))
  if (options.wait !== false) {
    const old = before.generations.map(({ pid, startTime }) => [pid, startTime] as const)
    const isGone = await untilGone(count > 1 ? old : [[before.pid, before.startTime]], longestEnd)
    const what = count > 1 ? 'old workers gone' : 'old process gone'
    if (!isJson && isGone) print(`${timeOf(last)}  ${what}`)
  }
  const now = await client.status().catch(() => undefined)
  if (record.logFile !== undefined) linkLog(openRunDirectory(process.env), client.name, record.logFile)
  if (!isJson) {
    // What came behind the end of the old version, or was not waited for.
    for (const { text } of now?.warnings ?? []) if (!warned.has(text)) print(warningText(text))
    printDone(
      servesText(
        client.name,
        { ...serves, ...(count > 1 && now && { generation: now.generation, pid: now.pid }) },
        now,
        before,
      ),
    )
  }
  if (now === undefined) return exitCodes.done
  if (whatRuns(now) !== whatRuns({ command: next }))
    note(`${client.name} runs ${whatRuns(now)}: the symlink changed while it started`)
  tellDoubts(client.name, now, before)
  return exitCodes.done
}

/** systemd asks whose child a process is when it takes it for the main one, and never again. */
function tellOfUnit({ name, pid }: Status): void {
  const unit = unitOfMain(pid)
  if (unit === undefined) return
  note(
    `${name} is the main process of the unit ${unit.name}. With --no-wait, the new process is still a child of the old one when the command returns; systemd then does not accept it as its own, and the next stop kills it at once, with its requests. Remove --no-wait from ExecReload=`,
  )
}

function onInterrupt(): void {
  const text = '\nthe upgrade continues: cook-daemon status shows its result\n'
  process.stderr.write(text, () => process.exit(130))
}

/** This process is the ExecReload= of a unit (systemd.exec(5)). */
function isOfSystemd(): boolean {
  return process.env.SYSTEMD_EXEC_PID === `${process.pid}`
}

/**
 * The unit is being stopped, this command with it: how it ends would be taken for how the service
 * has ended.
 */
function onStop(): void {
  process.stderr.write('the unit is being stopped, so the upgrade is aborted\n', () => process.exit(exitCodes.done))
}

type Serves = Progress & { readonly type: 'serves' }

/** The last line of an upgrade that failed: what serves now, and where the log is. */
async function verdictOn(error: unknown, client: Client, before: Status, options: UpgradeCommandOptions) {
  const { slot, code } = error instanceof RemoteError ? error : {}
  const log = `Full log: cook-daemon logs ${client.name}${slot === undefined ? '' : ` --slot ${slot}`}`
  if (options.rolling === true && slot !== undefined) return `not all workers were upgraded. ${log}`
  const now = await client.status().catch(() => undefined)
  if (!servesNow(now)) return `not upgraded: no process serves now. ${log}`
  const isSame = code !== 'ERR_COOK_SUCCESSOR_LOST' && String(pidsOf(now)) === String(pidsOf(before))
  return `not upgraded: generation ${now.generation} ${isSame ? 'still serves, nothing was lost' : 'serves'}. ${log}`
}

function pidsOf({ pid, workers }: Status): readonly (number | undefined)[] {
  return workers?.map((worker) => worker.pid) ?? [pid]
}

/** The daemon ended in the middle: whoever serves now is looked for. */
async function lostText(client: Client, pid: number): Promise<string> {
  const now = await client.status().catch(() => undefined)
  const who = now === undefined ? 'nobody serves' : `pid ${now.pid}, generation ${now.generation}, serves`
  return `the old version (pid ${pid}) ended during the upgrade; ${who} now`
}

/** For scripts: what serves now. */
async function runsOf(client: Client) {
  const now = await client.status().catch(() => undefined)
  if (now === undefined) return {}
  const { listeners, node, command, resolved } = now
  return { listeners, node, command, resolved }
}

/** The last line: what serves now. */
function servesText(
  name: string,
  { generation, pid }: Progress & { type: 'serves' },
  now: Status | undefined,
  before: Status,
): string {
  const addresses = (now?.listeners ?? []).map(({ address }) => address).join(', ')
  const node = now === undefined || now.node === before.node ? '' : `, ${nodeText(now.node, before)}`
  return `${name} serves generation ${generation}${addresses && ` on ${addresses}`} (pid ${pid})${node}`
}
