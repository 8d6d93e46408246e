/** A stop that did not come as a signal: the program ends as it does at one. */
import { isHandled, raise } from '../node/signals.ts'
import type { Service } from '../service.ts'
import { stopService } from './leave.ts'

/**
 * A program that handles SIGTERM ends as it is used to; where nothing does, the daemon alone is
 * stopped. One that has just been told is told no second time.
 */
export function stopAsBySignal(service: Service): void {
  if (service.stops.isRepeated) return
  setImmediate(() => {
    if (isHandled('SIGTERM')) raise('SIGTERM')
    else void stopService(service)
  })
}
