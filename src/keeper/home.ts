/** The keeper and a place for a worker, as the parts of either see them. */
import type { ProgramRecord } from '../contract/environment.ts'
import type { KeeperMessage } from '../contract/keeper-messages.ts'
import type { WarningRecord } from '../contract/messages.ts'
import type { Retyped } from '../process/command.ts'
import type { RawHandle } from '../upgrade/station.ts'
import type { HeldHandles } from './held.ts'
import type { Past } from './past.ts'
import type { KeeperPlan, Release, Said } from './plan.ts'
import type { Rules } from './slot.ts'
import type { Birth, Worker, WorkerEvents } from './worker.ts'

/** What a command changes of what runs. */
export type Changes = {
  readonly retyped: Retyped
  readonly env?: Release['environment'] | undefined
  readonly program: ProgramRecord
}

/** A place for a worker (place.ts), as whatever starts somebody there sees it. */
export type Spot = {
  readonly number: number
  readonly home: Home
  readonly release: Release
  readonly workers: ReadonlyMap<number, Worker>
  readonly events: WorkerEvents
  birth(birth: Omit<Birth, 'fds' | 'slot' | 'workers' | 'environment' | 'user'>): Promise<Worker>
  /** A worker that somebody else has started. */
  take(worker: Worker): void
}

/** Why nothing is started in a place any more. */
export type Over = 'stopped' | 'first' | 'crashes'

/** The keeper, as its places see it. */
export type Home = {
  readonly plan: KeeperPlan
  readonly held: HeldHandles
  readonly recorder: { open(): void }
  readonly said: Said
  readonly stopping: AbortSignal
  /** How many workers there are; undefined: it is a service of one, and was asked for no number. */
  readonly size: number | undefined
  /** What the upgrade that was asked for last is to change. */
  readonly asked: Changes | undefined
  /** What an upgrade of all puts in place of what runs, while it is under way. */
  readonly target: Release | undefined
  readonly past: Past
  wentBack: WarningRecord | undefined
  environmentFor(env: Changes['env'], program: ProgramRecord): Release['environment']
  /** For a release that runs there: with the number of the place, and where it writes. */
  environmentAt(place: Spot, release: Release): Release['environment']
  /** What is to be started there in place of what a worker asks for. */
  targetOf(place: Spot): Release | undefined
  logAt(place: Spot): string | undefined
  rulesFor(place: Spot): Rules
  hear(place: Spot, worker: Worker, message: KeeperMessage, handle: RawHandle | undefined): void
  onServes(place: Spot, worker: Worker): void
  onExit(place: Spot, worker: Worker): void
  onBack(place: Spot): void
  onOver(place: Spot, why: Over): void
  /** In the foreground a worker that crashes may end the service. */
  endsAtCrash(): boolean
  mayReplaceForMemory(): boolean
  /** Whoever waits for it looks at it. */
  tellChanged(place: Spot): void
  say(text: string, place?: Spot): void
  changed(): void
}
