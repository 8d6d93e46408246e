/** A command that was chosen in `top`: the same command as a child, whose output is shown. */
import type { ChildProcessByStdio } from 'node:child_process'
import type { Readable } from 'node:stream'
import { envHome } from '../../contract/environment.ts'
import { plainer } from '../../process/plain-text.ts'
import type { Row } from './rows.ts'

const mostLines = 500
/** A busy log is not painted with each of its lines, in milliseconds. */
const pause = 100

export class Job {
  readonly title: string
  /** One that only looks on is ended by a key; others end by themselves, also without this view. */
  readonly isLooking: boolean
  /** Undefined: it runs. */
  code: number | undefined
  lines: readonly string[] = []
  readonly #child: ChildProcessByStdio<null, Readable, Readable>
  readonly #changed: () => void
  #timer: NodeJS.Timeout | undefined

  /** `isAlone`: no other place has a service of this name. */
  constructor(words: readonly string[], { place }: Row, isAlone: boolean, changed: () => void) {
    this.title = `cook-daemon ${words.join(' ')}`
    this.isLooking = words[0] === 'logs'
    this.#changed = changed
    const [script = ''] = process.argv.slice(1)
    const env = { ...process.env, ...(!isAlone && { [envHome]: place.folder }) }
    const { spawn } = process.getBuiltinModule('node:child_process')
    this.#child = spawn(process.execPath, [script, ...words], { env, stdio: ['ignore', 'pipe', 'pipe'] })
    for (const stream of [this.#child.stdout, this.#child.stderr]) this.#read(stream)
    this.#child.once('error', (error) => this.#end(1, error.message))
    this.#child.once('close', (code) => this.#end(code ?? 1))
  }

  /** What only looks on ends; the rest goes on without us. */
  leave(): void {
    clearTimeout(this.#timer)
    if (this.isLooking) this.#child.kill()
    for (const stream of [this.#child.stdout, this.#child.stderr]) stream.destroy()
    this.#child.removeAllListeners()
    this.#child.unref()
  }

  #read(stream: Readable): void {
    const plain = plainer()
    let rest = ''
    const take = (text: string) => {
      const lines = (rest + text).replaceAll('\t', '  ').split('\n')
      rest = (lines.pop() ?? '').slice(-10_000)
      this.#add(lines)
    }
    stream.on('data', (bytes: Buffer) => take(plain(bytes)))
    stream.once('end', () => take(`${plain(Buffer.alloc(0), true)}${rest === '' ? '' : '\n'}`))
  }

  #add(lines: readonly string[]): void {
    if (lines.length === 0) return
    this.lines = [...this.lines, ...lines].slice(-mostLines)
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined
      this.#changed()
    }, pause)
  }

  #end(code: number, why?: string): void {
    this.code ??= code
    this.#add(why === undefined ? [] : [why])
    this.#changed()
  }
}
