/** What systemd hears of a service from its keeper: that it serves, is being replaced, or ends. */
import { type Manager, Notifier, type Told } from '../host/notify.ts'
import { exitWords } from '../process/launcher.ts'
import type { Keeper } from './keeper.ts'
import { say } from './log-lines.ts'
import type { Place } from './place.ts'

/** Of a line in `systemctl status`. */
const longestText = 300

/** Returns how to wait until it has heard all. */
export function tellManager(keeper: Keeper, manager: Manager): () => Promise<void> {
  let isUp = false
  const notifier = new Notifier(
    manager,
    () => (isUp ? stateOf(keeper) : { text: 'starting' }),
    (why) => say(`systemd could not be notified: systemd-notify: ${why}`),
  )
  const changed = () => notifier.changed()
  keeper.hearing.add({ changed, touched: changed })
  keeper.started.promise.then(() => {
    isUp = true
    changed()
  }, changed)
  return () => notifier.end()
}

function stateOf(keeper: Keeper): Told {
  const { all, isStopping, upgradeFault } = keeper
  if (isStopping) return { phase: 'STOPPING', text: 'stopping' }
  // After the commit the old ones drain, and the service is as ready as ever.
  const phase = all.some((place) => next(place) !== undefined) ? 'RELOADING' : 'READY'
  const fault = upgradeFault === undefined ? '' : `. The last upgrade failed: ${upgradeFault}`
  const text = [servesText(keeper), ...all.flatMap((place) => besides(place))].join(', ') + fault
  return { phase, text: text.replace(/\s+/g, ' ').slice(0, longestText) }
}

/** What is to take over there. */
function next({ serving, workers }: Place): number | undefined {
  return serving && [...workers.keys()].find((generation) => generation > serving.generation)
}

function servesText({ all, first, generation, restarts, lastExit }: Keeper): string {
  const serving = all.filter((place) => place.serving !== undefined)
  const count = all.length > 1 ? `, ${serving.length} of ${all.length} workers` : ''
  const crashes = restarts.crash + restarts.hang
  const again = crashes > 0 ? `, ${crashes} restarts after crashes` : ''
  if (first !== undefined) return `generation ${generation} serves${count}${again}`
  const how = lastExit === undefined ? '' : ` (${exitWords(lastExit)})`
  return `no worker serves${how}; clients wait until one is restarted${again}`
}

function besides({ serving, workers, number, home }: Place): string[] {
  if (serving === undefined) return []
  const where = home.size === undefined ? '' : `slot ${number}: `
  return [...workers.keys()].flatMap((generation) => {
    if (generation === serving.generation) return []
    return `${where}generation ${generation} ${generation > serving.generation ? 'starts' : 'drains'}`
  })
}
