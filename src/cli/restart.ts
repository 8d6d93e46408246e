/** `restart`: the end of a daemon, and the same program once more. */
import type { Client } from '../control/client.ts'
import type { Status } from '../control/status.ts'
import { nextCommand } from '../process/command.ts'
import type { Started } from '../service-parts.ts'
import type { StopOptions } from './end-silent.ts'
import { ifNotRunning, servesNow, silentOwners, which } from './find-service.ts'
import { demandKeeper, keepChanges } from './keep.ts'
import { exitCodes, note, print, printDone, printJson, withVerdict } from './output.ts'
import { type AgainOptions, type Changes, changesOf, checkCommand } from './program.ts'
import { recordFor, servesText, startFrom, startProgram } from './start.ts'
import { endAll } from './stop.ts'
import { waitingFor } from './waiting.ts'
import { nodeText, tellDoubts, whatRuns } from './what-runs.ts'

export type RestartOptions = StopOptions & AgainOptions

/** The same program with the same options, where it was started, and with that environment. */
export async function restart(name: string | undefined, options: RestartOptions): Promise<number> {
  const client = await which(name)
  const running = await client.status().catch(() => undefined)
  if (running?.keeper !== undefined) {
    return restartKept(client, running, options, () => changesOf(running.command, [], options))
  }
  const known = running === undefined ? recordFor(client.name) : undefined
  if (known !== undefined) return startFrom(known, options)
  const { command: before, program, environment, isDead, node } = await startOf(client)
  const { retyped, record } = changesOf(before, [], options)
  const command = nextCommand(before, retyped)
  checkCommand(command)
  if (isDead) note(`${client.name} is not running: its last process was killed or crashed`)
  else await endAll(client, options)
  const isKnown = environment !== undefined
  if (!isKnown && options.updateEnv !== true) {
    note(`the environment in which ${client.name} was started is unknown: it gets the environment of this command`)
  }
  const env = isKnown && options.updateEnv !== true ? environment : process.env
  const again = { name: client.name, command, record: { ...program, ...record, name: client.name } }
  return startProgram(again, { ...options, keep: false }, { env, before: { command: before, node } })
}

/** Its keeper holds the listeners meanwhile: clients wait, and none is refused. */
export async function restartKept(
  client: Client,
  before: Status,
  options: RestartOptions,
  changes: () => Changes,
): Promise<number> {
  demandKeeper(before)
  const { retyped, record, env: described } = changes()
  checkCommand(nextCommand(before.command, retyped))
  const environment = described ?? (options.updateEnv === true ? process.env : undefined)
  const env = environment === undefined ? {} : { env: environment }
  const program = Object.keys(record).length > 0 ? { program: record } : {}
  const { killAfter } = options
  const asked = {
    ...retyped,
    ...env,
    ...program,
    ...(killAfter !== undefined && { killAfter }),
    ...keepChanges(before, options),
  }
  const what = `restarting ${client.name}; clients wait until it serves`
  const restarted = waitingFor(what, client.ask('POST /restart', asked)).catch(async (error: unknown) => {
    throw options.json === true ? error : withVerdict(error, await verdictOn(client))
  })
  const now = (await restarted) as Status
  if (options.json === true) printJson(now)
  else {
    printDone(`${client.name} ${servesText(now)}`)
    print(`  ${[whatRuns(now), nodeText(now.node, before)].join(', ')}`)
  }
  tellDoubts(client.name, now, before)
  return exitCodes.done
}

async function verdictOn(client: Client): Promise<string> {
  const now = await client.status().catch(() => undefined)
  const serves = servesNow(now) ? `generation ${now.generation} serves` : 'no process serves yet, clients wait'
  return `not restarted: ${serves}. Full log: cook-daemon logs ${client.name}`
}

type Found = Omit<Started, 'environment'> & {
  readonly environment?: Started['environment'] | undefined
  /** Its version, where the running process says it. */
  readonly node?: string
  readonly isDead: boolean
}

/**
 * What was started: as the running process says it, or else as it has written it down. Only what is
 * written down has the environment, which holds secrets and is no part of a status.
 */
async function startOf(client: Client): Promise<Found> {
  try {
    const { pid, startTime, command, program, node } = await client.status()
    const owner = client.owners().find((one) => one.pid === pid && one.startTime === startTime)
    const written = client.lastOwner()
    // A process that has given up root must not have root start what it likes: it is one of which
    // that is written, or that could write nothing itself.
    const isOther = written?.user !== undefined || owner === undefined
    if (written !== undefined && isOther) return { ...written, node, isDead: false }
    return { command, ...(program && { program }), environment: owner?.environment, node, isDead: false }
  } catch (error) {
    const silent = silentOwners(client, error).at(-1)
    if (silent !== undefined) return { ...silent, isDead: false }
    ifNotRunning(error)
    const dead = client.lastDead()
    if (dead === undefined) throw error
    return { ...dead, isDead: true }
  }
}
