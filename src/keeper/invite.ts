/** Workers that another keeper has started come to this one. */
import { workerName } from '../contract/environment.ts'
import { clientOf } from '../control/client.ts'
import { identityOf, type Owner, servingOwner } from '../control/owner-files.ts'
import { messageOf } from '../errors.ts'
import { adoptChannel } from '../node/channel.ts'
import { openMeeting } from '../node/pair.ts'
import { watchEnd } from './attached.ts'
import type { Place } from './place.ts'
import { Worker } from './worker.ts'

/** Between two tries, in milliseconds. */
const pauses = [100, 300, 1_000] as const

/**
 * Has the worker of a place, which another keeper has started, come to this one. It is tried for as
 * long as one lives there: nobody else can serve in its place. False: nobody lives there.
 */
export async function invite(place: Place, folder: string): Promise<boolean> {
  const name = workerName(place.home.plan.name, place.number)
  for (let tries = 0; ; tries++) {
    const owner = servingOwner(folder, name)
    if (owner === undefined) return false
    try {
      await ask(place, folder, owner)
      return true
    } catch (error) {
      if (tries === 0) place.say(`its worker (pid ${owner.pid}) could not be adopted yet: ${messageOf(error)}`)
    }
    await new Promise((done) => setTimeout(done, pauses[Math.min(tries, pauses.length - 1)]))
  }
}

async function ask(place: Place, folder: string, owner: Owner): Promise<void> {
  const meeting = await openMeeting(folder)
  try {
    await clientOf(folder, workerName(place.home.plan.name, place.number)).ask('POST /keeper', { path: meeting.path })
    const end = await meeting.accepted
    const channel = adoptChannel(end.fd)
    end.detach()
    const { generation } = owner
    const { release } = place
    place.attach(watchEnd(new Worker(identityOf(owner), { generation, release }, channel, place.events)))
  } finally {
    meeting.close()
  }
}
