/** `scale`: more or fewer workers, while all of them serve. */
import { which } from './find-service.ts'
import { demandKeeper } from './keep.ts'
import { exitCodes, paint, print, printJson } from './output.ts'

type Options = { readonly json?: boolean }

export async function scale(name: string, workers: number, { json }: Options): Promise<number> {
  const client = await which(name)
  const before = await client.status()
  demandKeeper(before)
  const { from, to } = (await client.ask('POST /scale', { workers })) as { readonly from: number; readonly to: number }
  if (json === true) printJson(await client.status())
  else
    print(
      `${paint('green', '✓')} ${client.name} has ${to} worker${to === 1 ? '' : 's'}${from === to ? ', as before' : ` (${from} before)`}`,
    )
  return exitCodes.done
}
