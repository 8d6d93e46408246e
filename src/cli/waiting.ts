/** A line for people at a terminal while a command waits: what for, and for how long already. */
import { paint } from './output.ts'

/** Less needs no word, in milliseconds. */
const soon = 500
const { TERM } = process.env

/** The line goes when the work is done; what is no terminal gets none. */
export async function waitingFor<Result>(what: string, work: Promise<Result>): Promise<Result> {
  const { stderr } = process
  if (!stderr.isTTY || TERM === 'dumb') return work
  const begin = performance.now()
  const clear = () => stderr.write('\r\u001b[K')
  const timer = setInterval(() => {
    clear()
    const seconds = ((performance.now() - begin) / 1000).toFixed(1)
    stderr.write(`${paint('dim', `${seconds.padStart(7)} s`, 'stderr')}  ${what}`)
  }, soon)
  try {
    return await work
  } finally {
    clearInterval(timer)
    if (performance.now() - begin >= soon) clear()
  }
}
