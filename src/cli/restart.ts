/** `restart`: the end of a daemon, and the same program once more. */
import type { Client } from '../control/client.ts'
import type { Started } from '../service-parts.ts'
import type { StopOptions } from './end-silent.ts'
import { ifNotRunning, silentOwners, which } from './find-service.ts'
import { startProgram } from './start.ts'
import { endAll } from './stop.ts'

export type RestartOptions = StopOptions & { readonly updateEnv?: boolean }

/** The same program with the same options, where it was started, and with that environment. */
export async function restart(name: string | undefined, options: RestartOptions): Promise<number> {
  const client = await which(name)
  const { command, program, environment, isDead } = await startOf(client)
  if (isDead) tellWhat(`${client.name} is not running: its last process was killed or has crashed`)
  else await endAll(client, options)
  const isKnown = environment !== undefined
  if (!isKnown && options.updateEnv !== true) {
    tellWhat(`the environment of the start of ${client.name} is not known: it gets that of this command`)
  }
  const env = isKnown && options.updateEnv !== true ? environment : process.env
  const again = { name: client.name, command, record: { ...program, name: client.name } }
  return startProgram(again, options.json === true, env)
}

type Found = Omit<Started, 'environment'> & {
  readonly environment?: Started['environment'] | undefined
  readonly isDead: boolean
}

/**
 * What was started: as the running process says it, or else as it has written it down. Only what is
 * written down has the environment, which holds secrets and is no part of a status.
 */
async function startOf(client: Client): Promise<Found> {
  try {
    const { pid, startTime, command, program } = await client.status()
    const owner = client.owners().find((one) => one.pid === pid && one.startTime === startTime)
    return { command, ...(program && { program }), environment: owner?.environment, isDead: false }
  } catch (error) {
    const silent = silentOwners(client, error).at(-1)
    if (silent !== undefined) return { ...silent, isDead: false }
    ifNotRunning(error)
    const dead = client.lastDead()
    if (dead === undefined) throw error
    return { ...dead, isDead: true }
  }
}

/** On stderr: stdout may be JSON. */
function tellWhat(text: string): void {
  process.stderr.write(`cook-daemon: ${text}\n`)
}
