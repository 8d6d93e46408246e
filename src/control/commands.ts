/** What the control socket may have a daemon do, and how it reports how far it is. */
import type { WarningRecord } from '../contract/messages.ts'
import type { DaemonReport } from '../handover/leave.ts'
import { upgradeService } from '../handover/one-of-several.ts'
import { stopAsBySignal } from '../handover/stop.ts'
import type { DaemonUpgradeOptions, DrainReport } from '../options.ts'
import type { Service } from '../service.ts'
import type { OnStep } from '../upgrade/conversation.ts'
import type { HowAsked } from '../upgrade/replace.ts'
import { addressText, type Progress } from './status.ts'

/** How often whoever looks on hears how far a drain is, in milliseconds. */
const progressInterval = 250

type OnProgress = (progress: Progress) => void

/**
 * Resolves when this process has drained; rejects if the upgrade failed, or the successor was lost.
 */
export async function upgradeByRequest(
  service: Service,
  options: DaemonUpgradeOptions,
  { program, isHeld }: Pick<HowAsked, 'program' | 'isHeld'>,
  onProgress: OnProgress,
): Promise<void> {
  const ms = stopwatch()
  const waiting = new Waiting((reason) => onProgress({ type: 'waiting', ms: ms(), reason }))
  const endWarnings = hearWarnings(service, (warning) => onProgress({ type: 'warning', ms: ms(), ...warning }))
  const onStep: OnStep = (step, waits) => {
    waiting.onStep(step, waits)
    if (step !== 'waits') onProgress({ type: step, ms: ms() })
  }
  try {
    const { pid, generation, drained }: DaemonReport = await upgradeService(service, options, {
      program,
      isHeld,
      onStep,
    })
    // By their addresses: they have no name that anybody would know.
    const stays = service.listeners
      .filter((one) => service.departure?.keeps(one) ?? one.stays === true)
      .map(({ server }) => addressText(server.address()))
    onProgress({ type: 'serves', ms: ms(), pid, generation, ...(stays.length > 0 && { stays }) })
    const lost = service.departure?.returned.then((error) => {
      throw error
    })
    const ended = Promise.race([service.drained.promise, drained, ...(lost === undefined ? [] : [lost])])
    await watchDrain(service, ended, ms, onProgress)
  } finally {
    waiting.end()
    endWarnings()
  }
}

/**
 * Those of both versions, each once, and what is wrong with the log now: lines are lost there. That
 * the upgrade failed is its answer.
 */
function hearWarnings({ warnings }: Service, hear: (warning: WarningRecord) => void): () => void {
  const heard = new Set<string>()
  const hearOnce = (warning: WarningRecord) => {
    if (warning.about === 'upgrade' || heard.has(warning.text)) return
    heard.add(warning.text)
    hear(warning)
  }
  const log = warnings.get('log')
  if (log !== undefined) hearOnce(log)
  return warnings.hear(hearOnce)
}

/** How long nothing may happen before it is said what is waited for, in milliseconds. */
const patience = { elsewhere: 300, ready: 3_000 }

/** Tells what a new version waits for, if it does not come in a moment. */
class Waiting {
  readonly #tell: (reason: string) => void
  #timer: NodeJS.Timeout | undefined

  constructor(tell: (reason: string) => void) {
    this.#tell = tell
  }

  onStep: OnStep = (step, waits) => {
    this.end()
    if (step !== 'booted' && step !== 'waits') return
    const { reason = '', listens = [], missing = [] } = waits ?? {}
    const isElsewhere = listens.length > 0 && missing.length > 0
    const words = reason || 'the new version is not ready yet'
    this.#timer = setTimeout(() => this.#tell(words), isElsewhere ? patience.elsewhere : patience.ready)
  }

  end(): void {
    clearTimeout(this.#timer)
  }
}

/** Resolves when this process has drained. */
export async function stopByRequest(service: Service, onProgress: OnProgress): Promise<void> {
  const ms = stopwatch()
  const { drainTimeout, history, record } = service
  onProgress({ type: 'stopping', ms: ms(), drainTimeout, generations: [...history.older, record] })
  const drained = watchDrain(service, service.drained.promise, ms, onProgress)
  stopAsBySignal(service)
  await drained
}

async function watchDrain(
  service: Service,
  drained: Promise<DrainReport>,
  ms: () => number,
  onProgress: OnProgress,
): Promise<void> {
  const of = service.openConnections
  const timer = setInterval(() => {
    const { handedOver = 0, clock } = service.departure ?? {}
    onProgress({ type: 'draining', ms: ms(), handedOver, of, ...(clock && { stage: clock.stage }) })
  }, progressInterval)
  try {
    const { handedOver, served, closed, cut, times } = await drained
    onProgress({ type: 'drained', ms: ms(), handedOver, served, closed, cut, times })
  } finally {
    clearInterval(timer)
  }
}

/** Whole milliseconds since now. */
function stopwatch(): () => number {
  const begin = performance.now()
  return () => Math.round(performance.now() - begin)
}
