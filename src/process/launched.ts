/** What a daemon tells the process that started it and waits for it: the daemon's end. */
import { closeSync, read, writeSync } from 'node:fs'
import { cutReason } from '../contract/messages.ts'
import { CookError, messageOf } from '../errors.ts'

/** A line of JSON each. */
export type Word = {
  readonly type: 'started' | 'ready' | 'refused' | 'dying'
  readonly reason?: string
  /** Of the error that is the reason, if it is ours: empty if that has none. */
  readonly code?: string
}

export type Launch = {
  readonly waitReady: boolean
  /**
   * Resolves when the process that started us has read that we are here; only then the link is ours
   * alone.
   */
  readonly released: Promise<void>
  tell(word: Word): void
  close(): void
}

/** Tells the process that started this daemon that it is here. */
export function reportTo({
  fd,
  waitReady,
  close,
}: {
  fd: number
  waitReady: boolean
  close: readonly number[]
}): Launch {
  for (const leaked of close) {
    if (leaked !== fd) closeQuietly(leaked)
  }
  let isOpen = true
  let released: Promise<void> | undefined
  // End-of-file: it has let go, or is gone. A launcher stopped by ^Z holds its daemon back, as it
  // would any child of a shell.
  const untilReleased = () =>
    new Promise<void>((done) => {
      read(fd, Buffer.alloc(1), 0, 1, null, () => {
        if (!waitReady) launch.close()
        done()
      })
    })
  const launch: Launch = {
    waitReady,
    // Read when it is asked for: a daemon that says when it is ready lets go itself.
    get released() {
      released ??= untilReleased()
      return released
    },
    tell(word) {
      if (isOpen) tellLauncher(fd, word)
    },
    close() {
      if (isOpen) closeQuietly(fd)
      isOpen = false
    },
  }
  launch.tell({ type: 'started' })
  if (!waitReady) void launch.released
  return launch
}

/** A word of the daemon to the process that started it. */
export function tellLauncher(fd: number, word: Word): void {
  try {
    writeSync(fd, `${JSON.stringify(word)}\n`)
  } catch {
    // Nobody waits any more: a launcher may be interrupted, the daemon goes on.
  }
}

/**
 * The last word about an error that ends the daemon: its text, or with the stack where it came
 * from.
 */
export function wordOf(type: 'refused' | 'dying', error: unknown): Word {
  const reason = error instanceof Error && type === 'dying' ? (error.stack ?? error.message) : messageOf(error)
  return { type, reason: cutReason(reason), code: error instanceof CookError ? error.code : '' }
}

function closeQuietly(fd: number): void {
  try {
    closeSync(fd)
  } catch {
    // It is closed already.
  }
}
