/** When an unmodified program is up: when it listens, or with waitReady when it says so. */
import type { Service } from '../service.ts'
import { deferred } from '../waiting.ts'

export type Readiness = {
  /** Resolves at the commit. */
  readonly started: Promise<void>
  /** Something of what is waited for may have come. */
  look(): void
  /** A server or socket of the program listens, or will in a moment. */
  opens(source: object): void
  opened(source: object): void
  /** It does not, after all. */
  failed(source: object): void
  /** The program says that it is up. */
  say(): void
  /** The program says that it is not, and why. */
  refuse(reason: string): Promise<void>
  end(): void
}

/** `start` tells the predecessor, and resolves when that is decided. */
export function watchReadiness(service: Service, start: () => Promise<void>): Readiness {
  const { claims, predecessor, state } = service
  const { waitReady = false, release = [] } = state.program ?? {}
  const opening = new Set<object>()
  let hasOpened = false
  let hasSaid = false
  let isOver = false
  let told = ''
  const started = deferred()
  const takeBack = waitReady ? hearReady(() => readiness.say()) : () => {}

  /** What the error of an upgrade says if it never comes. */
  function missing(): string {
    const names = claims.unclaimed.map(({ name }) => name).filter((name) => !release.includes(name))
    const parts = [
      names.length > 0 &&
        `the program has not opened ${names.join(' and ')}, which the old version handed over (upgrade with --release to let that go)`,
      waitReady && !hasSaid && 'the program has not sent "ready"',
      !waitReady && !hasOpened && 'no server of the program listens',
    ]
    return parts.filter(Boolean).join(', and ')
  }

  const readiness: Readiness = {
    started: started.promise,
    look() {
      if (isOver) return
      const words = missing()
      if (words !== told) predecessor?.tellWaiting(words)
      told = words
      if (words !== '' || opening.size > 0) return
      isOver = true
      started.resolve(start())
    },
    opens(source) {
      opening.add(source)
    },
    opened(source) {
      opening.delete(source)
      hasOpened = true
      readiness.look()
    },
    failed(source) {
      if (opening.delete(source)) readiness.look()
    },
    say() {
      hasSaid = true
      // Said where it is not waited for, it still is a word.
      hasOpened = true
      readiness.look()
    },
    async refuse(reason) {
      isOver = true
      state.entered.launch?.tell({ type: 'refused', reason })
      await predecessor?.notify(false, reason)
    },
    end() {
      isOver = true
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
