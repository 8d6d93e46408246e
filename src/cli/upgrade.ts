/** `upgrade`: replaces a running daemon by its new version, and shows how far it is. */
import type { Client } from '../control/client.ts'
import type { Progress, Status } from '../control/status.ts'
import { untilGone } from '../node/processes.ts'
import { nextCommand } from '../process/command.ts'
import { openRunDirectory } from '../process/run-dir.ts'
import { timesText } from '../report.ts'
import { ifNotRunning, which } from './find-service.ts'
import { keepChanges, replaceKeeper } from './keep.ts'
import { exitCodes, note, paint, print, printJson, UsageError } from './output.ts'
import { changesOf, nameOf, type Program, programOf, type StartOptions } from './program.ts'
import { restartKept } from './restart.ts'
import { linkLog, start } from './start.ts'
import { isSameProgram, nodeText, tellDoubts, whatRuns } from './what-runs.ts'

export type UpgradeCommandOptions = StartOptions & {
  readonly orStart?: string
  readonly updateEnv?: boolean
  readonly release?: readonly string[]
  /** False with --no-wait. */
  readonly wait?: boolean
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
    return upgradeRunning(client, await client.status(), args, options)
  }
  const meant = name ?? nameOf(orStart)
  const client = await which(meant)
  const running = await client.status().catch(ifNotRunning)
  if (running === undefined) return start(orStart, args, { ...options, name: meant })
  const { node: _, ...others } = options
  demandSame(running, programOf(orStart, args, { ...others, name: meant }), options, name !== undefined)
  return upgradeRunning(client, running, args, options)
}

/** The name may be that of another program: an upgrade would replace that. */
function demandSame(running: Status, meant: Program, options: StartOptions, isNamed: boolean): void {
  const { retyped } = changesOf(running.command, [], options)
  const next = nextCommand(running.command, retyped)
  if (isSameProgram(next, meant.command, isNamed)) return
  throw new UsageError(
    `${running.name} runs another program, and was not upgraded: it runs ${whatRuns(running)}, and --or-start names ${whatRuns(meant)}. Choose another name for that, or stop ${running.name} first`,
  )
}

async function upgradeRunning(
  client: Client,
  first: Status,
  args: readonly string[],
  options: UpgradeCommandOptions,
): Promise<number> {
  const isJson = options.json === true
  const before = options.keeper === true ? await replaceKeeper(client, first, isJson) : first
  // The old one ends before the new one begins: that is a restart.
  if (options.exclusive === true) return restartKept(client, before, options)
  const { retyped, record } = changesOf(before.command, args, options)
  const next = nextCommand(before.command, retyped)
  if (!isJson) {
    print(`${paint('bold', client.name)}  generation ${before.generation} → ${before.generation + 1}`)
    print(`  ${whatRuns({ command: next })}`)
  }
  process.once('SIGINT', () => {
    const text = '\nthe upgrade goes on without you: cook-daemon status shows how it ends\n'
    process.stderr.write(text, () => process.exit(130))
  })
  const request = {
    ...retyped,
    release: options.release,
    ...(options.updateEnv && { env: process.env }),
    ...(Object.keys(record).length > 0 && { program: record }),
    ...keepChanges(before, options),
  }
  let serves: (Progress & { readonly type: 'serves' }) | undefined
  let last: Progress | undefined
  const warned = new Set<string>()
  for await (const progress of client.progress('upgrade', request)) {
    if (isJson) printJson(progress.type === 'serves' ? { ...progress, ...(await runsOf(client)) } : progress)
    else show(progress, last)
    last = progress
    if (progress.type === 'warning') warned.add(progress.text)
    if (progress.type === 'serves') serves = progress
    if (serves !== undefined && options.wait === false) break
  }
  if (serves === undefined) throw new Error(await lostText(client, before.pid))
  if (options.wait !== false) {
    const isGone = await untilGone([[before.pid, before.startTime]], longestEnd)
    if (!isJson && isGone) print(`${timeOf(last?.type === 'drained' ? last.ms : 0)}  old process gone`)
  }
  const now = await client.status().catch(() => undefined)
  if (record.logFile !== undefined) linkLog(openRunDirectory(process.env), client.name, record.logFile)
  if (!isJson) {
    // What came behind the end of the old version, or was not waited for.
    for (const { text } of now?.warnings ?? []) if (!warned.has(text)) print(warningText(text))
    print(servesText(client.name, serves, now, before))
  }
  if (now === undefined) return exitCodes.done
  if (whatRuns(now) !== whatRuns({ command: next }))
    note(`${client.name} runs ${whatRuns(now)}: that was changed while it started`)
  tellDoubts(client.name, now, before)
  return exitCodes.done
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
  return `${paint('green', '✓')} ${name} serves generation ${generation}${addresses && ` on ${addresses}`} (pid ${pid})${node}`
}

function show(progress: Progress, last: Progress | undefined): void {
  const text = textOf(progress)
  // Told each quarter of a second: only what is new.
  if (text === undefined || (last !== undefined && textOf(last) === text)) return
  print(`${timeOf('ms' in progress ? progress.ms : 0)}  ${text}`)
}

function textOf(progress: Progress): string | undefined {
  switch (progress.type) {
    case 'started':
      return 'new version started'
    case 'booted':
      return 'booted'
    case 'ready':
      return 'ready'
    case 'waiting':
      return `waits: ${progress.reason}`
    case 'warning':
      return warningText(progress.text)
    case 'serves':
      return progress.stays === undefined
        ? 'switched'
        : `switched; ${progress.stays.join(', ')} ${progress.stays.length === 1 ? 'stays' : 'stay'} with the old process until it closes`
    case 'draining':
      return `${progress.handedOver} of ${connections(progress.of)} moved`
    case 'drained': {
      const { handedOver, served, closed, cut, times } = progress
      const counts = `${connections(handedOver)} moved, ${served} finished, ${closed} closed, ${cut} cut`
      // Not of an old version without a plan.
      return [counts, ...timesText(times ?? {})].join('; ')
    }
    default:
      return undefined
  }
}

function warningText(text: string): string {
  return paint('yellow', `warning: ${text}`)
}

function connections(count: number): string {
  return `${count} connection${count === 1 ? '' : 's'}`
}

function timeOf(ms: number): string {
  return paint('dim', `${(ms / 1000).toFixed(2).padStart(7)} s`)
}
