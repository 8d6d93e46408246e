/** The upgrades of a daemon: what keeps one from beginning, what its successor gets, and what is told of each. */
import type { History } from './core/history.ts'
import type { UpgradeStep } from './core/predecessor.ts'
import { upgradeText, withText } from './core/report.ts'
import type { Entered, State } from './core/state.ts'
import type { Teller } from './core/telling.ts'
import { ticketKeysOf } from './core/tickets.ts'
import { demandCommit, runUpgrade } from './core/upgrading.ts'
import type { Value } from './core/values.ts'
import type { Leaving, Listener } from './drain/leaving.ts'
import { CookError } from './errors.ts'
import { isAlive } from './node/system.ts'
import {
  checkDaemonUpgradeOptions,
  type DaemonOptions,
  type DaemonUpgradeOptions,
  type DrainReport,
  type UpgradeResult,
  withoutUndefined,
} from './options.ts'

const stateTimeoutDefault = 10_000
const maxGenerationsDefault = 4

/** What an upgrade that succeeded was like, and what follows it. */
export type DaemonReport = UpgradeResult & {
  /** Resolves when this process has drained. */
  readonly drained: Promise<DrainReport>
}

/** The daemon that is replaced. */
export type Replaced = {
  readonly state: State & { readonly entered: Entered }
  readonly options: DaemonOptions
  readonly listeners: readonly Listener[]
  readonly history: History
  readonly teller: Teller
  readonly leaving: Leaving
  readonly drainTimeout: number
  /** Its control socket, which the successor answers from the commit on. */
  readonly control: { release(to: readonly [pid: number, startTime: string]): void } | undefined
}

/** Resolves at the commit. Rejects if the upgrade failed: the daemon keeps serving then. */
export async function replace(
  daemon: Replaced,
  { drainTimeout, release, ...options }: DaemonUpgradeOptions,
  signal: AbortSignal,
  onStep: (step: UpgradeStep) => void,
): Promise<DaemonReport> {
  const { state, history, teller, leaving, control } = daemon
  checkDaemonUpgradeOptions({ ...options, ...withoutUndefined({ drainTimeout, release }) })
  demandCommit('upgrade()', state.entered)
  if (state.phase === 'starting') {
    throw new CookError('ERR_COOK_NOT_READY', { verb: 'upgrade()', self: process.pid })
  }
  checkGenerations(daemon)
  const { readyTimeout, overlap } = daemon.options
  const given = {
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
  const begin = performance.now()
  const upgraded = await runUpgrade(state, 'upgrade()', given, { ...hooks, ...(release && { release }) }).catch(
    (error: CookError) => {
      // One that another one kept from beginning is none.
      if (!/_(UPGRADE_IN_PROGRESS|UPGRADED|STOPPING)$/.test(error.code)) {
        noteUpgrade(history, { generation: nextGeneration, begin, code: error.code })
      }
      throw error
    },
  )
  const { identity, generation, phases } = upgraded
  const [pid] = identity
  control?.release(identity)
  noteUpgrade(history, { generation: nextGeneration, begin })
  teller.emit(withText({ type: 'upgraded', pid, generation, phases } as const, upgradeText))
  return withText({ pid, generation, phases, drained: leaving.begin(upgraded, time) }, upgradeText)
}

/** For those who look on: an upgrade that has begun then and ends now; with a code it has failed. */
export function noteUpgrade(
  history: History,
  { generation, begin, code }: { readonly generation: number; readonly begin: number; readonly code?: string },
): void {
  const seconds = (performance.now() - begin) / 1000
  const outcome = code === undefined ? 'succeeded' : 'failed'
  history.add({ outcome, generation, at: Date.now(), seconds, ...(code !== undefined && { code }) })
}

function checkGenerations({ state, options }: Replaced): void {
  const most = options.maxGenerations ?? maxGenerationsDefault
  const older = state.entered.succession?.living.filter((identity) => isAlive(identity)) ?? []
  const count = older.length + 2
  if (count > most) throw new CookError('ERR_COOK_TOO_MANY_GENERATIONS', { count: count - 1, most, pid: process.pid })
}

async function saveState({ saveState, stateTimeout }: DaemonOptions, name: string): Promise<Value> {
  const ms = stateTimeout ?? stateTimeoutDefault
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
