/** `scale`: more or fewer workers, while all of them serve. */
import { which } from './find-service.ts'
import { demandKeeper } from './keep.ts'
import { exitCodes, paint, print, printJson } from './output.ts'
import { waitingFor } from './waiting.ts'

type Options = { readonly json?: boolean }
type Scaled = { readonly from: number; readonly to: number }

export async function scale(name: string, workers: number, { json }: Options): Promise<number> {
  const client = await which(name)
  const before = await client.status()
  demandKeeper(before)
  const what = `${client.name} gets ${workers} worker${workers === 1 ? '' : 's'}: until all of them serve`
  const { from, to } = (await waitingFor(what, client.ask('POST /scale', { workers }))) as Scaled
  if (json === true) printJson(await client.status())
  else
    print(
      `${paint('green', '✓')} ${client.name} has ${to} worker${to === 1 ? '' : 's'}${from === to ? ', as before' : ` (${from} before)`}`,
    )
  return exitCodes.done
}
