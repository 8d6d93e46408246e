/** Answers over time with what was done below: a moment without an answer would be a hole. */
import type { Event, Story } from './story.ts'
import { count, paint } from './text.ts'

const bars = [...' ▁▂▃▄▅▆▇█']
const labelWidth = 11

type Mark = ' ' | '↑' | '✗' | '†'
type Step = { readonly rate: number; readonly mark: Mark }

export class Graph {
  readonly #story: Story
  readonly #steps: Step[] = []
  #answers = 0
  #events = 0
  #at = performance.now()

  constructor(story: Story) {
    this.#story = story
  }

  /** One more bar: what came since the last. */
  step(): void {
    const [answers, now] = [this.#story.sum('answers'), performance.now()]
    const events = this.#story.events.filter(({ to }) => to !== undefined)
    const mark = events.length > this.#events ? markOf(events.at(-1)) : ' '
    this.#steps.push({ rate: ((answers - this.#answers) * 1_000) / (now - this.#at), mark })
    this.#answers = answers
    this.#events = events.length
    this.#at = now
  }

  lines(columns: number): string[] {
    const most = Math.max(1, ...this.#steps.map(({ rate }) => rate))
    const shown = this.#steps.slice(-(columns - labelWidth - 2))
    const bar = (rate: number) => bars[Math.ceil((rate / most) * (bars.length - 1))] ?? ''
    const label = `${count(this.#steps.at(-1)?.rate ?? 0)}/s`.padStart(labelWidth)
    const marks = shown.map(({ mark }) => (mark === '↑' ? mark : paint('red', mark))).join('')
    return [
      `${label}  ${paint('magenta', shown.map(({ rate }) => bar(rate)).join(''))}`,
      `${'events'.padStart(labelWidth)}  ${marks.trimEnd()}`,
    ]
  }
}

function markOf(event: Event | undefined): Mark {
  if (event?.kind === 'crash') return '†'
  return event?.isRefused === true ? '✗' : '↑'
}
