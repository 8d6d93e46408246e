/** A process that the keeper has started, or to which it was attached: its channel, and its end. */
import type { ChildProcess } from 'node:child_process'
import { closeSync } from 'node:fs'
import { type Identity, type LinkRecord, writeStart } from '../contract/environment.ts'
import type { KeeperMessage } from '../contract/keeper-messages.ts'
import type { Exit } from '../contract/old-side.ts'
import type { UserRecord } from '../contract/user.ts'
import { identityOfChild, killSession } from '../node/sessions.ts'
import { signalNumbers } from '../node/signals.ts'
import { type Command, identify, system } from '../node/system.ts'
import { spawned } from '../process/launcher.ts'
import { lastWords, linesSince, markLog, openLog } from '../process/log.ts'
import { openStation, type RawHandle, type Station } from '../upgrade/station.ts'
import { collectSoon } from './garbage.ts'
import type { KeeperPlan, Release } from './plan.ts'
import { isUnit } from './unit.ts'

export type WorkerEvents = {
  message(worker: Worker, message: KeeperMessage, handle: RawHandle | undefined): void
  exit(worker: Worker, exit: Exit): void
}

/** What is to be started, and where in the service. */
export type Birth = {
  readonly slot: number
  /** Of a service that was asked for a number of them. */
  readonly workers?: number | undefined
  /** Without its keeper. */
  readonly link: LinkRecord
  readonly command: Command
  readonly environment: Readonly<Record<string, string>>
  readonly release: Release
  /** What it is handed, in the order of the records. */
  readonly fds: readonly number[]
  /** The end of its link to the predecessor. */
  readonly linkFd: number
  readonly log: string | undefined
  /** As whom it runs from its start on; undefined: as the keeper. */
  readonly user: UserRecord | undefined
  /** Asked once more when it is there. */
  readonly isWanted?: () => boolean
}

export class Worker {
  readonly identity: Identity
  readonly generation: number
  readonly release: Release
  readonly station: Station
  /** This keeper has started it, and hears how it ends. */
  readonly isChild: boolean
  /** What became of it, if it has ended. */
  exited: Exit | undefined
  /** Its keeper has told it to end: that it does so is no news, even behind its exit. */
  wasTold = false
  /** Where its output begins, in which log. */
  #log: { readonly path: string | undefined; readonly offset: number | undefined }
  readonly #hearing: ((exit: Exit) => void)[] = []

  constructor(
    identity: Identity,
    { generation, release }: { readonly generation: number; readonly release: Release },
    target: ChildProcess | NodeJS.Process,
    events: WorkerEvents,
    log: { readonly path?: string | undefined; readonly offset?: number | undefined; readonly isChild?: boolean } = {},
  ) {
    this.isChild = log.isChild === true
    this.identity = identity
    this.generation = generation
    this.release = release
    this.#log = { path: log.path, offset: log.offset }
    this.station = openStation(target, {
      message: (message, handle) => events.message(this, message, handle),
      closed: () => {},
    })
    this.onExit((exit) => events.exit(this, exit))
  }

  /** How it starts another keeper, should this one be gone. */
  tellHow({ name, folder, file }: Pick<KeeperPlan, 'name' | 'folder' | 'file'>): void {
    const { execPath } = process
    const place = folder === undefined ? {} : { folder }
    this.station.send({ type: 'keeper', execPath, file, name, isUnit: isUnit(), ...place })
  }

  onExit(hear: (exit: Exit) => void): void {
    if (this.exited === undefined) this.#hearing.push(hear)
    else hear(this.exited)
  }

  ended(exit: Exit): void {
    if (this.exited !== undefined) return
    this.exited = exit
    for (const hear of this.#hearing.splice(0)) hear(exit)
    collectSoon()
  }

  /** What it wrote last, as it goes behind a sentence; empty where its log cannot be read. */
  get words(): string {
    const { offset } = this.#log
    if (offset === undefined) return ''
    return this.#inLog((fd) => lastWords(undefined, linesSince({ fd, offset }))) ?? ''
  }

  /** What is in its log by now is of another process, which has ended. */
  passOver(): void {
    if (this.#log.offset !== undefined) this.#log = { ...this.#log, offset: this.#inLog(markLog)?.offset }
  }

  #inLog<Result>(read: (fd: number) => Result): Result | undefined {
    const { path } = this.#log
    const fd = path === undefined ? 2 : openOrNothing(path)
    if (fd === undefined) return undefined
    try {
      return read(fd)
    } finally {
      if (fd !== 2) closeSync(fd)
    }
  }
}

/** Rejects if there is no such process. */
export async function giveBirth(birth: Birth, events: WorkerEvents): Promise<Worker> {
  const { slot, workers, link, command, fds, linkFd, log, user } = birth
  const [pid, startTime] = identify()
  const record: LinkRecord = { ...link, keeper: { pid, startTime, slot, ...(workers !== undefined && { workers }) } }
  const env = writeStart(birth.environment, { stage: 'daemon', link: record })
  // By its name, with the rights of the keeper: a worker may have given up its own.
  const own = log === undefined ? undefined : openOrNothing(log)
  try {
    const offset = markLog(own ?? 2)?.offset
    const child = await spawned(() =>
      system.spawn(command, { env, user, stdio: ['ignore', own ?? 1, own ?? 2, 'ipc', ...fds, linkFd] }),
    )
    const identity = identityOfChild(child)
    if (birth.isWanted?.() === false) {
      killSession(identity)
      throw new Error('the process that asked for it has exited')
    }
    const worker = new Worker(identity, { generation: link.generation, release: birth.release }, child, events, {
      path: own === undefined ? undefined : log,
      offset,
      isChild: true,
    })
    child.once('exit', (code, signal) => worker.ended({ code, signal }))
    return worker
  } finally {
    if (own !== undefined) closeSync(own)
  }
}

/** A log that cannot be opened keeps nobody from serving. */
function openOrNothing(log: string): number | undefined {
  try {
    return openLog(log)
  } catch {
    return undefined
  }
}

/** As a shell has it; 0 where nothing has ended. */
export function exitCodeOf(exit: Exit | undefined): number {
  if (exit === undefined) return 0
  return exit.code ?? 128 + signalNumbers()[(exit.signal ?? 'SIGKILL') as NodeJS.Signals]
}
