/** What each generation tells `cook-daemon run`, which started the first one only. */
import { writeSync } from 'node:fs'

import { isCount, isIdentity } from '../contract/environment.ts'
import { type Emitter, wrapEmit } from '../node/emitters.ts'
import { identify } from '../node/system.ts'

/** A line of JSON on the pipe. Its end-of-file says that no generation is left. */
export type ForegroundWord =
  | { readonly type: 'serves'; readonly generation: number; readonly pid: number; readonly startTime: string }
  | { readonly type: 'exit'; readonly generation: number; readonly code: number }

export type Foreground = { serves(): void }

/** The end of a generation. */
export function foreground(fd: number, generation: number): Foreground {
  const tell = (word: ForegroundWord) => {
    try {
      writeSync(fd, `${JSON.stringify(word)}\n`)
    } catch {
      // Nobody waits any more: the service goes on without.
    }
  }
  wrapEmit(process as Emitter, (emit, name, ...args) => {
    const wasHeard = emit(name, ...args)
    // Behind the last listener: each may choose another code, and those of the program come after
    // whatever we could add.
    if (name === 'exit') tell({ type: 'exit', generation, code: Number(process.exitCode ?? args[0]) })
    return wasHeard
  })
  return {
    serves() {
      const [pid, startTime] = identify()
      tell({ type: 'serves', generation, pid, startTime })
    },
  }
}

/**
 * A word of ours; undefined: the program wrote to a descriptor that is not its own. The signals of
 * an operator go to the process that is named here.
 */
export function toForegroundWord(value: unknown): ForegroundWord | undefined {
  if (typeof value !== 'object' || value === null) return undefined
  const { type, generation, code, pid, startTime } = value as Readonly<Record<string, unknown>>
  if (!isCount(generation)) return undefined
  if (type === 'exit') return isCount(code) ? { type, generation, code } : undefined
  const identity = [pid, startTime]
  return type === 'serves' && isIdentity(identity)
    ? { type, generation, pid: identity[0], startTime: identity[1] }
    : undefined
}
