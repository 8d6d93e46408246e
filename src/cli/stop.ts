/** `stop` and `restart`. */
import type { Client } from '../control/client.ts'
import type { GenerationRecord, Identity } from '../core/protocol.ts'
import { CookError } from '../errors.ts'
import { isAlive, system } from '../node/system.ts'
import { exitCodes, paint, print, printJson } from './output.ts'
import { startProgram } from './start.ts'
import { which } from './which.ts'

type Options = { readonly json?: boolean }

/** What a daemon gets beyond its drainTimeout, in milliseconds, before it is killed. */
const grace = 5_000

export async function stop(name: string | undefined, { json }: Options): Promise<number> {
  const client = await which(name)
  const { pid, wasKilled } = await end(client)
  if (json === true) printJson({ name: client.name, pid, wasKilled })
  else print(`${paint('green', client.name)} has stopped${wasKilled ? ', and had to be killed' : ''}`)
  return exitCodes.done
}

/** The same program with the same options, and with the environment of whoever types it. */
export async function restart(name: string | undefined, { json }: Options): Promise<number> {
  const client = await which(name)
  const { command, program = { protocol: 1 } } = await client.status()
  await end(client)
  return startProgram({ name: client.name, command, record: { ...program, name: client.name } }, json === true)
}

/** Ends all generations; what does not end in time is killed. */
async function end(client: Client): Promise<{ readonly pid: number | undefined; readonly wasKilled: boolean }> {
  let told: { readonly drainTimeout: number; readonly generations: readonly GenerationRecord[] } | undefined
  for await (const progress of client.progress('stop')) {
    if (progress.type === 'stopping') told = progress
  }
  if (told === undefined) {
    const { name, path } = client
    throw new CookError('ERR_COOK_NO_ANSWER', { name, path, why: 'what answered is no cook-daemon' })
  }
  const { drainTimeout, generations } = told
  const identities = generations.map(({ pid, startTime }) => [pid, startTime] as const)
  const isGone = await untilGone(identities, drainTimeout + grace)
  if (!isGone) {
    for (const identity of identities) system.kill(identity, 'SIGKILL')
    await untilGone(identities, grace)
  }
  return { pid: generations.at(-1)?.pid, wasKilled: !isGone }
}

/** True if they are gone in time. No event tells the end of a process that is no child. */
export async function untilGone(identities: readonly Identity[], ms: number): Promise<boolean> {
  const deadline = performance.now() + ms
  while (identities.some((identity) => isAlive(identity))) {
    if (performance.now() > deadline) return false
    await new Promise((done) => setTimeout(done, 2))
  }
  return true
}
