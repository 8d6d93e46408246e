/** `stop` and `restart`: the end of a daemon, whether it answers or not. */
import type { Client } from '../control/client.ts'
import { protocolVersion } from '../core/protocol.ts'
import { type End, endByWord, type StopOptions, standsStill } from './ending.ts'
import { exitCodes, paint, print, printJson } from './output.ts'
import { startProgram } from './start.ts'
import { which } from './which.ts'

export async function stop(name: string | undefined, options: StopOptions): Promise<number> {
  const client = await which(name)
  const { pid, wasKilled, answered } = await endAll(client, options)
  if (options.json === true) printJson({ name: client.name, pid, wasKilled, answered })
  else print(`${paint('green', client.name)} has stopped${wasKilled ? ', and had to be killed' : ''}`)
  return exitCodes.done
}

/** The same program with the same options, and with the environment of whoever types it. */
export async function restart(name: string | undefined, options: StopOptions): Promise<number> {
  const client = await which(name)
  // One that does not answer has left word of what it is.
  const silent = (error: unknown) => {
    const owner = standsStill(error) ? client.owners().at(-1) : undefined
    if (owner === undefined) throw error
    return owner
  }
  const { command, program = { protocol: protocolVersion } } = await client.status().catch(silent)
  await endAll(client, options)
  const again = { name: client.name, command, record: { ...program, name: client.name } }
  return startProgram(again, options.json === true)
}

/** Ends all generations; what does not end in time is killed. */
export async function endAll(client: Client, options: StopOptions): Promise<End> {
  try {
    // A question first: a POST that waits in a process that stands still would be a second stop once that goes on, which cuts what it still answers.
    await client.status()
    return await endByWord(client, options)
  } catch (error) {
    if (!standsStill(error)) throw error
    return (await import('./stop-silent.ts')).endSilent(client, options, error)
  }
}
