/** How a worker is ended by its keeper: told first, and killed when its time is over. */
import { killSession } from '../node/sessions.ts'
import { system } from '../node/system.ts'
import { patientTimer } from '../waiting.ts'
import type { Worker } from './worker.ts'

/** What a process gets beyond its drainTimeout, in milliseconds, before it is killed. */
const grace = 5_000

/** `request`: as a stop by the control socket, since a signal may kill it at once. */
export type EndBy = NodeJS.Signals | 'request'

export function endWorker(worker: Worker, by: EndBy, ms: number): void {
  worker.wasTold = true
  if (by === 'request') worker.station.send({ type: 'stop' })
  else system.kill(worker.identity, by)
  // One whose event loop is blocked hears nothing.
  const stopTimer = patientTimer(ms, () => void killSession(worker.identity))
  worker.onExit(stopTimer)
}

/** Until it is killed, in milliseconds; `killAfter` is somebody's own word. */
export function timeToEnd(drainTimeout: number, killAfter?: number): number {
  return killAfter ?? drainTimeout + grace
}
