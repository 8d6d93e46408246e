/** What later folders register on the service, as the others see it. */
import type { Server, Socket } from 'node:net'
import type { Identity, ProgramRecord } from './contract/environment.ts'
import type { MessageOf } from './contract/messages.ts'
import type { CookError } from './errors.ts'
import type { ListenerHandle } from './node/listeners.ts'
import type { Command } from './node/system.ts'
import type { DrainCounts, DrainReport, DrainTimes, MoveRule, TlsCounts } from './options.ts'
import type { Latch } from './waiting.ts'

/** The predecessor, and what is asked of it until the commit (upgrade/successor.ts). */
export type Predecessor = {
  readonly identity: Identity
  /** Generations that lived when the predecessor welcomed us, itself among them. */
  readonly living: readonly Identity[]
  readonly isCommitted: boolean
  /**
   * Resolves at the commit, or with `ok` false when the predecessor has read it. Rejects with
   * `ERR_COOK_REFUSED`.
   */
  notify(ok: boolean, reason: string): Promise<void>
  /**
   * True as soon as this process may accept on the listeners of the predecessor: at the commit, or
   * in an overlap when it is ready. False if the predecessor has refused it, or if `over` comes
   * first.
   */
  mayAccept(over: Promise<false>): Promise<boolean>
  /** TLS ticket keys by handle name; none if the predecessor is gone or has refused us. */
  tickets(): Promise<Readonly<Record<string, string>>>
  /**
   * A value of its saveState hook; undefined if it is gone. Rejects with `ERR_COOK_REFUSED`, and
   * with why there is none.
   */
  ask(name: string): Promise<Value | undefined>
  /** What the program still has to do before this process is up; an empty reason: nothing. */
  tellWaiting(waits: Omit<MessageOf<'waits'>, 'type'>): void
  /** Whether our own waits for it, as for the commit, hold this process. They do at first. */
  holdForAnswers(isOn: boolean): void
}

/** A value and the version that the program gives to its shape. */
export type Value = { readonly value: unknown; readonly version: number }

/** The predecessor from the commit on (handover/receive.ts). */
export type Receiving = {
  /** Resolves when the predecessor needs us no more: it said bye, or is gone. */
  readonly bye: Promise<void>
  /** Resolves when it has left, or was killed long after the end of its drain. */
  readonly left: Promise<void>
  /**
   * Sends it second handles of its listeners: should this process die while it drains, it takes the
   * service back.
   */
  sendSpares(): void
  /**
   * Whether a successor of our own is about to take the service: the predecessor will not come back
   * then.
   */
  tellReplacing(isOn: boolean): void
  /** Tells it that the service ends. */
  tellStop(): void
}

/** A worker beside others (upgrade/among-workers.ts). */
export type Among = {
  /** How many there are. */
  readonly workers: number
  /**
   * Resolves when the other workers are as far as this one, or its successor: to false if one of
   * them is not to be replaced, or the keeper is gone. `overlaps`: an overlap comes next.
   */
  hold(overlaps: boolean): Promise<boolean>
  /** It was started as one of several, which are upgraded as one. */
  readonly isOneOfSeveral: boolean
  /** Has the whole service upgraded, this process too. Rejects if that has failed. */
  wish(options: object): Promise<never>
  /** The part of this process in an upgrade of all begins. */
  beginPart(): void
  /** The program uses node:cluster: the keeper says in its log what that means, once. */
  usesCluster(): void
}

/** The keeper that started this process (upgrade/keeper-line.ts). */
export type KeeperEnd = {
  /** The place of this worker, counted from 0. */
  readonly slot: number
  readonly among: Among
  /** This process owns the service from now on, or again. */
  serves(): void
  /** It was told to end: its exit is no crash. */
  stopping(): void
  /** What it hands on has changed. */
  changed(): void
  /** Comes to another keeper, which listens at this path; the one before is gone. */
  join(path: string): Promise<void>
}

/** A worker of the same service, and our end of a channel to it. */
export type OtherWorker = { readonly identity: Identity; readonly fd: number }

/** What a worker does with others, by the keeper's word (handover/one-of-several.ts). */
export type Sideways = {
  /** It goes for good, and its connections to the other one. */
  retire(to: OtherWorker): void
  take(from: OtherWorker): void
  /** Resolves to how many idle connections have moved. */
  give(to: OtherWorker, count: number): Promise<number>
}

/** How a process of the service was started, which is how a restart starts it. */
export type Started = {
  readonly command: Command
  readonly program?: ProgramRecord
  readonly environment: Readonly<Record<string, string | undefined>>
}

