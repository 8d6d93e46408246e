/** What workers have the keeper start: their successors. */
import { type Identity, isLinkRecord, type LinkRecord } from '../contract/environment.ts'
import type { KeeperMessageOf } from '../contract/keeper-messages.ts'
import type { UpgradeCounts } from '../contract/messages.ts'
import { messageOf } from '../errors.ts'
import { adoptChannel } from '../node/channel.ts'
import { makePair } from '../node/pair.ts'
import { killSession } from '../node/sessions.ts'
import { type Command, isAlive } from '../node/system.ts'
import { isWholly } from '../node/users.ts'
import { nextCommand, typedOf } from '../process/command.ts'
import { spawnFault } from '../process/launcher.ts'
import { watchEnd } from './attached.ts'
import type { Spot } from './home.ts'
import { commandOf, releaseOf, typedCommand } from './release.ts'
import { asOfUnit } from './unit.ts'
import { Worker } from './worker.ts'

export class Spawns {
  readonly #place: Spot
  /**
   * Who has asked for a worker, under which number of its own, and the counts before. By its
   * identity: each worker would hold the one before it, and so all that ever were.
   */
  readonly #askedBy = new WeakMap<
    Worker,
    { readonly by: Identity; readonly id: number; readonly before: UpgradeCounts }
  >()

  /** Those of which it is known how their upgrade has ended. */
  readonly #counted = new WeakSet<Worker>()

  /** Channels of processes that are not there yet, by who has asked for one. */
  readonly #expected = new Map<Worker, { readonly id: number; onBorn(identity: Identity): void }>()

  /** Generations that are being started. */
  readonly #claimed = new Set<number>()

  constructor(place: Spot) {
    this.#place = place
  }

  /** How an upgrade that a worker began has ended, once. */
  count(worker: Worker, outcome: 'succeeded' | 'failed'): void {
    const asked = this.#askedBy.get(worker)
    if (asked === undefined || this.#counted.has(worker)) return
    this.#counted.add(worker)
    const { home } = this.#place
    // Of several, one that is only brought to what the others run is nothing that was asked for.
    const isAsked = home.size === undefined || home.target !== undefined
    if (outcome === 'succeeded' && isAsked) home.wentBack = undefined
    home.past.count(asked.before, outcome)
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
    const fault = this.#claim(by, link)
    if (fault !== undefined) return refuse(fault)
    try {
      const { command, environment, log, typed } = this.#asToldBy(by, message, link)
      const [one, other] = await makePair(this.#place.home.plan.folder)
      const release = releaseOf(command, typed, environment)
      try {
        const own = { ...link, predecessor: by.identity, typed }
        // A worker that crashes meanwhile is restarted: this one would be a second one.
        const isWanted = () => by.exited === undefined
        const worker = await this.#place.birth({ link: own, command, release, linkFd: other.fd, log, isWanted })
        this.#askedBy.set(worker, { by: by.identity, id, before: this.#place.home.past.before })
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
    } finally {
      this.#claimed.delete(link.generation)
    }
  }

  /** One process for each generation, also while the one before is on its way. */
  #claim(by: Worker, { generation }: LinkRecord): string | undefined {
    if (by.exited !== undefined || generation !== by.generation + 1) return `generation ${generation} is not the next`
    const isThere = this.#claimed.has(generation) || this.#place.workers.has(generation)
    if (isThere) return `generation ${generation} is there already`
    this.#claimed.add(generation)
    return undefined
  }

  /** The worker starts it itself, and with it this end of a channel: it is a worker like others. */
  async #expect(by: Worker, message: KeeperMessageOf<'pair'>): Promise<void> {
    const { id, record: link } = message
    const refuse = (why: string) => by.station.send({ type: 'spawnFailed', id, why })
    if (!isLinkRecord(link)) return refuse('its record of the link is broken')
    // Whatever process it named then would be believed.
    if (!isTrusted(by)) return refuse('the keeper cannot hold plain descriptors of a program that has given up root')
    // Each worker has its own, and all would have to be handed on by all.
    if (this.#place.home.size !== undefined) return refuse('plain descriptors cannot be handed on by several workers')
    try {
      const { command, environment, log, typed } = this.#asToldBy(by, { ...message, type: 'spawn' }, link)
      const release = releaseOf(command, typed, environment)
      const [own, other] = await makePair(this.#place.home.plan.folder)
      const child = adoptChannel(own.fd)
      own.detach()
      const onBorn = (identity: Identity) => {
        const { generation } = link
        const worker = new Worker(identity, { generation, release }, child, this.#place.events, { path: log })
        this.#askedBy.set(worker, { by: by.identity, id, before: this.#place.home.past.before })
        this.#place.take(watchEnd(worker))
      }
      this.#expected.set(by, { id, onBorn })
      by.onExit(() => this.#expected.delete(by) && child.disconnect())
      by.station.send({ type: 'paired', id }, other.handle, () => other.close())
    } catch (error) {
      refuse(messageOf(error))
    }
  }

  #born(by: Worker, { id, pid, startTime }: KeeperMessageOf<'born'>): void {
    const expected = this.#expected.get(by)
    const isThere = [...this.#place.workers.values()].some(({ identity }) => identity[0] === pid)
    if (expected?.id !== id || isThere || !isTrusted(by)) return
    this.#expected.delete(by)
    expected.onBorn([pid, startTime])
  }

  /** SIGKILL for what this worker has asked for, and for nobody else. */
  #kill(by: Worker, id: number): void {
    for (const worker of this.#place.workers.values()) {
      const asked = this.#askedBy.get(worker)
      if (asked?.by === by.identity && asked.id === id) killSession(worker.identity)
    }
  }

  /**
   * Several workers run the same version, wherever a symlink leads to when each of them looks. And
   * one that has given up root must not have root start what it likes: it gets what was typed, as
   * the last command has changed it.
   */
  #asToldBy(by: Worker, { command, environment, log }: KeeperMessageOf<'spawn'>, link: LinkRecord) {
    const { home, release } = this.#place
    const target = home.targetOf(this.#place)
    if (target !== undefined) return { ...target, command: commandOf(target), log: home.logAt(this.#place) }
    if (isTrusted(by)) {
      const told = commandFrom(command)
      return { command: told, environment: asOfUnit(environment), log, typed: link.typed ?? typedOf(told) }
    }
    const { asked, plan } = home
    // Nobody has asked for another version: it is replaced by itself.
    if (asked === undefined) return { ...release, log: plan.program.logFile }
    const { logFile } = { ...plan.program, ...asked.program }
    const next = nextCommand(typedCommand(release), asked.retyped)
    return {
      command: next,
      environment: home.environmentFor(asked.env, asked.program),
      log: logFile,
      typed: typedOf(next),
    }
  }
}

/** Those that have been seen as another user: they are not believed any more. */
const distrusted = new WeakSet<Worker>()

/** It acts with the rights of the keeper, and always did. */
export function isTrusted(worker: Worker): boolean {
  const { identity, exited } = worker
  const isOurs = exited === undefined && isAlive(identity) && isWholly(identity[0], process.geteuid?.())
  if (!isOurs) distrusted.add(worker)
  return isOurs && !distrusted.has(worker)
}

function commandFrom({ script, ...command }: KeeperMessageOf<'spawn'>['command']): Command {
  return { ...command, ...(script !== undefined && { script }) }
}
