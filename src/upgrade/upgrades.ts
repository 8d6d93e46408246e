/** The upgrades of a daemon: what keeps one from beginning, what its successor gets, and what is told of each. */

import type { Identity } from '../contract/messages.ts'
import { defaults } from '../defaults.ts'
import { CookError, type CookErrorCode } from '../errors.ts'
import type { Leaving, Listener } from '../handover/leave.ts'
import type { History } from '../history.ts'
import { ticketKeysOf } from '../listen/tickets.ts'
import { now } from '../node/clock.ts'
import { isAlive } from '../node/system.ts'
import {
  checkDaemonUpgradeOptions,
  type DaemonOptions,
  type DaemonUpgradeOptions,
  type DrainReport,
  type UpgradeResult,
  withoutUndefined,
} from '../options.ts'
import type { EnteredState } from '../process/state.ts'
import { upgradeText, withText } from '../report.ts'
import type { Teller } from '../service.ts'
import type { Value } from './cloned-values.ts'
import type { UpgradeStep } from './predecessor.ts'
import { demandCommit, runUpgrade } from './replace.ts'

/** What an upgrade that succeeded was like, and what follows it. */
export type DaemonReport = UpgradeResult & {
  /** Resolves when this process has drained, or has the service again because the successor was lost (event `successor-lost`). */
  readonly drained: Promise<DrainReport>
}

/** The daemon that is replaced. */
export type Replaced = {
  readonly state: EnteredState
  readonly options: DaemonOptions
  readonly listeners: readonly Listener[]
  readonly history: History
  readonly teller: Teller
  readonly leaving: Leaving
  readonly drainTimeout: number
  /** Its control socket, which the successor answers from the commit on. */
  control(): { release(to: Identity): void } | undefined
}

/** Resolves at the commit. Rejects if the upgrade failed: the daemon keeps serving then. */
export async function replace(
  daemon: Replaced,
  given: DaemonUpgradeOptions,
  signal: AbortSignal,
  onStep: (step: UpgradeStep) => void,
): Promise<DaemonReport> {
  const { state, history, teller, leaving, control } = daemon
  checkDaemonUpgradeOptions(given)
  const { drainTimeout, release, ...options } = given
  demandCommit('upgrade()', state.entered)
  if (state.phase === 'starting') {
    throw new CookError('ERR_COOK_NOT_READY', { verb: 'upgrade()', self: process.pid })
  }
  checkGenerations(daemon)
  const { readyTimeout, overlap } = daemon.options
  const whole = {
    stage: 'daemon' as const,
    ...withoutUndefined({ readyTimeout, overlap }),
    ...options,
    signal: options.signal === undefined ? signal : AbortSignal.any([signal, options.signal]),
  }
  const time = drainTimeout ?? daemon.drainTimeout
  const hooks = {
    tickets: ticketKeysOf(daemon.listeners),
    save: (name: string) => saveState(daemon.options, name),
    onStep,
    drainTimeout: time,
  }
  const nextGeneration = state.entered.generation + 1
  const begin = now()
  const upgraded = await runUpgrade(state, 'upgrade()', whole, { ...hooks, ...(release && { release }) }).catch(
    (error: CookError) => {
      // One that another one kept from beginning is none.
      if (!notBegun.includes(error.code)) noteUpgrade(history, { generation: nextGeneration, begin, code: error.code })
      throw error
    },
  )
  const { identity, generation, phases } = upgraded
  const [pid] = identity
  control()?.release(identity)
  noteUpgrade(history, { generation: nextGeneration, begin })
  teller.emit(withText({ type: 'upgraded', pid, generation, phases } as const, upgradeText))
  return withText({ pid, generation, phases, drained: leaving.begin(upgraded, time) }, upgradeText)
}

const notBegun: readonly CookErrorCode[] = ['ERR_COOK_UPGRADE_IN_PROGRESS', 'ERR_COOK_UPGRADED', 'ERR_COOK_STOPPING']

/** For those who look on: an upgrade that began at `begin` of now() and ends now; with a code it has failed. */
export function noteUpgrade(
  history: History,
  { generation, begin, code }: { readonly generation: number; readonly begin: number; readonly code?: string },
): void {
  const seconds = (now() - begin) / 1000
  const outcome = code === undefined ? 'succeeded' : 'failed'
  history.add({ outcome, generation, at: Date.now(), seconds, ...(code !== undefined && { code }) })
}

function checkGenerations({ state, options }: Replaced): void {
  const most = options.maxGenerations ?? defaults.maxGenerations
  const older = state.entered.succession?.living.filter((identity) => isAlive(identity)) ?? []
  const count = older.length + 1
  if (count + 1 > most) throw new CookError('ERR_COOK_TOO_MANY_GENERATIONS', { count, most, pid: process.pid })
}

async function saveState(
  { saveState, stateTimeout: ms = defaults.stateTimeout }: DaemonOptions,
  name: string,
): Promise<Value> {
  if (saveState === undefined) return { value: undefined, version: 0 }
  const hook = Object.hasOwn(saveState, name) ? saveState[name] : undefined
  if (hook === undefined) {
    throw new CookError('ERR_COOK_STATE_NAME', { name, names: Object.keys(saveState).join(', ') })
  }
  const value = await inTime(ms, Promise.resolve(hook.save()), () => {
    throw new CookError('ERR_COOK_STATE', { name, why: `its save() took longer than ${ms} ms` })
  })
  return { value, version: hook.version ?? 0 }
}

async function inTime<Result>(ms: number, result: Promise<Result>, late: () => never): Promise<Result> {
  let timer: NodeJS.Timeout | undefined
  const end = new Promise<'late'>((settle) => {
    timer = setTimeout(() => settle('late'), ms)
  })
  try {
    const first = await Promise.race([result, end])
    return first === 'late' ? late() : (first as Result)
  } finally {
    clearTimeout(timer)
  }
}
