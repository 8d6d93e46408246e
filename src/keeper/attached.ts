/** A worker that is the parent of its keeper, since it has started that itself. */
import type { Identity } from '../contract/environment.ts'
import { isGone } from '../node/system.ts'
import type { Release } from './plan.ts'
import { Worker, type WorkerEvents } from './worker.ts'

/** How often it is looked for, in milliseconds: nothing tells the end of a parent. */
const lookInterval = 100

export function watchParent(
  identity: Identity,
  version: { readonly generation: number; readonly release: Release },
  events: WorkerEvents,
): Worker {
  const worker = new Worker(identity, version, process, events)
  const looking = setInterval(() => {
    if (!isGone(identity)) return
    clearInterval(looking)
    // How, nobody but its own parent knows.
    worker.ended({ code: null, signal: null })
  }, lookInterval)
  return worker
}
