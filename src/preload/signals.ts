/** Signals of an unmodified program: SIGUSR2 upgrades; what it does at SIGTERM stays its own. */
import { sendElsewhere } from '../handover/lame-duck.ts'
import { stopService, tellFailedUpgrade } from '../handover/leave.ts'
import { upgradeService } from '../handover/one-of-several.ts'
import { Clock } from '../handover/plan.ts'
import { untilDue } from '../handover/stop.ts'
import { restoreFromSpare } from '../listen/restore-path.ts'
import { type Emitter, wrapEmit } from '../node/emitters.ts'
import { isHandled, raise, signalNumbers, watchOwnSignals } from '../node/signals.ts'
import { defaults } from '../options.ts'
import type { Service } from '../service.ts'

export function watchSignals(service: Service): { end(): void } {
  const { stopSignals } = defaults
  /** The program was told to end: it has had its SIGTERM. */
  let wasTold = false
  /** The program looks after itself. */
  let isAside = false

  const onUpgrade = () => {
    // A signal has no answer: who sent it finds in the log why nothing came of it.
    upgradeService(service, {}).catch((error: Error) => tellFailedUpgrade(service, error))
  }
  const onStop = (signal: NodeJS.Signals) => {
    const isProgramOwn = isHandled(signal, 1)
    wasTold ||= isProgramOwn
    if (isProgramOwn && !service.hasSuccessor) {
      service.stops.hear()
      leaveToProgram(service)
    }
    // Before it serves there is nothing to finish, and whoever waits for it reads in the exit code
    // what ended it.
    else if (!service.hasAnswered) process.exit(128 + signalNumbers()[signal])
    else void stopService(service)
  }
  /** What it has sent itself, as Nest does when it has finished, or is sent by us: on its way. */
  const own = new Set<string | symbol>()
  const endOwn = watchOwnSignals((signal) => own.add(signal))
  /**
   * Not for the program: one stop may come as several signals, and many programs end at once at the
   * second. What it sends itself is its last word in the same stop, however long it took.
   */
  const isRepeated = (name: string | symbol) => {
    const { stops } = service
    if (!own.delete(name)) return stops.isRepeated
    stops.begin()
    return false
  }
  // Programs have a use of their own for it (nodemon's restart; Nest ends at every signal there
  // is), which does not go together with this one: it is kept from their listeners.
  const giveBack = wrapEmit(process as Emitter, (emit, name, ...args) => {
    if (name === 'SIGUSR2') {
      onUpgrade()
      return true
    }
    const isOwn = own.has(name)
    const isStop = (stopSignals as readonly (string | symbol)[]).includes(name)
    if (isStop && isRepeated(name)) return true
    // The program would close its servers at once: it hears of it when its clients have.
    const isEarly = name === 'SIGTERM' && !isOwn && service.hasAnswered && service.lameDuck > 0
    if (!isEarly || service.departure !== undefined) return emit(name, ...args)
    void untilDue(service).then((isDue) => isDue && emit(name, ...args))
    return true
  })
  // What a signal calls is the `emit` of the moment at which the first listener comes.
  process.on('SIGUSR2', onUpgrade)
  for (const signal of stopSignals) process.on(signal, onStop)
  // Whoever waits for the report goes first.
  void service.gone.promise.then(() => setImmediate(leave))

  /** The drain is over. */
  function leave(): void {
    if (isAside) return
    // Still listening: one more signal of the same stop, on its way, would kill it in its exit.
    if (!service.hasSuccessor || !isHandled('SIGTERM', 1)) process.exit(0)
    // A program that sends itself the signal when it has finished, as Nest does, ends by it only
    // where nobody listens.
    for (const signal of stopSignals) process.removeListener(signal, onStop)
    // Some remove the file of their Unix listener as well, which is the successor's.
    process.on('exit', () => service.handles.handedPaths.forEach(restoreFromSpare))
    // Its handlers do what they do at a stop; what they leave undone, or their end, is waited for
    // until the deadline.
    const endsAt = service.departure?.clock.endsAt ?? 0
    setTimeout(() => process.exit(0), Math.max(0, endsAt - performance.now())).unref()
    if (wasTold) return
    own.add('SIGTERM')
    raise('SIGTERM')
  }

  return {
    end(): void {
      isAside = true
      giveBack()
      endOwn()
      process.removeListener('SIGUSR2', onUpgrade)
      for (const signal of stopSignals) process.removeListener(signal, onStop)
    },
  }
}

/**
 * The program ends this process itself: an upgrade that runs is given up, and older generations
 * come to an end.
 */
function leaveToProgram(service: Service): void {
  const { receiving } = service
  service.leaveToProgram()
  service.stopUpgrade('stopping')
  // Its server.close() waits for all connections: busy clients would keep theirs for ever.
  const clock = new Clock(service.drainTimeout)
  sendElsewhere(service, clock)
  // Nothing of ours keeps the process from its end.
  clock.stop()
  receiving?.tellStop()
}
