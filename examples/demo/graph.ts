/** Answers over time with the upgrades below: a moment without an answer would be a hole. */
import type { Story } from './story.ts'
import { count, paint } from './text.ts'

const bars = [...' ▁▂▃▄▅▆▇█']
const labelWidth = 11

type Step = { readonly rate: number; readonly mark: ' ' | '↑' | '✗' }

export class Graph {
  readonly #story: Story
  readonly #steps: Step[] = []
  #answers = 0
  #upgrades = 0
  #at = performance.now()

  constructor(story: Story) {
    this.#story = story
  }

  /** One more bar: what came since the last. */
  step(): void {
    const [answers, now] = [this.#story.sum('answers'), performance.now()]
    const upgrades = this.#story.upgrades.filter(({ to }) => to !== undefined)
    const ended = upgrades.length > this.#upgrades ? upgrades.at(-1) : undefined
    const mark = ended === undefined ? ' ' : ended.failedPid === undefined ? '↑' : '✗'
    this.#steps.push({ rate: ((answers - this.#answers) * 1_000) / (now - this.#at), mark })
    this.#answers = answers
    this.#upgrades = upgrades.length
    this.#at = now
  }

  lines(columns: number): string[] {
    const most = Math.max(1, ...this.#steps.map(({ rate }) => rate))
    const shown = this.#steps.slice(-(columns - labelWidth - 2))
    const bar = (rate: number) => bars[Math.ceil((rate / most) * (bars.length - 1))] ?? ''
    const label = `${count(this.#steps.at(-1)?.rate ?? 0)}/s`.padStart(labelWidth)
    const marks = shown.map(({ mark }) => (mark === '✗' ? paint('red', mark) : mark)).join('')
    return [
      `${label}  ${paint('magenta', shown.map(({ rate }) => bar(rate)).join(''))}`,
      `${'upgrades'.padStart(labelWidth)}  ${marks.trimEnd()}`,
    ]
  }
}
