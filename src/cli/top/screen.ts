/** The terminal while `top` has it: painted line by line, and given back as it was. */
import { Writable } from 'node:stream'
import type { WriteStream } from 'node:tty'

const esc = '\x1b['
const enter = `${esc}?1049h${esc}?25l${esc}2J`
const leave = `${esc}0m${esc}?25h${esc}?1049l`

/**
 * Ink writes whole frames to it, in its debug mode: its own way of painting clears what the user
 * can scroll back to when a terminal becomes smaller. Only lines that have changed are sent.
 */
export class Screen extends Writable {
  readonly #out: WriteStream
  #shown: readonly string[] = []
  #isOpen = false

  constructor(out: WriteStream) {
    super({ decodeStrings: false })
    this.#out = out
  }

  get columns(): number {
    return this.#out.columns || 80
  }

  get rows(): number {
    return this.#out.rows || 24
  }

  open(): void {
    this.#isOpen = true
    this.#shown = []
    this.#out.write(enter)
    this.#out.on('resize', this.#resized)
  }

  close(): void {
    if (!this.#isOpen) return
    this.#isOpen = false
    this.#out.off('resize', this.#resized)
    this.#out.write(leave)
  }

  readonly #resized = () => {
    this.#shown = []
    this.#out.write(`${esc}2J`)
    this.emit('resize')
  }

  override _write(frame: string, _: BufferEncoding, done: () => void): void {
    if (this.#isOpen) this.#paint(frame.split('\n').slice(0, this.rows))
    done()
  }

  #paint(lines: readonly string[]): void {
    const before = this.#shown
    const all = Array.from({ length: Math.max(lines.length, before.length) }, (_, at) => lines[at] ?? '')
    const changed = all.flatMap((line, at) => (line === before[at] ? [] : [`${esc}${at + 1};1H${line}${esc}0m${esc}K`]))
    this.#shown = lines
    if (changed.length > 0) this.#out.write(changed.join(''))
  }
}
