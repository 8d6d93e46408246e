/** Before a stop: clients are still served, and each answer sends its client elsewhere. */
import type { Service } from '../service.ts'
import { noCounts } from './counts.ts'
import { protocolOf } from './drain.ts'
import { Clock } from './plan.ts'

/**
 * Whoever shares requests out among several of this service needs a while to hear that this one
 * goes. Resolves when it is time to drain: at once where no time is given for this, where another
 * process has the service already, and when endLameDuck() is called.
 */
export async function beLameDuck(service: Service, time = service.lameDuck): Promise<void> {
  if (time === 0 || service.phase !== 'ready') return
  service.takeStep('go lame')
  const clock = new Clock(time)
  const end = sendElsewhere(service, clock)
  service.endLameDuck = () => clock.deadline.set()
  await clock.deadline.wait()
  clock.stop()
  end()
  service.endLameDuck = undefined
  service.stops.wasAnnounced = true
}

/** From now on each answer is the last one of its connection. Returns what ends that. */
export function sendElsewhere({ listeners }: Service, clock: Clock): () => void {
  const protocols = listeners.map(({ name, server }) => {
    return protocolOf({ name, server, mover: undefined, rule: false, counts: noCounts(), clock })
  })
  for (const protocol of protocols) protocol.goLame()
  return () => {
    for (const protocol of protocols) protocol.dispose()
  }
}
