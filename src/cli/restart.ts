/** `restart`: the end of a daemon, and the same program once more. */
import type { StopOptions } from './end-silent.ts'
import { silentOwners, which } from './find-service.ts'
import { startProgram } from './start.ts'
import { endAll } from './stop.ts'

/** The same program with the same options, and with the environment of whoever types it. */
export async function restart(name: string | undefined, options: StopOptions): Promise<number> {
  const client = await which(name)
  // One that does not answer has written down what it is.
  const fromOwner = (error: unknown) => {
    const owner = silentOwners(client, error).at(-1)
    if (owner === undefined) throw error
    return owner
  }
  const { command, program = {} } = await client.status().catch(fromOwner)
  await endAll(client, options)
  const again = { name: client.name, command, record: { ...program, name: client.name } }
  return startProgram(again, options.json === true)
}
