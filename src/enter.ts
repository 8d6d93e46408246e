/** The way in of every verb: the one service of this process, and the upgrade that started it. */
import { receive } from './handover/receive.ts'
import { enterProcess } from './process/state.ts'
import { Service } from './service.ts'
import { joinKeeper } from './upgrade/keeper-line.ts'
import { succeed } from './upgrade/successor.ts'

// As the state of the process: every copy of the library finds the same.
const key = Symbol.for('cook-daemon.service.1')
const shared = globalThis as { [key]?: Service }

/**
 * The service of this process. The first call makes it, and takes up the link to the predecessor.
 * A verb that only asks a question leaves the preload in charge.
 */
export function enter(verb: string, { isQuestion = false } = {}): Service {
  const state = enterProcess(verb)
  shared[key] ??= begin(new Service(state))
  if (!isQuestion) shared[key].preload?.stepAside(verb)
  return shared[key]
}

/** The preload of this process, if it still is in charge. */
export function preloadInCharge(): Service['preload'] {
  return shared[key]?.preload
}

function begin(service: Service): Service {
  const { stage, link } = service.state.entered.start
  // The link goes on to the daemon that this process starts.
  if (stage === 'parent' || link === undefined) return service
  const { keeper } = link
  if (keeper !== undefined) joinKeeper(service, { ...link, keeper })
  // Now, long before the commit: it hears all that comes in the turn of that.
  receive(service, link.predecessor, succeed(service, link))
  return service
}
