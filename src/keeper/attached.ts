/** A worker that is no child of the keeper: how it is found, and that its end is looked for. */
import { workerName } from '../contract/environment.ts'
import { clientOf } from '../control/client.ts'
import { identityOf, servingOwner } from '../control/owner-files.ts'
import { messageOf } from '../errors.ts'
import { adoptChannel } from '../node/channel.ts'
import { openMeeting } from '../node/pair.ts'
import { isGone } from '../node/system.ts'
import type { Place } from './place.ts'
import { Worker } from './worker.ts'

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

/**
 * Has the worker of a place, which another keeper has started, come to this one. False: nobody
 * lives there, or it does not respond.
 */
export async function invite(place: Place, folder: string): Promise<boolean> {
  const name = workerName(place.home.plan.name, place.number)
  const owner = servingOwner(folder, name)
  if (owner === undefined) return false
  const meeting = await openMeeting(folder)
  try {
    await clientOf(folder, name).ask('POST /keeper', { path: meeting.path })
    const { fd } = await meeting.accepted
    const { generation } = owner
    const { release } = place
    place.attach(watchEnd(new Worker(identityOf(owner), { generation, release }, adoptChannel(fd), place.events)))
    return true
  } catch (error) {
    place.say(`its worker, pid ${owner.pid}, could not be taken up: ${messageOf(error)}`)
    return false
  } finally {
    meeting.close()
  }
}
