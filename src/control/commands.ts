/** What the control socket may have a daemon do, and how it tells how far it is. */

import { CookError } from '../errors.ts'
import type { Leaving } from '../handover/leave.ts'
import { now } from '../node/clock.ts'
import { isHandled } from '../node/signals.ts'
import { redirectOutput } from '../node/sockets.ts'
import type { DaemonUpgradeOptions, UpgradeResult } from '../options.ts'
import { openLog } from '../process/log.ts'
import type { UpgradeStep } from '../upgrade/predecessor.ts'
import { type Facts, openConnections, recordOf, statusOf } from './facts.ts'
import type { Controlled } from './server.ts'
import type { Progress } from './status.ts'

const { closeSync } = process.getBuiltinModule('node:fs')

/** How often whoever looks on is told how far a drain is, in milliseconds. */
const progressInterval = 250

type Plan = {
  readonly name: string
  readonly facts: Facts
  readonly leaving: Leaving
  upgrade(options: DaemonUpgradeOptions, onStep: (step: UpgradeStep) => void): Promise<UpgradeResult>
  stop(): void
}

export function commandsOf({ name, facts, leaving, upgrade, stop }: Plan): Controlled {
  const { state, listeners, history, drainTimeout } = facts
  /** What stdout and stderr were redirected to. */
  let log: number | undefined

  async function watchDrain(ms: () => number, onProgress: (progress: Progress) => void): Promise<void> {
    const of = openConnections(listeners)
    const timer = setInterval(
      () => onProgress({ type: 'draining', ms: ms(), handedOver: leaving.handedOver, of }),
      progressInterval,
    )
    try {
      const { handedOver, served, closed, cut } = await leaving.untilDrained()
      onProgress({ type: 'drained', ms: ms(), handedOver, served, closed, cut })
    } finally {
      clearInterval(timer)
    }
  }

  return {
    drainTimeout,
    status: () => statusOf(name, facts),
    /** Until this process has drained. */
    async upgrade(options, onProgress) {
      const ms = stopwatch()
      const { pid, generation } = await upgrade(options, (type) => {
        if (type !== 'serves') onProgress({ type, ms: ms() })
      })
      onProgress({ type: 'serves', ms: ms(), pid, generation })
      await watchDrain(ms, onProgress)
    },
    /** A program that handles SIGTERM ends as it is used to; where nothing does, the daemon alone is stopped. */
    async stop(onProgress) {
      const ms = stopwatch()
      onProgress({ type: 'stopping', ms: ms(), drainTimeout, generations: [...history.older, recordOf(facts)] })
      const drained = watchDrain(ms, onProgress)
      if (isHandled('SIGTERM')) process.kill(process.pid, 'SIGTERM')
      else stop()
      await drained
    },
    /** What stdout and stderr write from now on goes into the file that has the log's name now. */
    reopenLog() {
      const { logFile } = state
      if (logFile === undefined) throw new CookError('ERR_COOK_CONTROL', { why: 'this daemon knows no log file' })
      const opened = openLog(logFile)
      if (!redirectOutput(opened)) {
        closeSync(opened)
        throw new CookError('ERR_COOK_CONTROL', { why: 'stdout and stderr of this daemon are no files' })
      }
      if (log !== undefined) closeSync(log)
      log = opened
    },
  }
}

/** Whole milliseconds since now. */
function stopwatch(): () => number {
  const begin = now()
  return () => Math.round(now() - begin)
}
