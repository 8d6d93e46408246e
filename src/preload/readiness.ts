/** When an unmodified program is up: when it listens, or with waitReady when it says so. */
import { placeOfHandle } from '../process/addresses.ts'
import type { Inherited } from '../process/handles.ts'
import type { Service } from '../service.ts'
import { deferred } from '../waiting.ts'
import { IdleWatch, type Listening } from './idle.ts'
import { isChosenPort, isMeant } from './places.ts'

export type Readiness = {
  /** Resolves at the commit. */
  readonly started: Promise<void>
  /** Something of what is waited for may have come. */
  look(): void
  /** A server or socket of the program listens, or will in a moment. */
  opens(source: object): void
  /** Undefined: where the old version listens too; else the address, which is a new one. */
  opened(source: Listening, elsewhere?: string): void
  /** It does not, after all, or not any more. */
  failed(source: object): void
  /** The program says that it is up. */
  say(): void
  /** The program says that it is not, and why. */
  refuse(reason: string): Promise<void>
  end(): void
}

/**
 * How long a program that was started again waits, from its first listener on, for what it had open
 * before, in milliseconds.
 */
const longestWait = 10_000

/** How long a program without a listener must live to be up, in milliseconds. */
const longestBoot = 3_000

/** `start` tells the predecessor, and resolves when that is decided. */
export function watchReadiness(service: Service, start: () => Promise<void>): Readiness {
  const { claims, predecessor, state } = service
  const { waitReady = false, noListen = false, release = [] } = state.program ?? {}
  const opening = new Set<object>()
  /** What listens, and at which address if the old version did not. */
  const open = new Map<object, { readonly source: Listening; readonly elsewhere: string | undefined }>()
  const idle = new IdleWatch(() => leaveOrFail())
  const isReleased = (one: Inherited) => release.some((word) => isMeant(one, word))
  let hasOpened = false
  /** Waits for everything that was open. */
  let isPatient = true
  let hasSaid = false
  let isOver = false
  let told: string | undefined
  const started = deferred()
  const takeBack = waitReady || noListen ? hearReady(() => readiness.say()) : () => {}
  // One that has crashed by then was not up.
  if (noListen && !waitReady) setTimeout(() => readiness.say(), longestBoot).unref()

  /** What the program still has to do, for whoever waits and for the error if it never does. */
  function missing() {
    const left = isPatient ? claims.unclaimed.filter((one) => !isReleased(one)) : []
    const names = left.map((one) => placeOfHandle(one))
    const listens = [...open.values()].flatMap(({ elsewhere }) => elsewhere ?? [])
    const parts = [
      names.length > 0 &&
        `the program ${listens.length > 0 ? `listens on ${listens.join(' and ')}, and ` : ''}has not opened ${names.join(' and ')}, ${service.isFirstStart ? 'which the service holds for it' : 'where the old version listens (to give that up, upgrade with --release)'}`,
      waitReady && !hasSaid && 'the program has not sent "ready"',
      !waitReady && !hasOpened && (noListen ? 'it has not sent "ready"' : 'no server of the program listens'),
    ]
    return { reason: parts.filter(Boolean).join(', and '), listens, missing: names }
  }

  function tell(waits: ReturnType<typeof missing> & { readonly isIdle?: true }): void {
    const words = JSON.stringify(waits)
    if (words !== told) predecessor?.tellWaiting(waits)
    told = words
  }

  /** After a crash: what was opened when a client asked for it is not opened at the start. */
  function doWithout(): void {
    isPatient = false
    readiness.look()
  }

  /** Nothing will open what is missing: what nobody else could ask for stays where it is. */
  function leaveOrFail(): void {
    const left = claims.unclaimed.filter((one) => !isReleased(one))
    if (service.isFirstStart) {
      doWithout()
    } else if (left.every(isChosenPort)) {
      for (const one of left) claims.leave(one)
      readiness.look()
    } else {
      tell({ ...missing(), isIdle: true })
    }
  }

  /**
   * With waitReady the program says itself how far it is, and what waits for another event than
   * those of its loop, as for a first request, may do that.
   */
  function watchIdle(isStuck: boolean): void {
    const isWatched = isStuck && predecessor !== undefined && !waitReady
    predecessor?.holdForAnswers(!isWatched)
    if (isWatched) idle.begin([...open.values()].map(({ source }) => source))
    else idle.end()
  }

  const readiness: Readiness = {
    started: started.promise,
    look() {
      if (isOver) return
      const waits = missing()
      tell(waits)
      watchIdle(waits.missing.length > 0 && opening.size === 0 && open.size > 0)
      if (waits.reason !== '' || opening.size > 0) return
      isOver = true
      started.resolve(start())
    },
    opens(source) {
      opening.add(source)
      if (!isOver) watchIdle(false)
    },
    opened(source, elsewhere) {
      opening.delete(source)
      open.set(source, { source, elsewhere })
      if (!hasOpened && service.isFirstStart) setTimeout(doWithout, longestWait).unref()
      hasOpened = true
      readiness.look()
    },
    failed(source) {
      const wasOpen = open.delete(source)
      if (opening.delete(source) || wasOpen) readiness.look()
    },
    say() {
      hasSaid = true
      // Said where it is not waited for, it still is a word.
      hasOpened = true
      readiness.look()
    },
    async refuse(reason) {
      isOver = true
      watchIdle(false)
      state.entered.launch?.tell({ type: 'refused', reason })
      await predecessor?.notify(false, reason)
    },
    end() {
      isOver = true
      watchIdle(false)
      takeBack()
    },
  }
  return readiness
}

/**
 * `process.send('ready')`, as programs written for PM2 say it: in a process that nobody listens to
 * there is no `send`, so this one takes the one word and ignores the rest. One that is there (a
 * supervisor's) still gets everything.
 */
function hearReady(onReady: () => void): () => void {
  const before = process.send
  const send = (message: unknown, ...rest: unknown[]): boolean => {
    if (message === 'ready') onReady()
    if (before !== undefined) return Reflect.apply(before, process, [message, ...rest])
    const done = rest.findLast((one) => typeof one === 'function')
    if (done !== undefined) process.nextTick(done as (error: null) => void, null)
    return true
  }
  process.send = send
  return () => {
    if (process.send !== send) return
    if (before === undefined) Reflect.deleteProperty(process, 'send')
    else process.send = before
  }
}
