/** What workers have the keeper start: their successors. */
import { type Identity, isLinkRecord, type ProgramRecord } from '../contract/environment.ts'
import type { KeeperMessageOf } from '../contract/keeper-messages.ts'
import type { News, WarningRecord } from '../contract/messages.ts'
import { messageOf } from '../errors.ts'
import { adoptChannel } from '../node/channel.ts'
import { makePair } from '../node/pair.ts'
import { killSession } from '../node/sessions.ts'
import type { Command } from '../node/system.ts'
import { userOf } from '../node/users.ts'
import { nextCommand, type Retyped, typedOf } from '../process/command.ts'
import { spawnFault } from '../process/launcher.ts'
import { watchEnd } from './attached.ts'
import type { KeeperPlan, Release } from './plan.ts'
import { releaseOf, typedCommand } from './release.ts'
import { type Birth, Worker, type WorkerEvents } from './worker.ts'

/** What a command changes of what runs. */
export type Changes = {
  readonly retyped: Retyped
  readonly env?: Release['environment'] | undefined
  readonly program: ProgramRecord
}

/** Who starts them. */
type Parent = {
  readonly workers: ReadonlyMap<number, Worker>
  readonly plan: KeeperPlan
  readonly release: Release
  /** What the upgrade that was asked for last is to change. */
  readonly asked: Changes
  /** What the service has behind it. */
  news: News
  wentBack: WarningRecord | undefined
  environmentFor(env: Changes['env'], program: ProgramRecord): Release['environment']
  readonly events: WorkerEvents
  birth(birth: Omit<Birth, 'fds'>): Promise<Worker>
  /** A worker that somebody else has started. */
  take(worker: Worker): void
}

export class Spawns {
  readonly #keeper: Parent
  /** Who has asked for a worker, and under which number of its own. */
  readonly #askedBy = new WeakMap<Worker, { readonly by: Worker; readonly id: number }>()

  /** Those of which it is known how their upgrade has ended. */
  readonly #counted = new WeakSet<Worker>()

  /** Channels of processes that are not there yet, by the number of the request. */
  readonly #expected = new Map<number, { readonly by: Worker; onBorn(identity: Identity): void }>()

  constructor(keeper: Parent) {
    this.#keeper = keeper
  }

  /** How an upgrade that a worker began has ended, once. */
  count(worker: Worker, outcome: 'succeeded' | 'failed'): void {
    if (!this.#askedBy.has(worker) || this.#counted.has(worker)) return
    this.#counted.add(worker)
    const { news } = this.#keeper
    const { upgrades } = news
    if (outcome === 'succeeded') this.#keeper.wentBack = undefined
    this.#keeper.news = { ...news, upgrades: { ...upgrades, [outcome]: upgrades[outcome] + 1 } }
  }

  hear(by: Worker, message: KeeperMessageOf<'spawn' | 'pair' | 'born' | 'kill'>): void {
    if (message.type === 'spawn') void this.#start(by, message)
    else if (message.type === 'pair') void this.#expect(by, message)
    else if (message.type === 'born') this.#born(by, message)
    else this.#kill(by, message.id)
  }

  /** The two get a pair of sockets of their own: nothing of an upgrade goes through the keeper. */
  async #start(by: Worker, message: KeeperMessageOf<'spawn'>): Promise<void> {
    const { id } = message
    const { record: link, command: asked } = message
    const refuse = (why: string) => by.station.send({ type: 'spawnFailed', id, why })
    if (!isLinkRecord(link)) return refuse('its record of the link is broken')
    if (this.#keeper.workers.has(link.generation)) return refuse(`generation ${link.generation} is there already`)
    try {
      const { command, environment, log } = this.#asToldBy(by, message)
      const [one, other] = await makePair(this.#keeper.plan.folder)
      const release = releaseOf(command, link.typed ?? typedOf(command), environment)
      try {
        const birth = { slot: 0, link, command, release, environment, linkFd: other.fd, log }
        const worker = await this.#keeper.birth(birth)
        this.#askedBy.set(worker, { by, id })
        const [pid, startTime] = worker.identity
        by.station.send({ type: 'spawned', id, pid, startTime }, one.handle, () => one.close())
        worker.onExit(({ code, signal }) => {
          by.station.send({
            ...{ type: 'exit', id },
            ...(code !== null && { code }),
            ...(signal !== null && { signal }),
          })
        })
      } catch (error) {
        one.close()
        throw error
      } finally {
        other.close()
      }
    } catch (error) {
      refuse(spawnFault(commandFrom(asked), error))
    }
  }

  /** The worker starts it itself, and with it this end of a channel: it is a worker like others. */
  async #expect(by: Worker, message: KeeperMessageOf<'pair'>): Promise<void> {
    const { id, record: link } = message
    const refuse = (why: string) => by.station.send({ type: 'spawnFailed', id, why })
    if (!isLinkRecord(link)) return refuse('its record of the link is broken')
    try {
      const { command, environment, log } = this.#asToldBy(by, { ...message, type: 'spawn' })
      const release = releaseOf(command, link.typed ?? typedOf(command), environment)
      const [own, other] = await makePair(this.#keeper.plan.folder)
      const child = adoptChannel(own.fd)
      const onBorn = (identity: Identity) => {
        const { generation } = link
        const worker = new Worker(identity, { generation, release }, child, this.#keeper.events, { path: log })
        this.#askedBy.set(worker, { by, id })
        this.#keeper.take(watchEnd(worker))
      }
      this.#expected.set(id, { by, onBorn })
      by.onExit(() => this.#expected.delete(id) && child.disconnect())
      by.station.send({ type: 'paired', id }, other.handle, () => other.close())
    } catch (error) {
      refuse(messageOf(error))
    }
  }

  #born(by: Worker, { id, pid, startTime }: KeeperMessageOf<'born'>): void {
    const expected = this.#expected.get(id)
    if (expected?.by !== by) return
    this.#expected.delete(id)
    expected.onBorn([pid, startTime])
  }

  /** SIGKILL for what this worker has asked for, and for nobody else. */
  #kill(by: Worker, id: number): void {
    for (const worker of this.#keeper.workers.values()) {
      const asked = this.#askedBy.get(worker)
      if (asked?.by === by && asked.id === id) killSession(worker.identity)
    }
  }

  /**
   * A worker that has given up root must not have root start what it likes: it gets what was typed,
   * as the last command has changed it.
   */
  #asToldBy(by: Worker, { command, environment, log }: KeeperMessageOf<'spawn'>) {
    if (isTrusted(by)) return { command: commandFrom(command), environment, log }
    const { asked, plan, release } = this.#keeper
    const { retyped, env, program } = asked
    const { logFile } = { ...plan.program, ...program }
    return {
      command: nextCommand(typedCommand(release), retyped),
      environment: this.#keeper.environmentFor(env, program),
      log: logFile,
    }
  }
}

/** It acts with the rights of the keeper. */
export function isTrusted({ identity: [pid] }: Worker): boolean {
  const user = userOf(pid)
  return user === undefined || user === process.geteuid?.()
}

function commandFrom({ script, ...command }: KeeperMessageOf<'spawn'>['command']): Command {
  return { ...command, ...(script !== undefined && { script }) }
}
