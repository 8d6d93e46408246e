/** A stop that did not come as a signal: the program ends as it does at one. */
import { isHandled, raise } from '../node/signals.ts'
import type { Service } from '../service.ts'
import { beLameDuck } from './lame-duck.ts'
import { giveUpUpgrade, stopService } from './leave.ts'
import { patience } from './plan.ts'

/**
 * A signal that ends the service. SIGTERM comes from whoever has others take its place, and clients
 * need a while to hear of them; SIGINT comes from somebody at a terminal, who waits.
 */
export async function stopBySignal(service: Service, signal: NodeJS.Signals): Promise<void> {
  if (signal !== 'SIGTERM' || (await untilDue(service))) await stopService(service)
}

/** First a lame duck, where time is given for that. False: the stop is known already. */
export async function untilDue(service: Service): Promise<boolean> {
  const { stops, lameDuck, departure, endLameDuck } = service
  if (lameDuck === 0 || stops.isAsked || departure !== undefined) return true
  const word = stops.hear()
  if (word === 'repeated' || endLameDuck !== undefined) {
    if (word === 'again') endLameDuck?.()
    return false
  }
  await giveUpUpgrade(service)
  await beLameDuck(service)
  // The stop that follows is the same one, however long that was.
  stops.begin()
  return true
}

/**
 * A program that handles SIGTERM ends as it is used to; where nothing does, the daemon alone is
 * stopped. One that has just been told is told no second time.
 */
export function stopAsBySignal(service: Service): void {
  if (service.stops.isRepeated) return
  service.stops.isAsked = true
  setImmediate(() => {
    if (isHandled('SIGTERM')) void leaveToProgram(service)
    else void stopService(service)
  })
}

/** It closes what is idle at once: clients in use read in their next answer that it is the last. */
async function leaveToProgram(service: Service): Promise<void> {
  await giveUpUpgrade(service)
  await beLameDuck(service, patience)
  raise('SIGTERM')
}
