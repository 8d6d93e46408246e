/** Closing what cannot move over some time, so that not all clients come back at once. */

/** Close codes (RFC 6455 and its registry): the server restarts; it goes away. */
export const closeCodes = { restart: 1012, end: 1001 } as const
/** In milliseconds. */
export const defaultSpread = 5_000
/** Milliseconds from one close to the next, at most. */
const longestGap = 10

/** Runs what is added one after the other; `time` is asked when their number is known. */
export function closeOverTime(time: () => number) {
  const waiting = new Map<() => void, NodeJS.Timeout>()
  let gap = longestGap
  let next = performance.now()
  return {
    /** How many are known to come, from now on. */
    plan(count: number): void {
      gap = Math.min(longestGap, time() / Math.max(1, count))
    },
    add(close: () => void): void {
      const asked = performance.now()
      next = Math.max(asked, next)
      const run = () => {
        waiting.delete(close)
        close()
      }
      waiting.set(close, setTimeout(run, next - asked))
      next += gap
    },
    now(): void {
      const closes = [...waiting.keys()]
      this.stop()
      for (const close of closes) close()
    },
    stop(): void {
      for (const timer of waiting.values()) clearTimeout(timer)
      waiting.clear()
    },
  }
}
