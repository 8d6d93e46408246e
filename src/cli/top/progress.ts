/** An upgrade as it happens, told by what a service shows of itself: whoever began it. */
import type { LastUpgrade } from '../../contract/messages.ts'
import type { Status } from '../../control/status.ts'
import { drainingOf } from '../rows.ts'
import { countsText } from '../upgrade-lines.ts'

export type Tone = 'good' | 'bad' | 'moving' | 'quiet'
export type Line = { readonly line: string; readonly tone: Tone }

/** How long the end of one is shown, in milliseconds. */
const afterglow = 15_000

export class Progress {
  /** When the one that goes on was seen first, in milliseconds of performance.now(). */
  #begin: number | undefined
  /** What was open before the old version began to drain. */
  #open = 0

  /** The line for this moment, if there is one. */
  lineOf(status: Status): Line | undefined {
    const { generation, lastUpgrade, connections } = status
    const older = drainingOf(status)
    const starting = startingText(status)
    if (older.length === 0) this.#open = connections
    if (starting !== undefined) {
      this.#begin ??= performance.now()
      const seconds = ((performance.now() - this.#begin) / 1000).toFixed(1)
      return { line: `${generation} → ${generation + 1}  ${starting}, ${seconds} s`, tone: 'moving' }
    }
    this.#begin = undefined
    if (older.length > 0) {
      const left = older.reduce((sum, one) => sum + one.connections, 0)
      const of = Math.max(this.#open, left)
      const old = Math.max(...older.map((one) => one.generation))
      const counts = `${of - left} of ${of} connections moved`
      return { line: `${old} → ${generation}  switched; ${counts}`, tone: 'moving' }
    }
    return lastUpgrade === undefined ? undefined : endLine(lastUpgrade, status.workers?.length ?? 1)
  }
}

function startingText({ phase, workers = [] }: Status): string | undefined {
  const phases = workers.length > 1 ? workers.map((one) => one.phase) : [phase]
  const isStarting = phases.some((one) => one === 'upgrading' || one === 'overlapping')
  const newest = Math.max(...workers.map(({ generation }) => generation))
  const switched = workers.filter(({ generation }) => generation === newest).length
  if (isStarting && workers.length > 1 && switched < workers.length) {
    return `${switched} of ${workers.length} workers switched`
  }
  if (phases.includes('overlapping')) return 'both versions accept'
  return isStarting ? 'the new version starts' : undefined
}

function endLine(
  { outcome, generation, at, seconds, code, connections }: LastUpgrade,
  workers: number,
): Line | undefined {
  if (Date.now() - at > afterglow) return undefined
  const what = `${generation - 1} → ${generation}`
  const time = `${seconds.toFixed(1)} s`
  if (outcome === 'failed') {
    return { line: `${what}  failed after ${time}${code === undefined ? '' : `: ${code}`}`, tone: 'bad' }
  }
  // Of several workers their number; status has the counts of all.
  const counts = workers > 1 ? `, ${workers} workers` : connections && `: ${countsText(connections)}`
  return { line: `${what}  upgraded in ${time}${counts ?? ''}`, tone: 'good' }
}
