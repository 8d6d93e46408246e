/** A worker's end of its keeper: it starts what is to replace this process, and holds listeners. */
import { existsSync } from 'node:fs'
import {
  firstHandleFd,
  type Identity,
  type KeeperRecord,
  type LinkRecord,
  readProgram,
} from '../contract/environment.ts'
import type { KeeperMessage, KeeperMessageOf } from '../contract/keeper-messages.ts'
import type { Exit } from '../contract/old-side.ts'
import { CookError, messageOf } from '../errors.ts'
import { adoptChannel, hideChannel } from '../node/channel.ts'
import { connectTo } from '../node/pair.ts'
import { type Command, system } from '../node/system.ts'
import { withoutUndefined } from '../options.ts'
import { keeperCommand } from '../process/command.ts'
import { spawned } from '../process/launcher.ts'
import { writeToLog } from '../process/log.ts'
import { mayWriteIn } from '../process/run-dir.ts'
import type { Service } from '../service.ts'
import type { KeeperEnd } from '../service-parts.ts'
import { type Deferred, deferred, patientTimer } from '../waiting.ts'
import { AmongWorkers } from './among-workers.ts'
import type { Partner } from './conversation.ts'
import { openLink } from './link.ts'
import { openStation, type RawHandle, type Station } from './station.ts'

/** How long a worker waits before it starts another keeper, and again if that fails, in ms. */
const pauses = [200, 1_000, 5_000, 30_000] as const
/** By how much each worker lets the one before it go first, in milliseconds. */
const turn = 700
/** How long an upgrade waits for another keeper; then it goes on without one, in ms. */
const longestAbsence = 5_000

export type SpawnRequest = {
  readonly link: LinkRecord
  readonly command: Command
  readonly environment: Readonly<Record<string, string | undefined>>
  /** Milliseconds for the keeper to start it. */
  readonly patience: number
  readonly signal: AbortSignal
}

/** Of whichever copy of the library has taken it up: they share the service. */
export function keeperLineOf({ keeper }: Service): KeeperLine | undefined {
  return keeper as KeeperLine | undefined
}

/** Takes up the channel to the keeper, which is out of the program's sight from now on. */
export function joinKeeper(service: Service, record: LinkRecord & { readonly keeper: KeeperRecord }): void {
  service.keeper = new KeeperLine(service, record)
}

class KeeperLine implements KeeperEnd {
  readonly slot: number
  readonly among: AmongWorkers
  readonly #service: Service
  readonly #record: KeeperRecord
  #station: Station
  /** Inodes of the handles that the keeper has. */
  #held = new Set<number>()
  #isSyncing = false
  readonly #spawns = new Map<number, Spawn>()
  #lastId = 0
  /** How another keeper is started; undefined: it has not said so yet. */
  #how: KeeperMessageOf<'keeper'> | undefined
  /** It is started by hand, by this file and on this Node. */
  #renew: KeeperMessageOf<'renew'> | undefined
  #serves = false
  /** Set while there is none, or none that has taken us up yet. */
  #absence: Deferred<void> | undefined
  #isRestarting = false
  /** Keepers that were started and did not take us up, in a row. */
  #failures = 0
  /** The service ends, and needs no keeper any more. */
  #isStopping = false

  constructor(service: Service, { keeper, handles }: LinkRecord & { readonly keeper: KeeperRecord }) {
    this.#service = service
    this.slot = keeper.slot
    const isBeside = keeper.isBeside === true
    this.#record = keeper
    this.#station = isBeside
      ? this.#open(adoptChannel(firstHandleFd + handles.length))
      : this.#open(process, hideChannel())
    this.among = new AmongWorkers(service, keeper.workers, (message) => {
      if (this.isOpen) this.#station.send(message)
      return this.isOpen
    })
  }

  get isOpen(): boolean {
    return this.#station.isOpen
  }

  /** This process owns the service. */
  serves(): void {
    this.#serves = true
    // The keeper may have let go of what another generation did not have.
    this.#held.clear()
    this.#sync()
    const { generation, drainTimeout, lameDuck, options } = this.#service
    const { pidFile, admin } = options
    const told = withoutUndefined({ pidFile, admin: admin?.toString() })
    this.#station.send({ type: 'serves', generation, drainTimeout, lameDuck, ...told })
    // It was lost before this process had anything that it could keep.
    if (!this.isOpen) void this.#restart()
  }

  stopping(): void {
    this.#isStopping = true
    this.#station.send({ type: 'stopping' })
  }

