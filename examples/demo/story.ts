/** What the demo has to tell: its versions and workers, what happened, and what the clients saw. */
import type { WorkerStatus } from '../../src/control/status.ts'
import type { FailureKind } from '../../test/support/load/kinds.ts'
import type { Load } from '../../test/support/load/load.ts'
import type { Told } from './server.ts'

/** One that serves, has served or was refused. */
export type Version = {
  readonly name: string
  state: 'serves' | 'gone' | 'refused'
  /** Connections that it got from the one before. */
  moved: number
}

/** `step`: what the operator does; `plain`: what comes of it. */
export type Tone = 'step' | 'plain' | 'good' | 'bad'
export type Happening = { readonly at: number; readonly words: string; readonly tone: Tone }

/** A time in which something was done to the service. */
export type Event = { readonly kind: 'upgrade' | 'crash'; readonly from: number; to?: number; isRefused?: boolean }

export type Clients = { readonly kind: string; readonly count: number; readonly load: Load }

/** What clients have lost until now, or meanwhile. */
export type Losses = { readonly requests: number; readonly connections: number }

/** They end a connection between two requests: none of these is lost. */
const onlyConnections: readonly FailureKind[] = ['closedIdle', 'toldToClose']

export class Story {
  readonly begun = performance.now()
  readonly eventsMeant: number
  readonly versions: Version[] = []
  readonly events: Event[] = []
  readonly happenings: Happening[] = []
  clients: readonly Clients[] = []
  workers: readonly WorkerStatus[] = []
  /** The last answer on the WebSocket. */
  webSocket: Told | undefined
  /** How often that was closed, or got another answer than its next. */
  webSocketFaults = 0
  /** What the crash cost. */
  crashCost: Losses = { requests: 0, connections: 0 }
  /** When the clients were there, and when they were told to stop. */
  from = Number.POSITIVE_INFINITY
  to = Number.POSITIVE_INFINITY
  /** Called for each new happening. */
  onHappening: (happening: Happening) => void = () => {}

  constructor(eventsMeant: number) {
    this.eventsMeant = eventsMeant
  }

  tell(words: string, tone: Tone = 'plain'): void {
    const happening = { at: performance.now() - this.begun, words, tone }
    this.happenings.push(happening)
    this.onHappening(happening)
  }

  beginLoad(): void {
    this.from = performance.now()
    const kinds = this.clients.map(({ kind, count }) => `${count} ${kind}`).join(', ')
    this.tell(`${kinds} clients and a WebSocket; none of them retries a request`)
  }

  begin(kind: Event['kind']): Event {
    const event: Event = { kind, from: performance.now() }
    this.events.push(event)
    return event
  }

  serves(name: string, moved = 0): void {
    for (const version of this.versions) if (version.state === 'serves') version.state = 'gone'
    this.versions.push({ name, state: 'serves', moved })
  }

  /** Of all clients. */
  sum(what: 'requests' | 'answers' | 'connections' | 'reconnects'): number {
    return this.clients.reduce((sum, { load }) => sum + load.result()[what], 0)
  }

  losses(clients: readonly Clients[] = this.clients): Losses {
    const all = clients.flatMap(({ load }) => Object.entries(load.result().failures) as [FailureKind, number][])
    const count = (areConnections: boolean) =>
      all.reduce((sum, [kind, some]) => sum + (onlyConnections.includes(kind) === areConnections ? some : 0), 0)
    return { requests: count(false), connections: count(true) }
  }

  answersBy({ name }: Version): number {
    return this.clients.reduce((sum, { load }) => sum + (load.result().generations[name] ?? 0), 0)
  }

  /** The longest time in which no client of a kind got an answer. */
  longestPause(from: number, to = Number.POSITIVE_INFINITY): number {
    return Math.max(0, ...this.clients.map(({ load }) => load.longestGap({ from, to })))
  }
}
