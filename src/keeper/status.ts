/** What the keeper answers of its service: what its workers say of themselves, as one. */
import { workerName } from '../contract/environment.ts'
import { clientOf } from '../control/client.ts'
import type { ListenerStatus, Status, WorkerStatus } from '../control/status.ts'
import { CookError } from '../errors.ts'
import { identify } from '../node/system.ts'
import { version } from '../version.ts'
import type { Keeper } from './keeper.ts'
import type { Place } from './place.ts'
import { typedCommand } from './release.ts'
import type { Rotation } from './rotation.ts'

/** How long a worker may take to answer, in milliseconds: less than whoever asks us waits. */
const patience = 2_000
/** How often one that cannot be reached is asked again, and the time between, in milliseconds. */
const mostTries = 10
const pause = 30

type Kept = Pick<Status, 'ready' | 'keeper' | 'workers' | 'pidFile' | 'release' | 'command' | 'program'>

/** One place, and what its worker answered, or that it does not respond. */
type Asked = { readonly place: Place; readonly found?: Status | undefined; readonly fault?: Error | undefined }

export class KeeperStatus {
  readonly #keeper: Keeper
  readonly #rotation: Rotation
  /** What a worker said of itself last. */
  #last: Status | undefined

  constructor(keeper: Keeper, rotation: Rotation) {
    this.#keeper = keeper
    this.#rotation = rotation
  }

