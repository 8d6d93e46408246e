/** Which handle a person means, and which no other version can ask for. */
import { placeOf, placeOfHandle } from '../process/addresses.ts'
import type { Inherited } from '../process/handles.ts'

/** Whether a word of `--release` means this handle: its name, its port, its address or its path. */
export function isMeant(handle: Inherited, word: string): boolean {
  if (word === handle.name || word === placeOfHandle(handle)) return true
  if (handle.kind === 'unix' || handle.kind === 'file') return false
  return word === `${handle.port}` || word === `:${handle.port}` || word === placeOf(handle)
}

/** Whether the system chose the port: the program asked for 0 (process/handles.ts, tcpName). */
export function isChosenPort({ kind, name }: Inherited): boolean {
  return kind === 'tcp' && /:0(#\d+)?$/.test(name)
}
