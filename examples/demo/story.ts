/** What the demo has to tell: its generations, what happened to them, and what the clients saw. */
import type { Phase } from '../../src/contract/phase.ts'
import type { Load } from '../../test/support/load/load.ts'
import type { Line } from './service.ts'

export type Generation = {
  readonly version: string
  readonly pid: number
  phase: Phase
  /** Connections that it got from its predecessor; undefined as long as they are on their way. */
  moved: number | undefined
  /** When it took over and when its successor did, on the clock of `performance.now()`. */
  readonly from: number
  to: number | undefined
  /** Of the clients, before it took over. */
  readonly failuresBefore: number
}

export type Happening = { readonly at: number; readonly words: string; readonly tone: Tone }

/** `step`: what the operator does; `why`: goes with the one before. */
export type Tone = 'step' | 'plain' | 'good' | 'bad' | 'why'

/** An upgrade, from the signal until the old process is gone or the new one has failed. */
export type Upgrade = {
  readonly version: string
  readonly from: number
  /** Undefined as long as it runs. */
  to: number | undefined
  moved: number
  /** The process that did not come up. */
  failedPid: number | undefined
}

export type Clients = { readonly kind: string; readonly count: number; readonly load: Load }

export class Story {
  readonly begun = performance.now()
  readonly upgradesMeant: number
  readonly generations: Generation[] = []
  readonly upgrades: Upgrade[] = []
  readonly happenings: Happening[] = []
  clients: readonly Clients[] = []
  /** When the clients were there, and when they were told to stop. */
  from = Number.POSITIVE_INFINITY
  to = Number.POSITIVE_INFINITY
  /** Called for each new happening. */
  onHappening: (happening: Happening) => void = () => {}

  constructor(upgradesMeant: number) {
    this.upgradesMeant = upgradesMeant
  }

  tell(words: string, tone: Tone = 'plain'): void {
    const happening = { at: performance.now() - this.begun, words, tone }
    this.happenings.push(happening)
    this.onHappening(happening)
  }

  beginLoad(): void {
    this.from = performance.now()
    this.tell(`${this.clients.map(({ kind, count }) => `${count} ${kind}`).join(', ')} clients; none of them retries`)
  }

  endLoad(): void {
    this.to = performance.now()
  }

  beginUpgrade(version: string, command: string): Upgrade {
    const upgrade = { version, from: performance.now(), to: undefined, moved: 0, failedPid: undefined }
    this.upgrades.push(upgrade)
    this.tell(`upgrade ${this.upgrades.length} of ${this.upgradesMeant}: ${version} is deployed, ${command}`, 'step')
    return upgrade
  }

  /** Takes in what a process of the service printed. */
  hear(line: Line): void {
    const own = this.generations.find(({ pid }) => pid === line.by)
    const upgrade = this.upgrades.at(-1)
    switch (line.type) {
      case 'serving':
        this.#takeOver(line.version, line.by, line.generation)
        return
      case 'phase':
        if (own !== undefined) own.phase = line.phase
        return
      case 'upgrade':
        if (own !== undefined) own.phase = 'upgrading'
        return
      case 'upgraded':
        if (own !== undefined) own.to = performance.now()
        return
      case 'drained':
        if (own === undefined) return
        own.phase = 'gone'
        if (own.to !== undefined && upgrade !== undefined) this.#onDrained(upgrade, own, line.report)
        return
      case 'upgrade-failed':
        if (own === undefined || upgrade === undefined) return
        own.phase = 'ready'
        this.#onFailed(upgrade, own, line.message)
        return
      default:
        this.tell(`${line.version}: ${JSON.stringify(line)}`, 'bad')
    }
  }

  /** Of all clients. */
  sum(what: 'requests' | 'answers' | 'connections' | 'reconnects'): number {
    return this.clients.reduce((sum, { load }) => sum + load.result()[what], 0)
  }

  failures(): number {
    return this.clients.reduce((sum, clients) => sum + this.failuresOf(clients), 0)
  }

  failuresOf({ load }: Clients): number {
    return Object.values(load.result().failures).reduce((sum, count) => sum + count, 0)
  }

  answersBy({ version }: Generation): number {
    return this.clients.reduce((sum, { load }) => sum + (load.result().generations[version] ?? 0), 0)
  }

  failuresUnder(generation: Generation): number {
    const next = this.generations[this.generations.indexOf(generation) + 1]
    return (next?.failuresBefore ?? this.failures()) - generation.failuresBefore
  }

  /** The longest time in which no client of a kind got an answer. */
  longestPause(from: number, to = Number.POSITIVE_INFINITY): number {
    return Math.max(0, ...this.clients.map(({ load }) => load.longestGap({ from, to })))
  }

  #takeOver(version: string, pid: number, generation: number): void {
    const [from, failuresBefore] = [performance.now(), this.failures()]
    const moved = generation === 1 ? 0 : undefined
    this.generations.push({ version, pid, phase: 'ready', moved, from, to: undefined, failuresBefore })
    this.tell(`${version} serves as process ${pid}`, 'good')
  }

  #onDrained(
    upgrade: Upgrade,
    old: Generation,
    { handedOver, served, closed, cut }: { handedOver: number; served: number; closed: number; cut: number },
  ): void {
    const young = this.generations[this.generations.indexOf(old) + 1]
    if (young !== undefined) young.moved = handedOver
    upgrade.moved = handedOver
    upgrade.to = performance.now()
    const rest = `${served} ended, ${closed} closed, ${cut} cut`
    this.tell(`${old.version} is gone: ${handedOver} connections moved, ${rest}`)
  }

  #onFailed(upgrade: Upgrade, old: Generation, message: string): void {
    upgrade.to = performance.now()
    upgrade.failedPid = Number(/pid (\d+)/.exec(message)?.[1])
    const [why = message] = /\w*Error: .*/.exec(message) ?? []
    const [how = ''] = /exit code \d+|SIG\w+/.exec(message) ?? []
    this.tell(
      `${upgrade.version} (process ${upgrade.failedPid}) did not come up: ${how}; ${old.version} keeps serving`,
      'bad',
    )
    this.tell(why, 'why')
  }
}
