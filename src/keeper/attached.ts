/** A worker that is no child of the keeper: the end of one is looked for. */
import { isGone } from '../node/system.ts'
import type { Worker } from './worker.ts'

/** How often, in milliseconds: nothing tells the end of a process that is no child. */
const lookInterval = 100

export function watchEnd(worker: Worker): Worker {
  const looking = setInterval(() => {
    if (!isGone(worker.identity)) return
    clearInterval(looking)
    // How, nobody but its own parent knows.
    worker.ended({ code: null, signal: null })
  }, lookInterval)
  return worker
}
