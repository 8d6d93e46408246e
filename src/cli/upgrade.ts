/** `upgrade`: replaces a running daemon by its new version, and shows how far it is. */
import type { Client } from '../control/client.ts'
import type { Progress } from '../control/status.ts'
import { untilGone } from '../node/processes.ts'
import { ifNotRunning, which } from './find-service.ts'
import { exitCodes, paint, print, printJson } from './output.ts'
import { nameOf, type StartOptions } from './program.ts'
import { start } from './start.ts'

export type UpgradeCommandOptions = StartOptions & {
  readonly orStart?: string
  readonly updateEnv?: boolean
  readonly release?: readonly string[]
  /** False with --no-wait. */
  readonly wait?: boolean
}

/** How long the old version may take from the end of its drain to its own, in milliseconds. */
const longestEnd = 5_000

export async function upgrade(
  name: string | undefined,
  args: readonly string[],
  options: UpgradeCommandOptions,
): Promise<number> {
  const { orStart } = options
  if (orStart === undefined) return upgradeRunning(await which(name), options)
  const meant = name ?? options.name ?? nameOf(orStart)
  const client = await which(meant)
  const running = await client.status().catch(ifNotRunning)
  return running === undefined ? start(orStart, args, { ...options, name: meant }) : upgradeRunning(client, options)
}

async function upgradeRunning(client: Client, options: UpgradeCommandOptions): Promise<number> {
  const { readyTimeout, drainTimeout, overlap, release, isJson } = { ...options, isJson: options.json === true }
  const before = await client.status()
  if (!isJson) print(`${paint('bold', client.name)}: generation ${before.generation}, pid ${before.pid}`)
  process.once('SIGINT', () => {
    const text = '\nthe upgrade goes on without you: cook-daemon status shows how it ends\n'
    process.stderr.write(text, () => process.exit(130))
  })
  const request = { readyTimeout, drainTimeout, overlap, release, ...(options.updateEnv && { env: process.env }) }
  let hasSucceeded = false
  let last: Progress | undefined
  for await (const progress of client.progress('upgrade', request)) {
    if (isJson) printJson(progress)
    else show(progress, last)
    last = progress
    if (progress.type === 'serves') hasSucceeded = true
    if (hasSucceeded && options.wait === false) return exitCodes.done
  }
  if (!hasSucceeded) throw new Error(await lostText(client, before.pid))
  const isGone = await untilGone([[before.pid, before.startTime]], longestEnd)
  if (!isJson && isGone) print(`${timeOf(last?.type === 'drained' ? last.ms : 0)}  old one gone`)
  return exitCodes.done
}

/** The daemon ended in the middle: whoever serves now is looked for. */
async function lostText(client: Client, pid: number): Promise<string> {
  const now = await client.status().catch(() => undefined)
  const who = now === undefined ? 'nobody serves' : `pid ${now.pid}, generation ${now.generation}, serves`
  return `the old version (pid ${pid}) ended during the upgrade; ${who} now`
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
    case 'serves':
      return paint('green', `serves: generation ${progress.generation}, pid ${progress.pid}`)
    case 'draining':
      return `handed over ${progress.handedOver} of ${progress.of}`
    case 'drained': {
      const { handedOver, served, closed, cut } = progress
      return `old one drained: ${handedOver} handed over, ${served} served, ${closed} closed, ${cut} cut`
    }
    default:
      return undefined
  }
}

function timeOf(ms: number): string {
  return paint('dim', `${(ms / 1000).toFixed(3).padStart(8)} s`)
}
