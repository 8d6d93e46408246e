/** What the keeper says in the log, among the lines of the program. */
import { writeSync } from 'node:fs'

/** One line, with the time. By the descriptor: a reader that is gone must not end the keeper. */
export function say(text: string): void {
  try {
    writeSync(2, `${new Date().toISOString()} cook-daemon: ${text}\n`)
  } catch {
    // Full or closed: `status` has the last exit too.
  }
}