  async status(): Promise<Status> {
    const asked = await Promise.all(this.#keeper.all.map((place) => this.#ask(place)))
    const found = asked.flatMap((one) => one.found ?? [])
    const [first] = found
    if (first !== undefined) this.#last = first
    this.#keeper.past.hear(found)
    const told = first ?? this.#without()
    const { warning } = this.#keeper.pidFile
    const { wentBack } = this.#keeper
    const own = [...asked.flatMap(silence), warning, wentBack].filter((one) => one !== undefined)
    const all = this.#keeper.size === undefined ? told : { ...told, ...this.#sumOf(asked) }
    const warnings = [...(all.warnings ?? []), ...own, ...this.#rotation.warnings]
    return { ...all, ...this.#behind(), ...this.#kept(asked), warnings }
  }

  /** Throws `ERR_COOK_NO_WORKER`, and where a worker does not respond: it would begin nothing. */
  async demandServing(): Promise<void> {
    const { plan, state, first, all } = this.#keeper
    if (first === undefined) throw new CookError('ERR_COOK_NO_WORKER', { name: plan.name, state })
    const asked = await Promise.all(all.map((place) => this.#ask(place)))
    for (const { fault } of asked) if (fault !== undefined) throw fault
  }

  /**
   * One that has just been started, or is ending, has no socket of its own for a moment. Without
   * its word, that of the one before it would be told.
   */
  async #ask(place: Place, tries = mostTries): Promise<Asked> {
    const { name, folder = '' } = this.#keeper.plan
    if (place.serving === undefined) return { place }
    try {
      return { place, found: await clientOf(folder, workerName(name, place.number), patience).status() }
    } catch (error) {
      if (!(error instanceof CookError) || error.code !== 'ERR_COOK_UNRESPONSIVE') {
        if (tries === 0) return { place }
        await new Promise((done) => setTimeout(done, pause))
        return this.#ask(place, tries - 1)
      }
      // It is told by the name of the service.
      const { who } = (error as CookError<'ERR_COOK_UNRESPONSIVE'>).values
      return { place, fault: new CookError('ERR_COOK_UNRESPONSIVE', { name, who: this.#at(place, String(who)) }) }
    }
  }

  #at({ number }: Place, text: string): string {
    return this.#keeper.size === undefined ? text : `slot ${number}: ${text}`
  }

  /** Of a service whose workers do not answer, or that has none. */
  #without(): Status {
    const { release, plan, lastExit, said, first, generation } = this.#keeper
    // Whoever signals the pid of a service means its keeper then; a 0 would mean themselves.
    const [pid, startTime] = first?.serving?.identity ?? identify()
    return {
      ...{ name: plan.name, version, node: this.#last?.node ?? process.version, pid, startTime },
      ...{ generation, phase: first === undefined ? 'gone' : 'ready', ready: isReady(this.#keeper) },
      ...{ startedAt: this.#last?.startedAt ?? new Date(lastExit?.at ?? Date.now()).toISOString(), uptime: 0 },
      ...{ memory: { resident: 0, heapUsed: 0 }, connections: 0, listeners: this.#last?.listeners ?? [] },
      ...{ ...this.#behind(), generations: [], drainTimeout: said.drainTimeout },
      command: typedCommand(release),
      ...(plan.program.logFile !== undefined && { logFile: plan.program.logFile }),
    }
  }

  /** What one worker alone may not know any more, or not yet. */
  #behind(): Pick<Status, 'upgrades' | 'lastUpgrade'> {
    const { upgrades, last } = this.#keeper.past.news
    return { upgrades, ...(last && { lastUpgrade: last }) }
  }

  /** Of several workers: the pid of the service is that of its keeper, and counts are sums. */
  #sumOf(asked: readonly Asked[]): Partial<Status> {
    const { generation, plan } = this.#keeper
    const found = asked.flatMap((one) => one.found ?? [])
    const [pid, startTime] = identify()
    const sum = (of: (one: Status) => number) => found.reduce((all, one) => all + of(one), 0)
    return {
      ...{ name: plan.name, pid, startTime, generation },
      memory: { resident: sum(({ memory }) => memory.resident), heapUsed: sum(({ memory }) => memory.heapUsed) },
      connections: sum(({ connections }) => connections),
      listeners: listenersOf(found),
      generations: asked.flatMap(({ place, found: one }) =>
        (one?.generations ?? []).map((record) => ({ ...record, slot: place.number })),
      ),
      warnings: asked.flatMap(({ place, found: one }) =>
        (one?.warnings ?? []).map((warning) => ({ ...warning, text: this.#at(place, warning.text) })),
      ),
      ...(plan.program.logFile !== undefined && { logFile: plan.program.logFile }),
    }
  }

  /** What the keeper knows, and a worker that has given up root is not believed. */
  #kept(asked: readonly Asked[]): Kept {
    const { startedAt, pidFile, release, plan, wentBack } = this.#keeper
    const [pid, startTime] = identify()
    const { execPath, cwd, args } = release.command
    const memory = process.memoryUsage.rss()
    return {
      ready: isReady(this.#keeper),
      keeper: { pid, startTime, startedAt: new Date(startedAt).toISOString(), memory, node: process.version, version },
      workers: asked.map(workerStatus),
      command: typedCommand(release),
      program: plan.program,
      release: { script: args[0] ?? '', cwd, execPath, wentBack: wentBack !== undefined },
      ...(pidFile.file !== undefined && { pidFile: pidFile.file }),
    }
  }
}

/** New clients may be sent there. */
export function isReady({ first, isStopping }: Keeper): boolean {
  return first !== undefined && !isStopping
}

function workerStatus({ place, found, fault }: Asked): WorkerStatus {
  const { serving, restarts, lastExit, state, generation } = place
  return {
    ...{ slot: place.number, state: fault === undefined ? state : 'silent' },
    generation: serving?.generation ?? generation,
    ...(serving && { pid: serving.identity[0] }),
    ...{ phase: found?.phase ?? 'gone', connections: found?.connections ?? 0 },
    ...{ memory: found?.memory.resident ?? 0, restarts },
    ...(lastExit && { lastExit }),
  }
}

function silence({ fault }: Asked) {
  return fault === undefined ? [] : [{ at: Date.now(), about: 'worker', text: fault.message }]
}

/** Each once, with the connections of all who share it. */
function listenersOf(found: readonly Status[]): ListenerStatus[] {
  const all = new Map<string, ListenerStatus>()
  for (const one of found.flatMap(({ listeners }) => listeners)) {
    const key = `${one.name} ${one.address}`
    const connections = one.connections + (all.get(key)?.connections ?? 0)
    all.set(key, { ...one, ...all.get(key), connections })
  }
  return [...all.values()]
}
