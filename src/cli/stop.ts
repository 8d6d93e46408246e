/** `stop` and `restart`. */
import type { Client } from '../control/client.ts'
import type { Status } from '../control/status.ts'
import type { Identity } from '../core/protocol.ts'
import { isAlive, system } from '../node/system.ts'
import { exitCodes, paint, print, printJson } from './output.ts'
import { startProgram } from './start.ts'
import { which } from './which.ts'

type Options = { readonly json?: boolean }

/** What a daemon gets beyond its drainTimeout, in milliseconds, before it is killed. */
const grace = 5_000

export async function stop(name: string | undefined, { json }: Options): Promise<number> {
  const client = await which(name)
  const status = await client.status()
  const wasKilled = await end(client, status)
  if (json === true) printJson({ name: client.name, pid: status.pid, wasKilled })
  else print(`${paint('green', client.name)} has stopped${wasKilled ? ', and had to be killed' : ''}`)
  return exitCodes.done
}

/** The same program with the same options, and with the environment of whoever types it. */
export async function restart(name: string | undefined, { json }: Options): Promise<number> {
  const client = await which(name)
  const status = await client.status()
  await end(client, status)
  const { command, program = { protocol: 1 } } = status
  return startProgram({ name: client.name, command, record: { ...program, name: client.name } }, json === true)
}

/** Returns whether something had to be killed. */
async function end(client: Client, status: Status): Promise<boolean> {
  const identities = status.generations.map(({ pid, startTime }) => [pid, startTime] as const)
  let { drainTimeout } = status
  for await (const progress of client.progress('stop')) {
    if (progress.type === 'stopping') drainTimeout = progress.drainTimeout
  }
  if (await untilGone(identities, drainTimeout + grace)) return false
  for (const identity of identities) system.kill(identity, 'SIGKILL')
  await untilGone(identities, grace)
  return true
}

/** True if they are gone in time. No event tells the end of a process that is no child. */
export async function untilGone(identities: readonly Identity[], ms: number): Promise<boolean> {
  const deadline = performance.now() + ms
  while (identities.some((identity) => isAlive(identity))) {
    if (performance.now() > deadline) return false
    await new Promise((done) => setTimeout(done, 10))
  }
  return true
}
