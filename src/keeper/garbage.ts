/**
 * What workers leave behind. A keeper allocates so little that V8 would not look through its heap
 * for months, and it would grow with each upgrade until then.
 */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

/** After the end of a worker, in milliseconds: what starts the next one goes first. */
const later = 1_000

let isDue = false
let collect: (() => void) | undefined

/** Once for all that end until then. */
export function collectSoon(ms: number = later): void {
  if (isDue) return
  isDue = true
  setTimeout(() => {
    isDue = false
    collect ??= collector()
    collect()
  }, ms).unref()
}

function collector(): () => void {
  setFlagsFromString('--expose-gc')
  return runInNewContext('gc') as () => void
}
