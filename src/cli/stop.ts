/** `stop`: the end of a daemon, whether it answers or not. */
import type { Client } from '../control/client.ts'
import { type End, endByWord, type StopOptions, standsStill } from './ending.ts'
import { exitCodes, paint, print, printJson } from './output.ts'
import { which } from './which.ts'

export async function stop(name: string | undefined, options: StopOptions): Promise<number> {
  const client = await which(name)
  const { pid, wasKilled, answered } = await endAll(client, options)
  if (options.json === true) printJson({ name: client.name, pid, wasKilled, answered })
  else print(`${paint('green', client.name)} has stopped${wasKilled ? ', and had to be killed' : ''}`)
  return exitCodes.done
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
