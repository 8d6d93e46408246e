/** `scale`: more or fewer workers, while all of them serve. */
import { which } from './find-service.ts'
import { demandKeeper } from './keep.ts'
import { exitCodes, printDone, printJson, withVerdict } from './output.ts'
import { waitingFor } from './waiting.ts'

type Options = { readonly json?: boolean }
type Scaled = { readonly from: number; readonly to: number }

export async function scale(name: string, workers: number, { json }: Options): Promise<number> {
  const client = await which(name)
  const before = await client.status()
  demandKeeper(before)
  const what = `scaling ${client.name} to ${workers} worker${workers === 1 ? '' : 's'}`
  const scaled = waitingFor(what, client.ask('POST /scale', { workers })).catch((error: unknown) => {
    throw json === true ? error : withVerdict(error, `not scaled. Full log: cook-daemon logs ${client.name}`)
  })
  const { from, to } = (await scaled) as Scaled
  if (json === true) printJson(await client.status())
  else
    printDone(
      `${client.name} has ${to} worker${to === 1 ? '' : 's'}${from === to ? ', as before' : ` (${from} before)`}`,
    )
  return exitCodes.done
}
