/**
 * A running example, known by what it prints alone: each generation tells its pid, where it
 * listens, and its exit code.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { system } from '../../src/node/system.ts'
import { eventually, within } from './waiting.ts'

/**
 * Loaded into each generation: nobody else can know the exit code of a process whose parent is
 * gone.
 */
const tellExit = `process.on('exit', (code) => process.getBuiltinModule('node:fs').writeSync(1, 'exit ' + process.pid + ' ' + code + '\\n'))`

export class Example {
  /** What all generations wrote to stdout and stderr. */
  output = ''
  port = 0
  readonly #child: ChildProcess
  readonly #folder: string
  readonly #startTimes = new Map<number, string>()
  #isOver = false

  private constructor(child: ChildProcess, folder: string) {
    this.#child = child
    this.#folder = folder
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.output += text
      })
    }
    // The descriptors of stdout and stderr go on to every generation: closed, they tell that none
    // is left.
    child.once('close', () => {
      this.#isOver = true
    })
  }

  /** Starts a copy of an example, with what its package.json names, and waits until it listens. */
  static async start(name: string, env: Readonly<Record<string, string>> = {}): Promise<Example> {
    const folder = copyOf(name)
    const preload = `--import=data:text/javascript,${encodeURIComponent(tellExit)}`
    const child = spawn(process.execPath, [preload, 'server.js'], {
      cwd: folder,
      env: { ...process.env, PORT: '0', ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const example = new Example(child, folder)
    try {
      await example.serving(1)
    } catch (error) {
      await example[Symbol.asyncDispose]()
      throw error
    }
    example.port = Number(/localhost[: ](\d+)/.exec(example.output)?.[1])
    return example
  }

  /** What an operator types; resolves when the new version serves and the old process is gone. */
  async upgrade(): Promise<void> {
    const generation = this.#startTimes.size
    this.#kill([...this.#startTimes.keys()].at(-1), 'SIGUSR2')
    await this.serving(generation + 1)
    await this.exits(generation)
  }

  /**
   * Stops it as an operator does; resolves when no process of it is left, and gives the exit codes
   * of all generations.
   */
  async stop(): Promise<number[]> {
    this.#kill([...this.#startTimes.keys()].at(-1), 'SIGTERM')
    return this.exits(this.#startTimes.size, true)
  }

  /** Waits for the pid of a generation, which it prints when it serves. */
  async serving(generation: number): Promise<void> {
    const line = new RegExp(`^pid (\\d+), generation ${generation}: .*\\n`, 'm')
    const pid = await this.#printed(`generation ${generation}`, () => Number(line.exec(this.output)?.[1]) || undefined)
    this.#startTimes.set(pid, system.startTime(pid) ?? '')
  }

  /** The exit codes of the first generations, when they have ended. */
  async exits(count: number, all = false): Promise<number[]> {
    const exits = () => [...this.output.matchAll(/^exit \d+ (\d+)$/gm)].map(([, code]) => Number(code))
    await this.#printed(`${count} exits`, () => (exits().length >= count && (!all || this.#isOver)) || undefined)
    return exits()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#isOver) await this.#end()
    rmSync(this.#folder, { recursive: true })
  }

  async #end(): Promise<void> {
    for (const pid of this.#startTimes.keys()) this.#kill(pid, 'SIGKILL')
    this.#child.kill('SIGKILL')
    await within('the end of every generation', once(this.#child, 'close'))
  }

  async #printed<Value>(what: string, look: () => Value | undefined): Promise<Value> {
    return eventually(what, look).catch((error: Error) => {
      throw new Error(`${error.message}; it printed:\n${this.output}`)
    })
  }

  #kill(pid: number | undefined, signal: NodeJS.Signals): void {
    if (pid !== undefined) system.kill([pid, this.#startTimes.get(pid) ?? ''], signal)
  }
}

const root = fileURLToPath(new URL('../../..', import.meta.url))

/** As whoever copies the folder has it; a registry has no version of this package yet. */
function copyOf(name: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'cook-example-'))
  cpSync(join(root, 'examples', name), folder, { recursive: true })
  const { dependencies } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
  mkdirSync(join(folder, 'node_modules'))
  for (const one of Object.keys(dependencies)) {
    symlinkSync(one === 'cook-daemon' ? root : join(root, 'node_modules', one), join(folder, 'node_modules', one))
  }
  return folder
}
