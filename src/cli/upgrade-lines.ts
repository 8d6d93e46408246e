/** What `upgrade` prints of its steps, for one process and for several workers. */
import type { Progress } from '../control/status.ts'
import { timesText } from '../report.ts'
import { paint, print } from './output.ts'

export interface Lines {
  show(progress: Progress): void
}

/** Of a service of so many workers; `isRolling`: one after the other. */
export function linesFor(workers: number, isRolling: boolean): Lines {
  return workers > 1 ? new SlotLines(workers, isRolling) : new ProcessLines()
}

class ProcessLines implements Lines {
  #last: string | undefined

  show(progress: Progress): void {
    const text = textOf(progress)
    // Told each quarter of a second: only what is new.
    if (text !== undefined && text !== this.#last) print(`${timeOf(progress)}  ${text}`)
    this.#last = text
  }
}

/** Counts of all together; what one of them does alone is printed with its slot. */
class SlotLines implements Lines {
  readonly #workers: number
  readonly #isRolling: boolean
  readonly #count = { started: 0, served: 0, drained: 0 }
  readonly #moving = new Map<number, { readonly handedOver: number; readonly of: number }>()
  readonly #sum = { handedOver: 0, served: 0, closed: 0, cut: 0 }
  #last = ''

  constructor(workers: number, isRolling: boolean) {
    this.#workers = workers
    this.#isRolling = isRolling
  }

  show(progress: Progress): void {
    const text = this.#isRolling ? withSlot(progress) : this.#textOf(progress)
    if (text !== undefined && text !== this.#last) print(`${timeOf(progress)}  ${text}`)
    this.#last = text ?? this.#last
  }

  #textOf(progress: Progress): string | undefined {
    const { slot = 0 } = progress
    const count = this.#count
    switch (progress.type) {
      case 'started':
        return ++count.started === 1 ? `starting ${this.#workers} new workers` : undefined
      case 'booted':
        return undefined
      case 'serves':
        return ++count.served === this.#workers ? 'all ready, switched' : undefined
      case 'draining': {
        this.#moving.set(slot, progress)
        const sum = (of: 'handedOver' | 'of') => [...this.#moving.values()].reduce((all, one) => all + one[of], 0)
        return `${sum('handedOver')} of ${connections(sum('of'))} moved`
      }
      case 'drained': {
        for (const name of ['handedOver', 'served', 'closed', 'cut'] as const) this.#sum[name] += progress[name]
        return ++count.drained === this.#workers ? countsText(this.#sum) : undefined
      }
      default:
        return withSlot(progress)
    }
  }
}

function withSlot(progress: Progress): string | undefined {
  const text = textOf(progress)
  return text === undefined || progress.slot === undefined ? text : `slot ${progress.slot} ${text}`
}

function textOf(progress: Progress): string | undefined {
  switch (progress.type) {
    case 'started':
      return 'new version started'
    case 'booted':
      return 'booted'
    case 'ready':
      return 'ready'
    case 'waiting':
      return `waits: ${progress.reason}`
    case 'warning':
      return warningText(progress.text)
    case 'serves':
      return progress.stays === undefined
        ? 'switched'
        : `switched; ${progress.stays.join(', ')} ${progress.stays.length === 1 ? 'stays' : 'stay'} with the old process until it closes`
    case 'draining':
      return `${progress.handedOver} of ${connections(progress.of)} moved`
    case 'drained':
      // Not of an old version without a plan.
      return [countsText(progress), ...timesText(progress.times ?? {})].join('; ')
    default:
      return undefined
  }
}

type Counts = { readonly handedOver: number; readonly served: number; readonly closed: number; readonly cut: number }

export function countsText({ handedOver, served, closed, cut }: Counts): string {
  return `${connections(handedOver)} moved, ${served} finished, ${closed} closed, ${cut} cut`
}

export function warningText(text: string): string {
  return paint('yellow', `warning: ${text}`)
}

function connections(count: number): string {
  return `${count} connection${count === 1 ? '' : 's'}`
}

export function timeOf(progress: Progress | undefined): string {
  const ms = progress !== undefined && 'ms' in progress ? progress.ms : 0
  return paint('dim', `${(ms / 1000).toFixed(2).padStart(7)} s`)
}
