/** Workers that another keeper has started come to this one. */
import { workerName } from '../contract/environment.ts'
import { clientOf } from '../control/client.ts'
import { identityOf, servingOwner } from '../control/owner-files.ts'
import { messageOf } from '../errors.ts'
import { adoptChannel } from '../node/channel.ts'
import { openMeeting } from '../node/pair.ts'
import { watchEnd } from './attached.ts'
import type { Place } from './place.ts'
import { Worker } from './worker.ts'

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
