/**
 * A program that knows nothing of the library, started as the command line does it, and known by
 * its pid file and by what it prints.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { isAlive, system } from '../../src/node/system.ts'
import { eventually, within } from './waiting.ts'

/**
 * Loaded into each generation: nobody else can know the exit code of a process whose parent is
 * gone.
 */
const tellExit = `process.on('exit', (code) => process.getBuiltinModule('node:fs').writeSync(1, 'exit ' + process.pid + ' ' + code + '\\n'))`

/** The preload as it is in the package. */
export const preload = fileURLToPath(new URL('../../bundle/preload.cjs', import.meta.url))

export type ProgramOptions = {
  /** What the command line would say of it, in its variable. */
  readonly record?: object
  readonly env?: Readonly<Record<string, string>>
  readonly execPath?: string
  /** @default --require of what the command line loads */
  readonly preload?: readonly string[]
  /** A folder of the program's own; removed at the end. */
  readonly folder?: string
  /** False: it is not waited for. @default true */
  readonly isUp?: boolean
}

type Identity = readonly [pid: number, startTime: string]

export class Program {
  /** What all generations wrote to stdout and stderr. */
  output = ''
  readonly folder: string
  readonly #child: ChildProcess
  readonly #generations: Identity[] = []
  #isOver = false

  private constructor(child: ChildProcess, folder: string) {
    this.#child = child
    this.folder = folder
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

  /** Starts a file of test/fixtures/programs, or one by its path, and waits until it is up. */
  static async start(name: string, options: ProgramOptions = {}): Promise<Program> {
    const {
      record = {},
      env = {},
      isUp = true,
      execPath = process.execPath,
      preload: loaded = ['--require', preload],
    } = options
    const folder = options.folder ?? newFolder()
    const script = name.startsWith('/')
      ? name
      : fileURLToPath(new URL(`../../../test/fixtures/programs/${name}`, import.meta.url))
    const child = spawn(
      execPath,
      [`--import=data:text/javascript,${encodeURIComponent(tellExit)}`, ...loaded, script],
      {
        cwd: folder,
        env: {
          ...process.env,
          PORT: '0',
          PWD: folder,
          COOK_DAEMON_PROGRAM: JSON.stringify({ pidFile: join(folder, 'pid'), ...record }),
          ...env,
        },
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    )
    const program = new Program(child, folder)
    if (isUp) await program.untilServed()
    return program
  }

  /** The process that owns the service. */
  get pid(): number {
    return this.#generations.at(-1)?.[0] ?? 0
  }

  /** What a generation printed last as the place where it listens. */
  get port(): number {
    return Number([...this.output.matchAll(/^listening (\d+)$/gm)].at(-1)?.[1])
  }

  /** Waits until another process than before owns the service. */
  async untilServed(): Promise<void> {
    const pid = await this.#printed('a new owner of the service', () => {
      const owner = readPid(join(this.folder, 'pid'))
      return owner === undefined || owner === this.pid ? undefined : owner
    })
    this.#generations.push([pid, system.startTime(pid) ?? ''])
    await this.printed(/^listening \d+$/m)
  }

  /** What an operator types; resolves when the new version serves, and the old process is gone. */
  async upgrade(): Promise<void> {
    const old = this.#generations.at(-1)
    this.kill('SIGUSR2')
    await this.untilServed()
    if (old !== undefined) await this.#printed(`the end of ${old[0]}`, () => !isAlive(old) || undefined)
  }

  kill(signal: NodeJS.Signals, generation = -1): void {
    const identity = this.#generations.at(generation)
    if (identity !== undefined) system.kill(identity, signal)
  }

  /**
   * Stops it as an operator does; resolves when no process of it is left, and gives the exit codes
   * of all generations.
   */
  async stop(): Promise<number[]> {
    this.kill('SIGTERM')
    return this.exits()
  }

  /** The exit codes of all generations, when none is left. */
  async exits(): Promise<number[]> {
    await this.#printed('the end of every generation', () => this.#isOver || undefined)
    return [...this.output.matchAll(/^exit \d+ (\d+)$/gm)].map(([, code]) => Number(code))
  }

  /** Waits for a line. */
  async printed(line: RegExp): Promise<RegExpExecArray> {
    return this.#printed(String(line), () => line.exec(this.output) ?? undefined)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#isOver) {
      const pid = readPid(join(this.folder, 'pid'))
      for (const identity of this.#generations) system.kill(identity, 'SIGKILL')
      if (pid !== undefined) system.kill([pid, system.startTime(pid) ?? ''], 'SIGKILL')
      this.#child.kill('SIGKILL')
      await within('the end of every generation', this.#isOver ? Promise.resolve([]) : once(this.#child, 'close'))
    }
    rmSync(this.folder, { recursive: true, force: true })
  }

  async #printed<Value>(what: string, look: () => Value | undefined): Promise<Value> {
    return eventually(what, look).catch((error: Error) => {
      throw new Error(`${error.message}; it printed:\n${this.output}`)
    })
  }
}

export function newFolder(): string {
  return mkdtempSync(join(process.env.COOK_TEST_TMP ?? tmpdir(), 'cook-'))
}

function readPid(file: string): number | undefined {
  try {
    return Number(readFileSync(file, 'utf8')) || undefined
  } catch {
    // Not written yet, or gone with the service.
    return undefined
  }
}
