/** Deadlines that another process has to keep. */

/** How much of a deadline passes at most while this process is stopped, in milliseconds. */
const longestSlice = 250

/**
 * Runs `late` after so many milliseconds, unless the returned function is called before. Counted in slices, so that time in which this process was stopped or blocked does not count against the
 * other one, and with a turn of the loop before the verdict, in which what has arrived meanwhile is heard.
 */
export function deadline(ms: number, late: () => void): () => void {
  let timer: NodeJS.Timeout | undefined
  function begin(left: number): void {
    const slice = Math.min(left, longestSlice)
    timer = setTimeout(() => {
      const due = timer
      setImmediate(() => {
        if (due !== timer) return
        if (left > slice) begin(left - slice)
        else late()
      })
    }, slice)
  }
  begin(ms)
  return () => {
    clearTimeout(timer)
    // A slice that has just passed is looking for this, to begin the next.
    timer = undefined
  }
}
