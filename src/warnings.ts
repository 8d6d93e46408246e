/** What went wrong and costs nobody the service: for the log, `upgrade` and `status`. */
import type { WarningRecord } from './contract/messages.ts'
import { CookError, messageOf } from './errors.ts'
import type { DaemonEvent } from './options.ts'
import { isReserved } from './process/handles.ts'

/** How many are kept; the oldest goes. */
const most = 16

/**
 * What each process can see of its own: a successor looks itself, and a failed upgrade is over when
 * one has succeeded.
 */
const ownAlone: readonly string[] = ['pidFile', 'log', 'control', 'listen', 'unixPath', 'upgrade']

type Hear = (warning: WarningRecord) => void

export type Warning = Omit<WarningRecord, 'at'>

export class Warnings {
  /** By what they are about, oldest first. */
  readonly #all = new Map<string, WarningRecord>()
  readonly #hearing = new Set<Hear>()
  #upgradeBegan = 0

  get all(): readonly WarningRecord[] {
    return [...this.#all.values()]
  }

  get(about: string): WarningRecord | undefined {
    return this.#all.get(about)
  }

  /** In the place of an earlier one about the same. False if that said the same. */
  add(warning: Warning): boolean {
    const before = this.#all.get(warning.about)
    const record = { at: Date.now(), ...warning }
    this.#keep(record)
    if (before?.text === warning.text) return false
    this.pass(record)
    return true
  }

  /** What it was about is in order again. */
  clear(about: string): void {
    this.#all.delete(about)
  }

  /** Of another generation, which has told its log. */
  take(records: readonly WarningRecord[]): void {
    for (const record of records) if (!this.#all.has(record.about)) this.#keep(record)
  }

  /** An upgrade begins: that an earlier one has failed is history. */
  beginUpgrade(): void {
    this.clear('upgrade')
    this.#upgradeBegan = Date.now()
  }

  /** For the successor: what happened in the upgrade, and what it cannot see itself. */
  get forSuccessor(): readonly WarningRecord[] {
    return this.all.filter(({ at, about }) => at >= this.#upgradeBegan && !ownAlone.includes(about))
  }

  /** Tells those who hear, and keeps nothing. */
  pass(record: WarningRecord): void {
    for (const hear of this.#hearing) hear(record)
  }

  /** Hears of each from now on; returns what ends that. */
  hear(hear: Hear): () => void {
    this.#hearing.add(hear)
    return () => this.#hearing.delete(hear)
  }

  #keep(record: WarningRecord): void {
    this.#all.delete(record.about)
    this.#all.set(record.about, record)
    const [oldest] = this.#all.keys()
    if (this.#all.size > most && oldest !== undefined) this.#all.delete(oldest)
  }
}

/** What of an event an operator must hear of; undefined: nothing. */
export function warningOf(event: DaemonEvent): Warning | undefined {
  switch (event.type) {
    case 'warning':
      return { about: event.about, text: event.text }
    case 'hook-failed':
      return warningOfHook(event.hook, event.error)
    case 'unclaimed': {
      const names = event.names.filter((name) => !isReserved(name)).join(', ')
      if (names === '') return undefined
      return { about: 'unclaimed', text: `closed ${names}: the old version had it open, and this one did not open it` }
    }
    case 'successor-lost':
      return warningOfError(
        'upgrade',
        new CookError('ERR_COOK_SUCCESSOR_LOST', { generation: event.generation, self: process.pid }),
      )
    case 'predecessor-killed': {
      const text = `the old process (pid ${event.pid}) was killed: it did not exit, long after its drain timeout`
      return { about: 'predecessor', text }
    }
    default:
      return undefined
  }
}

export function warningOfError(about: string, error: unknown): Warning {
  return { about, text: messageOf(error), ...(error instanceof CookError && { code: error.code }) }
}

/** What goes before the texts of our own errors; those of a program's hook say nothing of it. */
const ownHooks: Readonly<Record<string, string>> = {
  pidFile: '',
  admin: 'the admin port is not open: ',
  control: 'the control socket is not open, and commands cannot reach this process: ',
  listen: 'a server could not listen again: ',
  unixPath: 'a removed Unix path could not be restored: ',
}

function warningOfHook(hook: string, error: Error): Warning {
  const warning = warningOfError(hook, error)
  const before = Object.hasOwn(ownHooks, hook) ? ownHooks[hook] : `${hook} failed: `
  return { ...warning, text: `${before}${warning.text}` }
}