/** The control socket (control/server.ts). */
export type ControlSocket = {
  /** Begins to answer on the socket that the predecessor had. */
  takeOver(): Promise<void>
  /** Answers no new connection any more. The socket goes to a successor, or is removed. */
  release(successor?: Started & { readonly identity: Identity }): void
  /**
   * Opens the socket anew: the successor to which it was released is lost. `spare` is a second
   * handle of it.
   */
  reopen(spare: ListenerHandle | undefined): Promise<void>
  /** Of a socket that the predecessor could not open anew: it has given up root. */
  readonly onlyHandle: ListenerHandle | undefined
  /** This process is about to give up root for this user. */
  becomes(user: number): void
  /** Resolves when whoever was accepted has an answer. */
  readonly idle: Promise<void>
}

/**
 * What serves in the place of a program that does not know this library, until that takes it up
 * itself (preload/start.ts).
 */
export type Preload = {
  /**
   * The program calls a verb: what it does from now on is its own. Throws `ERR_COOK_PRELOADED` if
   * that comes too late.
   */
  stepAside(verb: string): void
  /** What was waited for may have come, or need not come any more. */
  look(): void
  /** The program says that it is up, or why not. Resolves at the commit. */
  ready(ok: boolean, reason: string): Promise<void>
}

/** Where a connection of the predecessor goes to. */
export type Destination = {
  /** Name of a listener, or of a protocol of the program's own. */
  readonly to: string
  /** In the second case the listener that accepted it. */
  readonly listener?: string | undefined
  /** In the first, of HTTP/1.1: milliseconds since its last answer, if it has had one. */
  readonly idle?: number | undefined
}

/** With what goes along. */
export type Arrival = Destination & { readonly state?: string | undefined }

/**
 * How a move ended: `busy` and `lost` connections stay here, but `lost` were on their way when the
 * successor died.
 */
export type Moved = 'moved' | 'unwanted' | 'busy' | 'lost'

/** Live TLS connections, with the option `moveTls` (tls/moves.ts); loaded with that alone. */
export type TlsMoves = {
  /** For the predecessor, which seals what it sends for this process. */
  readonly publicKey: string
  /** From before it listens: what its connections say of themselves is kept. */
  watch(server: Server): void
  /** Whether a connection may move, now or later. */
  mayMove(socket: Socket): boolean
  /** The successor did not want it. */
  refuse(socket: Socket): void
  /** Why connections of none of these servers move; undefined: one of them speaks TLS 1.3. */
  whyNone(servers: readonly Server[]): string | undefined
  /** Until an HTTP connection that was adopted is to end with its next answer, in milliseconds. */
  timeLeft(socket: Socket): number
  /** Whether take() would give it, asked where reading was stopped. */
  isReady(socket: Socket): boolean
  /**
   * For one that can still go back: resolves when that is said which must be before it leaves.
   * Undefined: nothing is to be said.
   */
  untilReady(socket: Socket): Promise<void> | undefined
  /** Takes a connection out of this process, where reading was stopped; undefined: not now. */
  take(socket: Socket, key: string): TakenTls | undefined
  /**
   * Makes what came a connection of this process; undefined if that cannot be. `hooks` are the way
   * back.
   */
  adopt(handle: object, sealed: string, hooks: TlsHooks): { readonly socket: Socket; readonly tcp: Socket } | undefined
  /** Counts for a drain, from now on. */
  count(): void
  readonly counts: TlsCounts
}

/** A connection that was taken out, and can still come back; one of the calls is made, once. */
export type TakenTls = {
  readonly state: string
  /** Its TCP handle, which stays open here. */
  readonly handle: object
  /** The other process alone has it: its first record has opened there, or it did here. */
  readonly isProven: boolean
  /** The other process has it. */
  arrived(): void
  proven(): void
  /** It goes on here with these bytes; false if it cannot. */
  comeBack(bytes: Buffer): boolean
}

export type TlsHooks = {
  /** It is this process's for good; `told` is called when who sent it will hear of it. */
  proven(told: () => void): void
  /** A third process is about to get it, and may be the one that sends on it first. */
  passing(told: () => void): void
  /** The bytes are not what was expected: who sent it goes on with them. */
  returned(bytes: Buffer): void
  /** Whether who sent it is still there. */
  mayReturn(): boolean
}

export type MoveOptions = {
  /**
   * Looked at when its turn comes, after reading was stopped: a request may have begun while it
   * waited.
   */
  readonly isFree: () => boolean
  /**
   * What goes with it, as cloned-values.ts writes it; a function is asked when its turn has come
   * and it is free.
   */
  readonly state?: string | (() => string | undefined) | undefined
  /** Goes before those that wait: a busy connection is free only for a moment. */
  readonly isUrgent?: boolean
  /**
   * Of TLS, after `moved`: called with false when it is the successor's for good, or has been there
   * for a while; with true when it goes on here after all, before anything of it is read.
   */
  readonly onProof?: (isHere: boolean) => void
}

