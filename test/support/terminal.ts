/** A real terminal: tmux of its own, with a shell in it, whose screen can be read. */
import { execFile, spawnSync } from 'node:child_process'
import { promisify } from 'node:util'
import { bin } from './command.ts'
import type { Lab } from './lab.ts'
import { eventually } from './waiting.ts'

const run = promisify(execFile)

/** Why there is none, if that is so. */
export const noTerminal = spawnSync('tmux', ['-V']).status === 0 ? false : 'tmux is not installed'

type Size = readonly [columns: number, rows: number]
type Env = Readonly<Record<string, string>>

export class Terminal {
  readonly #socket: string

  private constructor(socket: string) {
    this.#socket = socket
  }

  /** `$COOK` is the command of this package. */
  static async open(lab: Lab, [columns, rows]: Size = [80, 24], env: Env = {}): Promise<Terminal> {
    const terminal = new Terminal(lab.path('tmux'))
    const all = {
      ...process.env,
      ...lab.environment(),
      COOK: `${process.execPath} ${bin}`,
      PS1: 'ready> ',
      ENV: '',
      LANG: 'C.UTF-8',
      ...env,
    }
    const size = ['-x', String(columns), '-y', String(rows)]
    try {
      await run('tmux', ['-S', terminal.#socket, '-f', '/dev/null', 'new-session', '-d', ...size, 'sh'], {
        cwd: lab.folder,
        env: all,
      })
      await terminal.until('a shell', /\S/)
      return terminal
    } catch (error) {
      await terminal[Symbol.asyncDispose]()
      throw error
    }
  }

  async #tmux(...args: readonly string[]): Promise<string> {
    const { stdout } = await run('tmux', ['-S', this.#socket, ...args])
    return stdout
  }

  /** Keys by their names in tmux, each by itself. */
  async presses(...keys: readonly string[]): Promise<void> {
    for (const key of keys) await this.#tmux('send-keys', '--', key)
  }

  async types(line: string): Promise<void> {
    await this.#tmux('send-keys', '-l', '--', line)
    await this.#tmux('send-keys', 'Enter')
  }

  async resize([columns, rows]: Size): Promise<void> {
    await this.#tmux('resize-window', '-x', String(columns), '-y', String(rows))
  }

  /** What is to be seen, without spaces at the ends of lines. */
  screen(): Promise<string> {
    return this.#tmux('capture-pane', '-p')
  }

  async until(what: string, pattern: RegExp): Promise<string> {
    let last = ''
    return eventually(
      () => `${what} on the terminal, as ${pattern}; there is:\n${last}`,
      async () => {
        last = await this.screen()
        return pattern.test(last) ? last : undefined
      },
    )
  }

  /** Of what runs in it: whether it has a screen of its own, and hides the cursor. */
  async modes(): Promise<string> {
    return (await this.#tmux('display-message', '-p', 'alternate #{alternate_on}, cursor #{cursor_flag}')).trim()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#tmux('kill-server').catch(() => {})
  }
}