  /** What is handed on is not what it was. */
  changed(): void {
    if (!this.#serves || this.#isSyncing) return
    this.#isSyncing = true
    setImmediate(() => {
      this.#isSyncing = false
      if (!this.#service.hasSuccessor) this.#sync()
    })
  }

  /** Resolves when there is a keeper again, or to false when none has come for some time. */
  async regained(): Promise<boolean> {
    if (this.#absence !== undefined) {
      const tooLong = new Promise<void>((done) => void setTimeout(done, longestAbsence).unref())
      await Promise.race([this.#absence.promise, tooLong])
    }
    return this.isOpen && this.#absence === undefined
  }

  /** Rejects if the process could not be started, or the keeper is gone or does not respond. */
  async spawn(request: SpawnRequest): Promise<Partner> {
    const { spawn, end, identity } = await this.#ask('spawn', request)
    if (identity === undefined) throw new Error('its keeper is gone')
    return {
      identity,
      // Its own handle stays open for good: its close would close the channel's descriptor.
      open: (onEvent) => openLink(adoptChannel(end.fd), onEvent),
      onExit(hear) {
        if (spawn.exit !== undefined) hear(spawn.exit)
        else spawn.exits.push(hear)
      },
      kill: () => this.#station.send({ type: 'kill', id: spawn.id }),
      unref() {},
    }
  }

  /**
   * A channel to the keeper for a process that this one starts itself; `born` is said when it is
   * there. Rejects if the keeper is gone.
   */
  async pair(request: SpawnRequest): Promise<{ readonly fd: number; born(identity: Identity): void }> {
    const { spawn, end } = await this.#ask('pair', request)
    return {
      fd: end.fd,
      born: ([pid, startTime]) => {
        this.#station.send({ type: 'born', id: spawn.id, pid, startTime })
        end.close()
      },
    }
  }

  /** With what a process is started so, beside its predecessor. */
  get besideRecord(): KeeperRecord {
    return { ...this.#record, isBeside: true }
  }

  async #ask(type: 'spawn' | 'pair', { link, command, environment, patience, signal }: SpawnRequest) {
    this.#sync()
    const id = ++this.#lastId
    const spawn: Spawn = { id, started: deferred<Spawn>(), exits: [] }
    this.#spawns.set(id, spawn)
    const log = readProgram(environment)?.logFile ?? this.#service.state.logFile
    const told = { type, id, record: link, command, environment: withoutUndefined(environment) }
    const message = { ...told, ...(log !== undefined && { log }) }
    this.#station.send(message)
    const giveUp = (fault: string) => this.#settle(id, { fault })
    const stopped = () => giveUp('the upgrade was stopped')
    signal.addEventListener('abort', stopped)
    const stopWaiting = patientTimer(patience, () => giveUp(`its keeper did not respond for ${patience / 1000} s`))
    const { identity, end, fault } = await spawn.started.promise
    stopWaiting()
    signal.removeEventListener('abort', stopped)
    if (end === undefined) throw new Error(fault ?? 'its keeper is gone')
    return { spawn, identity, end }
  }

  #open(target: Parameters<typeof openStation>[0], lend?: Parameters<typeof openStation>[2]): Station {
    const station = openStation(
      target,
      { message: (message, handle) => this.#hear(message, handle), closed: () => this.#lost(station) },
      lend,
    )
    return station
  }

  #hear(message: KeeperMessage, handle: RawHandle | undefined): void {
    if (message.type === 'retire') this.#isStopping = true
    if (this.among.hear(message, handle)) return
    switch (message.type) {
      case 'keeper':
        this.#how = message
        this.#failures = 0
        this.#absence?.resolve()
        this.#absence = undefined
        // Another one than before has nothing of ours yet.
        if (this.#serves) this.serves()
        return
      case 'stop':
        // One of the verbs alone does with a signal what it likes.
        if (this.#service.end === undefined) process.kill(process.pid, 'SIGTERM')
        else this.#service.end()
        return
      case 'ping':
        this.#station.send({ type: 'pong' })
        return
      case 'renew':
        this.#renew = message
        return
      case 'upgrade':
        this.#service.renew?.().catch((error: unknown) => {
          this.#station.send({ type: 'failed', why: messageOf(error) })
        })
        return
      case 'spawned':
        if (this.#spawns.get(message.id)?.fault !== undefined) {
          // Nobody waits for it any more.
          handle?.close()
          this.#station.send({ type: 'kill', id: message.id })
          return
        }
        this.#settle(message.id, { identity: [message.pid, message.startTime], end: handle })
        return
      case 'paired':
        this.#settle(message.id, { end: handle })
        return
      case 'spawnFailed':
        this.#settle(message.id, { fault: message.why })
        return
      case 'exit': {
        const spawn = this.#spawns.get(message.id)
        if (spawn === undefined) return
        spawn.exit = { code: message.code ?? null, signal: message.signal ?? null }
        for (const hear of spawn.exits) hear(spawn.exit)
        this.#spawns.delete(message.id)
        return
      }
    }
  }

  #settle(id: number, found: Partial<Spawn>): void {
    const spawn = this.#spawns.get(id)
    if (spawn !== undefined) spawn.started.resolve(Object.assign(spawn, found))
  }

  /** Gives the keeper what it does not have yet, and lets it drop what is no more. */
  #sync(): void {
    // The next one gets all.
    if (!this.isOpen) return
    const { handles, isDaemon } = this.#service
    // A program of the verbs asks for all that it had, or for nothing: half of it is no use to it.
    const holdable = isDaemon || handles.isHoldable ? handles.holdable() : []
    for (const { record, handle } of holdable) {
      if (!this.#held.has(record.inode)) this.#station.send({ type: 'handle', record }, handle)
    }
    this.#held = new Set(holdable.map(({ record }) => record.inode))
    this.#station.send({ type: 'handles', inodes: [...this.#held] })
  }

  /** The keeper is gone: this process serves on, and starts another one. */
  #lost(station: Station): void {
    if (station !== this.#station) return
    this.#held.clear()
    this.among.lost()
    for (const spawn of this.#spawns.values()) {
      spawn.started.resolve(Object.assign(spawn, { fault: 'its keeper is gone' }))
      // Nobody hears how it ends any more; that it does, its link tells.
      spawn.exit ??= { code: null, signal: null }
    }
    this.#absence ??= deferred()
    // An upgrade that it has begun goes on without it: whoever serves after that has another.
    void this.#restart(this.#service.upgrading?.ended)
  }

  async join(path: string): Promise<void> {
    // One that this process has started itself, and that has not taken it up, comes too late.
    const isKept = () => this.isOpen && this.#absence === undefined
    if (isKept()) throw new CookError('ERR_COOK_CONTROL', { why: 'this worker has a keeper' })
    const end = await connectTo(path)
    const late = this.#station
    this.#station = this.#open(adoptChannel(end.fd))
    end.detach()
    late.close()
  }

  async #restart(upgrade?: Promise<unknown>): Promise<void> {
    if (this.#isRestarting) return
    this.#isRestarting = true
    await upgrade
    const pause = pauses[Math.min(this.#failures, pauses.length - 1)] ?? 0
    // Of several workers the first one starts it, and the others come to that.
    await new Promise((done) => setTimeout(done, pause + this.slot * turn).unref())
    this.#isRestarting = false
    const { hasSuccessor, departure } = this.#service
    if (this.isOpen || this.#isStopping || hasSuccessor || departure !== undefined || !this.#serves) return
    this.#failures++
    const why = this.#whyAlone()
    if (why !== undefined) {
      writeToLog(`the keeper has exited; this process still serves, and ${why}`)
      this.#absence?.resolve()
      this.#absence = undefined
      return
    }
    try {
      await this.#startKeeper()
    } catch (error) {
      writeToLog(`the keeper has exited, and another one could not be started: ${messageOf(error)}`)
      void this.#restart()
    }
  }

  /** Why it starts no other keeper; undefined: it does. */
  #whyAlone(): string | undefined {
    const { isUnit, folder } = this.#how ?? {}
    if (isUnit === true && this.#renew === undefined) return 'its unit decides what happens next'
    // One that has given up root could not be heard where the service is looked for.
    if (folder === undefined || mayWriteIn(folder)) return undefined
    return 'cannot start another one, because it is not root: run cook-daemon stop, then start the service again'
  }

  /** It is a child of ours until this process is replaced under it, which is what it does first. */
  async #startKeeper(): Promise<void> {
    const { generation, state } = this.#service
    const how = this.#renew ?? this.#how
    // Does that not go, then what it was before may.
    this.#renew = undefined
    const { name = state.program?.name ?? '', folder } = this.#how ?? {}
    if (how === undefined || !existsSync(how.file)) throw new Error('its program no longer exists')
    const command = keeperCommand(how.execPath, how.file)
    const { NODE_OPTIONS: _, ...env } = state.environment
    const child = await spawned(() => system.spawn(command, { env, stdio: ['ignore', 1, 2, 'ipc'] }))
    if (this.isOpen) {
      // Another worker's has come first.
      child.kill()
      return
    }
    this.#station = this.#open(child)
    child.unref()
    child.once('message', (answer: { readonly message?: unknown }) => {
      writeToLog(`another keeper could not adopt this process: ${String(answer.message)}`)
    })
    child.send({ attach: { name, folder, slot: this.slot, generation, pid: process.pid } }, () => {})
  }
}

type Spawn = {
  readonly id: number
  readonly started: Deferred<Spawn>
  readonly exits: ((exit: Exit) => void)[]
  identity?: Identity
  /** Our end of the link to it. */
  end?: RawHandle | undefined
  fault?: string
  exit?: Exit
}