/** The way of connections to the successor (handover/mover.ts). */
export type ConnectionMover = {
  /** False once the successor takes nothing any more. */
  readonly isOpen: boolean
  /** What is sent now would still be on its way at the deadline. */
  readonly isTooLate: boolean
  /** Whether a connection is one that moves: plain, or of TLS that the successor takes. */
  carries(socket: Socket): boolean
  move(socket: Socket, destination: Destination, options: MoveOptions): Promise<Moved>
  /** Moves nothing any more, since there is no time left: what is on its way arrives. */
  stop(): void
  /** There is no successor any more: nothing arrives there. */
  giveUp(): void
}

export type Counting = { -readonly [Name in keyof DrainCounts]: number }

/** A server that drains, and where its connections go. */
export type Draining = {
  readonly name: string
  readonly server: Server
  readonly counts: Counting
  /** Undefined: there is no successor, or it takes no connections. */
  readonly mover: ConnectionMover | undefined
  readonly rule: MoveRule
  readonly clock: DrainClock
}

/** How far a drain is: each stage has its time in handover/plan.ts. */
export type DrainStage = 'moving' | 'finishing' | 'ending' | 'cutting'

/** What may take how long in a drain (handover/plan.ts), all in milliseconds. */
export type DrainClock = {
  /** From its begin to the deadline, and the deadline, by performance.now(). */
  readonly time: number
  readonly endsAt: number
  /** Set when no more is moved while we accept. */
  readonly movedLongEnough: Latch
  /** Set when what waits for its turn to move is told to end instead. */
  readonly late: Latch
  /** Set when what is left is to be cut: at the deadline, and at the second stop. */
  readonly deadline: Latch
  /** What is idle is sent no more: it would be on its way at the deadline. */
  readonly isLastTurnOver: boolean
  readonly stage: DrainStage
  readonly times: DrainTimes
  /** A point was reached, now or earlier. */
  note(point: 'stoppedAccepting' | 'toldToEnd' | 'cut'): void
  /** Over how long closes may be spread that begin now. */
  spread(wanted: number): number
  /** How long a client may still go on that was told to end now. */
  grace(wanted: number): number
}

/** The drain of one protocol (handover/http.ts, http2.ts). */
export type ProtocolDrain = {
  /** We still accept, and each answer is the last one of its connection. */
  goLame(): void
  /** Before we stop accepting: connections that move without disturbing anybody. */
  moveIdle(): Promise<void>
  /** When we stop accepting: what cannot move is told to come to an end. */
  finish(): void
  /** After that, when it is late: what still waits for its turn to move is told to end too. */
  end?(): void
  /**
   * Closes what is idle, now and from now on, but for those over which something went in the last
   * `quiet` milliseconds; returns those that it closed at once.
   */
  closeIdle(quiet: number): readonly Socket[]
  /** Releases what the drain listened to. */
  dispose(): void
}

/** What drains beside the listeners: the WebSockets of ws/ and of preload/. */
export type OwnDrain = {
  /** Before we stop accepting; resolves when what was idle has moved, or stays after all. */
  moveIdle(): Promise<unknown>
  /** When we stop accepting: the successor is there to stay. */
  finish?(): void
  /** After that, when it is late: what still waits for its turn to move is told to end. */
  end?(): void
  /** Resolves when nothing of it is left here. At the deadline it cuts, and counts, by itself. */
  readonly done: Promise<unknown>
  /** Releases what it listened to: the drain is over, or the service is ours again. */
  dispose(): void
}

/** How this process ends its service, after an upgrade or at a stop (handover/leave.ts). */
export type Departure = {
  /** Undefined at a stop. */
  readonly mover: ConnectionMover | undefined
  /** There is no successor, but after a lame duck there are others in its place. */
  readonly hasOthers: boolean
  /** Set when what is idle is to be closed; at a stop it is from the start. */
  readonly hurry: Latch
  readonly clock: DrainClock
  readonly handedOver: number
  /** With what became of the connections, when this process is done or has the service again. */
  readonly ended: Promise<DrainReport>
  /** Whether a listener ends in this process, and goes to no successor. */
  keeps(listener: { readonly name: string; readonly stays?: boolean }): boolean
  /** Resolves when the service is ours again instead. */
  readonly returned: Promise<CookError>
  /** The successor has vanished, and nothing explains why. */
  readonly mayBeLost: boolean
  /** The successor is lost and we take the service back: nothing is to be closed. */
  isComingBack(): boolean
  /** Where what becomes of a connection is counted. */
  countsOf(socket: Socket): Counting
  /**
   * A connection of the predecessor goes through us to our successor; false if it cannot. `keep` is
   * for one that comes back.
   */
  passOn(arrival: Arrival, socket: Socket, keep: () => boolean): boolean
  /** A connection of the program's own protocol, on the program's word. */
  handOver(name: string, socket: Socket, state: unknown): Promise<boolean>
  /** Sends the successor what `status` shows of this process and of those before it. */
  tellNews(): void
  /** Closes what is idle, or cuts the rest as well. */
  stop(isCut: boolean): Promise<DrainReport>
  /** Tells the successor to stop; false if there is none. */
  tellStop(): boolean
}
